package mqtest

import (
	"fmt"
	"slices"

	"github.com/mqkit/mqkit/internal/wire"
)

// What the actions do. There is one implementation of each, for both directions
// and both kinds of upstream. It runs on the goroutine whose unit it is about:
// serve for those received, write for the others.

// ask has the rules decide on an event and carries the decision out. It tells
// whether the unit goes on.
func (c *conn) ask(ch *channel, u *unit, e *Event) bool {
	a, f := c.stage.rules.decide(e)
	if a.passes() {
		return true
	}
	c.note(e, a)
	u.by = f
	goesOn := c.perform(ch, u, e, a)
	f.struck()
	return goesOn
}

// note writes into the journal what is about to be done.
func (c *conn) note(e *Event, a Action) {
	if !a.passes() && c.stage.journal != nil {
		c.stage.journal.add(Record{
			Kind: FaultStruck, Conn: c.id, Channel: e.Channel, MessageID: e.MessageID,
			Detail: fmt.Sprintf("%v: %v", e, a),
		})
	}
}

// inbound tells whether a unit is serve's.
func (u *unit) inbound() bool { return u.step == stepReceived }

// perform carries out an action and what comes after it. It tells whether the
// unit goes on to its next step.
func (c *conn) perform(ch *channel, u *unit, e *Event, a Action) (goesOn bool) {
	for {
		if a.kind == kindHold && (u.by == nil || slices.Contains(u.freed, u.by)) {
			if a.next == nil {
				a = Pass()
			} else {
				a = *a.next
			}
			continue
		}
		if a.kind == kindDelay || a.kind == kindHold {
			next := Pass()
			if a.next != nil {
				next = *a.next
			}
			c.hold(ch, u, e, a, next)
			return false
		}
		if c.unfit(ch, u, e, a) {
			a.kind = kindPass
		}
		if a.next == nil && !u.spent && (a.kind == kindPass || (a.kind == kindNack && u.number != 0)) {
			u.nack = u.nack || a.kind == kindNack
			return true
		}
		c.act(ch, u, e, a)
		if a.next == nil {
			return false
		}
		a = *a.next
	}
}

// unfit tells whether an action cannot be done to a unit.
func (c *conn) unfit(ch *channel, u *unit, e *Event, a Action) bool {
	switch a.kind {
	case kindNack:
		return u.number == 0 && (u.id != wire.IDBasicPublish || !u.inbound() || c.nextNumber(ch) == 0 || u.spent)
	case kindReturn:
		return u.id != wire.IDBasicPublish || !u.inbound() || u.spent
	case kindGather:
		return u.number == 0 || u.spent
	case kindCancelConsumer:
		return e.ConsumerTag == ""
	case kindCloseChannel:
		return e.Channel == 0
	}
	return false
}

func (c *conn) nextNumber(ch *channel) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ch.confirms.next()
}

// act does one thing. It is told nothing of what may come after.
func (c *conn) act(ch *channel, u *unit, e *Event, a Action) {
	switch a.kind {
	case kindPass:
		c.passOn(ch, u)
		return
	case kindTwice:
		u.copies = 2
		c.passOn(ch, u)
		return
	case kindTrickle, kindRewrite, kindCutInside:
		c.passAltered(ch, u, a)
		return
	case kindGather:
		c.hoard(ch, u, a.gather)
		return
	case kindNack:
		if u.number != 0 {
			u.nack = true
			c.passOn(ch, u)
			return
		}
		number := c.nextNumber(ch)
		c.dropped(ch, u)
		c.confirmHere(ch, verdict{number, true})
		return
	case kindReturn:
		number := c.nextNumber(ch)
		properties, body := u.content()
		m, _ := u.parse().(*wire.BasicPublish)
		c.dropped(ch, u)
		c.say(ch.number, wire.AppendContent(nil, ch.number, &wire.BasicReturn{
			ReplyCode: a.code, ReplyText: wire.ReplyText(a.text), Exchange: m.Exchange, RoutingKey: m.RoutingKey,
		}, properties, body, c.frameSize()))
		if number != 0 {
			c.confirmHere(ch, verdict{number, false})
		}
		return
	}
	c.dropped(ch, u)
	switch a.kind {
	case kindCut:
		c.end(u)
	case kindReset:
		c.reset()
	case kindStall:
		c.stop(u, true, true)
	case kindStopReading:
		c.stop(u, true, false)
	case kindStopSending:
		c.stop(u, false, true)
	case kindSay:
		var frames []byte
		for _, m := range a.methods {
			frames = append(frames, m.frames(e.Channel)...)
		}
		c.sayFor(u, e.Channel, frames)
	case kindSendRaw:
		c.sayFor(u, e.Channel, slices.Clip(a.raw))
	case kindCloseChannel:
		c.closeChannel(u, e, a)
	case kindCloseConnection:
		c.closeConnection(u, e, a)
	case kindCancelConsumer:
		cancel := func() []byte {
			return wire.AppendMethod(nil, e.Channel, &wire.BasicCancel{ConsumerTag: e.ConsumerTag, NoWait: true})
		}
		c.sayFor(u, e.Channel, cancel())
		c.tellBroker(u, ch, cancel())
	}
}

// passOn lets a unit go where it was going; nobody is asked any more.
func (c *conn) passOn(ch *channel, u *unit) {
	if u.spent {
		return
	}
	if u.inbound() {
		u.spent = true
		c.forward(ch, u)
		return
	}
	c.shape(ch, u)
	u.spent = true
	c.emit(u)
}

// shape makes frames of a confirm that has none yet.
func (c *conn) shape(ch *channel, u *unit) {
	c.sayVerdicts(ch)
	if u.number == 0 {
		return
	}
	v := verdict{u.number, u.nack}
	u.raw, u.number = confirmFrame(ch.number, v, false), 0
	c.mu.Lock()
	ch.confirms.settled(v.number)
	c.mu.Unlock()
}

// dropped notes that a unit goes nowhere.
func (c *conn) dropped(ch *channel, u *unit) {
	if !u.inbound() {
		c.sayVerdicts(ch)
	}
	if u.spent {
		return
	}
	u.spent = true
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case u.inbound() && u.id == wire.IDBasicPublish:
		ch.confirms.published(0, nil)
	case u.number != 0:
		if p := ch.confirms.at(u.number); p != nil {
			p.state = pubLost
		}
	}
}

// confirmHere tells the client of a publish that the broker never got.
func (c *conn) confirmHere(ch *channel, v verdict) {
	c.out.do(func() {
		c.queueOut(ch, &unit{
			channel: ch.number, kind: wire.MethodFrame, step: stepWire,
			raw: confirmFrame(ch.number, v, false),
		})
		c.mu.Lock()
		ch.confirms.settled(v.number)
		c.mu.Unlock()
	})
}

// passAltered lets a unit go, but not as it is.
func (c *conn) passAltered(ch *channel, u *unit, a Action) {
	if u.spent {
		return
	}
	if !u.inbound() {
		c.shape(ch, u)
		u.spent = true
		c.flush()
		switch a.kind {
		case kindTrickle:
			c.journalOut(u.raw)
			c.writePieces(u.raw, &a)
		case kindRewrite:
			c.emit(&unit{channel: u.channel, raw: a.rewrite(u.raw), step: stepWire})
		case kindCutInside:
			c.emit(&unit{channel: u.channel, raw: part(u.raw, a.n), step: stepWire})
			c.flush()
			c.cut(errFault)
		}
		return
	}
	if a.kind == kindTrickle && c.up.synced() {
		c.passOn(ch, u) // by the method, not by its bytes
		return
	}
	u.spent = true
	c.passed(u, 1, u.asked)
	switch a.kind {
	case kindTrickle:
		for b := u.raw; len(b) > 0; {
			n := min(len(b), a.n)
			c.up.send(b[:n], nil)
			if b = b[n:]; len(b) > 0 && a.wait > 0 {
				c.pause(a.wait)
			}
		}
	case kindRewrite:
		c.up.send(a.rewrite(u.raw), nil)
	case kindCutInside:
		c.up.send(part(u.raw, a.n), nil)
		c.settle()
		c.cutSoon()
		return
	}
	c.settle()
}

// part returns the first n bytes; negative counts from the end.
func part(b []byte, n int) []byte {
	if n < 0 {
		n = max(0, len(b)+n)
	}
	return b[:min(n, len(b))]
}

// sayFor writes frames for whoever the unit belongs to.
func (c *conn) sayFor(u *unit, channel uint16, frames []byte) {
	if u.inbound() {
		c.say(channel, frames)
		return
	}
	c.sayNow(channel, frames)
}

// tellBroker sends the broker something that the client has not said, at the end of a
// message if it has got a part of one.
func (c *conn) tellBroker(u *unit, ch *channel, frames []byte) {
	tell := func() {
		if ch.owed != 0 {
			ch.untold = append(ch.untold, frames...)
			return
		}
		c.up.send(frames, nil)
		c.up.idle()
	}
	if u.inbound() && c.up != nil && !c.upEnded {
		tell()
		return
	}
	c.post(tell)
}

// frameSize is how large a frame to the client may be.
func (c *conn) frameSize() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frameMax == 0 {
		return defaultFrameMax
	}
	return uint32(c.frameMax)
}

const defaultFrameMax = 131072
