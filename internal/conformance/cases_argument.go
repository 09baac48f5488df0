package conformance

// argument declares a durable classic queue with one argument.
func argument(name string, value any) func(*Script) {
	return func(s *Script) { s.Channel().Own("q", Table{name: value}) }
}

// quorumArgument declares a quorum queue with one argument.
func quorumArgument(name string, value any) func(*Script) {
	return func(s *Script) { s.Channel().Quorum("q", Table{name: value}) }
}

// redeclared declares a queue twice, with these arguments.
func redeclared(first, second Table) func(*Script) {
	return func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", first)
		ch.Queue(q, "durable", second)
	}
}

// eachOf declares a queue per value of the argument, each on a channel of its own.
func eachOf(name string, values ...any) func(*Script) {
	return func(s *Script) {
		for i, v := range values {
			s.Channel().Own("q"+string(rune('0'+i)), Table{name: v})
		}
	}
}

var argumentCases = []Case{
	{"argument/unknown-is-taken", argument("x-whatever", "yes")},
	{"argument/unknown-is-no-difference", redeclared(Table{"x-whatever": "one"}, Table{"x-whatever": "two"})},
	{"argument/of-any-integer-type", eachOf("x-message-ttl", int8(100), int16(100), int32(100), int64(100), byte(100))},
	{"argument/of-another-integer-type-is-the-same", redeclared(Table{"x-max-length": int32(5)}, Table{"x-max-length": int64(5)})},
	{"argument/added", redeclared(nil, Table{"x-max-length": int32(3)})},
	{"argument/removed", redeclared(Table{"x-max-length": int32(3)}, nil)},
	{"argument/changed", redeclared(Table{"x-max-length": int32(3)}, Table{"x-max-length": int32(4)})},
	{"argument/changed-text", redeclared(Table{"x-dead-letter-exchange": "a"}, Table{"x-dead-letter-exchange": "b"})},
	{"argument/changed-type", redeclared(Table{"x-queue-type": "quorum"}, Table{"x-queue-type": "classic"})},
	{"argument/default-type-is-the-same", redeclared(nil, Table{"x-queue-type": "classic"})},
	{"argument/default-type-is-the-same-the-other-way", redeclared(Table{"x-queue-type": "classic"}, nil)},
	{"argument/quorum-without-saying-so", redeclared(Table{"x-queue-type": "quorum"}, nil)},
	{"argument/sac-changed", redeclared(Table{"x-single-active-consumer": true}, Table{"x-single-active-consumer": false})},
	{"argument/each-that-is-compared", func(s *Script) {
		for name, value := range ordered(Table{
			"x-expires": int32(60000), "x-message-ttl": int32(60000), "x-dead-letter-exchange": "x", "x-max-length": int32(5),
			"x-max-length-bytes": int32(5), "x-max-priority": int32(5), "x-overflow": "drop-head", "x-queue-mode": "lazy",
			"x-single-active-consumer": true, "x-queue-version": int32(2), "x-queue-master-locator": "min-masters", "x-consumer-timeout": int32(60000),
		}) {
			ch := s.Channel()
			q := ch.Own("q:"+name, nil)
			ch.Queue(q, "durable", Table{name: value})
		}
	}},

	{"argument/ttl-text", argument("x-message-ttl", "100")},
	{"argument/ttl-negative", argument("x-message-ttl", int32(-1))},
	{"argument/ttl-fraction", argument("x-message-ttl", 1.5)},
	{"argument/ttl-largest", eachOf("x-message-ttl", int64(315360000000), int64(315360000001))},
	{"argument/ttl-true", argument("x-message-ttl", true)},
	{"argument/ttl-void", argument("x-message-ttl", nil)},
	{"argument/expires-zero", argument("x-expires", int32(0))},
	{"argument/expires-negative", argument("x-expires", int32(-1))},
	{"argument/expires-text", argument("x-expires", "100")},
	{"argument/expires-too-large", argument("x-expires", int64(315360000001))},
	{"argument/max-length-negative", argument("x-max-length", int32(-1))},
	{"argument/max-length-text", argument("x-max-length", "5")},
	{"argument/max-length-bytes-negative", argument("x-max-length-bytes", int32(-1))},
	{"argument/max-length-bytes-text", argument("x-max-length-bytes", "5")},
	{"argument/max-priority-negative", argument("x-max-priority", int32(-1))},
	{"argument/max-priority-text", argument("x-max-priority", "5")},
	{"argument/max-priority-largest", eachOf("x-max-priority", int32(255), int32(256))},
	{"argument/overflow-unknown", argument("x-overflow", "bogus")},
	{"argument/overflow-number", argument("x-overflow", int32(1))},
	{"argument/dead-letter-exchange-number", argument("x-dead-letter-exchange", int32(1))},
	{"argument/dead-letter-exchange-missing-is-taken", func(s *Script) {
		s.Channel().Own("q", Table{"x-dead-letter-exchange": s.Name("nosuch")})
	}},
	{"argument/dead-letter-key-without-exchange", argument("x-dead-letter-routing-key", "k")},
	{"argument/dead-letter-key-number", func(s *Script) {
		s.Channel().Own("q", Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": int32(1)})
	}},
	{"argument/queue-type-unknown", argument("x-queue-type", "bogus")},
	{"argument/queue-type-number", argument("x-queue-type", int32(1))},
	{"argument/queue-version", eachOf("x-queue-version", int32(1), int32(2), int32(3), "2")},
	{"argument/queue-mode", eachOf("x-queue-mode", "lazy", "default", "bogus", int32(1))},
	{"argument/sac-text", argument("x-single-active-consumer", "true")},
	{"argument/leader-locator", eachOf("x-queue-leader-locator", "client-local", "balanced", "bogus", int32(1))},
	{"argument/delivery-limit-on-classic", argument("x-delivery-limit", int32(5))},
	{"argument/delayed-retry-on-classic", argument("x-delayed-retry-type", "all")},
	{"argument/consumer-timeout-on-classic", argument("x-consumer-timeout", int32(60000))},
	{"argument/dead-letter-strategy-on-classic", argument("x-dead-letter-strategy", "at-least-once")},
	{"argument/stream-arguments-on-classic", func(s *Script) {
		s.Channel().Own("q1", Table{"x-max-age": "1h"})
		s.Channel().Own("q2", Table{"x-stream-max-segment-size-bytes": int32(500000)})
		s.Channel().Own("q3", Table{"x-initial-cluster-size": int32(3)})
		s.Channel().Own("q4", Table{"x-quorum-initial-group-size": int32(3)})
	}},
	{"argument/overflow-reject-publish-dlx-on-quorum", quorumArgument("x-overflow", "reject-publish-dlx")},

	{"quorum/transient", func(s *Script) {
		s.Channel().Queue(s.QueueName("q"), "", Table{"x-queue-type": "quorum"})
	}},
	{"quorum/exclusive", func(s *Script) {
		s.Channel().Queue(s.QueueName("q"), "durable exclusive", Table{"x-queue-type": "quorum"})
	}},
	{"quorum/auto-delete", func(s *Script) {
		s.Channel().Queue(s.QueueName("q"), "durable auto-delete", Table{"x-queue-type": "quorum"})
	}},
	{"quorum/server-named", func(s *Script) {
		ch := s.Channel()
		q := ch.QueueNamed("", "durable", Table{"x-queue-type": "quorum"})
		if q != "" {
			ch.DeleteQueue(q, "")
		}
	}},
	{"quorum/max-priority", quorumArgument("x-max-priority", int32(5))},
	{"quorum/queue-mode", quorumArgument("x-queue-mode", "lazy")},
	{"quorum/max-age", quorumArgument("x-max-age", "1h")},
	{"quorum/delivery-limit-text", quorumArgument("x-delivery-limit", "5")},
	{"quorum/delivery-limit-below-minus-one", quorumArgument("x-delivery-limit", int32(-2))},
	{"quorum/dead-letter-strategy-unknown", quorumArgument("x-dead-letter-strategy", "bogus")},
	{"quorum/at-least-once-without-its-overflow", func(s *Script) {
		s.Channel().Quorum("q", Table{"x-dead-letter-strategy": "at-least-once", "x-dead-letter-exchange": ""})
	}},
	{"quorum/group-size", eachOfQuorum("x-quorum-initial-group-size", int32(1), int32(3), int32(0), "3")},
	{"quorum/target-group-size", eachOfQuorum("x-quorum-target-group-size", int32(3), int32(0))},
	{"quorum/delayed-retry-type-unknown", quorumArgument("x-delayed-retry-type", "bogus")},
	{"quorum/delayed-retry-type-number", quorumArgument("x-delayed-retry-type", int32(1))},
	{"quorum/delayed-retry-min", eachOfQuorum("x-delayed-retry-min", int32(0), int32(-1), "100")},
	{"quorum/delayed-retry-max-below-min", func(s *Script) {
		s.Channel().Quorum("q", Table{"x-delayed-retry-type": "all", "x-delayed-retry-min": int32(500), "x-delayed-retry-max": int32(100)})
	}},
	{"quorum/delayed-retry-added", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.Queue(q, "durable", Table{"x-queue-type": "quorum", "x-delayed-retry-type": "all"})
	}},
	{"quorum/consumer-timeout", eachOfQuorum("x-consumer-timeout", int32(60000), int32(0), int32(-1), "60000")},
	{"quorum/delivery-limit-changed", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-delivery-limit": int32(5)})
		ch.Queue(q, "durable", Table{"x-queue-type": "quorum", "x-delivery-limit": int32(6)})
	}},
	{"quorum/purge-and-delete", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.PutAll(q, "a", "b", "c")
		ch.Get(q, "")
		ch.Purge(q)
		ch.Put("", q, M("d"))
		ch.Count(q, 1)
		ch.DeleteQueue(q, "")
	}},
	{"quorum/delete-if-empty", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.DeleteQueue(q, "if-empty")
	}},
	{"quorum/delete-if-unused", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.DeleteQueue(q, "if-unused")
	}},
	{"quorum/delete-cancels-consumers", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Quorum("q", nil)
		ch.Consume(q, "t", "", nil)
		ch.Put("", q, M("a"))
		ch.Receive("t", 1)
		other.DeleteQueue(q, "")
		ch.Cancelled(1)
	}},
	{"quorum/unknown-tag", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.Put("", q, M("a"))
		tag := ch.Get(q, "")
		ch.Ack(tag, "")
		ch.Ack(tag, "")
		ch.Closed()
	}},
	{"quorum/cut-connection-requeues", func(s *Script) {
		conn := s.Conn()
		ch := conn.Channel()
		q := ch.Quorum("q", nil)
		ch.PutAll(q, "a", "b")
		ch.Consume(q, "t", "", nil)
		ch.Receive("t", 2)
		other := s.Conn().Channel()
		conn.Cut()
		other.Count(q, 2)
		other.Drain(q)
	}},
	{"quorum/round-robin", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.Qos(1, 0, "")
		ch.Consume(q, "t", "", nil)
		ch.Consume(q, "u", "", nil)
		ch.ConsumerCount(q, 2)
		ch.PutAll(q, "a", "b", "c")
		ch.Receive("t", 1)
		ch.Receive("u", 1)
		ch.Silent("t")
		ch.Silent("u")
	}},
}

// eachOfQuorum declares a quorum queue per value of the argument, each on a
// channel of its own.
func eachOfQuorum(name string, values ...any) func(*Script) {
	return func(s *Script) {
		for i, v := range values {
			s.Channel().Quorum("q"+string(rune('0'+i)), Table{name: v})
		}
	}
}
