package conformance

import (
	"fmt"

	"github.com/mqkit/mqkit/internal/wire"
)

var confirmCases = []Case{
	{"confirm/acks", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Publish("", q, "", M("before"))
		ch.Confirms()
		for _, b := range []string{"a", "b", "c"} {
			ch.Publish("", q, "", M(b))
		}
		ch.Confirmed(3)
		ch.Holds(q)
	}},
	{"confirm/on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.Confirms()
		for _, b := range []string{"a", "b", "c"} {
			ch.Publish("", q, "", M(b))
		}
		ch.Confirmed(3)
		ch.Holds(q)
	}},
	{"confirm/unroutable-is-acked", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "fanout", nil)
		ch.Confirms()
		ch.Publish("", s.Name("nosuch"), "", M("a"))
		ch.Publish(x, "k", "", M("b"))
		ch.Confirmed(2)
	}},
	{"confirm/select-twice", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.ConfirmSelect{}, "confirm.select-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Until("basic.ack")
		p.Call(1, &wire.ConfirmSelect{}, "confirm.select-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "b")
		p.Until("basic.ack")
	}},
	{"confirm/select-no-wait", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.ConfirmSelect{NoWait: true})
		p.Publish(1, &wire.BasicPublish{RoutingKey: s.Name("nosuch")}, none, "a")
		p.Until("basic.ack")
	}},
	{"confirm/return-before-ack", func(s *Script) {
		p := s.Peer()
		p.Call(1, &wire.ConfirmSelect{}, "confirm.select-ok")
		p.Publish(1, &wire.BasicPublish{Exchange: "amq.direct", RoutingKey: s.Name("nokey"), Mandatory: true}, none, "a")
		p.Read(2)
	}},
	{"confirm/numbers-are-of-the-channel", func(s *Script) {
		p := s.Peer()
		p.Call(2, &wire.ChannelOpen{}, "channel.open-ok")
		p.Call(1, &wire.ConfirmSelect{}, "confirm.select-ok")
		p.Call(2, &wire.ConfirmSelect{}, "confirm.select-ok")
		for _, channel := range []uint16{1, 2, 1} {
			p.Publish(channel, &wire.BasicPublish{RoutingKey: s.Name("nosuch")}, none, "a")
			p.Until("basic.ack")
		}
	}},
	{"confirm/all-of-many-are-acked", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.ConfirmSelect{}, "confirm.select-ok")
		const messages = 500
		var b []byte
		for range messages {
			b = wire.AppendContent(b, 1, &wire.BasicPublish{RoutingKey: q}, none, []byte("m"), 131072)
		}
		p.Raw(b)
		acked := map[uint64]bool{}
		upTo := uint64(0)
		for len(acked) < messages {
			m, text := p.next(patience)
			ack, ok := m.(*wire.BasicAck)
			if !ok {
				p.say("not an ack: %s", text)
				return
			}
			if !ack.Multiple {
				acked[ack.DeliveryTag] = true
				continue
			}
			for upTo < ack.DeliveryTag {
				upTo++
				acked[upTo] = true
			}
		}
		p.say("acked: %d, the last is %v", len(acked), acked[messages])
		p.Silent()
	}},
	{"confirm/nack-of-a-full-queue", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		ch.Confirms()
		for _, b := range []string{"a", "b", "c"} {
			ch.Publish("", q, "", M(b))
			ch.Confirmed(1)
		}
		ch.Holds(q)
		ch.Publish("", q, "", M("d"))
		ch.Confirmed(1)
	}},
	{"confirm/nack-of-a-full-quorum-queue", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		ch.Confirms()
		for i := range 5 {
			ch.Publish("", q, "", M(fmt.Sprint("m", i)))
			ch.Confirmed(1)
		}
		ch.Holds(q)
	}},
	{"confirm/nack-if-one-of-two-queues-is-full", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "fanout", nil)
		q, r := ch.Own("q", Table{"x-max-length": int32(1), "x-overflow": "reject-publish"}), ch.Own("r", nil)
		ch.Bind(q, "", x, nil)
		ch.Bind(r, "", x, nil)
		ch.Confirms()
		ch.Publish(x, "", "", M("a"))
		ch.Confirmed(1)
		ch.Publish(x, "", "", M("b"))
		ch.Confirmed(1)
		ch.Holds(q)
		ch.Holds(r)
	}},
	{"confirm/message-too-large", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Confirms()
		ch.Publish("", q, "", Msg{Body: make([]byte, 17<<20)})
		ch.Closed()
	}},
	{"confirm/largest-message", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, Msg{Body: make([]byte, 16<<20)})
		ch.Drain(q)
	}},
	{"confirm/queue-deleted-meanwhile", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Confirms()
		ch.Publish("", q, "mandatory", M("a"))
		ch.DeleteQueue(q, "")
		ch.Publish("", q, "mandatory", M("b"))
		ch.Returned(1)
		ch.Confirmed(2)
	}},
	{"confirm/publish-after-an-exception-is-lost", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.ConfirmSelect{}, "confirm.select-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "a")
		p.Until("basic.ack")
		p.Publish(1, &wire.BasicPublish{Exchange: s.Name("nosuch"), RoutingKey: q}, none, "b")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "c")
		p.ChannelClosed(1)
		s.Channel().Drain(q)
	}},
	{"publish/immediate", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Publish("", q, "immediate", M("no"))
		ch.conn.Closed()
	}},
	{"publish/user-id-of-another", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Publish("", q, "", Msg{Body: []byte("no"), UserId: "other"})
		ch.Closed()
		s.Channel().Look(q)
	}},
	{"publish/user-id-of-the-user", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		user, _, _ := s.login()
		ch.Put("", q, Msg{Body: []byte("yes"), UserId: user})
		ch.Drain(q)
	}},
	{"tx/commit", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Own("q", nil)
		ch.Tx("select")
		ch.Publish("", q, "", M("a"))
		ch.Publish("", q, "", M("b"))
		ch.Sync()
		other.Look(q)
		ch.Tx("commit")
		other.Count(q, 2)
		other.Drain(q)
	}},
	{"tx/rollback", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Tx("select")
		ch.Publish("", q, "", M("a"))
		ch.Tx("rollback")
		ch.Publish("", q, "", M("b"))
		ch.Tx("commit")
		ch.Count(q, 1)
		ch.Drain(q)
	}},
	{"tx/acks", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := other.Own("q", nil)
		other.PutAll(q, "a", "b", "c")
		ch.Tx("select")
		ch.Get(q, "")
		ch.Get(q, "")
		ch.Ack(1, "")
		ch.Tx("rollback")
		ch.Ack(1, "")
		ch.Reject(2, "requeue")
		ch.Tx("commit")
		other.Count(q, 2)
		other.Drain(q)
	}},
	{"tx/nothing-is-left-of-a-closed-channel", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := other.Own("q", nil)
		other.Put("", q, M("a"))
		ch.Tx("select")
		ch.Get(q, "")
		ch.Ack(1, "")
		ch.Publish("", q, "", M("b"))
		ch.Close()
		other.Count(q, 1)
		other.Drain(q)
	}},
	{"tx/mandatory-returns-on-commit", func(s *Script) {
		p := s.Peer()
		p.Call(1, &wire.TxSelect{}, "tx.select-ok")
		p.Publish(1, &wire.BasicPublish{Exchange: "amq.direct", RoutingKey: s.Name("nokey"), Mandatory: true}, none, "a")
		p.Call(1, &wire.BasicQos{PrefetchCount: 1}, "basic.qos-ok")
		p.Call(1, &wire.TxCommit{}, "tx.commit-ok")
		p.Silent()
	}},
	{"tx/missing-exchange-is-told-at-once", func(s *Script) {
		ch := s.Channel()
		ch.Tx("select")
		ch.Publish(s.Name("nosuch"), "k", "", M("a"))
		ch.Closed()
	}},
	{"tx/unknown-tag-is-told-at-once", func(s *Script) {
		ch := s.Channel()
		ch.Tx("select")
		ch.Ack(5, "")
		ch.Closed()
	}},
	{"tx/select-twice", func(s *Script) {
		ch := s.Channel()
		ch.Tx("select")
		ch.Tx("select")
		ch.Tx("commit")
	}},
	{"tx/commit-without-select", func(s *Script) { s.Channel().Tx("commit") }},
	{"tx/rollback-without-select", func(s *Script) { s.Channel().Tx("rollback") }},
	{"tx/confirm-on-tx", func(s *Script) {
		ch := s.Channel()
		ch.Tx("select")
		ch.Confirms()
	}},
	{"tx/tx-on-confirm", func(s *Script) {
		ch := s.Channel()
		ch.Confirms()
		ch.Tx("select")
	}},
	{"tx/full-queue", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		ch.Put("", q, M("a"))
		other := s.Channel()
		other.Tx("select")
		other.Publish("", q, "", M("b"))
		other.Tx("commit")
	}},
}
