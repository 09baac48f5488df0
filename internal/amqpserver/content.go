package amqpserver

import (
	"encoding/binary"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// content is a method whose message is on its way.
type content struct {
	method     wire.Method // nil: none is
	headed     bool        // the header has come
	properties []byte
	body       []byte
	size       uint64 // of the body
	left       uint64 // of it to come
	dropped    bool   // it is larger than any message may be, and not kept
}

// header takes the header frame.
func (ct *content) header(f wire.Frame, maxSize int) *engine.Exception {
	class := ct.method.ID().Class()
	// Weight is a field that has been 0 ever since.
	if f.Type != wire.HeaderFrame || binary.BigEndian.Uint16(f.Payload[2:]) != 0 {
		return exceptionf(unexpected,
			"expected content header for class %d, got non content header frame instead", class)
	}
	if got := binary.BigEndian.Uint16(f.Payload); got != class {
		return exceptionf(unexpected,
			"expected content header for class %d, got one for class %d instead", class, got)
	}
	h, err := wire.ParseHeader(f.Payload)
	if err != nil {
		return exceptionOf(err)
	}
	ct.headed = true
	ct.properties = h.Properties
	ct.size, ct.left = h.BodySize, h.BodySize
	ct.dropped = h.BodySize > uint64(maxSize)
	return nil
}

// add takes a body frame.
func (ct *content) add(f wire.Frame) *engine.Exception {
	if f.Type != wire.BodyFrame {
		return exceptionf(unexpected, "expected content body, got non content body frame instead")
	}
	n := uint64(len(f.Payload))
	if n > ct.left {
		return exceptionf(frameError, "content body frame exceeds remaining content size")
	}
	switch {
	case ct.dropped || n == 0:
	case n == ct.size:
		ct.body = f.Payload // all of it, and ours
	default:
		ct.body = append(ct.body, f.Payload...) // grows with what came, not with what was announced
	}
	ct.left -= n
	return nil
}

// complete tells whether header and body are there.
func (ct *content) complete() bool { return ct.headed && ct.left == 0 }

// tooLarge is what a body that was dropped is refused with.
func (ct *content) tooLarge(maxSize int) *engine.Exception {
	if !ct.dropped {
		return nil
	}
	return exceptionf(precondition, "message size %d is larger than configured max size %d", ct.size, maxSize)
}
