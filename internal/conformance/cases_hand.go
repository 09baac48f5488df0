package conformance

import (
	"context"
	"strings"

	"github.com/mqkit/mqkit/internal/wire"
)

// HandCases are those that take a [Hand] on the broker.
var HandCases = []Case{
	{"blocked/told-once-it-publishes", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		s.by("block", s.hand.Block)
		p.Silent()
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Until("connection.blocked")
		s.by("unblock", s.hand.Unblock)
		p.Until("connection.unblocked")
		p.Call(1, &wire.BasicGet{Queue: q, NoAck: true}, "basic.get-ok")
	}},
	{"blocked/is-not-read-any-more", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		s.by("block", s.hand.Block)
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Until("connection.blocked")
		p.Send(1, &wire.BasicQos{PrefetchCount: 1})
		p.Silent()
		s.by("unblock", s.hand.Unblock)
		p.Until("basic.qos-ok")
	}},
	{"blocked/not-who-consumes", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b")
		other := s.Conn().Channel()
		s.by("block", s.hand.Block)
		other.Qos(1, 0, "")
		other.Consume(q, "t", "", nil)
		other.Receive("t", 1)
		other.Ack(1, "")
		other.Receive("t", 1)
		s.by("unblock", s.hand.Unblock)
	}},
	{"blocked/not-told-who-cannot-hear", func(s *Script) {
		p := s.Login(withoutFailureClose)
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		s.by("block", s.hand.Block)
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Silent()
		s.by("unblock", s.hand.Unblock)
		p.Call(1, &wire.BasicGet{Queue: q, NoAck: true}, "basic.get-ok")
	}},
	{"vhost/is-a-world-of-its-own", func(s *Script) {
		name, remove := s.vhost("v")
		defer remove()
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, M("a"))
		p := s.Login(func(g *Greeting) { g.Open.VirtualHost = name })
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		p.Send(1, &wire.QueueDeclare{Queue: q, Passive: true})
		p.ChannelClosed(1)
		p.Call(2, &wire.ChannelOpen{}, "channel.open-ok")
		p.Call(2, &wire.ExchangeDeclare{Exchange: "amq.topic", Type: "topic", Passive: true}, "exchange.declare-ok")
		p.Call(2, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
	}},
	{"vhost/deleted-under-a-connection", func(s *Script) {
		name, remove := s.vhost("v")
		p := s.Login(func(g *Greeting) { g.Open.VirtualHost = name })
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		remove()
		m, text := p.next(patience)
		// Which of the two depends on who is faster in RabbitMQ.
		p.say("%s", strings.NewReplacer("is deleted", "is deleted, or down", "is down", "is deleted, or down").Replace(text))
		if m != nil {
			p.Send(0, &wire.ConnectionCloseOk{})
		}
		p.End()
	}},
	{"operator/closes-the-connections", func(s *Script) {
		p := s.Peer()
		s.by("close all connections", func(ctx context.Context) error {
			return s.hand.CloseConnections(ctx, "maintenance")
		})
		p.Closed()
	}},
}
