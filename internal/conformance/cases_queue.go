package conformance

var queueCases = []Case{
	{"queue/declare", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 2)
		ch.Queue(q, "durable", nil)
	}},
	{"queue/counts-only-ready-messages", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Get(q, "")
		ch.Look(q)
		ch.Purge(q)
		ch.Look(q)
		ch.DeleteQueue(q, "")
	}},
	{"queue/server-named", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("", "exclusive", nil)
		ch.Put("", q, M("hello"))
		ch.Drain(q)
		ch.Queue("", "exclusive", nil)
	}},
	{"queue/last-declared-stands-for-no-name", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("", "exclusive", nil)
		ch.Bind("", s.Name("k"), "amq.direct", nil)
		ch.Put("", q, M("hello"))
		ch.Get("", "no-ack")
		ch.Consume("", "t", "", nil)
		ch.Purge("")
		ch.Unbind("", s.Name("k"), "amq.direct", nil)
		ch.DeleteQueue("", "")
		ch.QueueNamed("", "passive", nil)
	}},
	{"queue/no-name-and-none-declared", func(s *Script) {
		ch := s.Channel()
		ch.Purge("")
		ch = s.Channel()
		ch.Get("", "")
		ch = s.Channel()
		ch.Bind("", "k", "amq.direct", nil)
		ch = s.Channel()
		ch.Consume("", "t", "", nil)
		ch = s.Channel()
		ch.QueueNamed("", "passive", nil)
	}},
	{"queue/binding-without-names", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Bind("", "", "amq.direct", nil)
		ch.Put("amq.direct", q, M("the key is the name of the queue"))
		ch.Drain(q)
		ch.Unbind(q, q, "amq.direct", nil)
	}},
	{"queue/reserved-name", func(s *Script) {
		s.Channel().QueueNamed("amq.foo", "durable", nil)
	}},
	{"queue/passive", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(10)})
		ch.Put("", q, M("one"))
		ch.QueueNamed(q, "passive auto-delete", Table{"x-max-length": int32(3)})
	}},
	{"queue/passive-missing", func(s *Script) {
		s.Channel().Look(s.Name("q"))
	}},
	{"queue/passive-exclusive-of-another", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue(s.QueueName("exq"), "exclusive", nil)
		other := s.Conn().Channel()
		other.Look(q)
	}},
	{"queue/exclusive-is-locked", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue(s.QueueName("exq"), "exclusive", nil)
		conn := s.Conn()
		conn.Channel().QueueNamed(q, "exclusive", nil)
		conn.Channel().Consume(q, "t", "", nil)
		conn.Channel().Get(q, "")
		conn.Channel().Purge(q)
		conn.Channel().DeleteQueue(q, "")
		conn.Channel().Bind(q, "k", "amq.direct", nil)
		conn.Channel().Unbind(q, "k", "amq.direct", nil)
	}},
	{"queue/exclusive-binding-is-locked", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue(s.QueueName("exq"), "exclusive", nil)
		x := ch.OwnExchange("x", "direct", nil)
		ch.Bind(q, "k", x, nil)
		s.Conn().Channel().Unbind(q, "k", x, nil)
		ch.Put(x, "k", M("still bound"))
		ch.Drain(q)
	}},
	{"queue/exclusive-takes-messages-of-others", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue(s.QueueName("exq"), "exclusive", nil)
		s.Conn().Channel().Put("", q, M("from elsewhere"))
		ch.Drain(q)
	}},
	{"queue/exclusive-on-another-channel", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue(s.QueueName("exq"), "exclusive", nil)
		ch.Close()
		s.Channel().Queue(q, "exclusive", nil)
	}},
	{"queue/exclusive-goes-with-its-connection", func(s *Script) {
		owner := s.Conn()
		q := owner.Channel().Queue(s.QueueName("exq"), "exclusive durable", nil)
		other := s.Conn().Channel()
		owner.Close()
		other.Gone(q)
	}},
	{"queue/exclusive-goes-when-the-socket-is-cut", func(s *Script) {
		owner := s.Conn()
		q := owner.Channel().Queue(s.QueueName("exq"), "exclusive", nil)
		other := s.Conn().Channel()
		owner.Cut()
		other.Gone(q)
	}},
	{"queue/inequivalent-exclusive", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Queue(q, "durable exclusive", nil)
	}},
	{"queue/inequivalent-not-exclusive", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue(s.QueueName("q"), "exclusive", nil)
		ch.Queue(q, "", nil)
	}},
	{"queue/inequivalent-durable", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("dm", nil)
		ch.Queue(q, "", nil)
	}},
	{"queue/inequivalent-auto-delete", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Queue(q, "durable auto-delete", nil)
	}},
	{"queue/transient-is-still-taken", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue(s.QueueName("q"), "", nil)
		ch.Put("", q, M("hello"))
		ch.Drain(q)
	}},
	{"queue/auto-delete-after-the-last-consumer", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue(s.QueueName("q"), "durable auto-delete", nil)
		ch.Consume(q, "one", "", nil)
		ch.Consume(q, "two", "", nil)
		ch.Cancel("one")
		ch.Look(q)
		ch.Cancel("two")
		ch.Gone(q)
	}},
	{"queue/auto-delete-with-its-channel", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue(s.QueueName("q"), "durable auto-delete", nil)
		ch.Consume(q, "t", "", nil)
		ch.Close()
		s.Channel().Gone(q)
	}},
	{"queue/auto-delete-never-consumed", func(s *Script) {
		conn := s.Conn()
		ch := conn.Channel()
		q := ch.Queue(s.QueueName("q"), "durable auto-delete", nil)
		ch.Put("", q, M("stays"))
		ch.Get(q, "no-ack")
		ch.Close()
		s.Channel().Look(q)
	}},
	{"queue/purge", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Purge(q)
		ch.PutAll(q, "a", "b", "c")
		ch.Purge(q)
		ch.Get(q, "")
	}},
	{"queue/purge-missing", func(s *Script) {
		s.Channel().Purge(s.Name("q"))
	}},
	{"queue/purge-leaves-what-is-not-acked", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b", "c")
		tag := ch.Get(q, "")
		ch.Purge(q)
		ch.Nack(tag, "requeue")
		ch.Arrives(q, "no-ack")
		ch.Get(q, "no-ack")
	}},
	{"queue/delete", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.PutAll(q, "a", "b")
		ch.DeleteQueue(q, "")
		ch.Look(q)
	}},
	{"queue/delete-missing", func(s *Script) {
		ch := s.Channel()
		ch.DeleteQueue(s.Name("q"), "")
		ch.DeleteQueue(s.Name("q"), "if-unused if-empty")
	}},
	{"queue/delete-if-empty", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, M("a"))
		ch.DeleteQueue(q, "if-empty")
		ch = s.Channel()
		ch.Get(q, "no-ack")
		ch.DeleteQueue(q, "if-empty")
	}},
	{"queue/delete-if-unused", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(q, "t", "", nil)
		ch.DeleteQueue(q, "if-unused")
		ch = s.Channel()
		ch.ConsumerCount(q, 0)
		ch.DeleteQueue(q, "if-unused")
	}},
	{"queue/delete-if-unused-and-if-empty", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(q, "t", "", nil)
		ch.Put("", q, M("a"))
		ch.Receive("t", 1)
		ch.DeleteQueue(q, "if-unused if-empty")
	}},
	{"queue/delete-cancels-consumers", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, M("a"))
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 1)
		s.Channel().DeleteQueue(q, "")
		ch.Cancelled(1)
		ch.Ended("t")
		ch.Ack(1, "")
	}},
	{"queue/delete-and-declare-again-is-another-queue", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Bind(q, s.Name("k"), "amq.direct", nil)
		ch.Put("", q, M("a"))
		ch.DeleteQueue(q, "")
		ch.Queue(q, "durable", Table{"x-max-length": int32(5)})
		ch.Put("amq.direct", s.Name("k"), M("b"))
		ch.Look(q)
	}},
	{"queue/name-with-strange-characters", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("a b/ü\n'%~p", nil)
		ch.Put("", q, M("a"))
		ch.Look(s.Name("a b/ü\n'%~q"))
	}},
}
