package conformance

var exchangeCases = []Case{
	{"exchange/declare-of-each-type", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"direct", "fanout", "topic", "headers"} {
			ch.OwnExchange(kind, kind, nil)
		}
	}},
	{"exchange/declare-again", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "topic", Table{"alternate-exchange": "amq.fanout"})
		ch.Exchange(x, "topic", "durable", Table{"alternate-exchange": "amq.fanout"})
	}},
	{"exchange/inequivalent-type", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		ch.Exchange(x, "fanout", "durable", nil)
	}},
	{"exchange/inequivalent-durable", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		ch.Exchange(x, "direct", "", nil)
	}},
	{"exchange/inequivalent-auto-delete", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		ch.Exchange(x, "direct", "durable auto-delete", nil)
	}},
	{"exchange/inequivalent-internal", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		ch.Exchange(x, "direct", "durable internal", nil)
	}},
	{"exchange/inequivalent-alternate", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		ch.Exchange(x, "direct", "durable", Table{"alternate-exchange": "amq.fanout"})
	}},
	{"exchange/other-alternate", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", Table{"alternate-exchange": "amq.fanout"})
		ch.Exchange(x, "direct", "durable", Table{"alternate-exchange": "amq.topic"})
	}},
	{"exchange/unknown-arguments-are-no-difference", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", Table{"x-whatever": "one"})
		ch.Exchange(x, "direct", "durable", Table{"x-whatever": "two"})
	}},
	{"exchange/alternate-of-wrong-type", func(s *Script) {
		s.Channel().OwnExchange("x", "direct", Table{"alternate-exchange": int32(5)})
	}},
	{"exchange/unknown-type", func(s *Script) {
		s.Channel().OwnExchange("x", "bogus", nil)
	}},
	{"exchange/reserved-name", func(s *Script) {
		s.Channel().Exchange("amq.mine", "direct", "durable", nil)
	}},
	{"exchange/predeclared", func(s *Script) {
		ch := s.Channel()
		ch.Exchange("amq.direct", "direct", "durable", nil)
		ch.Exchange("amq.fanout", "fanout", "durable", nil)
		ch.Exchange("amq.topic", "topic", "durable", nil)
		ch.Exchange("amq.headers", "headers", "durable", nil)
		ch.Exchange("amq.match", "headers", "durable", nil)
		ch.Exchange("amq.rabbitmq.trace", "topic", "durable internal", nil)
	}},
	{"exchange/predeclared-differently", func(s *Script) {
		s.Channel().Exchange("amq.direct", "fanout", "durable", nil)
	}},
	{"exchange/declare-default", func(s *Script) {
		s.Channel().Exchange("", "direct", "durable", nil)
	}},
	{"exchange/passive-default", func(s *Script) {
		s.Channel().Exchange("", "direct", "passive", nil)
	}},
	{"exchange/passive", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		ch.Exchange(x, "fanout", "passive auto-delete internal", Table{"alternate-exchange": "amq.fanout"})
	}},
	{"exchange/passive-missing", func(s *Script) {
		s.Channel().Exchange(s.Name("x"), "direct", "passive", nil)
	}},
	{"exchange/passive-missing-reserved", func(s *Script) {
		s.Channel().Exchange("amq.nosuch", "direct", "passive", nil)
	}},
	{"exchange/delete-missing", func(s *Script) {
		s.Channel().DeleteExchange(s.Name("x"), "")
	}},
	{"exchange/delete-missing-if-unused", func(s *Script) {
		s.Channel().DeleteExchange(s.Name("x"), "if-unused")
	}},
	{"exchange/delete-if-unused", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "k", x, nil)
		ch.DeleteExchange(x, "if-unused")
		ch = s.Channel()
		ch.Unbind(q, "k", x, nil)
		ch.DeleteExchange(x, "if-unused")
		ch.Exchange(x, "direct", "passive", nil)
	}},
	{"exchange/delete-takes-its-bindings", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "k", x, nil)
		ch.DeleteExchange(x, "")
		ch.Exchange(x, "direct", "durable", nil)
		ch.Put(x, "k", M("to nobody"))
		ch.Look(q)
	}},
	{"exchange/delete-system", func(s *Script) {
		s.Channel().DeleteExchange("amq.direct", "")
	}},
	{"exchange/delete-default", func(s *Script) {
		s.Channel().DeleteExchange("", "")
	}},
	{"exchange/auto-delete-after-the-last-binding", func(s *Script) {
		ch := s.Channel()
		x := ch.Exchange(s.ExchangeName("x"), "direct", "durable auto-delete", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "one", x, nil)
		ch.Bind(q, "two", x, nil)
		ch.Unbind(q, "one", x, nil)
		ch.Exchange(x, "direct", "passive", nil)
		ch.Unbind(q, "two", x, nil)
		ch.Exchange(x, "direct", "passive", nil)
	}},
	{"exchange/auto-delete-with-its-queue", func(s *Script) {
		ch := s.Channel()
		x := ch.Exchange(s.ExchangeName("x"), "fanout", "auto-delete", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "", x, nil)
		ch.DeleteQueue(q, "")
		ch.Exchange(x, "fanout", "passive", nil)
	}},
	{"exchange/auto-delete-with-its-destination", func(s *Script) {
		ch := s.Channel()
		x := ch.Exchange(s.ExchangeName("source"), "fanout", "auto-delete", nil)
		y := ch.OwnExchange("destination", "fanout", nil)
		ch.BindExchange(y, "", x, nil)
		ch.DeleteExchange(y, "")
		ch.Exchange(x, "fanout", "passive", nil)
	}},
	{"exchange/publish-to-internal", func(s *Script) {
		ch := s.Channel()
		x := ch.Exchange(s.ExchangeName("x"), "fanout", "durable internal", nil)
		ch.Publish(x, "k", "", M("no"))
		ch.Closed()
	}},
	{"exchange/internal-passes-on", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("outer", "fanout", nil)
		y := ch.Exchange(s.ExchangeName("inner"), "fanout", "durable internal", nil)
		q := ch.Own("q", nil)
		ch.BindExchange(y, "", x, nil)
		ch.Bind(q, "", y, nil)
		ch.Put(x, "k", M("through"))
		ch.Drain(q)
	}},
	{"exchange/publish-to-missing", func(s *Script) {
		ch := s.Channel()
		ch.Publish(s.Name("nosuch"), "k", "", M("no"))
		ch.Closed()
	}},
	{"exchange/name-with-strange-characters", func(s *Script) {
		s.Channel().OwnExchange("a b/ü\n%", "direct", nil)
	}},
}
