package conformance

// byPriority puts messages of these priorities, named by their number and
// priority, and says the order in which they come out.
func (ch *Channel) byPriority(queue string, priorities ...uint8) {
	for i, p := range priorities {
		ch.Put("", queue, Msg{Body: []byte{'a' + byte(i), '0' + p}, Priority: p})
	}
	ch.Holds(queue)
}

// follows cancels the one that is active of four consumers, which differ in prefetch.
func (ch *Channel) follows(queue, next string) {
	ch.Consume(queue, "first", "", nil)
	for _, c := range []struct {
		tag      string
		prefetch int
	}{{"small", 1}, {"large", 100}, {"unlimited", 0}} {
		ch.Qos(c.prefetch, 0, "")
		ch.Consume(queue, c.tag, "", nil)
	}
	ch.Cancel("first")
	ch.Put("", queue, M("a"))
	ch.Receive(next, 1)
}

var priorityCases = []Case{
	{"priority/of-messages", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-priority": int32(5)})
		ch.byPriority(q, 1, 3, 0, 5, 3, 1, 2)
	}},
	{"priority/above-the-maximum", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-priority": int32(2)})
		ch.byPriority(q, 1, 2, 9, 2)
	}},
	{"priority/without-a-maximum", func(s *Script) {
		ch := s.Channel()
		ch.byPriority(ch.Own("q", nil), 1, 3, 0, 5)
	}},
	{"priority/zero-is-no-priority", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-priority": int32(0)})
		ch.byPriority(q, 1, 3, 0)
	}},
	{"priority/of-messages-on-quorum", func(s *Script) {
		ch := s.Channel()
		ch.byPriority(ch.Quorum("q", nil), 1, 3, 5, 4, 9, 0, 6, 5)
	}},
	{"priority/of-many-levels-on-quorum", func(s *Script) {
		ch := s.Channel()
		ch.byPriority(ch.Quorum("q", nil), 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	}},
	{"priority/requeued-keeps-its-place", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-priority": int32(5)})
		ch.Put("", q, Msg{Body: []byte("low"), Priority: 1})
		ch.Put("", q, Msg{Body: []byte("high"), Priority: 5})
		tag := ch.Get(q, "")
		ch.Put("", q, Msg{Body: []byte("high too"), Priority: 5})
		ch.Nack(tag, "requeue")
		ch.Count(q, 3)
		ch.Holds(q)
	}},
	{"priority/the-limit-drops-the-head", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-priority": int32(5), "x-max-length": int32(2)})
		ch.byPriority(q, 5, 1, 3)
	}},
	{"sac/one-is-active", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-single-active-consumer": true})
		ch.Consume(q, "first", "no-ack", nil)
		ch.Consume(q, "second", "no-ack", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Receive("first", 3)
		ch.Silent("second")
		ch.Look(q)
	}},
	{"sac/next-takes-over", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-single-active-consumer": true})
		ch.Consume(q, "first", "no-ack", nil)
		ch.Consume(q, "second", "no-ack", nil)
		ch.Consume(q, "third", "no-ack", nil)
		ch.Cancel("first")
		ch.PutAll(q, "a", "b")
		ch.Receive("second", 2)
		ch.Silent("third")
	}},
	{"sac/takes-over-from-a-cut-connection", func(s *Script) {
		conn := s.Conn()
		a, b := conn.Channel(), s.Conn().Channel()
		q := a.Own("q", Table{"x-single-active-consumer": true})
		a.Consume(q, "first", "", nil)
		b.Consume(q, "second", "", nil)
		a.PutAll(q, "a", "b")
		a.Receive("first", 2)
		conn.Cut()
		b.Receive("second", 2)
	}},
	{"sac/on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-single-active-consumer": true})
		ch.Consume(q, "first", "no-ack", nil)
		ch.Consume(q, "second", "no-ack", nil)
		ch.ConsumerCount(q, 1)
		ch.PutAll(q, "a", "b")
		ch.Receive("first", 2)
		ch.Silent("second")
		ch.Cancel("first")
		ch.Put("", q, M("c"))
		ch.Receive("second", 1)
	}},
	{"sac/exclusive-consumer", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-single-active-consumer": true})
		ch.Consume(q, "t", "exclusive", nil)
	}},
	{"sac/priority-does-not-matter-on-classic", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-single-active-consumer": true})
		ch.Consume(q, "low", "no-ack", nil)
		ch.Consume(q, "high", "no-ack", Table{"x-priority": int32(5)})
		ch.Put("", q, M("a"))
		ch.Receive("low", 1)
		ch.Silent("high")
	}},
	{"sac/priority-takes-over-on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-single-active-consumer": true})
		ch.Consume(q, "low", "no-ack", nil)
		ch.ConsumerCount(q, 1)
		ch.Consume(q, "high", "no-ack", Table{"x-priority": int32(5)})
		ch.ConsumerCount(q, 1)
		ch.Put("", q, M("a"))
		ch.Receive("high", 1)
		ch.Silent("low")
	}},
	{"sac/priority-waits-for-what-is-held-on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-single-active-consumer": true})
		ch.Consume(q, "low", "", nil)
		ch.PutAll(q, "a", "b")
		tags := ch.Receive("low", 2)
		ch.Consume(q, "high", "", Table{"x-priority": int32(5)})
		ch.Put("", q, M("c"))
		ch.Silent("low")
		ch.Silent("high")
		ch.Ack(tags[0], "")
		ch.Silent("high")
		ch.Ack(tags[1], "")
		ch.Receive("high", 1)
	}},
	{"sac/replaced-and-back-it-waits-for-what-it-holds-on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-single-active-consumer": true})
		ch.Consume(q, "low", "", nil)
		ch.PutAll(q, "a", "b")
		tags := ch.Receive("low", 2)
		ch.Consume(q, "high", "", Table{"x-priority": int32(5)})
		ch.Put("", q, M("c"))
		ch.ConsumerCount(q, 1)
		ch.Cancel("high")
		ch.Silent("low")
		ch.Ack(tags[0], "")
		ch.Silent("low")
		ch.Ack(tags[1], "")
		ch.Receive("low", 1)
	}},
	{"sac/the-longest-waiting-follows", func(s *Script) {
		ch := s.Channel()
		ch.follows(ch.Own("q", Table{"x-single-active-consumer": true}), "small")
	}},
	{"sac/the-largest-prefetch-follows-on-quorum", func(s *Script) {
		ch := s.Channel()
		ch.follows(ch.Quorum("q", Table{"x-single-active-consumer": true}), "unlimited")
	}},
	{"sac/get", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-single-active-consumer": true})
		ch.PutAll(q, "a", "b")
		ch.Get(q, "no-ack")
		other := s.Channel()
		other.Qos(1, 0, "")
		other.Consume(q, "t", "", nil)
		other.Receive("t", 1)
		ch.Get(q, "")
	}},
	{"sac/get-on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-single-active-consumer": true})
		ch.Put("", q, M("a"))
		ch.Get(q, "")
	}},
}
