package conformance

import "github.com/mqkit/mqkit/internal/wire"

// Cases about the forms that the driver does not use.
var formCases = []Case{
	{"no-wait/queue-and-binding", func(s *Script) {
		p := s.Peer()
		x, q := s.ExchangeName("x"), s.QueueName("q")
		p.Send(1, &wire.ExchangeDeclare{Exchange: x, Type: "direct", Durable: true, NoWait: true})
		p.Send(1, &wire.QueueDeclare{Queue: q, Durable: true, NoWait: true})
		p.Send(1, &wire.QueueBind{Queue: q, Exchange: x, RoutingKey: "k", NoWait: true})
		p.Publish(1, &wire.BasicPublish{Exchange: x, RoutingKey: "k"}, none, "a")
		p.Call(1, &wire.BasicGet{Queue: q, NoAck: true}, "basic.get-ok")
		p.Send(1, &wire.QueuePurge{Queue: q, NoWait: true})
		p.Send(1, &wire.QueueDelete{Queue: q, NoWait: true})
		p.Send(1, &wire.ExchangeDelete{Exchange: x, NoWait: true})
		p.Call(1, &wire.BasicQos{PrefetchCount: 1}, "basic.qos-ok")
		p.Send(1, &wire.QueueDeclare{Queue: q, Passive: true})
		p.ChannelClosed(1)
	}},
	{"no-wait/exchange-binding", func(s *Script) {
		p := s.Peer()
		x, y := s.ExchangeName("x"), s.ExchangeName("y")
		p.Call(1, &wire.ExchangeDeclare{Exchange: x, Type: "fanout", Durable: true}, "exchange.declare-ok")
		p.Call(1, &wire.ExchangeDeclare{Exchange: y, Type: "fanout", Durable: true}, "exchange.declare-ok")
		p.Send(1, &wire.ExchangeBind{Destination: y, Source: x, NoWait: true})
		p.Send(1, &wire.ExchangeUnbind{Destination: y, Source: x, NoWait: true})
		p.Call(1, &wire.BasicQos{PrefetchCount: 1}, "basic.qos-ok")
	}},
	{"no-wait/consume-and-cancel", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Send(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t", NoAck: true, NoWait: true})
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Until("basic.deliver")
		p.Send(1, &wire.BasicCancel{ConsumerTag: "t", NoWait: true})
		p.Call(1, &wire.QueueDeclare{Queue: q, Passive: true}, "queue.declare-ok")
	}},
	{"no-wait/passive-missing", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.QueueDeclare{Queue: s.Name("nosuch"), Passive: true, NoWait: true})
		p.ChannelClosed(1)
	}},
	{"no-wait/server-named", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.QueueDeclare{Exclusive: true, NoWait: true})
		p.Call(1, &wire.QueuePurge{}, "queue.purge-ok")
	}},
	{"consume/tag-of-the-server", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.BasicConsume{Queue: q}, "basic.consume-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Until("basic.deliver")
	}},
	{"consume/ok-comes-before-the-first-delivery", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Send(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"})
		p.Read(2)
	}},
	{"consume/nothing-after-cancel-ok", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		p.Call(1, &wire.BasicCancel{ConsumerTag: "t"}, "basic.cancel-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Silent()
	}},
	{"consume/broker-cancels", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		s.Channel().DeleteQueue(q, "")
		p.Until("basic.cancel")
		p.Alive()
	}},
	{"consume/cancel-ok-to-a-cancel-that-asks-for-none", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		s.Channel().DeleteQueue(q, "")
		p.Until("basic.cancel")
		p.Send(1, &wire.BasicCancelOk{ConsumerTag: "t"})
		p.Send(1, &wire.BasicQos{PrefetchCount: 1})
		p.Read(1)
	}},
	{"consume/broker-does-not-tell-who-cannot-hear", func(s *Script) {
		p := s.Login(withoutFailureClose)
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		s.Channel().DeleteQueue(q, "")
		p.Silent()
	}},
	{"consume/own-delete-cancels-too", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		p.Send(1, &wire.QueueDelete{Queue: q})
		p.Read(2)
	}},
	{"recover/async", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		p.Until("basic.deliver")
		p.Send(1, &wire.BasicRecoverAsync{Requeue: true})
		p.Until("basic.deliver")
	}},
	{"recover/async-without-requeue", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.BasicRecoverAsync{})
		p.Closed()
	}},
	{"form/ticket-is-not-looked-at", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Ticket: 77, Queue: q, Durable: true}, "queue.declare-ok")
		p.Publish(1, &wire.BasicPublish{Ticket: 5, RoutingKey: q}, none, "a")
		p.Call(1, &wire.BasicGet{Ticket: 1, Queue: q, NoAck: true}, "basic.get-ok")
	}},
	{"form/reserved-bits-are-not-looked-at", func(s *Script) {
		p := s.Peer()
		p.Frame(wire.MethodFrame, 1, method(60, 10, 0, 0, 0, 0, 0, 1, 0xF0))
		p.Until("basic.qos-ok")
		p.Frame(wire.MethodFrame, 1, method(85, 10, 0xFE))
		p.Until("confirm.select-ok")
	}},
	{"form/get-empty", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Send(1, &wire.BasicGet{Queue: q})
		p.Read(1)
	}},
	{"form/acks-of-a-consumer-with-multiple", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.BasicQos{PrefetchCount: 2}, "basic.qos-ok")
		for _, b := range []string{"a", "b", "c", "d"} {
			p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, b)
		}
		p.Send(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"})
		p.Read(3)
		p.Send(1, &wire.BasicAck{DeliveryTag: 2, Multiple: true})
		p.Read(2)
		p.Silent()
	}},
}
