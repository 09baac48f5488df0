package conformance

import "github.com/mqkit/mqkit/internal/wire"

// replyTo is the queue that stands for answers.
const replyTo = "amq.rabbitmq.reply-to"

// ask sends a request by direct reply-to and returns the name that the server of
// the request sees.
func (ch *Channel) ask(server *Channel) (queue, address string) {
	q := server.Own("rpc", nil)
	ch.Consume(replyTo, "replies", "no-ack", nil)
	ch.Put("", q, Msg{Body: []byte("ping"), ReplyTo: replyTo, CorrelationId: "1"})
	for range ch.s.polls() {
		d, ok, err := server.amqp.Get(q, true)
		if err != nil {
			break
		}
		if ok {
			server.sayDelivery(&d)
			return q, d.ReplyTo
		}
	}
	return q, ""
}

var replyToCases = []Case{
	{"replyto/request-and-reply", func(s *Script) {
		client, server := s.Channel(), s.Conn().Channel()
		_, address := client.ask(server)
		server.Put("", address, Msg{Body: []byte("pong"), CorrelationId: "1"})
		client.Receive("replies", 1)
	}},
	{"replyto/reply-is-mandatory-and-client-there", func(s *Script) {
		client, server := s.Channel(), s.Conn().Channel()
		_, address := client.ask(server)
		server.Confirms()
		server.Publish("", address, "mandatory", M("pong"))
		server.Confirmed(1)
		client.Receive("replies", 1)
	}},
	{"replyto/reply-when-the-client-has-gone", func(s *Script) {
		client, server := s.Channel(), s.Conn().Channel()
		_, address := client.ask(server)
		client.Close()
		server.Confirms()
		server.Publish("", address, "mandatory", M("pong"))
		server.Confirmed(1)
		server.Put("", address, M("pong"))
	}},
	{"replyto/reply-to-a-name-that-is-none", func(s *Script) {
		server := s.Channel()
		server.Confirms()
		server.Publish("", replyTo+".nobody", "mandatory", M("pong"))
		server.Returned(1)
		server.Confirmed(1)
	}},
	{"replyto/consumer-with-acks", func(s *Script) { s.Channel().Consume(replyTo, "t", "", nil) }},
	{"replyto/two-consumers", func(s *Script) {
		ch := s.Channel()
		ch.Consume(replyTo, "t", "no-ack", nil)
		ch.Consume(replyTo, "u", "no-ack", nil)
	}},
	{"replyto/publish-without-a-consumer", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Publish("", q, "", Msg{Body: []byte("ping"), ReplyTo: replyTo})
		ch.Closed()
	}},
	{"replyto/after-cancel", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(replyTo, "t", "no-ack", nil)
		ch.Cancel("t")
		ch.Consume(replyTo, "u", "no-ack", nil)
		ch.Cancel("u")
		ch.Publish("", q, "", Msg{Body: []byte("ping"), ReplyTo: replyTo})
		ch.Closed()
	}},
	{"replyto/is-the-server-still-wanted", func(s *Script) {
		client, server := s.Channel(), s.Conn().Channel()
		_, address := client.ask(server)
		server.QueueNamed(address, "passive", nil)
		client.Close()
		s.Conn().Channel().Gone(address)
	}},
	{"replyto/declare-the-queue-itself", func(s *Script) {
		s.Channel().QueueNamed(replyTo, "passive", nil)
		s.Channel().QueueNamed(replyTo, "durable", nil)
	}},
	{"replyto/publish-to-the-queue-itself", func(s *Script) {
		ch := s.Channel()
		ch.Consume(replyTo, "t", "no-ack", nil)
		ch.Confirms()
		ch.Publish("", replyTo, "mandatory", M("to whom?"))
		ch.Returned(1)
		ch.Confirmed(1)
	}},
	{"replyto/own-reply-to-is-left-alone", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, Msg{Body: []byte("ping"), ReplyTo: "my.queue"})
		ch.Drain(q)
	}},
	{"replyto/on-the-wire", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.BasicConsume{Queue: replyTo, NoAck: true}, "basic.consume-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, properties(wire.Properties{ReplyTo: replyTo}), "ping")
		p.Call(1, &wire.BasicGet{Queue: q, NoAck: true}, "basic.get-ok")
	}},
}
