package conformance

import "github.com/mqkit/mqkit/internal/wire"

var timeoutCases = []Case{
	{"timeout/of-a-quorum-consumer", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-consumer-timeout": int32(1000)})
		ch.Put("", q, M("a"))
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Cancelled(1)
		ch.Arrives(q, "")
		ch.Ack(1, "")
	}},
	{"timeout/not-if-it-is-acked", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-consumer-timeout": int32(1000)})
		r := ch.Quorum("r", Table{"x-consumer-timeout": int32(1000)})
		ch.Put("", q, M("a"))
		ch.Put("", r, M("held"))
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Ack(1, "")
		ch.Consume(r, "u", "", nil)
		ch.Receive("u", 1)
		ch.Cancelled(1)
		ch.Put("", q, M("b"))
		ch.Receive("t", 1)
		ch.Ack(3, "")
	}},
	{"timeout/on-the-wire", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true, Arguments: wire.Table{
			{Key: "x-queue-type", Value: "quorum"}, {Key: "x-consumer-timeout", Value: int32(1000)},
		}}, "queue.declare-ok")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Until("basic.deliver")
		p.Until("basic.cancel")
		p.Send(1, &wire.BasicCancelOk{ConsumerTag: "t"})
		p.Call(1, &wire.QueueDeclare{Queue: q, Passive: true}, "queue.declare-ok")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		p.Until("basic.deliver")
	}},
	{"timeout/by-the-consumer's-argument", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.Put("", q, M("a"))
		ch.Consume(q, "t", "", Table{"x-consumer-timeout": int32(1000)})
		ch.Receive("t", 1)
		ch.Cancelled(1)
		ch.Arrives(q, "no-ack")
	}},
	{"timeout/of-a-get", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Quorum("q", Table{"x-consumer-timeout": int32(1000)})
		ch.Put("", q, M("a"))
		ch.Get(q, "")
		ch.Closed()
		other.Arrives(q, "no-ack")
	}},
	{"timeout/of-a-cancelled-consumer", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Quorum("q", Table{"x-consumer-timeout": int32(1000)})
		ch.Put("", q, M("a"))
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Cancel("t")
		ch.Closed()
		other.Arrives(q, "no-ack")
	}},
	{"timeout/takes-the-younger-along-with-the-channel", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Quorum("q", Table{"x-consumer-timeout": int32(3000)})
		dead, args := ch.graveyard(nil)
		clock := ch.Own("clock", args)
		ch.PutAll(q, "old", "young")
		ch.Get(q, "")
		ch.Put("", clock, expiring("tick", "1500"))
		ch.Arrives(dead, "no-ack")
		ch.Get(q, "")
		ch.Closed()
		other.Count(q, 2)
		other.Drain(q)
	}},
	{"timeout/of-who-cannot-hear", func(s *Script) {
		p, other := s.Login(withoutFailureClose), s.Channel()
		q := other.Quorum("q", Table{"x-consumer-timeout": int32(1000)})
		other.Put("", q, M("a"))
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		p.Until("basic.deliver")
		p.Until("channel.close")
		other.Arrives(q, "no-ack")
	}},
	{"timeout/argument-of-a-classic-consumer", func(s *Script) {
		ch := s.Channel()
		ch.Consume(ch.Own("q", nil), "t", "", Table{"x-consumer-timeout": int32(1000)})
	}},
	{"timeout/only-the-overdue-go-back", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-consumer-timeout": int32(4000)})
		clock, args := ch.graveyard(Table{"x-message-ttl": int32(2000)})
		c := ch.Own("clock", args)
		ch.Put("", q, M("old"))
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Put("", c, M("tick"))
		ch.Arrives(clock, "no-ack")
		ch.Put("", q, M("young"))
		ch.Receive("t", 1)
		ch.Cancelled(1)
		ch.Ack(3, "")
		ch.Arrives(q, "no-ack")
		ch.Get(q, "no-ack")
		ch.Ack(1, "")
	}},
}
