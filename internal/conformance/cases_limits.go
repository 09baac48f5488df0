package conformance

import "strings"

var limitCases = []Case{
	{"limits/max-length-drops-the-head", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-max-length": int32(2)})
		q := ch.Own("q", args)
		ch.PutAll(q, "a", "b", "c", "d")
		ch.Holds(q)
		ch.Count(dead, 2)
		ch.Drain(dead)
	}},
	{"limits/max-length-on-quorum", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-max-length": int32(2)})
		q := ch.Quorum("q", args)
		ch.PutAll(q, "a", "b", "c", "d")
		ch.Count(q, 2)
		ch.Holds(q)
		ch.Count(dead, 2)
		ch.Drain(dead)
	}},
	{"limits/max-length-does-not-count-what-is-held", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(2)})
		ch.PutAll(q, "a", "b")
		tag := ch.Get(q, "")
		ch.PutAll(q, "c")
		ch.Look(q)
		ch.Nack(tag, "requeue")
		ch.Count(q, 2)
		ch.Holds(q)
	}},
	{"limits/max-length-zero", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(0)})
		ch.Put("", q, M("a"))
		ch.Look(q)
		ch.Consume(q, "t", "", nil)
		ch.Put("", q, M("b"))
		ch.Receive("t", 1)
	}},
	{"limits/max-length-bytes", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length-bytes": int32(10)})
		ch.PutAll(q, "aaaa", "bbbb", "cc", "d")
		ch.Holds(q)
		ch.PutAll(q, "xxx", "longer than ten", "y")
		ch.Holds(q)
	}},
	{"limits/max-length-bytes-on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-max-length-bytes": int32(10000)})
		// What a queue counts besides the body is its own affair.
		for _, b := range []string{"a", "b", "c", "d", "e"} {
			ch.Put("", q, M(strings.Repeat(b, 3000)))
		}
		ch.Count(q, 3)
		ch.Drain(q)
	}},
	{"limits/both", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(3), "x-max-length-bytes": int32(10)})
		ch.PutAll(q, "a", "b", "c", "d", "eeeeeeeee", "f")
		ch.Holds(q)
	}},
	{"limits/reject-publish-without-confirms", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(2), "x-overflow": "reject-publish"})
		for _, b := range []string{"a", "b", "c"} {
			ch.Publish("", q, "", M(b))
		}
		ch.Count(q, 2)
		ch.Holds(q)
	}},
	{"limits/reject-publish-does-not-dead-letter", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		q := ch.Own("q", args)
		ch.PutAll(q, "a", "b")
		ch.Look(dead)
	}},
	{"limits/reject-publish-dlx", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-max-length": int32(1), "x-overflow": "reject-publish-dlx"})
		q := ch.Own("q", args)
		ch.PutAll(q, "a", "b")
		ch.Arrives(dead, "no-ack")
		ch.Holds(q)
	}},
	{"limits/reject-publish-dlx-on-quorum", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-max-length": int32(1), "x-overflow": "reject-publish-dlx"})
		q := ch.Quorum("q", args)
		ch.PutAll(q, "a", "b", "c", "d")
		ch.Count(q, 1)
		ch.Holds(q)
		ch.Count(dead, 3)
		ch.Holds(dead)
	}},
	{"limits/reject-publish-on-quorum-until-it-is-down-again", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-max-length": int32(5), "x-overflow": "reject-publish"})
		ch.PutAll(q, "1", "2", "3", "4", "5", "over", "nacked")
		ch.Count(q, 6)
		ch.Get(q, "no-ack")
		ch.Count(q, 5)
		ch.Put("", q, M("nacked at the limit"))
		ch.Get(q, "no-ack")
		ch.Count(q, 4)
		ch.Put("", q, M("taken at four fifths"))
		ch.Count(q, 5)
		ch.Holds(q)
	}},
	{"limits/reject-publish-on-quorum-of-another-publisher", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Quorum("q", Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		ch.PutAll(q, "a", "over")
		ch.Count(q, 2)
		other.PutAll(q, "nacked")
		ch.Get(q, "no-ack")
		ch.Get(q, "no-ack")
		ch.Count(q, 0)
		other.PutAll(q, "taken")
		ch.Count(q, 1)
	}},
	{"limits/reject-publish-by-bytes", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length-bytes": int32(5), "x-overflow": "reject-publish"})
		ch.PutAll(q, "aaa", "bbb", "c")
		ch.Holds(q)
	}},
	{"limits/requeue-over-the-limit", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		ch.Put("", q, M("a"))
		tag := ch.Get(q, "")
		ch.Put("", q, M("b"))
		ch.Nack(tag, "requeue")
		ch.Count(q, 2)
		ch.Holds(q)
	}},
	{"limits/what-comes-back-is-offered-within-the-limit", func(s *Script) {
		ch := s.Channel()
		ch.comeBack(ch.Own("q", Table{"x-max-length": int32(1)}))
	}},
	{"limits/what-comes-back-to-quorum-is-offered-first", func(s *Script) {
		ch := s.Channel()
		ch.comeBack(ch.Quorum("q", Table{"x-max-length": int32(1)}))
	}},
	{"limits/what-a-closed-channel-held-is-offered-within-the-limit", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(1)})
		other.Consume(q, "holds", "", nil)
		ch.PutAll(q, "a", "b")
		other.Receive("holds", 2)
		ch.Consume(q, "t", "", nil)
		other.Close()
		ch.Receive("t", 1)
		ch.Silent("t")
	}},
	{"limits/dead-letters-that-wait-count-by-bytes", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{
			"x-max-length-bytes": int32(10000), "x-overflow": "reject-publish",
			"x-dead-letter-exchange": s.Name("nosuch"), "x-dead-letter-strategy": "at-least-once",
		})
		ch.Put("", q, M(strings.Repeat("a", 12000)))
		ch.Reject(ch.Get(q, ""), "")
		ch.tick() // for the publisher to hear of it
		ch.PutAll(q, "b", "c")
	}},
	{"limits/delayed-retries-count-by-bytes", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{
			"x-max-length-bytes": int32(10000), "x-overflow": "reject-publish",
			"x-delayed-retry-type": "all", "x-delayed-retry-min": int32(30000), "x-delayed-retry-max": int32(30000),
		})
		ch.Put("", q, M(strings.Repeat("a", 12000)))
		ch.Reject(ch.Get(q, ""), "requeue")
		ch.tick() // as above
		ch.PutAll(q, "b", "c")
	}},
}

// comeBack has a consumer give back three messages that it holds of the queue.
func (ch *Channel) comeBack(queue string) {
	ch.Consume(queue, "t", "", nil)
	ch.PutAll(queue, "a", "b", "c")
	ch.Nack(ch.Receive("t", 3)[2], "multiple requeue")
	ch.Receive("t", 1)
	ch.Silent("t")
}
