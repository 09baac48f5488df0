package conformance

var deliveryLimitCases = []Case{
	{"deliverylimit/rejects-count", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-delivery-limit": int32(2)})
		q := ch.Quorum("q", args)
		ch.Put("", q, M("a"))
		for range 3 {
			ch.Reject(ch.Arrives(q, ""), "requeue")
		}
		ch.Arrives(dead, "no-ack")
		ch.Count(q, 0)
	}},
	{"deliverylimit/nacks-do-not-count", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-delivery-limit": int32(2)})
		q := ch.Quorum("q", args)
		ch.Put("", q, M("a"))
		for range 3 {
			ch.Nack(ch.Arrives(q, ""), "requeue")
		}
		// By 4.3's rules it is still there, by older ones it is dead.
		ch.ArrivesIn([]string{q, dead})
	}},
	{"deliverylimit/closed-channels-count", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-delivery-limit": int32(1)})
		q := ch.Quorum("q", args)
		ch.Put("", q, M("a"))
		for range 2 {
			other := s.Channel()
			other.Consume(q, "t", "", nil)
			other.Receive("t", 1)
			other.Close()
		}
		ch.Arrives(dead, "no-ack")
	}},
	{"deliverylimit/recover", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delivery-limit": int32(5)})
		ch.Put("", q, M("a"))
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Recover(true)
		ch.Receive("t", 1)
	}},
	{"deliverylimit/twenty-by-default", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Quorum("q", args)
		ch.Put("", q, M("a"))
		ch.Qos(1, 0, "")
		lines := len(s.lines)
		ch.Consume(q, "t", "", nil)
		for range 21 {
			ch.Reject(ch.Receive("t", 1)[0], "requeue")
		}
		s.lines = s.lines[:lines]
		ch.say("21 rejects")
		ch.ArrivesIn([]string{dead, q})
	}},
	{"deliverylimit/minus-one-is-none", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delivery-limit": int32(-1)})
		ch.Put("", q, M("a"))
		lines := len(s.lines)
		for range 25 {
			ch.Reject(ch.Arrives(q, ""), "requeue")
		}
		s.lines = s.lines[:lines]
		ch.say("25 rejects")
		ch.Arrives(q, "no-ack")
	}},
	{"deliverylimit/without-one-what-a-consumer-nacks", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delivery-limit": int32(-1)})
		ch.PutAll(q, "a", "b", "c")
		ch.Qos(1, 0, "")
		ch.Consume(q, "t", "", nil)
		ch.Nack(ch.Receive("t", 1)[0], "requeue")
		for range 3 {
			for _, tag := range ch.Receive("t", 1) {
				ch.Ack(tag, "")
			}
		}
	}},
	{"deliverylimit/without-one-a-nack", withoutLimit(func(ch *Channel, tag uint64) { ch.Nack(tag, "requeue") })},
	{"deliverylimit/without-one-a-reject", withoutLimit(func(ch *Channel, tag uint64) { ch.Reject(tag, "requeue") })},
	{"deliverylimit/without-one-a-close", withoutLimit(func(ch *Channel, _ uint64) { ch.Close() })},
	{"deliverylimit/zero", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-delivery-limit": int32(0)})
		q := ch.Quorum("q", args)
		ch.Put("", q, M("a"))
		ch.Reject(ch.Arrives(q, ""), "requeue")
		ch.Arrives(dead, "no-ack")
	}},
	{"deliverylimit/headers-of-redeliveries", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.Put("", q, M("a"))
		ch.Reject(ch.Arrives(q, ""), "requeue")
		ch.Nack(ch.Arrives(q, ""), "requeue")
		ch.Reject(ch.Arrives(q, ""), "requeue")
		ch.Arrives(q, "no-ack")
	}},
	{"deliverylimit/rejected-counts-are-in-the-dead-letter", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Quorum("q", args)
		ch.Put("", q, M("a"))
		ch.Reject(ch.Arrives(q, ""), "requeue")
		ch.Reject(ch.Arrives(q, ""), "")
		ch.Arrives(dead, "no-ack")
	}},
	{"retry/failed-delays-a-reject", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delayed-retry-type": "failed", "x-delayed-retry-min": int32(2000), "x-delayed-retry-max": int32(6000)})
		ch.Put("", q, M("a"))
		ch.Reject(ch.Get(q, ""), "requeue")
		ch.Put("", q, M("b"))
		ch.Get(q, "no-ack")
		ch.Get(q, "no-ack")
		ch.Arrives(q, "no-ack")
	}},
	{"retry/failed-does-not-delay-a-nack", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delayed-retry-type": "failed", "x-delayed-retry-min": int32(30000), "x-delayed-retry-max": int32(90000)})
		ch.Put("", q, M("a"))
		ch.Nack(ch.Get(q, ""), "requeue")
		ch.Arrives(q, "no-ack")
	}},
	{"retry/returned-delays-a-nack", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delayed-retry-type": "returned", "x-delayed-retry-min": int32(2000), "x-delayed-retry-max": int32(6000)})
		ch.Put("", q, M("a"))
		ch.Nack(ch.Get(q, ""), "requeue")
		ch.Put("", q, M("b"))
		ch.Get(q, "no-ack")
		ch.Arrives(q, "no-ack")
	}},
	{"retry/returned-does-not-delay-a-reject", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delayed-retry-type": "returned", "x-delayed-retry-min": int32(30000), "x-delayed-retry-max": int32(90000)})
		ch.Put("", q, M("a"))
		ch.Reject(ch.Get(q, ""), "requeue")
		ch.Arrives(q, "no-ack")
	}},
	{"retry/all-delays-both", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delayed-retry-type": "all", "x-delayed-retry-min": int32(2000), "x-delayed-retry-max": int32(2000)})
		ch.PutAll(q, "a", "b")
		ch.Get(q, "")
		ch.Get(q, "")
		ch.Reject(1, "requeue")
		ch.Nack(2, "requeue")
		ch.Put("", q, M("c"))
		ch.Get(q, "no-ack")
		ch.Count(q, 2)
		ch.Drain(q)
	}},
	{"retry/disabled", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delayed-retry-type": "disabled", "x-delayed-retry-min": int32(30000)})
		ch.Put("", q, M("a"))
		ch.Reject(ch.Get(q, ""), "requeue")
		ch.Arrives(q, "no-ack")
	}},
	{"retry/delayed-are-not-ready", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delayed-retry-type": "all", "x-delayed-retry-min": int32(30000), "x-delayed-retry-max": int32(30000)})
		ch.PutAll(q, "a", "b")
		ch.Reject(ch.Get(q, ""), "requeue")
		ch.Count(q, 1)
		ch.Purge(q)
		ch.DeleteQueue(q, "")
	}},
	{"retry/meets-the-delivery-limit", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-delivery-limit": int32(1), "x-delayed-retry-type": "failed", "x-delayed-retry-min": int32(100), "x-delayed-retry-max": int32(100)})
		q := ch.Quorum("q", args)
		ch.Put("", q, M("a"))
		ch.Reject(ch.Arrives(q, ""), "requeue")
		ch.Reject(ch.Arrives(q, ""), "requeue")
		ch.Arrives(dead, "no-ack")
	}},
}

// withoutLimit gives the first of three messages back to a quorum queue that has no
// delivery limit.
func withoutLimit(giveBack func(ch *Channel, tag uint64)) func(*Script) {
	return func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Quorum("q", Table{"x-delivery-limit": int32(-1)})
		ch.PutAll(q, "a", "b", "c")
		giveBack(other, other.Get(q, ""))
		ch.Count(q, 3)
		ch.Holds(q)
	}
}

// ArrivesIn waits for a message in any of the queues.
func (ch *Channel) ArrivesIn(queues []string) {
	for range ch.s.polls() {
		for _, q := range queues {
			d, ok, err := ch.amqp.Get(q, true)
			if err != nil {
				ch.say("basic.get %q: %s", q, renderError(err))
				return
			}
			if ok {
				ch.say("basic.get %q:%s remaining=%d %s", q, redelivered(&d), d.MessageCount, ofDelivery(&d))
				return
			}
		}
	}
	ch.say("nothing in %q", queues)
}
