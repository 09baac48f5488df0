package mqtest

import (
	"encoding/binary"

	"github.com/mqkit/mqkit/internal/wire"
)

// step is how far a unit has come on its way.
type step uint8

const (
	stepReceived step = iota // from the client, not with the broker
	stepApplied              // the answer to asked, on its way to the client
	stepSending              // on its way to the client
	stepWire                 // written as it is: nobody is asked
)

// unit is what faults are about: a method with its content, or a heartbeat, in
// one of the two directions.
type unit struct {
	channel uint16
	kind    wire.FrameType
	id      wire.ID // 0: no method
	raw     []byte  // its frames; nobody changes them
	step    step

	asked  *Event // at stepApplied: what it answers
	number uint64 // not 0: no frames yet but the confirm of that number
	nack   bool
	copies int // of it that go out; 0 is 1

	spent   bool        // it has been passed on, or dropped
	waiting bool        // it is delayed or held
	action  *Action     // not nil: what is left to be done with it after that
	event   *Event      // that the action is about
	by      *Injected   // whose action it is, nil: nobody's that could release it
	freed   []*Injected // it has waited behind what they have let go of
}

// heartbeat is what a heartbeat is called where methods have their names.
const heartbeat = "heartbeat"

func (u *unit) name() string {
	switch {
	case u.kind == wire.HeartbeatFrame:
		return heartbeat
	case u.id != 0:
		return u.id.String()
	}
	return ""
}

// payload returns that of the first frame.
func (u *unit) payload() []byte {
	if len(u.raw) < wire.FrameOverhead {
		return nil
	}
	size := int(binary.BigEndian.Uint32(u.raw[3:]))
	if len(u.raw) < size+wire.FrameOverhead {
		return nil
	}
	return u.raw[7 : 7+size]
}

// parse returns the method, nil if it is none that can be read.
func (u *unit) parse() wire.Method {
	m, err := wire.ParseMethod(u.payload())
	if err != nil {
		return nil
	}
	return m
}

// content returns raw properties and body.
func (u *unit) content() (properties, body []byte) {
	rest := u.raw[min(len(u.raw), len(u.payload())+wire.FrameOverhead):]
	for len(rest) > 0 {
		size, ok := nextFrame(rest, 0)
		if size == 0 || !ok {
			break
		}
		payload := rest[7 : size-1]
		switch wire.FrameType(rest[0]) {
		case wire.HeaderFrame:
			if h, err := wire.ParseHeader(payload); err == nil {
				properties = h.Properties
			}
		case wire.BodyFrame:
			if body == nil {
				body = payload[:len(payload):len(payload)]
			} else {
				body = append(body, payload...)
			}
		}
		rest = rest[size:]
	}
	return properties, body
}

// nextFrame returns the size of the frame that b begins with: 0 if more of it has
// to arrive. It is not ok if what is there cannot become a frame with a payload of at
// most limit bytes; a limit of 0 is none.
func nextFrame(b []byte, limit int) (size int, ok bool) {
	if len(b) < 7 {
		return 0, true
	}
	length := binary.BigEndian.Uint32(b[3:])
	if length > 1<<30 || (limit > 0 && int(length) > limit) {
		return 0, false
	}
	size = int(length) + wire.FrameOverhead
	switch {
	case len(b) < size:
		return 0, true
	case b[size-1] != frameEnd:
		return 0, false
	}
	return size, true
}

const frameEnd = 0xCE

// frameOf takes a whole frame apart. Of a frame that is no method id is 0.
func frameOf(b []byte) (t wire.FrameType, channel uint16, id wire.ID) {
	t, channel = wire.FrameType(b[0]), binary.BigEndian.Uint16(b[1:])
	if t == wire.MethodFrame && len(b) >= 4+wire.FrameOverhead {
		id = wire.ID(binary.BigEndian.Uint32(b[7:]))
	}
	return t, channel, id
}

// lane puts the frames of one channel in one direction together. It belongs to
// the goroutine of that direction.
type lane struct {
	part *unit
	left int64 // of the body, -1: the header is still to come
	held []*unit
}

// add takes the next frame of a channel. It returns what is complete by it, in
// order, which may be nothing. Frames that belong to nothing come as units of
// their own, for the broker to complain about.
func (l *lane) add(frame []byte, to step) (done []*unit) {
	t, channel, id := frameOf(frame)
	if l.part != nil {
		fits := false
		switch {
		case t == wire.HeaderFrame && l.left < 0:
			if h, err := wire.ParseHeader(frame[7 : len(frame)-1]); err == nil {
				l.left, fits = int64(h.BodySize), true
			}
		case t == wire.BodyFrame && l.left > 0:
			l.left -= int64(len(frame) - wire.FrameOverhead)
			fits = l.left >= 0
		}
		if fits {
			l.part.raw = append(l.part.raw, frame...)
			if l.left == 0 {
				done, l.part = append(done, l.part), nil
			}
			return done
		}
		l.part.step = stepWire
		done, l.part = append(done, l.part), nil
	}
	u := &unit{channel: channel, kind: t, id: id, raw: append([]byte(nil), frame...), step: to}
	switch {
	case id.HasContent():
		l.part, l.left = u, -1
		return done
	case t == wire.HeaderFrame || t == wire.BodyFrame:
		u.step = stepWire
	}
	return append(done, u)
}
