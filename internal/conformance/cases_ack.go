package conformance

// three puts a, b and c into a queue and gets them.
func (ch *Channel) three() string {
	q := ch.Own("q", nil)
	ch.PutAll(q, "a", "b", "c")
	for range 3 {
		ch.Get(q, "")
	}
	return q
}

// left requeues by closing the channel, waits for the n messages that are left, and
// says which they are.
func (s *Script) left(ch *Channel, queue string, n int) {
	if !ch.amqp.IsClosed() {
		ch.Sync()
	}
	if ch.amqp.IsClosed() {
		ch.Closed()
	} else {
		ch.Close()
	}
	after := s.Channel()
	after.Count(queue, n)
	after.Drain(queue)
}

var ackCases = []Case{
	{"ack/one", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Ack(2, "")
		s.left(ch, q, 2)
	}},
	{"ack/multiple", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Ack(2, "multiple")
		s.left(ch, q, 1)
	}},
	{"ack/zero-multiple-is-all", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Ack(0, "multiple")
		s.left(ch, q, 0)
	}},
	{"ack/zero-multiple-of-nothing", func(s *Script) {
		ch := s.Channel()
		ch.Ack(0, "multiple")
		ch.Nack(0, "multiple requeue")
	}},
	{"ack/zero", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Ack(0, "")
		s.left(ch, q, 3)
	}},
	{"ack/unknown-tag", func(s *Script) {
		ch := s.Channel()
		ch.Ack(99, "")
		ch.Closed()
	}},
	{"ack/unknown-tag-multiple", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Ack(99, "multiple")
		s.left(ch, q, 3)
	}},
	{"ack/twice", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Ack(2, "")
		ch.Ack(2, "")
		s.left(ch, q, 2)
	}},
	{"ack/multiple-twice", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Ack(2, "multiple")
		ch.Ack(2, "multiple")
		s.left(ch, q, 1)
	}},
	{"ack/multiple-to-a-settled-tag", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Reject(2, "")
		ch.Ack(2, "multiple")
		s.left(ch, q, 2)
	}},
	{"ack/multiple-over-a-settled-tag", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Reject(2, "")
		ch.Ack(3, "multiple")
		s.left(ch, q, 0)
	}},
	{"ack/tag-of-another-channel", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		ch.three()
		other.Ack(1, "")
		other.Closed()
	}},
	{"ack/tag-of-no-ack", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, M("a"))
		ch.Consume(q, "t", "no-ack", nil)
		ch.Receive("t", 1)
		ch.Ack(1, "")
		ch.Closed()
	}},
	{"ack/tags-of-consumers-and-gets-are-one-row", func(s *Script) {
		ch := s.Channel()
		q, r := ch.Own("q", nil), ch.Own("r", nil)
		ch.PutAll(q, "a", "b")
		ch.PutAll(r, "c")
		ch.Qos(1, 0, "")
		ch.Get(q, "")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		ch.Get(r, "")
		ch.Ack(2, "multiple")
		s.left(ch, r, 1)
	}},
	{"reject/drops", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Reject(1, "")
		s.left(ch, q, 2)
	}},
	{"reject/requeues", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Reject(2, "requeue")
		ch.Arrives(q, "")
		s.left(ch, q, 3)
	}},
	{"reject/unknown-tag", func(s *Script) {
		ch := s.Channel()
		ch.Reject(7, "requeue")
		ch.Closed()
	}},
	{"nack/one-drops", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Nack(1, "")
		s.left(ch, q, 2)
	}},
	{"nack/multiple-requeues", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Nack(2, "multiple requeue")
		ch.Count(q, 2)
		ch.Drain(q)
	}},
	{"nack/zero-multiple-is-all", func(s *Script) {
		ch := s.Channel()
		q := ch.three()
		ch.Nack(0, "multiple")
		s.left(ch, q, 0)
	}},
	{"nack/unknown-tag", func(s *Script) {
		ch := s.Channel()
		ch.Nack(5, "requeue")
		ch.Closed()
	}},
	{"requeue/to-the-old-place", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c", "d")
		for range 3 {
			ch.Get(q, "")
		}
		ch.Nack(3, "requeue")
		ch.Nack(1, "requeue")
		ch.Nack(2, "requeue")
		ch.Count(q, 4)
		ch.Drain(q)
	}},
	{"requeue/on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.PutAll(q, "a", "b", "c", "d")
		for range 3 {
			ch.Get(q, "")
		}
		ch.Nack(3, "requeue")
		ch.Nack(1, "requeue")
		ch.Nack(2, "requeue")
		ch.Count(q, 4)
		ch.Drain(q)
	}},
	{"requeue/to-another-consumer", func(s *Script) {
		a, b := s.Channel(), s.Channel()
		q := a.Own("q", nil)
		a.Put("", q, M("a"))
		a.Qos(1, 0, "")
		a.Consume(q, "t", "", nil)
		a.Receive("t", 1)
		b.Consume(q, "u", "", nil)
		a.Cancel("t")
		a.Nack(1, "requeue")
		b.Receive("u", 1)
	}},
	{"requeue/when-the-channel-closes", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Qos(2, 0, "")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 2)
		ch.Close()
		other := s.Channel()
		other.Count(q, 3)
		other.Drain(q)
	}},
	{"requeue/when-the-connection-closes", func(s *Script) {
		conn := s.Conn()
		ch := conn.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b")
		ch.Get(q, "")
		other := s.Conn().Channel()
		conn.Close()
		other.Count(q, 2)
		other.Drain(q)
	}},
	{"requeue/when-the-socket-is-cut", func(s *Script) {
		conn := s.Conn()
		ch := conn.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 2)
		other := s.Conn().Channel()
		conn.Cut()
		other.Count(q, 2)
		other.Drain(q)
	}},
	{"requeue/marks-what-was-delivered-unseen", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Qos(2, 0, "")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1) // b is on its way as well
		ch.Sync()
		ch.Cancel("t")
		ch.Close()
		other := s.Channel()
		other.Count(q, 3)
		other.Drain(q)
	}},
	{"recover/requeue", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 2)
		ch.Recover(true)
		ch.Receive("t", 2)
		ch.Ack(4, "multiple")
		ch.Ack(1, "")
		ch.Closed()
	}},
	{"recover/without-requeue", func(s *Script) {
		s.Channel().Recover(false)
	}},
}
