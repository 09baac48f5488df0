package conformance

// each puts one message per key into an exchange, with the key as its body.
func (ch *Channel) each(exchange string, keys ...string) {
	for _, k := range keys {
		ch.Put(exchange, k, M(k))
	}
}

// headersCase binds by the arguments, publishes with each of the headers, and
// says what has come through.
func headersCase(args Table, messages ...Table) func(*Script) {
	return func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "headers", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "ignored", x, args)
		for i, h := range messages {
			ch.Put(x, "any", H(string(rune('a'+i)), h))
		}
		ch.Holds(q)
	}
}

var routingCases = []Case{
	{"routing/default-exchange", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, M("by the name of the queue"))
		ch.Put("", s.Name("nosuch"), M("to nobody"))
		ch.Drain(q)
	}},
	{"routing/bind-to-default-exchange", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Bind(q, "k", "", nil)
	}},
	{"routing/unbind-from-default-exchange", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Unbind(q, q, "", nil)
	}},
	{"routing/direct", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		q, r := ch.Own("q", nil), ch.Own("r", nil)
		ch.Bind(q, "a", x, nil)
		ch.Bind(q, "b", x, nil)
		ch.Bind(r, "b", x, nil)
		ch.Bind(r, "", x, nil)
		ch.each(x, "a", "b", "c", "", "A", "a.b", "*")
		ch.Holds(q)
		ch.Holds(r)
	}},
	{"routing/fanout", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "fanout", nil)
		q, r := ch.Own("q", nil), ch.Own("r", nil)
		ch.Bind(q, "a", x, nil)
		ch.Bind(r, "", x, nil)
		ch.each(x, "a", "b", "")
		ch.Holds(q)
		ch.Holds(r)
	}},
	{"routing/topic-words", topicCase([]string{"a.b", "a.*", "*.b", "*.*", "*", "a.*.c"},
		"a.b", "a.c", "b.b", "a", "a.b.c", "a..c", "a.", ".b", "")},
	{"routing/topic-hash", topicCase([]string{"#", "a.#", "#.c", "a.#.c", "#.b.#", "#.#", "*.#", "a.#.#"},
		"", "a", "c", "a.c", "a.b.c", "a.b.b.c", "b", "b.a", "x.y")},
	{"routing/topic-wildcards-are-whole-words", topicCase([]string{"a*", "a.b#", "*a", "a.*b"},
		"ab", "a*", "a.b#", "a.bc", "aa", "a.bb", "a.*b")},
	{"routing/topic-hash-and-star", topicCase([]string{"#.*", "*.#.*", "#.*.#"},
		"", "a", "a.b", "a.b.c")},
	{"routing/topic-wildcards-in-the-key-are-text", topicCase([]string{"a.b", "a.#", "#.x"},
		"a.*", "a.#", "#", "*")},
	{"routing/topic-unbind-leaves-the-others", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "topic", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "a.*", x, nil)
		ch.Bind(q, "a.#", x, nil)
		ch.Unbind(q, "a.#", x, nil)
		ch.each(x, "a", "a.b", "a.b.c")
		ch.Holds(q)
	}},
	{"routing/headers-all", headersCase(Table{"x-match": "all", "a": "1", "b": int32(2)},
		Table{"a": "1", "b": int32(2)}, Table{"a": "1"}, Table{"a": "1", "b": int32(2), "c": "3"},
		Table{"a": "1", "b": "2"}, nil)},
	{"routing/headers-any", headersCase(Table{"x-match": "any", "a": "1", "b": "2"},
		Table{"a": "1"}, Table{"b": "2"}, Table{"a": "2", "b": "1"}, Table{"c": "1"}, nil)},
	{"routing/headers-default-is-all", headersCase(Table{"a": "1", "b": "2"},
		Table{"a": "1"}, Table{"a": "1", "b": "2"})},
	{"routing/headers-without-arguments", headersCase(nil, nil, Table{"a": "1"})},
	{"routing/headers-any-without-arguments", headersCase(Table{"x-match": "any"}, nil, Table{"a": "1"})},
	{"routing/headers-void-matches-presence", headersCase(Table{"x-match": "all", "a": nil},
		Table{"a": "1"}, Table{"a": int32(1)}, Table{"b": "1"}, Table{"a": nil})},
	{"routing/headers-x-names-are-not-looked-at", headersCase(Table{"x-match": "all", "x-a": "1", "b": "2"},
		Table{"b": "2"}, Table{"x-a": "1", "b": "2"}, Table{"x-a": "1"})},
	{"routing/headers-all-with-x", headersCase(Table{"x-match": "all-with-x", "x-a": "1", "b": "2"},
		Table{"b": "2"}, Table{"x-a": "1", "b": "2"}, Table{"x-a": "1"})},
	{"routing/headers-any-with-x", headersCase(Table{"x-match": "any-with-x", "x-a": "1", "b": "2"},
		Table{"b": "2"}, Table{"x-a": "1"}, Table{"c": "1"})},
	{"routing/headers-numbers-of-any-size-are-equal", headersCase(Table{"a": int32(1)},
		Table{"a": int32(1)}, Table{"a": int64(1)}, Table{"a": int16(1)}, Table{"a": "1"}, Table{"a": float64(1)}, Table{"a": true})},
	{"routing/headers-x-match-unknown", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "headers", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "", x, Table{"x-match": "some"})
	}},
	{"routing/headers-x-match-of-wrong-type", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "headers", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "", x, Table{"x-match": int32(1)})
	}},
	{"routing/two-bindings-one-copy", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "topic", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "a.#", x, nil)
		ch.Bind(q, "#.b", x, nil)
		ch.Bind(q, "a.b", x, nil)
		ch.Put(x, "a.b", M("once"))
		ch.Holds(q)
	}},
	{"routing/binding-is-made-once", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "k", x, nil)
		ch.Bind(q, "k", x, nil)
		ch.each(x, "k")
		ch.Holds(q)
		ch.Unbind(q, "k", x, nil)
		ch.each(x, "k")
		ch.Holds(q)
	}},
	{"routing/bindings-differ-by-arguments", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "k", x, Table{"n": int32(1)})
		ch.Bind(q, "k", x, Table{"n": int32(2)})
		ch.Unbind(q, "k", x, Table{"n": int32(1)})
		ch.each(x, "k")
		ch.Holds(q)
		ch.Unbind(q, "k", x, nil)
		ch.each(x, "k")
		ch.Holds(q)
	}},
	{"routing/unbind-what-is-not-bound", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		q := ch.Own("q", nil)
		ch.Unbind(q, "k", x, nil)
		ch.Unbind(q, "k", s.Name("nosuch"), nil)
		s.Channel().Unbind(s.Name("nosuch"), "k", x, nil)
	}},
	{"routing/bind-missing", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		x := ch.OwnExchange("x", "direct", nil)
		s.Channel().Bind(q, "k", s.Name("nox"), nil)
		s.Channel().Bind(s.Name("noq"), "k", x, nil)
		s.Channel().Bind(s.Name("noq"), "k", s.Name("nox"), nil)
	}},
	{"routing/exchange-to-exchange", func(s *Script) {
		ch := s.Channel()
		x, y := ch.OwnExchange("x", "topic", nil), ch.OwnExchange("y", "direct", nil)
		q := ch.Own("q", nil)
		ch.BindExchange(y, "a.#", x, nil)
		ch.Bind(q, "a.b", y, nil)
		ch.each(x, "a.b", "a.c", "b.b")
		ch.Drain(q)
		ch.UnbindExchange(y, "a.#", x, nil)
		ch.each(x, "a.b")
		ch.Holds(q)
	}},
	{"routing/exchange-to-exchange-in-a-circle", func(s *Script) {
		ch := s.Channel()
		x, y := ch.OwnExchange("x", "fanout", nil), ch.OwnExchange("y", "fanout", nil)
		q := ch.Own("q", nil)
		ch.BindExchange(y, "", x, nil)
		ch.BindExchange(x, "", y, nil)
		ch.BindExchange(x, "", x, nil)
		ch.Bind(q, "", x, nil)
		ch.Bind(q, "", y, nil)
		ch.Put(x, "k", M("once"))
		ch.Holds(q)
	}},
	{"routing/exchange-bind-missing", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		s.Channel().BindExchange(x, "k", s.Name("nox"), nil)
		s.Channel().BindExchange(s.Name("noy"), "k", x, nil)
		s.Channel().BindExchange("", "k", x, nil)
		s.Channel().BindExchange(x, "k", "", nil)
		s.Channel().UnbindExchange(x, "k", s.Name("nox"), nil)
	}},
	{"routing/alternate-exchange", func(s *Script) {
		ch := s.Channel()
		alt := ch.OwnExchange("alt", "fanout", nil)
		x := ch.OwnExchange("x", "direct", Table{"alternate-exchange": alt})
		q, rest := ch.Own("q", nil), ch.Own("rest", nil)
		ch.Bind(q, "a", x, nil)
		ch.Bind(rest, "", alt, nil)
		ch.each(x, "a", "b")
		ch.Drain(q)
		ch.Drain(rest)
	}},
	{"routing/alternate-exchange-if-no-key-matches", func(s *Script) {
		ch := s.Channel()
		alt := ch.OwnExchange("alt", "fanout", nil)
		x := ch.OwnExchange("x", "direct", Table{"alternate-exchange": alt})
		q, rest := ch.Own("q", nil), ch.Own("rest", nil)
		ch.Bind(q, "a", x, nil)
		ch.Bind(rest, "", alt, nil)
		ch.Put(x, "a", H("by its key", Table{"CC": []any{"nowhere"}}))
		ch.Put(x, "nowhere", H("by CC", Table{"CC": []any{"a", "nowhere"}}))
		ch.Put(x, "nowhere", H("by none", Table{"CC": []any{"nowhere else"}}))
		ch.Holds(q)
		ch.Holds(rest)
	}},
	{"routing/alternate-exchange-counts-as-routed", func(s *Script) {
		ch := s.Channel()
		alt := ch.OwnExchange("alt", "fanout", nil)
		x := ch.OwnExchange("x", "direct", Table{"alternate-exchange": alt})
		ch.Confirms()
		ch.Publish(x, "a", "mandatory", M("returned"))
		ch.Returned(1)
		rest := ch.Own("rest", nil)
		ch.Bind(rest, "", alt, nil)
		ch.Publish(x, "a", "mandatory", M("routed"))
		ch.Confirmed(2)
		ch.Holds(rest)
	}},
	{"routing/alternate-exchange-chain", func(s *Script) {
		ch := s.Channel()
		y := ch.OwnExchange("y", "direct", Table{"alternate-exchange": s.Name("z")})
		x := ch.OwnExchange("x", "direct", Table{"alternate-exchange": y})
		z := ch.OwnExchange("z", "fanout", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "", z, nil)
		ch.each(x, "a")
		ch.Drain(q)
	}},
	{"routing/alternate-exchange-circle", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", Table{"alternate-exchange": s.Name("y")})
		ch.OwnExchange("y", "direct", Table{"alternate-exchange": x})
		ch.Confirms()
		ch.Publish(x, "a", "mandatory", M("nowhere"))
		ch.Returned(1)
		ch.Confirmed(1)
	}},
	{"routing/alternate-exchange-missing", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", Table{"alternate-exchange": s.Name("nosuch")})
		ch.Confirms()
		ch.Publish(x, "a", "", M("lost"))
		ch.Confirmed(1)
	}},
	{"routing/cc", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		q, r := ch.Own("q", nil), ch.Own("r", nil)
		ch.Bind(q, "a", x, nil)
		ch.Bind(r, "b", x, nil)
		ch.Put(x, "a", H("to both", Table{"CC": []any{"b", "c"}}))
		ch.Drain(q)
		ch.Drain(r)
	}},
	{"routing/bcc", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		q, r := ch.Own("q", nil), ch.Own("r", nil)
		ch.Bind(q, "a", x, nil)
		ch.Bind(r, "b", x, nil)
		ch.Put(x, "a", H("to both", Table{"BCC": []any{"b"}, "other": "stays"}))
		ch.Drain(q)
		ch.Drain(r)
	}},
	{"routing/cc-on-default-exchange-and-mandatory", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Confirms()
		ch.Publish("", s.Name("nosuch"), "mandatory", H("by cc alone", Table{"CC": []any{q}}))
		ch.Confirmed(1)
		ch.Drain(q)
		ch.Publish("", s.Name("nosuch"), "mandatory", H("to nobody", Table{"BCC": []any{s.Name("neither")}}))
		ch.Returned(1)
		ch.Confirmed(1)
	}},
	{"routing/cc-is-not-a-list", func(s *Script) {
		ch := s.Channel()
		ch.Publish("amq.direct", s.Name("k"), "", H("no", Table{"CC": "b"}))
		ch.Closed()
	}},
	{"routing/bcc-is-not-a-list", func(s *Script) {
		ch := s.Channel()
		ch.Publish("amq.direct", s.Name("k"), "", H("no", Table{"BCC": int32(1)}))
		ch.Closed()
	}},
	{"routing/cc-of-wrong-members", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		q := ch.Own("q", nil)
		ch.Bind(q, "a", x, nil)
		ch.Bind(q, "b", x, nil)
		ch.Confirms()
		ch.Publish(x, "none", "", H("with a number in it", Table{"CC": []any{int32(1), "b"}}))
		ch.Confirmed(1)
		ch.Drain(q)
	}},
	{"routing/mandatory-return", func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "direct", nil)
		ch.Publish(x, "nokey", "mandatory", Msg{Body: []byte("back"), ContentType: "text/plain", MessageId: "m1", Headers: Table{"n": int32(1)}})
		ch.Returned(1)
		ch.Publish("", s.Name("nosuch"), "mandatory", M(""))
		ch.Returned(1)
	}},
	{"routing/mandatory-to-a-rejecting-queue-is-no-return", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		ch.Confirms()
		ch.Publish("", q, "mandatory", M("a"))
		ch.Confirmed(1)
		ch.Publish("", q, "mandatory", M("b"))
		ch.Confirmed(1)
	}},
}

// topicCase binds a queue by each pattern, publishes by each key, and says which
// keys went through which pattern.
func topicCase(patterns []string, keys ...string) func(*Script) {
	return func(s *Script) {
		ch := s.Channel()
		x := ch.OwnExchange("x", "topic", nil)
		for _, p := range patterns {
			ch.Bind(ch.Own("q:"+p, nil), p, x, nil)
		}
		ch.each(x, keys...)
		for _, p := range patterns {
			ch.Holds(s.Name("q:" + p))
		}
	}
}
