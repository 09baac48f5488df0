package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// ID is a method's class and number: class<<16 | method.
type ID uint32

// Class returns the class's number, 60 for basic.
func (id ID) Class() uint16 { return uint16(id >> 16) }

// Method returns the number inside the class, 40 for basic.publish.
func (id ID) Method() uint16 { return uint16(id) }

func (id ID) numbers() string { return fmt.Sprintf("%d.%d", id.Class(), id.Method()) }

// Method is one of the methods in this package, always a pointer: *[BasicPublish].
type Method interface {
	ID() ID
	method()
}

// ParseMethod reads the payload of a method frame. The error is a *[FrameError].
//
// As in RabbitMQ, short strings must be utf-8 in all methods but those that carry
// content.
func ParseMethod(payload []byte) (Method, error) {
	if len(payload) < 4 {
		return nil, Frame{Type: MethodFrame, Payload: payload}.Unknown()
	}
	id := ID(binary.BigEndian.Uint32(payload))
	m := New(id)
	if m == nil {
		return nil, &FrameError{Code: 540, Text: "NOT_IMPLEMENTED - unknown method " + id.String(), silent: always}
	}
	d := newDecoder(payload[4:])
	parseFields(m, &d)
	if !d.complete() {
		return nil, cannotDecode(d.raw)
	}
	if d.fault != nil {
		return nil, d.fault
	}
	return m, nil
}

// AppendMethod appends a method as a whole frame. It panics if a short string is
// longer than 255 bytes, [CheckTable] finds fault with a table or m is nil.
func AppendMethod(dst []byte, channel uint16, m Method) []byte {
	dst = slices.Grow(dst, 64)
	dst = appendFrameHeader(dst, MethodFrame, channel, 0)
	start := len(dst)
	dst = appendFields(dst, m)
	return append(endSize(dst, start), frameEnd)
}

func appendID(b []byte, id ID) []byte { return binary.BigEndian.AppendUint32(b, uint32(id)) }
