package conformance

var consumeCases = []Case{
	{"consume/order-and-tags", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 3)
		ch.Put("", q, M("d"))
		ch.Receive("t", 1)
		ch.Silent("t")
		ch.Ack(4, "multiple")
	}},
	{"consume/no-ack", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b")
		ch.Consume(q, "t", "no-ack", nil)
		ch.Receive("t", 2)
		ch.Close()
		s.Channel().Look(q)
	}},
	{"consume/no-ack-is-not-held-by-prefetch", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Qos(1, 0, "")
		ch.Consume(q, "t", "no-ack", nil)
		ch.Receive("t", 3)
	}},
	{"consume/missing-queue", func(s *Script) {
		s.Channel().Consume(s.Name("q"), "t", "", nil)
	}},
	{"consume/tag-used-twice", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(q, "t", "", nil)
		ch.Consume(q, "t", "", nil)
	}},
	{"consume/same-tag-on-two-channels", func(s *Script) {
		a, b := s.Channel(), s.Channel()
		q := a.Own("q", nil)
		a.Consume(q, "t", "", nil)
		b.Consume(q, "t", "", nil)
		a.ConsumerCount(q, 2)
	}},
	{"consume/tag-again-after-cancel", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(q, "t", "", nil)
		ch.Cancel("t")
		ch.Consume(q, "t", "", nil)
		ch.Put("", q, M("a"))
		ch.Receive("t", 1)
	}},
	{"consume/exclusive", func(s *Script) {
		a, b := s.Channel(), s.Channel()
		q := a.Own("q", nil)
		a.Consume(q, "t", "exclusive", nil)
		b.Consume(q, "u", "", nil)
		c := s.Channel()
		a.Cancel("t")
		c.Consume(q, "v", "exclusive", nil)
	}},
	{"consume/exclusive-where-there-is-another", func(s *Script) {
		a, b := s.Channel(), s.Channel()
		q := a.Own("q", nil)
		a.Consume(q, "t", "", nil)
		b.Consume(q, "u", "exclusive", nil)
	}},
	{"consume/exclusive-on-quorum", func(s *Script) {
		a, b := s.Channel(), s.Channel()
		q := a.Quorum("q", nil)
		a.Consume(q, "t", "exclusive", nil)
		b.Consume(q, "u", "", nil)
	}},
	{"consume/no-local-is-not-honoured", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(q, "t", "no-local", nil)
		ch.Put("", q, M("own"))
		ch.Receive("t", 1)
	}},
	{"consume/round-robin", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(q, "t", "no-ack", nil)
		ch.Consume(q, "u", "no-ack", nil)
		ch.PutAll(q, "a", "b", "c", "d")
		ch.Receive("t", 2)
		ch.Receive("u", 2)
	}},
	{"consume/own-exclusive-queue-from-another-channel", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("", "exclusive", nil)
		other := s.Channel()
		other.Consume(q, "t", "no-ack", nil)
		ch.Put("", q, M("a"))
		other.Receive("t", 1)
	}},
	{"consume/many-channels-of-one-connection", func(s *Script) {
		a, b := s.Channel(), s.Channel()
		q := a.Own("q", nil)
		a.Qos(1, 0, "")
		b.Qos(1, 0, "")
		a.Consume(q, "t", "", nil)
		b.Consume(q, "t", "", nil)
		a.PutAll(q, "a", "b", "c")
		a.Receive("t", 1)
		b.Receive("t", 1)
		b.Ack(1, "")
		b.Receive("t", 1)
	}},
	{"consume/goes-on-after-another-has-its-channel-closed", func(s *Script) {
		a, b := s.Channel(), s.Channel()
		q := a.Own("q", nil)
		a.Consume(q, "t", "", nil)
		b.Consume(q, "t", "", nil)
		a.PutAll(q, "a", "b")
		a.Receive("t", 1)
		b.Receive("t", 1)
		a.Ack(7, "")
		a.Closed()
		b.Receive("t", 1)
	}},
	{"consume/cancel-unknown-tag", func(s *Script) {
		s.Channel().Cancel("nosuch")
	}},
	{"consume/cancel-keeps-what-was-delivered", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Qos(2, 0, "")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 2)
		ch.Cancel("t")
		ch.Look(q)
		ch.Ack(1, "")
		ch.Nack(2, "requeue")
		ch.Count(q, 2)
		ch.Drain(q)
	}},
	{"consume/argument-unknown", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(q, "t", "", Table{"x-whatever": "yes"})
	}},
	{"consume/empty-body-and-key", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "fanout", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "", x, nil)
		ch.Consume(q, "t", "no-ack", nil)
		ch.Put(x, "", M(""))
		ch.Receive("t", 1)
	}},
	{"qos/prefetch-holds-back", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c", "d", "e")
		ch.Qos(2, 0, "")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 2)
		ch.Silent("t")
		ch.Ack(2, "")
		ch.Receive("t", 1)
		ch.Silent("t")
		ch.Ack(3, "multiple")
		ch.Receive("t", 2)
	}},
	{"qos/is-per-consumer", func(s *Script) {
		ch := s.Channel()
		q, r := ch.Own("q", nil), ch.Own("r", nil)
		ch.PutAll(q, "a", "b")
		ch.PutAll(r, "c", "d")
		ch.Qos(1, 0, "")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Consume(r, "u", "", nil)
		ch.Receive("u", 1)
		ch.Silent("t")
		ch.Silent("u")
	}},
	{"qos/is-for-consumers-to-come", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c", "d")
		ch.Qos(1, 0, "")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Qos(0, 0, "")
		ch.Silent("t")
		ch.Consume(q, "u", "", nil)
		ch.Receive("u", 3)
	}},
	{"qos/global-on-classic", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c", "d")
		ch.Qos(1, 0, "global")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Consume(q, "u", "", nil)
		ch.Silent("u")
	}},
	{"qos/global-with-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.PutAll(q, "a", "b", "c", "d")
		ch.Qos(1, 0, "global")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Consume(q, "u", "", nil)
		ch.Silent("u")
	}},
	{"qos/size", func(s *Script) {
		s.Channel().Qos(0, 100, "")
	}},
	{"qos/get-is-not-held-back", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b")
		ch.Qos(1, 0, "")
		ch.Get(q, "")
		ch.Get(q, "")
	}},
	{"get/empty", func(s *Script) {
		ch := s.Channel()
		ch.Get(ch.Own("q", nil), "")
	}},
	{"get/missing-queue", func(s *Script) {
		s.Channel().Get(s.Name("q"), "")
	}},
	{"get/remaining", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Get(q, "")
		ch.Get(q, "no-ack")
		ch.Get(q, "")
		ch.Get(q, "")
		ch.Ack(1, "")
		ch.Nack(3, "requeue")
		ch.Arrives(q, "")
	}},
	{"get/no-ack-takes-no-tag-from-acks", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b")
		ch.Get(q, "no-ack")
		ch.Ack(1, "")
		ch.Closed()
	}},
	{"get/beside-an-exclusive-consumer", func(s *Script) {
		a, b := s.Channel(), s.Channel()
		q := a.Own("q", nil)
		a.Consume(q, "t", "exclusive", nil)
		b.Get(q, "")
	}},
	{"consume/quorum-counts-who-holds-a-message", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Get(q, "")
		ch.Look(q)
		ch.Get(q, "")
		ch.Look(q)
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Look(q)
		ch.Cancel("t")
		ch.Look(q)
		ch.Ack(3, "multiple")
		ch.ConsumerCount(q, 0)
	}},
	{"consume/quorum-without-a-prefetch-holds-2000", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.Confirms()
		lines := len(s.lines)
		for range 2001 {
			ch.Publish("", q, "", M("a"))
		}
		ch.Confirmed(2001)
		ch.Consume(q, "t", "", nil)
		tags := ch.Receive("t", 2000)
		s.lines = s.lines[:lines]
		ch.say("2001 messages, %d deliveries", len(tags))
		ch.Silent("t")
		ch.Ack(tags[0], "")
		ch.Receive("t", 1)
	}},
	{"priority/of-consumers", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Qos(2, 0, "")
		ch.Consume(q, "low", "", Table{"x-priority": int32(-1)})
		ch.Consume(q, "high", "", Table{"x-priority": int32(10)})
		ch.Consume(q, "middle", "", nil)
		ch.PutAll(q, "a", "b", "c", "d", "e")
		ch.Receive("high", 2)
		ch.Receive("middle", 2)
		ch.Receive("low", 1)
	}},
	{"priority/of-consumers-on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.Qos(2, 0, "")
		ch.Consume(q, "low", "", Table{"x-priority": int32(-1)})
		ch.Consume(q, "high", "", Table{"x-priority": int32(10)})
		ch.Consume(q, "middle", "", nil)
		ch.ConsumerCount(q, 3)
		ch.PutAll(q, "a", "b", "c", "d", "e")
		ch.Receive("high", 2)
		ch.Receive("middle", 2)
		ch.Receive("low", 1)
	}},
	{"priority/of-consumers-of-wrong-type", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(q, "t", "", Table{"x-priority": "high"})
	}},
}
