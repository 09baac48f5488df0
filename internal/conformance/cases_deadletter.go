package conformance

var deadLetterCases = []Case{
	{"deadletter/rejected", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Own("q", args)
		ch.Put("", q, Msg{Body: []byte("a"), MessageId: "m1", Headers: Table{"mine": "kept"}})
		ch.Reject(ch.Get(q, ""), "")
		ch.Arrives(dead, "no-ack")
		ch.Put("", q, M("b"))
		ch.Nack(ch.Get(q, ""), "")
		ch.Arrives(dead, "no-ack")
	}},
	{"deadletter/rejected-by-quorum", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Quorum("q", args)
		ch.Put("", q, Msg{Body: []byte("a"), MessageId: "m1", Headers: Table{"mine": "kept"}})
		ch.Reject(ch.Get(q, ""), "")
		ch.Arrives(dead, "no-ack")
	}},
	{"deadletter/keeps-the-key-without-one-of-its-own", func(s *Script) {
		ch := s.Channel()
		dlx := ch.OwnExchange("dlx", "topic", nil)
		x := ch.OwnExchange("x", "topic", nil)
		dead := ch.Own("dead", nil)
		q := ch.Own("q", Table{"x-dead-letter-exchange": dlx})
		ch.Bind(q, "#", x, nil)
		ch.Bind(dead, "a.#", dlx, nil)
		ch.Put(x, "a.b", M("a"))
		ch.Put(x, "b.b", M("lost"))
		ch.Nack(ch.Get(q, ""), "")
		ch.Nack(ch.Get(q, ""), "")
		ch.Arrives(dead, "no-ack")
		ch.Count(dead, 0)
	}},
	{"deadletter/multiple-in-order", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Own("q", args)
		ch.PutAll(q, "a", "b", "c")
		for range 3 {
			ch.Get(q, "")
		}
		ch.Nack(3, "multiple")
		ch.Count(dead, 3)
		ch.Holds(dead)
	}},
	{"deadletter/of-one-nack-into-a-queue-with-room-for-one", func(s *Script) {
		ch := s.Channel()
		ch.buryThree(Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
	}},
	{"deadletter/of-one-nack-into-a-queue-without-time", func(s *Script) {
		ch := s.Channel()
		ch.buryThree(Table{"x-message-ttl": int32(0)})
	}},
	{"deadletter/exchange-missing", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-dead-letter-exchange": s.Name("nosuch")})
		ch.Put("", q, M("lost"))
		ch.Nack(ch.Get(q, ""), "")
		ch.Look(q)
	}},
	{"deadletter/counts-by-queue-and-reason", func(s *Script) {
		ch := s.Channel()
		q, r := s.QueueName("q"), s.QueueName("r")
		ch.Own("q", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": r})
		ch.Own("r", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q, "x-message-ttl": int32(50)})
		ch.Put("", q, M("a"))
		for range 3 {
			ch.Reject(ch.Arrives(q, ""), "")
		}
		ch.Arrives(q, "no-ack")
	}},
	{"deadletter/one-queue-for-two-reasons", func(s *Script) {
		ch := s.Channel()
		q, dead := s.QueueName("q"), s.QueueName("dead")
		ch.Own("q", Table{"x-max-length": int32(1), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
		ch.Own("dead", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q})
		ch.Put("", q, M("a"))
		ch.Reject(ch.Get(q, ""), "")
		ch.Reject(ch.Arrives(dead, ""), "")
		ch.Count(q, 1)
		ch.Put("", q, M("b"))
		ch.Arrives(dead, "no-ack")
	}},
	{"deadletter/another-death-comes-to-the-front", func(s *Script) {
		ch := s.Channel()
		q, r := s.QueueName("q"), s.QueueName("r")
		ch.Own("q", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": r})
		ch.Own("r", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q})
		ch.Put("", q, M("a"))
		ch.Reject(ch.Get(q, ""), "")
		ch.Reject(ch.Arrives(r, ""), "")
		ch.Reject(ch.Arrives(q, ""), "")
		ch.Arrives(r, "no-ack")
	}},
	{"deadletter/latest-first", func(s *Script) {
		ch := s.Channel()
		third := ch.Own("third", nil)
		second := ch.Own("second", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": third})
		first := ch.Own("first", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": second, "x-message-ttl": int32(50)})
		ch.Put("", first, M("a"))
		ch.Reject(ch.Arrives(second, ""), "")
		ch.Arrives(third, "no-ack")
	}},
	{"deadletter/circle-without-a-reject-ends", func(s *Script) {
		ch := s.Channel()
		q := s.QueueName("q")
		ch.Own("q", Table{"x-dead-letter-exchange": "", "x-message-ttl": int32(50)})
		clock, args := ch.graveyard(Table{"x-message-ttl": int32(1000)})
		ch.Put("", q, M("a"))
		ch.Put("", ch.Own("clock", args), M("tick"))
		ch.Arrives(clock, "no-ack")
		ch.Look(q)
	}},
	{"deadletter/circle-after-an-earlier-reject-ends", func(s *Script) {
		ch := s.Channel()
		first, q, r := s.QueueName("first"), s.QueueName("q"), s.QueueName("r")
		ch.Own("first", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q})
		ch.Own("q", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": r, "x-message-ttl": int32(400)})
		ch.Own("r", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q, "x-message-ttl": int32(400)})
		clock, args := ch.graveyard(Table{"x-message-ttl": int32(2000)})
		ch.Put("", first, M("a"))
		ch.Reject(ch.Get(first, ""), "")
		ch.Put("", ch.Own("clock", args), M("tick"))
		ch.Arrives(clock, "no-ack")
		left := 0 // where in the circle it is does not matter
		for _, name := range []string{q, r} {
			seen, _ := ch.amqp.QueueDeclarePassive(name, true, false, false, false, nil)
			left += seen.Messages
		}
		ch.say("messages in the circle: %d", left)
	}},
	{"deadletter/to-itself-by-reject", func(s *Script) {
		ch := s.Channel()
		q := s.QueueName("q")
		ch.Own("q", Table{"x-dead-letter-exchange": ""})
		ch.Put("", q, M("a"))
		ch.Reject(ch.Arrives(q, ""), "")
		ch.Reject(ch.Arrives(q, ""), "")
		ch.Arrives(q, "no-ack")
	}},
	{"deadletter/x-death-of-a-client", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Own("q", args)
		mine := Table{"count": int64(7), "exchange": "", "queue": q, "reason": "rejected", "routing-keys": []any{q}}
		ch.Put("", q, H("a", Table{"x-death": []any{mine}}))
		ch.Reject(ch.Get(q, ""), "")
		ch.Arrives(dead, "no-ack")
	}},
	{"deadletter/published-again-by-the-client", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Own("q", args)
		ch.Put("", q, M("a"))
		ch.Reject(ch.Get(q, ""), "")
		for range ch.s.polls() {
			if d, ok, _ := ch.amqp.Get(dead, true); ok {
				ch.Put("", q, H("again", d.Headers))
				break
			}
		}
		ch.Reject(ch.Get(q, ""), "")
		ch.Arrives(dead, "no-ack")
	}},
	{"deadletter/cc-of-the-message", func(s *Script) {
		ch := s.Channel()
		x, dlx := ch.OwnExchange("x", "direct", nil), ch.OwnExchange("dlx", "fanout", nil)
		q, dead := ch.Own("q", Table{"x-dead-letter-exchange": dlx}), ch.Own("dead", nil)
		ch.Bind(q, "a", x, nil)
		ch.Bind(dead, "", dlx, nil)
		ch.Put(x, "a", H("a", Table{"CC": []any{"b"}, "BCC": []any{"c"}}))
		ch.Reject(ch.Get(q, ""), "")
		ch.Arrives(dead, "no-ack")
	}},
	{"deadletter/cc-when-the-key-is-replaced", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		dead, args := ch.graveyard(nil)
		q := ch.Own("q", args)
		ch.Bind(q, "a", x, nil)
		ch.Put(x, "a", H("a", Table{"CC": []any{"b"}}))
		ch.Reject(ch.Get(q, ""), "")
		ch.Arrives(dead, "no-ack")
	}},
	{"deadletter/cc-does-not-route-where-the-key-is-replaced", func(s *Script) {
		ch := s.Channel()
		dlx := ch.OwnExchange("dlx", "direct", nil)
		q := ch.Own("q", Table{"x-dead-letter-exchange": dlx, "x-dead-letter-routing-key": "dead"})
		dead, copied := ch.Own("dead", nil), ch.Own("copied", nil)
		ch.Bind(dead, "dead", dlx, nil)
		ch.Bind(copied, "b", dlx, nil)
		ch.Bind(copied, "c", dlx, nil)
		for _, headers := range []Table{{"CC": []any{"b"}}, {"BCC": []any{"c"}}} {
			ch.Put("", q, H("a", headers))
			ch.Reject(ch.Get(q, ""), "")
			ch.Arrives(dead, "no-ack")
		}
		ch.Look(copied)
	}},
	{"deadletter/cc-routes-where-the-key-is-kept", func(s *Script) {
		ch := s.Channel()
		dlx := ch.OwnExchange("dlx", "direct", nil)
		q := ch.Own("q", Table{"x-dead-letter-exchange": dlx})
		copied, blind := ch.Own("copied", nil), ch.Own("blind", nil)
		ch.Bind(copied, "b", dlx, nil)
		ch.Bind(blind, "c", dlx, nil)
		ch.Put("", q, H("a", Table{"CC": []any{"b"}, "BCC": []any{"c"}}))
		ch.Reject(ch.Get(q, ""), "")
		ch.Arrives(copied, "no-ack")
		ch.Arrives(blind, "no-ack")
	}},
	{"deadletter/bcc-is-the-key-that-replaces-it", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		r := ch.Own("r", args)
		q := ch.Own("q", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": r})
		ch.Put("", q, H("a", Table{"BCC": []any{r}}))
		ch.Reject(ch.Get(r, ""), "")
		ch.Arrives(dead, "no-ack")
		ch.Reject(ch.Get(q, ""), "")
		ch.Reject(ch.Arrives(r, ""), "")
		ch.Arrives(dead, "no-ack")
	}},
	{"deadletter/to-a-full-queue", func(s *Script) {
		ch := s.Channel()
		dlx := ch.OwnExchange("dlx", "fanout", nil)
		full := Table{"x-max-length": int32(1), "x-overflow": "reject-publish"}
		classic, quorum, all := ch.Own("classic", full), ch.Quorum("quorum", full), ch.Own("all", nil)
		for _, q := range []string{classic, quorum, all} {
			ch.Bind(q, "", dlx, nil)
		}
		q := ch.Own("q", Table{"x-dead-letter-exchange": dlx})
		ch.PutAll(q, "a", "b", "c", "d")
		for range 4 {
			ch.Reject(ch.Get(q, ""), "")
		}
		ch.Count(all, 4)
		ch.Count(classic, 1)
		ch.Count(quorum, 4)
		ch.Holds(classic)
		ch.Holds(quorum)
	}},
	{"deadletter/purge-and-delete-do-not", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Own("q", args)
		ch.PutAll(q, "a", "b")
		ch.Purge(q)
		ch.Put("", q, M("c"))
		ch.DeleteQueue(q, "")
		ch.Look(dead)
	}},
	{"deadletter/at-least-once", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"})
		q := ch.Quorum("q", args)
		ch.Put("", q, M("a"))
		ch.Reject(ch.Get(q, ""), "")
		ch.Arrives(dead, "no-ack")
	}},
	{"deadletter/at-least-once-waits-for-every-queue", func(s *Script) {
		ch := s.Channel()
		dlx := ch.OwnExchange("dlx", "fanout", nil)
		full, all := ch.Own("full", Table{"x-max-length": int32(1), "x-overflow": "reject-publish"}), ch.Own("all", nil)
		ch.Put("", full, M("it is full"))
		ch.Bind(full, "", dlx, nil)
		ch.Bind(all, "", dlx, nil)
		q := ch.Quorum("q", Table{
			"x-dead-letter-exchange": dlx, "x-dead-letter-strategy": "at-least-once",
			"x-overflow": "reject-publish", "x-max-length": int32(1),
		})
		ch.PutAll(q, "a", "b")
		ch.Get(q, "")
		ch.Nack(ch.Get(q, ""), "multiple")
		ch.Count(all, 2)
		// They are still in it, and it is as full as before.
		ch.PutAll(q, "c", "d")
	}},
	{"deadletter/transient-and-persistent", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Own("q", args)
		ch.Put("", q, Msg{Body: []byte("a"), DeliveryMode: 1})
		ch.Put("", q, Msg{Body: []byte("b"), DeliveryMode: 2, Priority: 5})
		ch.Reject(ch.Get(q, ""), "")
		ch.Reject(ch.Get(q, ""), "")
		ch.Count(dead, 2)
		ch.Drain(dead)
	}},
}

// buryThree dead-letters three messages with one nack into a queue with a consumer.
func (ch *Channel) buryThree(target Table) {
	dead := ch.Own("dead", target)
	q := ch.Own("q", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	ch.Consume(dead, "t", "", nil)
	ch.PutAll(q, "a", "b", "c")
	ch.Get(q, "")
	ch.Get(q, "")
	ch.Nack(ch.Get(q, ""), "multiple")
	ch.Receive("t", 3)
}
