package conformance

// graveyard declares a queue that gets what another one dead-letters, and returns
// it with the arguments for that other one.
func (ch *Channel) graveyard(more Table) (dead string, args Table) {
	dead = ch.Own("dead", nil)
	args = Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
	for k, v := range more {
		args[k] = v
	}
	return dead, args
}

// tick lets a moment pass, by the broker's clock.
func (ch *Channel) tick() {
	ticked, args := ch.graveyard(nil)
	ch.Put("", ch.Own("clock", args), expiring("tick", "300"))
	ch.Arrives(ticked, "no-ack")
}

// expiring is a message with an expiration.
func expiring(body, ms string) Msg { return Msg{Body: []byte(body), Expiration: ms} }

// badExpiration publishes with an expiration that is none.
func badExpiration(text string) func(*Script) {
	return func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Publish("", q, "", expiring("no", text))
		ch.Closed()
	}
}

// vanishes waits until a queue does not exist, without a look that would count as
// use: until messages to it are unroutable.
func (ch *Channel) vanishes(queue string) {
	for range ch.s.polls() {
		_ = ch.amqp.PublishWithContext(ch.s.ctx, "", queue, true, false, M("are you there?"))
		ch.Sync()
		if len(ch.returns) > 0 {
			<-ch.returns
			ch.say("queue %q has gone", queue)
			return
		}
	}
	ch.say("queue %q is there after %v", queue, patience)
}

var expiryCases = []Case{
	{"ttl/of-a-queue", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-message-ttl": int32(200)})
		q := ch.Own("q", args)
		ch.Put("", q, M("a"))
		ch.Arrives(dead, "no-ack")
		ch.Look(q)
	}},
	{"ttl/of-a-quorum-queue", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-message-ttl": int32(200)})
		q := ch.Quorum("q", args)
		ch.Put("", q, M("a"))
		ch.Arrives(dead, "no-ack")
		ch.Count(q, 0)
	}},
	{"ttl/of-a-message", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Own("q", args)
		ch.Put("", q, expiring("a", "200"))
		ch.Arrives(dead, "no-ack")
		ch.Look(q)
	}},
	{"ttl/of-a-message-on-quorum", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q := ch.Quorum("q", args)
		ch.Put("", q, expiring("a", "200"))
		ch.Arrives(dead, "no-ack")
		ch.Count(q, 0)
	}},
	{"ttl/the-lower-counts", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-message-ttl": int32(200)})
		q := ch.Own("q", args)
		ch.Put("", q, expiring("by the queue", "600000"))
		ch.Arrives(dead, "no-ack")
		args["x-message-ttl"] = int32(600000)
		r := ch.Own("r", args)
		ch.Put("", r, expiring("by the message", "200"))
		ch.Arrives(dead, "no-ack")
	}},
	{"ttl/zero-without-a-consumer", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-message-ttl": int32(0)})
		q := ch.Own("q", args)
		ch.Put("", q, M("a"))
		ch.Arrives(dead, "no-ack")
		ch.Get(q, "no-ack")
	}},
	{"ttl/zero-with-a-consumer", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", Table{"x-message-ttl": int32(0)})
		ch.Consume(q, "t", "", nil)
		ch.Put("", q, M("a"))
		ch.Receive("t", 1)
	}},
	{"ttl/zero-on-the-message-with-a-consumer", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Consume(q, "t", "", nil)
		ch.Put("", q, expiring("a", "0"))
		ch.Receive("t", 1)
	}},
	{"ttl/only-the-head-expires", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q, clock := ch.Own("q", args), ch.Own("clock", args)
		ch.Put("", q, expiring("long", "600000"))
		ch.Put("", q, expiring("short", "1"))
		ch.Put("", clock, expiring("tick", "300"))
		ch.Arrives(dead, "no-ack")
		ch.Look(q)
		ch.Get(q, "no-ack")
		ch.Arrives(dead, "no-ack")
		ch.Get(q, "no-ack")
	}},
	{"ttl/only-the-head-expires-whatever-comes", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		clock := ch.Own("clock", args)
		for _, q := range []string{ch.Own("classic", args), ch.Quorum("quorum", args)} {
			ch.Put("", q, expiring("long", "600000"))
			ch.Put("", q, expiring("short", "1"))
			ch.Put("", clock, expiring("tick", "100"))
			ch.Arrives(dead, "no-ack")
			ch.Put("", q, M("last"))
			ch.Count(q, 3)
			ch.Look(dead)
			ch.Holds(q)
			ch.Arrives(dead, "no-ack")
		}
	}},
	{"ttl/not-behind-a-higher-priority", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(Table{"x-max-priority": int32(5)})
		q, clock := ch.Own("q", args), ch.Own("clock", args)
		ch.Put("", q, Msg{Body: []byte("high"), Priority: 5})
		ch.Put("", q, Msg{Body: []byte("low"), Priority: 1, Expiration: "1"})
		ch.Put("", clock, expiring("tick", "300"))
		ch.Arrives(dead, "no-ack")
		ch.Look(q)
		ch.Get(q, "no-ack")
		ch.Arrives(dead, "no-ack")
		ch.Look(q)
	}},
	{"ttl/at-the-head-of-each-priority-on-quorum", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", nil)
		ch.Put("", q, Msg{Body: []byte("high"), Priority: 5})
		ch.Put("", q, Msg{Body: []byte("low"), Priority: 1, Expiration: "1"})
		ch.tick()
		ch.Put("", q, M("last"))
		ch.Count(q, 2)
		ch.Holds(q)
	}},
	{"ttl/not-while-it-is-held", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q, clock := ch.Own("q", args), ch.Own("clock", args)
		ch.Put("", q, expiring("held", "1000"))
		tag := ch.Get(q, "")
		ch.Put("", clock, expiring("tick", "2000"))
		ch.Arrives(dead, "no-ack")
		ch.Nack(tag, "requeue")
		ch.Arrives(dead, "no-ack")
	}},
	{"ttl/expiration-is-delivered", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, expiring("a", "600000"))
		ch.Drain(q)
	}},
	{"ttl/expiration-of-letters", badExpiration("abc")},
	{"ttl/expiration-negative", badExpiration("-1")},
	{"ttl/expiration-fraction", badExpiration("1.5")},
	{"ttl/expiration-with-a-blank", badExpiration("5 ")},
	{"ttl/expiration-too-large", badExpiration("315360000001")},
	{"ttl/expiration-largest", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, expiring("a", "315360000000"))
		ch.Drain(q)
	}},
	{"expires/unused", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Own("q", Table{"x-expires": int32(300)})
		ch.Put("", q, M("a"))
		other.vanishes(q)
		ch.Look(q)
	}},
	{"expires/not-while-it-is-consumed", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Own("q", Table{"x-expires": int32(1000)})
		ch.Consume(q, "t", "", nil)
		clock := ch.Own("clock", Table{"x-expires": int32(2000)})
		other.vanishes(clock)
		s.Channel().ConsumerCount(q, 1)
		ch.Cancel("t")
		other.vanishes(q)
	}},
	{"expires/begins-again-with-a-use", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		clock := ch.Own("clock", args)
		expires := Table{"x-expires": int32(8000)}
		declared, looked, fetched, fed := ch.Own("declared", expires), ch.Own("looked", expires), ch.Own("fetched", expires), ch.Own("fed", expires)
		ch.Put("", clock, expiring("tick", "4800"))
		ch.Arrives(dead, "no-ack")
		ch.Own("declared", expires)
		ch.Look(looked)
		ch.Get(fetched, "")
		ch.Put("", fed, M("no use"))
		ch.Put("", clock, expiring("tick", "4800"))
		ch.Arrives(dead, "no-ack")
		for _, q := range []string{declared, looked, fetched, fed} {
			ch.Publish("", q, "mandatory", M("are you there?"))
			ch.Confirmed(1)
		}
		ch.Returned(1)
	}},
	{"expires/does-not-dead-letter", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		dead, args := ch.graveyard(Table{"x-expires": int32(1000)})
		q := ch.Own("q", args)
		ch.Put("", q, M("a"))
		other.vanishes(q)
		ch.Look(dead)
	}},
	{"expires/quorum", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Quorum("q", Table{"x-expires": int32(300)})
		dead, args := ch.graveyard(Table{"x-message-ttl": int32(1500)})
		// Messages to it as it goes would be trouble.
		ch.Put("", ch.Own("clock", args), M("tick"))
		ch.Arrives(dead, "no-ack")
		other.vanishes(q)
		ch.Look(q)
	}},
	{"expires/quorum-whoever-looks", func(s *Script) {
		ch := s.Channel()
		q := ch.Quorum("q", Table{"x-expires": int32(1000)})
		ch.Gone(q)
	}},
	{"expires/quorum-not-while-a-message-is-held", func(s *Script) {
		ch := s.Channel()
		dead, args := ch.graveyard(nil)
		q, clock := ch.Quorum("q", Table{"x-expires": int32(1000)}), ch.Own("clock", args)
		ch.Put("", q, M("a"))
		tag := ch.Get(q, "")
		ch.Put("", clock, expiring("tick", "8000"))
		ch.Arrives(dead, "no-ack")
		ch.Look(q)
		ch.Ack(tag, "")
		ch.Gone(q)
	}},
}
