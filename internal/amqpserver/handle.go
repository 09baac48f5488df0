package amqpserver

import (
	"encoding/binary"

	"github.com/mqkit/mqkit/internal/wire"
)

// headerSize is what a header frame holds besides its properties: class, weight
// and the body's size.
const headerSize = 12

// Handle takes a frame. When it returns, the frame has been applied and its
// answers have been given to out, but for confirms: see [Conn.Idle]. The payload
// is the connection's from now on.
//
// It tells whether a method that is complete by this frame has been carried out: a
// refused one has not, nor one that comes behind a close.
func (c *Conn) Handle(f wire.Frame) (applied bool) {
	c.Heard()
	c.lock()
	defer c.unlock()
	switch {
	case c.state == stateEnded:
	case c.state == stateClosed:
		return c.handleClosed(f)
	case c.tooLarge(f):
		e := exceptionf(frameError, "type %d, all octets = <<>>: {frame_too_large,%d,%d}",
			f.Type, len(f.Payload), c.FrameMax()-wire.FrameOverhead)
		c.malformed(&wire.FrameError{Code: e.Code, Text: e.Text})
	case !wellFormed(f):
		c.frameError(f.Unknown(), f.Channel, 0)
	case f.Channel == 0:
		return c.handleZero(f)
	case !c.running() || f.Type == wire.HeartbeatFrame:
		c.frameError(f.Unexpected(), f.Channel, 0)
	default:
		return c.handleChannel(f)
	}
	return false
}

// Idle says that nothing more has come from the client for now: confirms that
// were held back are sent.
func (c *Conn) Idle() {
	c.lock()
	defer c.unlock()
	c.flushConfirms()
}

func (c *Conn) flushConfirms() {
	for i, ch := range c.batching {
		ch.flush()
		ch.listed = false
		c.batching[i] = nil
	}
	c.batching = c.batching[:0]
}

// tooLarge allows a frame the 8 octets too many that RabbitMQ allows, since
// clients miscount.
func (c *Conn) tooLarge(f wire.Frame) bool {
	frameMax := c.FrameMax()
	return frameMax != 0 && uint64(len(f.Payload)) > uint64(frameMax)
}

// wellFormed tells whether a frame is one of the four kinds.
func wellFormed(f wire.Frame) bool {
	switch f.Type {
	case wire.MethodFrame:
		return len(f.Payload) >= 4
	case wire.HeaderFrame:
		return len(f.Payload) >= headerSize
	case wire.BodyFrame:
		return true
	case wire.HeartbeatFrame:
		return len(f.Payload) == 0
	default:
		return false
	}
}

// methodID returns what stands in front of a method's fields.
func methodID(payload []byte) wire.ID { return wire.ID(binary.BigEndian.Uint32(payload)) }

// handleZero takes a frame on the connection's own channel.
func (c *Conn) handleZero(f wire.Frame) (applied bool) {
	switch f.Type {
	case wire.HeartbeatFrame:
		return false
	case wire.MethodFrame:
	default:
		c.frameError(f.Unexpected(), f.Channel, 0)
		return false
	}
	m, err := wire.ParseMethod(f.Payload)
	if err != nil {
		c.frameError(err, f.Channel, methodID(f.Payload))
		return false
	}
	switch m := m.(type) {
	case *wire.ConnectionStartOk:
		if c.state == stateStarting {
			c.startOk(m)
			return c.state == stateTuning
		}
	case *wire.ConnectionTuneOk:
		if c.state == stateTuning {
			c.tuneOk(m)
			return c.state == stateOpening
		}
	case *wire.ConnectionOpen:
		if c.state == stateOpening {
			c.open(m)
			return c.running()
		}
	case *wire.ConnectionClose:
		if c.running() {
			c.closedByClient()
			return true
		}
	case *wire.ConnectionUpdateSecret:
		if c.running() {
			c.updateSecret(m)
			return c.running()
		}
	}
	c.exception(exceptionf(channelError, "unexpected method in connection state %s", c.state), m.ID())
	return false
}
