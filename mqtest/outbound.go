package mqtest

import "github.com/mqkit/mqkit/internal/wire"

// What write does with what the client is to be sent. All of it runs on that
// goroutine, but for say.

// write carries out what is in the outbox until the connection is gone.
func (c *conn) write() {
	for {
		select {
		case <-c.out.ready:
		case <-c.gone:
			return
		}
		for {
			ops := c.out.take()
			if len(ops) == 0 {
				break
			}
			for _, x := range ops {
				c.waitWhileStopped()
				if x.do != nil {
					x.do()
				} else {
					c.brokerFrames(x.frames)
				}
			}
			c.out.handled(ops)
			c.flush()
		}
		if u := c.server.Load(); u != nil {
			u.caughtUp()
		}
	}
}

// waitWhileStopped is where a connection stands that sends nothing more.
func (c *conn) waitWhileStopped() {
	c.mu.Lock()
	stopped := c.sendStopped
	c.mu.Unlock()
	if stopped {
		<-c.gone
	}
}

// say has frames of the stage's own written, behind what is on its way on their
// channel. Any goroutine may call it.
func (c *conn) say(channel uint16, frames []byte) {
	c.out.do(func() { c.sayNow(channel, frames) })
}

func (c *conn) sayNow(channel uint16, frames []byte) {
	ch := c.channel(channel)
	u := &unit{channel: channel, raw: frames, step: stepWire}
	if len(ch.out.held) > 0 {
		ch.out.held = append(ch.out.held, u)
		return
	}
	c.emit(u)
}

// brokerFrames takes whole frames of the broker.
func (c *conn) brokerFrames(frames []byte) {
	slowly := c.slowly()
	for rest := frames; len(rest) > 0; {
		size, ok := nextFrame(rest, 0)
		if size == 0 || !ok {
			// The header of another protocol: it passes as it is.
			c.emit(&unit{raw: rest, step: stepWire})
			return
		}
		frame := rest[:size:size]
		rest = rest[size:]
		if slowly {
			c.brokerFrame(frame)
			continue
		}
		if t, channel, id := frameOf(frame); t == wire.MethodFrame {
			c.arrivedFast(channel, id, frame)
		}
		c.journalOut(frame)
	}
	if slowly {
		return
	}
	if len(frames) < largestSpare/8 {
		c.pending = append(c.pending, frames...)
		if len(c.pending) > largestSpare/4 {
			c.flush()
		}
		return
	}
	c.flush()
	c.writeOut(frames)
}

func (c *conn) journalOut(frame []byte) {
	if j := c.stage.journal; j != nil {
		_, channel, _ := frameOf(frame)
		j.add(Record{Kind: ToClient, Conn: c.id, Channel: channel, Frame: append([]byte(nil), frame...)})
	}
}

// arrivedFast notes what a method of the broker means, where nobody looks.
func (c *conn) arrivedFast(number uint16, id wire.ID, frame []byte) {
	switch id {
	case wire.IDBasicDeliver, wire.IDBasicReturn:
	case wire.IDBasicAck, wire.IDBasicNack:
		tag, multiple := confirmOf(&unit{id: id, raw: frame})
		c.mu.Lock()
		ch := c.channelLocked(number)
		c.numbers = ch.confirms.resolve(tag, multiple, c.numbers[:0])
		for _, n := range c.numbers {
			ch.confirms.settled(n)
		}
		c.mu.Unlock()
	default:
		c.reply(&unit{channel: number, kind: wire.MethodFrame, id: id, raw: frame})
	}
}

func confirmOf(u *unit) (tag uint64, multiple bool) {
	switch m := u.parse().(type) {
	case *wire.BasicAck:
		return m.DeliveryTag, m.Multiple
	case *wire.BasicNack:
		return m.DeliveryTag, m.Multiple
	}
	return 0, false
}

// reply finds what a method of the broker answers, nil if nothing.
func (c *conn) reply(u *unit) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.channelLocked(u.channel)
	switch u.id {
	case wire.IDChannelClose:
		ch.state, ch.asked = channelClosed, nil
		return nil
	case wire.IDChannelCloseOk:
		ch.state = channelUnknown
	}
	if len(ch.asked) == 0 || !answeredBy(ch.asked[0].id, u.id) {
		return nil
	}
	r := ch.asked[0]
	ch.asked = ch.asked[1:]
	if m, ok := u.parse().(*wire.BasicConsumeOk); ok {
		ch.consumes(m.ConsumerTag, r.queue)
	}
	return &r
}

// brokerFrame takes one frame where faults may be about.
func (c *conn) brokerFrame(frame []byte) {
	_, number, id := frameOf(frame)
	c.mu.Lock()
	ch := c.channelLocked(number)
	swallow, dropping := ch.swallow, c.closing || c.dead || ch.closing
	if swallow && id == wire.IDChannelCloseOk {
		ch.swallow = false
	}
	c.mu.Unlock()
	switch {
	case swallow && id == wire.IDChannelClose: // both at once
		c.post(func() { c.up.send(wire.AppendMethod(nil, number, &wire.ChannelCloseOk{}), nil) })
	case swallow || dropping:
		ch.out = lane{}
	default:
		for _, u := range ch.out.add(frame, stepSending) {
			c.arrived(ch, u)
		}
	}
}

// arrived takes a unit of the broker. Confirms are taken apart: the rules are
// asked about each publish.
func (c *conn) arrived(ch *channel, u *unit) {
	confirm := u.step == stepSending && (u.id == wire.IDBasicAck || u.id == wire.IDBasicNack)
	if !confirm {
		if u.step == stepSending && u.id != 0 && u.id != wire.IDBasicDeliver {
			if r := c.reply(u); r != nil && r.event != nil {
				u.step, u.asked = stepApplied, r.event
			}
		}
		c.queueOut(ch, u)
		return
	}
	tag, multiple := confirmOf(u)
	c.mu.Lock()
	if !ch.confirms.on {
		c.mu.Unlock()
		c.queueOut(ch, u)
		return
	}
	numbers := ch.confirms.resolve(tag, multiple, c.numbers[:0])
	asked := make([]*Event, len(numbers))
	for i, n := range numbers {
		asked[i] = ch.confirms.at(n).asked
	}
	same := ch.confirms.same(tag, multiple, numbers)
	c.mu.Unlock()
	c.numbers = numbers
	for i, n := range numbers {
		nack := u.id == wire.IDBasicNack
		one := &unit{channel: ch.number, kind: wire.MethodFrame, id: u.id, step: stepApplied, number: n, nack: nack}
		if !nack {
			one.asked = asked[i]
		}
		c.queueOut(ch, one)
	}
	if same && len(ch.verdicts) == len(numbers) && !c.altered(ch, u.id == wire.IDBasicNack, numbers) {
		c.mu.Lock()
		for _, n := range numbers {
			ch.confirms.settled(n)
		}
		c.mu.Unlock()
		ch.verdicts = ch.verdicts[:0]
		c.process(ch, u)
		return
	}
	c.sayVerdicts(ch)
}

// altered tells whether the verdicts are others than the broker's.
func (c *conn) altered(ch *channel, nack bool, numbers []uint64) bool {
	for i, v := range ch.verdicts {
		if v.number != numbers[i] || v.nack != nack {
			return true
		}
	}
	return false
}

// queueOut processes a unit, behind those that are held back.
func (c *conn) queueOut(ch *channel, u *unit) {
	if len(ch.out.held) > 0 {
		ch.out.held = append(ch.out.held, u)
		return
	}
	c.process(ch, u)
}

// process asks the rules about a unit at each step that it has left.
func (c *conn) process(ch *channel, u *unit) {
	if u.number == 0 {
		c.sayVerdicts(ch) // of those before it
	}
	for u.step != stepWire {
		c.waitWhileStopped()
		if e := c.eventOut(ch, u); e != nil && !c.ask(ch, u, e) {
			return
		}
		if u.number != 0 {
			ch.verdicts = append(ch.verdicts, verdict{u.number, u.nack})
			return
		}
		u.step++
	}
	c.emit(u)
}

// eventOut describes what a unit is at its step, nil if nobody is to be asked.
func (c *conn) eventOut(ch *channel, u *unit) *Event {
	if !c.stage.rules.any() {
		return nil
	}
	if u.step == stepApplied {
		if u.asked == nil {
			return nil
		}
		e := *u.asked
		e.Point = Applied
		return &e
	}
	e := newEvent(Sending, c.id, u)
	if e.ConsumerTag != "" && e.Queue == "" {
		c.mu.Lock()
		e.Queue = ch.consumers[e.ConsumerTag]
		c.mu.Unlock()
	}
	return e
}

// resumeOut goes on with a channel whose first held unit has waited long enough.
func (c *conn) resumeOut(ch *channel) {
	for len(ch.out.held) > 0 && !ch.out.held[0].waiting {
		c.mu.Lock()
		stale := ch.closing || c.closing || c.dead
		c.mu.Unlock()
		if stale {
			ch.out.held = nil
			return
		}
		u := ch.out.held[0]
		ch.out.held = ch.out.held[1:]
		a := u.action
		if a == nil {
			c.process(ch, u)
			continue
		}
		u.action = nil
		switch {
		case !c.perform(ch, u, u.event, *a):
		case u.number != 0:
			ch.verdicts = append(ch.verdicts, verdict{u.number, u.nack})
		default:
			u.step++
			c.process(ch, u)
		}
	}
	c.sayVerdicts(ch)
}

// sayVerdicts tells the client what was decided about its publishes so far.
func (c *conn) sayVerdicts(ch *channel) {
	if len(ch.verdicts) == 0 {
		return
	}
	c.mu.Lock()
	frames := ch.confirms.say(ch.number, ch.verdicts)
	c.mu.Unlock()
	ch.verdicts = ch.verdicts[:0]
	for _, frame := range frames {
		_, _, id := frameOf(frame)
		c.process(ch, &unit{channel: ch.number, kind: wire.MethodFrame, id: id, raw: frame, step: stepSending})
	}
}

// emit writes a unit, as often as it is to be.
func (c *conn) emit(u *unit) {
	for range max(u.copies, 1) {
		for rest := u.raw; c.stage.journal != nil && len(rest) > 0; {
			size, ok := nextFrame(rest, 0)
			if size == 0 || !ok {
				size = len(rest)
			}
			c.stage.journal.add(Record{Kind: ToClient, Conn: c.id, Channel: u.channel, Frame: rest[:size:size]})
			rest = rest[size:]
		}
		c.pending = append(c.pending, u.raw...)
		if len(c.pending) > largestSpare/4 {
			c.flush()
		}
	}
}

func (c *conn) flush() {
	if len(c.pending) == 0 {
		return
	}
	c.writeOut(c.pending)
	if cap(c.pending) > largestSpare {
		c.pending = nil
	}
	c.pending = c.pending[:0]
}

// writeOut writes to the client, in the way that a fault may have chosen for all
// of the connection.
func (c *conn) writeOut(b []byte) {
	if c.budget >= 0 {
		if len(b) >= c.budget {
			b = b[:c.budget]
			defer c.cut(errFault)
		}
		c.budget -= len(b)
	}
	c.writePieces(b, c.pieces)
}

func (c *conn) writePieces(b []byte, a *Action) {
	for len(b) > 0 {
		c.mu.Lock()
		dead := c.dead
		c.mu.Unlock()
		if dead {
			return
		}
		n := len(b)
		if a != nil {
			n = min(n, a.n)
		}
		if _, err := c.sock.Write(b[:n]); err != nil {
			c.cut(err)
			return
		}
		b = b[n:]
		if a != nil && a.wait > 0 && len(b) > 0 {
			c.pause(a.wait)
		}
	}
}
