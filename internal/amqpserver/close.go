package amqpserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// How long RabbitMQ waits for the end of a closed connection: as long as a
// heartbeat, this at most, and before there is one, grace.
const (
	closingTimeout = 30 * time.Second
	grace          = 3 * time.Second
)

// Close closes the connection on the broker's side, with a text that is sent as
// it is, such as CONNECTION_FORCED and a reason. A connection that is not open
// yet just ends. Everything that it holds in the engine is given back before the
// client is told.
func (c *Conn) Close(code uint16, text string) {
	c.lock()
	defer c.unlock()
	e := &engine.Exception{Code: code, Text: text, Connection: true}
	switch {
	case c.state >= stateClosed:
	case c.running():
		c.sendClose(e, 0)
	default:
		c.finish(e)
	}
}

// Malformed says that the client has sent what is no frame. Nothing that follows
// it can be made sense of: it is told so, and the connection ends as soon as it
// has had time to read that.
func (c *Conn) Malformed(e *wire.FrameError) {
	c.lock()
	defer c.unlock()
	c.malformed(e)
}

func (c *Conn) malformed(e *wire.FrameError) {
	if c.state >= stateClosed {
		return
	}
	c.exception(exceptionOf(e), 0)
	if c.state == stateClosed {
		c.refusal = true
		c.timers.closeIn(c, grace, nil)
	}
}

// frameError closes the connection for what package wire has found, or, where
// RabbitMQ's reader crashes, just ends it.
func (c *Conn) frameError(err error, channel uint16, method wire.ID) {
	var e *wire.FrameError
	if errors.As(err, &e) && e.Silent(channel) {
		c.finish(e)
		return
	}
	x := exceptionOf(err)
	x.NoMethod = e != nil && e.Nameless(channel)
	c.exception(x, method)
}

// exceptionOf takes over an error of package wire.
func exceptionOf(err error) *engine.Exception {
	var e *wire.FrameError
	if !errors.As(err, &e) {
		return engine.NewException(frameError, err.Error())
	}
	return &engine.Exception{Code: e.Code, Text: e.Text, Connection: true}
}

// exception closes the connection for what a method or a frame has done. Before
// it is open RabbitMQ tells a client nothing but what is wrong with its open.
func (c *Conn) exception(e *engine.Exception, method wire.ID) {
	switch {
	case c.state >= stateClosed:
	case c.state >= stateOpening:
		c.sendClose(e, method)
	default:
		c.refuse(e)
	}
}

// refuse ends the connection without a word.
func (c *Conn) refuse(reason error) {
	err := &RefusedError{State: c.state.String(), Err: reason}
	c.err, c.refusal = err, true
	c.state = stateClosed
	if c.cfg.RefusalDelay > 0 {
		c.timers.closeIn(c, c.cfg.RefusalDelay, err)
		return
	}
	c.finish(err)
}

// sendClose closes the connection with an exception, in the name of a method
// unless RabbitMQ would name none.
func (c *Conn) sendClose(e *engine.Exception, method wire.ID) {
	if e.NoMethod {
		method = 0
	}
	c.flushConfirms()
	c.w.stop()
	c.shut()
	c.w.connection(&wire.ConnectionClose{
		ReplyCode: e.Code, ReplyText: wire.ReplyText(e.Text),
		ClassID: method.Class(), MethodID: method.Method(),
	}, true)
	c.closing(e)
}

// closing is what follows once the close was sent.
func (c *Conn) closing(e *engine.Exception) {
	c.shut()
	timeout := c.closeTimeout()
	c.err = e
	c.state = stateClosed
	c.timers.closeIn(c, timeout, nil)
}

func (c *Conn) closeTimeout() time.Duration {
	switch {
	case c.state < stateOpening:
		return grace
	case c.interval > 0 && c.interval < closingTimeout:
		return c.interval
	default:
		return closingTimeout
	}
}

// closedByClient answers connection.close. RabbitMQ leaves the closing of the
// socket to the client, for a while.
func (c *Conn) closedByClient() {
	c.flushConfirms()
	c.w.stop()
	c.shut()
	timeout := c.closeTimeout()
	c.state = stateClosed
	c.timers.closeIn(c, timeout, nil)
	c.w.connection(&wire.ConnectionCloseOk{}, true)
}

// handleClosed takes a frame after a close was sent or answered: the only ones
// heard are the client's close and close-ok.
func (c *Conn) handleClosed(f wire.Frame) (applied bool) {
	if c.refusal || f.Channel != 0 || f.Type != wire.MethodFrame {
		return false
	}
	m, err := wire.ParseMethod(f.Payload)
	if err != nil {
		return false
	}
	switch m.(type) {
	case *wire.ConnectionClose:
		c.w.connection(&wire.ConnectionCloseOk{}, true)
	case *wire.ConnectionCloseOk:
		c.finish(nil)
	default:
		return false
	}
	return true
}

// exceptionf writes an exception as RabbitMQ does.
func exceptionf(code uint16, format string, args ...any) *engine.Exception {
	return engine.NewException(code, fmt.Sprintf(format, args...))
}
