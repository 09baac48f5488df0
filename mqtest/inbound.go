package mqtest

import (
	"sync"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// What serve does with what the client sends. All of it runs on that goroutine.

// accepted asks the rules about the connection itself. It tells whether there is
// to be one.
func (c *conn) accepted() bool {
	if !c.stage.rules.any() {
		return true
	}
	e := &Event{Point: Accepted, Conn: c.id}
	a, f := c.stage.rules.decide(e)
	c.note(e, a)
	struck := sync.OnceFunc(f.struck)
	defer struck()
	for {
		switch a.kind {
		case kindPass, kindTwice, kindRewrite, kindNack, kindReturn, kindCloseChannel, kindCancelConsumer, kindGather:
		case kindDelay:
			c.pause(a.wait)
		case kindHold:
			released := make(chan struct{})
			f.holds(func() { close(released) })
			struck()
			select {
			case <-released:
			case <-c.gone:
			}
		case kindTrickle:
			pieces := a
			c.out.do(func() { c.pieces = &pieces })
		case kindCutInside:
			c.out.do(func() { c.budget = max(a.n, 0) })
		case kindReset:
			c.reset()
			return false
		case kindDrop, kindCut:
			// Behind what an action before this one has said.
			c.cutSoon()
			_ = c.discard()
			return false
		default:
			alone := a
			alone.next = nil
			c.perform(c.channel(0), &unit{step: stepReceived, spent: true}, e, alone)
		}
		if a.next == nil {
			return true
		}
		a = *a.next
	}
}

// consume passes on what was read, as far as it is complete.
func (c *conn) consume() {
	if c.blind {
		c.up.send(c.buf[:c.filled], nil)
		c.filled = 0
		return
	}
	slowly := c.slowly()
	start, end := 0, 0 // of what can be passed on as it is
	flush := func() {
		if end > start && !c.ignoring() {
			c.up.send(c.buf[start:end], nil)
		}
		start = end
	}
	for end < c.filled && !c.blind {
		size, ok := nextFrame(c.buf[end:c.filled], c.up.limit())
		if !ok {
			flush()
			c.blind = true
			end = c.filled
			flush()
			break
		}
		if size == 0 {
			break
		}
		frame := c.buf[end : end+size]
		if j := c.stage.journal; j != nil {
			_, channel, _ := frameOf(frame)
			j.add(Record{Kind: FromClient, Conn: c.id, Channel: channel, Frame: append([]byte(nil), frame...)})
		}
		end += size
		if slowly {
			start = end
			c.clientFrame(frame)
			if c.deaf() {
				c.filled = 0
				return
			}
			continue
		}
		t, channel, id := frameOf(frame)
		if t == wire.MethodFrame && noted(id) {
			u := unit{channel: channel, kind: t, id: id, raw: frame}
			c.passed(&u, 1, nil)
		}
		c.follow(t, channel, id, frame)
	}
	flush()
	if start > 0 {
		c.filled = copy(c.buf, c.buf[start:c.filled])
	}
	if c.filled > 0 && !slowly {
		c.up.heard()
	}
	c.up.idle()
}

// clientFrame takes one frame where faults may be about.
func (c *conn) clientFrame(frame []byte) {
	t, number, id := frameOf(frame)
	c.mu.Lock()
	closing := c.closing
	ch := c.channelLocked(number)
	dropping := ch.closing
	if dropping && id == wire.IDChannelCloseOk {
		ch.closing = false
	}
	c.mu.Unlock()
	switch {
	case closing && id == wire.IDConnectionCloseOk:
		c.cutBehind(errFault)
	case closing && id == wire.IDConnectionClose:
		c.say(0, wire.AppendMethod(nil, 0, &wire.ConnectionCloseOk{}))
		c.cutBehind(errFault)
	case closing:
	case dropping && ch.owed != 0 && id == 0:
		c.forward(ch, &unit{channel: number, kind: t, raw: frame, step: stepWire})
	case dropping && id == wire.IDChannelClose:
		c.say(number, wire.AppendMethod(nil, number, &wire.ChannelCloseOk{}))
	case dropping:
		ch.in = lane{}
	default:
		for _, u := range ch.in.add(frame, stepReceived) {
			if len(ch.in.held) > 0 {
				ch.in.held = append(ch.in.held, u)
				continue
			}
			c.received(ch, u)
		}
	}
}

// received asks the rules about a unit, and passes it on if they let it.
func (c *conn) received(ch *channel, u *unit) {
	if u.step == stepReceived && c.stage.rules.any() {
		e := newEvent(Received, c.id, u)
		if u.id == wire.IDBasicPublish {
			c.mu.Lock()
			e.Number = ch.confirms.next()
			c.mu.Unlock()
		}
		u.asked = e
		if !c.ask(ch, u, e) {
			return
		}
	}
	c.forward(ch, u)
}

// forward gives a unit to the broker, and sees to it that what comes of it has
// come before the next one is given.
func (c *conn) forward(ch *channel, u *unit) {
	copies := max(u.copies, 1)
	var applied func()
	if answered := c.passed(u, copies, u.asked); !answered && u.asked != nil && u.kind == wire.MethodFrame {
		e := *u.asked
		e.Point = Applied
		after := &unit{channel: u.channel, kind: u.kind, id: u.id, step: stepReceived, spent: true}
		applied = func() { // and no answer will ever say so
			c.settle()
			c.ask(ch, after, &e)
		}
	}
	for range copies - 1 {
		c.up.send(u.raw, nil)
	}
	c.up.send(u.raw, applied)
	if u.step == stepWire {
		c.follow(u.kind, u.channel, u.id, u.raw)
	}
	c.settle()
}

// headerOwed is what is owed of a message whose header is still to come.
const headerOwed = -1

// follow notes how much of a message the broker has been passed on a channel, where
// frames go one by one: between them it takes nothing else there. What it was to be
// told meanwhile it is told behind the last.
func (c *conn) follow(t wire.FrameType, number uint16, id wire.ID, frame []byte) {
	if t != wire.HeaderFrame && t != wire.BodyFrame && !id.HasContent() {
		return
	}
	ch := c.halfway
	if ch == nil || ch.number != number {
		ch = c.channel(number)
		c.halfway = ch
	}
	switch {
	case id.HasContent():
		ch.owed = headerOwed
	case t == wire.HeaderFrame && ch.owed == headerOwed:
		h, _ := wire.ParseHeader(frame[7 : len(frame)-1])
		ch.owed = int64(h.BodySize)
	case t == wire.BodyFrame && ch.owed > 0:
		ch.owed = max(0, ch.owed-int64(len(frame)-wire.FrameOverhead))
	}
	if ch.owed == 0 && ch.untold != nil {
		c.up.send(ch.untold, nil)
		c.up.idle()
		ch.untold = nil
	}
}

// settleTime bounds how long the broker's answers are waited for by the reader.
const settleTime = time.Second

// settle waits until what the broker has answered was looked at by write. Without
// that a fault at Applied could cut the connection after n publishes only roughly.
func (c *conn) settle() {
	if !c.up.synced() {
		return
	}
	c.up.idle()
	behind := c.out.behind()
	if behind == nil {
		return
	}
	c.mu.Lock()
	stopped := c.sendStopped || c.dead
	c.mu.Unlock()
	if stopped {
		return
	}
	t := time.NewTimer(settleTime)
	defer t.Stop()
	select {
	case <-behind:
	case <-t.C:
	case <-c.gone:
	}
	c.runPosted()
}

// resumeIn goes on with a channel whose first held unit has waited long enough.
func (c *conn) resumeIn(ch *channel) {
	for len(ch.in.held) > 0 && !ch.in.held[0].waiting {
		c.mu.Lock()
		stale := ch.closing || c.closing || c.leaving || c.dead || c.readStopped
		c.mu.Unlock()
		if stale {
			ch.in.held = nil
			return
		}
		u := ch.in.held[0]
		ch.in.held = ch.in.held[1:]
		if a := u.action; a == nil {
			c.received(ch, u)
		} else if u.action = nil; c.perform(ch, u, u.event, *a) {
			c.forward(ch, u)
		}
	}
}

// noted tells which of the client's methods passed has to know of.
func noted(id wire.ID) bool {
	switch id {
	case wire.IDBasicAck, wire.IDBasicNack, wire.IDBasicReject:
		return false
	}
	return true
}

// passed notes what the broker is about to be given, and tells whether it will
// answer it.
func (c *conn) passed(u *unit, copies int, asked *Event) (answered bool) {
	if u.id == 0 || u.step == stepWire {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch u.id {
	case wire.IDBasicPublish:
		ch := c.channelLocked(u.channel)
		ch.confirms.published(copies, asked)
		return ch.confirms.on
	case wire.IDChannelOpen:
		if ch := c.channelLocked(u.channel); ch.state != channelOpen {
			ch.state, ch.confirms, ch.asked, ch.consumers = channelOpen, confirms{}, nil, nil
			ch.owed, ch.untold = 0, nil
			if c.slow.Load() { // what is held back is of its last life
				c.out.do(func() { ch.out, ch.verdicts, ch.gathered = lane{}, nil, nil })
			}
		}
	case wire.IDChannelCloseOk:
		c.channelLocked(u.channel).state = channelUnknown
		return false
	case wire.IDChannelClose:
		c.channelLocked(u.channel).state = channelLeft
	case wire.IDConfirmSelect:
		c.channelLocked(u.channel).confirms.enable()
	}
	queue, answered := "", true
	switch m := u.parse().(type) {
	case *wire.ConnectionTuneOk:
		c.frameMax, answered = int(m.FrameMax), false
	case *wire.ConnectionStartOk:
		properties, _ := plain(m.ClientProperties).(map[string]any)
		c.name, _ = properties["connection_name"].(string)
		capabilities, _ := properties["capabilities"].(map[string]any)
		c.understands, _ = capabilities["connection.blocked"].(bool)
		answered = false
	case *wire.ConnectionOpen:
		c.vhost = m.VirtualHost
	case *wire.ExchangeDeclare:
		answered = !m.NoWait
	case *wire.ExchangeDelete:
		answered = !m.NoWait
	case *wire.ExchangeBind:
		answered = !m.NoWait
	case *wire.ExchangeUnbind:
		answered = !m.NoWait
	case *wire.QueueDeclare:
		answered = !m.NoWait
	case *wire.QueueBind:
		answered = !m.NoWait
	case *wire.QueuePurge:
		answered = !m.NoWait
	case *wire.QueueDelete:
		answered = !m.NoWait
	case *wire.BasicConsume:
		queue, answered = m.Queue, !m.NoWait
		c.channelLocked(u.channel).consumes(m.ConsumerTag, m.Queue)
	case *wire.BasicCancel:
		answered = !m.NoWait
	case *wire.ConfirmSelect:
		answered = !m.NoWait
	case *wire.BasicGet:
		queue = m.Queue
	case *wire.ConnectionUpdateSecret, *wire.ConnectionClose, *wire.ChannelOpen, *wire.ChannelFlow,
		*wire.ChannelClose, *wire.QueueUnbind, *wire.BasicQos, *wire.BasicRecover,
		*wire.TxSelect, *wire.TxCommit, *wire.TxRollback:
	default:
		answered = false
	}
	if answered {
		ch := c.channelLocked(u.channel)
		ch.asked = append(ch.asked, request{id: u.id, queue: queue, event: asked})
	}
	return answered
}

func (ch *channel) consumes(tag, queue string) {
	if tag == "" {
		return
	}
	if ch.consumers == nil {
		ch.consumers = map[string]string{}
	}
	ch.consumers[tag] = queue
}

// answeredBy tells whether a method of the broker answers one of the client's.
func answeredBy(asked, id wire.ID) bool {
	switch asked {
	case wire.IDBasicGet:
		return id == wire.IDBasicGetOk || id == wire.IDBasicGetEmpty
	case wire.IDExchangeUnbind:
		return id == wire.IDExchangeUnbindOk
	}
	return id == asked+1
}
