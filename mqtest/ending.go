package mqtest

import "github.com/mqkit/mqkit/internal/wire"

// What the actions do that end something.

// end cuts the connection behind what the unit's goroutine has had written.
func (c *conn) end(u *unit) {
	if u.inbound() {
		c.cutSoon()
		return
	}
	c.flush()
	c.cut(errFault)
}

// stop leaves the connection standing.
func (c *conn) stop(u *unit, reading, sending bool) {
	if !u.inbound() {
		c.flush()
	}
	c.mu.Lock()
	c.readStopped = c.readStopped || reading
	if !u.inbound() {
		c.sendStopped = c.sendStopped || sending
	}
	c.mu.Unlock()
	if u.inbound() && sending {
		c.out.do(func() {
			c.flush()
			c.mu.Lock()
			c.sendStopped = true
			c.mu.Unlock()
		})
	}
	c.prod()
}

// sayLast writes the last that is said on a channel: what is held back is not.
func (c *conn) sayLast(u *unit, ch *channel, frames []byte) {
	last := func() {
		ch.out, ch.verdicts, ch.gathered = lane{}, nil, nil
		c.emit(&unit{channel: ch.number, raw: frames, step: stepWire})
	}
	if u.inbound() {
		c.out.do(last)
		return
	}
	last()
}

// closeChannel closes a channel on both sides.
func (c *conn) closeChannel(u *unit, e *Event, a Action) {
	c.slow.Store(true)
	c.mu.Lock()
	ch := c.channelLocked(e.Channel)
	open := ch.state == channelOpen
	if ch.closing || (ch.state != channelUnknown && !open) {
		c.mu.Unlock()
		return // it is being closed already
	}
	ch.closing, ch.swallow, ch.asked = true, ch.swallow || open, nil
	if open {
		ch.state = channelUnknown
	}
	c.mu.Unlock()
	class, method := culprit(e)
	c.sayLast(u, ch, wire.AppendMethod(nil, e.Channel, &wire.ChannelClose{
		ReplyCode: a.code, ReplyText: replyText(a), ClassID: class, MethodID: method,
	}))
	if open {
		c.tellBroker(u, ch, wire.AppendMethod(nil, e.Channel, &wire.ChannelClose{ReplyCode: 200, ReplyText: "closed by a fault"}))
	}
}

// closeConnection closes the connection on both sides.
func (c *conn) closeConnection(u *unit, e *Event, a Action) {
	c.slow.Store(true)
	c.mu.Lock()
	was := c.closing
	c.closing = true
	c.mu.Unlock()
	if was {
		return
	}
	class, method := culprit(e)
	c.sayLast(u, c.channel(0), wire.AppendMethod(nil, 0, &wire.ConnectionClose{
		ReplyCode: a.code, ReplyText: replyText(a), ClassID: class, MethodID: method,
	}))
	c.post(func() { c.endUpstream(errFault) })
	c.after(patience, func() { c.cut(errFault) })
}

// culprit is the method that a close names: the client's that is to blame.
func culprit(e *Event) (class, method uint16) {
	if e.m == nil || e.Point == Sending {
		return 0, 0
	}
	return e.m.ID().Class(), e.m.ID().Method()
}

func replyText(a Action) string {
	if a.text != "" {
		return wire.ReplyText(a.text)
	}
	name, ok := codeNames[a.code]
	if !ok {
		name = "ERROR"
	}
	return name + " - said by a fault of mqtest"
}

var codeNames = map[uint16]string{
	311: "CONTENT_TOO_LARGE", 312: "NO_ROUTE", 313: "NO_CONSUMERS", 320: "CONNECTION_FORCED",
	402: "INVALID_PATH", 403: "ACCESS_REFUSED", 404: "NOT_FOUND", 405: "RESOURCE_LOCKED",
	406: "PRECONDITION_FAILED", 501: "FRAME_ERROR", 502: "SYNTAX_ERROR", 503: "COMMAND_INVALID",
	504: "CHANNEL_ERROR", 505: "UNEXPECTED_FRAME", 506: "RESOURCE_ERROR", 530: "NOT_ALLOWED",
	540: "NOT_IMPLEMENTED", 541: "INTERNAL_ERROR",
}
