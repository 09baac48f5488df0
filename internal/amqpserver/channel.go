package amqpserver

import (
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// handleChannel takes a frame on a channel of a running connection. As in
// RabbitMQ, any frame on an unused number takes that number: what comes first
// had better be channel.open.
func (c *Conn) handleChannel(f wire.Frame) (applied bool) {
	ch := c.channels[f.Channel]
	if ch == nil {
		if n := len(c.channels); c.channelMax != 0 && n >= int(c.channelMax) {
			c.exception(exceptionf(notAllowed,
				"number of channels opened (%d) has reached the negotiated channel_max (%d)", n, c.channelMax), 0)
			return false
		}
		ch = &channel{conn: c, number: f.Channel}
		c.channels[f.Channel] = ch
	}
	if ch.content.method == nil {
		return ch.handleFirst(f)
	}
	return ch.handleMore(f)
}

// handleFirst takes a frame that has to be a method.
func (ch *channel) handleFirst(f wire.Frame) (applied bool) {
	if f.Type != wire.MethodFrame {
		ch.conn.exception(exceptionf(unexpected, "expected method frame, got non method frame instead"), 0)
		return false
	}
	m, err := wire.ParseMethod(f.Payload)
	switch {
	case err != nil:
		ch.conn.frameError(err, f.Channel, methodID(f.Payload))
	case m.ID().HasContent():
		ch.content = content{method: m}
	default:
		return ch.handle(m)
	}
	return false
}

// handleMore takes a frame that has to be a method's content.
func (ch *channel) handleMore(f wire.Frame) (applied bool) {
	ct := &ch.content
	var e *engine.Exception
	if !ct.headed {
		e = ct.header(f, ch.conn.cfg.MaxMessageSize)
	} else {
		e = ct.add(f)
	}
	if e != nil {
		ch.conn.exception(e, ct.method.ID())
		return false
	}
	if ct.complete() {
		complete := *ct
		ch.content = content{}
		applied = ch.handleContent(&complete)
	}
	ch.conn.publishing()
	return applied
}

// handleContent takes a method that has its content.
func (ch *channel) handleContent(ct *content) (applied bool) {
	if !ch.ready(ct.method) {
		return false
	}
	m, ok := ct.method.(*wire.BasicPublish)
	if !ok {
		ch.fail(exceptionf(commandInvalid, "unimplemented method"), ct.method.ID())
		return false
	}
	if !ch.batching {
		ch.batching = true
		ch.engine.BatchConfirms(true)
		if !ch.listed {
			ch.listed = true
			ch.conn.batching = append(ch.conn.batching, ch)
		}
	}
	e := ct.tooLarge(ch.conn.cfg.MaxMessageSize)
	if e == nil {
		e = ch.engine.Publish(m, ct.properties, ct.body)
	}
	ch.fail(e, m.ID())
	return e == nil
}

// ready tells whether a method is to be applied: whether the channel is open. If
// it is not, because it was never opened or is closed, that is dealt with.
func (ch *channel) ready(m wire.Method) bool {
	if ch.closed.Load() {
		// Everything is dropped until close-ok, but for a close that has crossed ours.
		switch m.(type) {
		case *wire.ChannelClose:
			ch.conn.w.answer(ch.number, &wire.ChannelCloseOk{})
		case *wire.ChannelCloseOk:
			ch.forget()
		}
		return false
	}
	if _, open := m.(*wire.ChannelOpen); open == (ch.engine == nil) {
		return true
	} else if open {
		ch.fail(exceptionf(channelError, "second 'channel.open' seen"), m.ID())
	} else {
		ch.fail(exceptionf(channelError, "expected 'channel.open'"), m.ID())
	}
	return false
}

// forget gives the channel's number back.
func (ch *channel) forget() {
	if ch.engine != nil {
		ch.engine.Close()
	}
	delete(ch.conn.channels, ch.number)
}

// fail closes the channel or the connection with an exception, if there is one.
func (ch *channel) fail(e *engine.Exception, method wire.ID) {
	if e == nil {
		return
	}
	if e.Connection {
		ch.conn.exception(e, method)
		return
	}
	ch.flush()
	ch.close(&wire.ChannelClose{
		ReplyCode: e.Code, ReplyText: wire.ReplyText(e.Text), ClassID: method.Class(), MethodID: method.Method(),
	})
	ch.engine.Close()
	ch.content = content{}
}

// flush sends the confirms that were held back.
func (ch *channel) flush() {
	if !ch.batching {
		return
	}
	ch.batching = false
	ch.engine.BatchConfirms(false) // which sends them
}

// closedByClient answers channel.close.
func (ch *channel) closedByClient() {
	ch.flush()
	ch.engine.Close()
	delete(ch.conn.channels, ch.number)
	ch.close(&wire.ChannelCloseOk{})
}
