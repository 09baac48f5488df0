package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// MaxBodySize is the largest body that RabbitMQ lets a header announce, whatever
// its max_message_size.
const MaxBodySize = 512 << 20

// headerSize is that of a header frame's payload without the properties.
const headerSize = 12

// basic is the only class whose methods carry content.
const basic = 60

// Header is the payload of a header frame.
type Header struct {
	Class      uint16
	BodySize   uint64
	Properties []byte // the flags and the list, as they stand on the wire
}

// ParseHeader reads the payload of a header frame. Its Properties are not looked at,
// and share memory with payload. The error is a *[FrameError].
func ParseHeader(payload []byte) (Header, error) {
	if len(payload) < headerSize {
		return Header{}, Frame{Type: HeaderFrame, Payload: payload}.Unknown()
	}
	h := Header{
		Class:      binary.BigEndian.Uint16(payload),
		BodySize:   binary.BigEndian.Uint64(payload[4:]),
		Properties: payload[headerSize:],
	}
	switch weight := binary.BigEndian.Uint16(payload[2:]); {
	case weight != 0:
		return Header{}, &FrameError{Code: 505, Text: fmt.Sprintf("UNEXPECTED_FRAME - expected content header for class %d, "+
			"got non content header frame instead", h.Class)}
	case h.BodySize > MaxBodySize:
		return Header{}, &FrameError{Code: 501, Text: fmt.Sprintf("FRAME_ERROR - content body size %d exceeds maximum allowed size %d",
			h.BodySize, MaxBodySize)}
	}
	return h, nil
}

// AppendHeader appends a whole header frame.
func AppendHeader(dst []byte, channel uint16, h Header) []byte {
	dst = appendFrameHeader(dst, HeaderFrame, channel, headerSize+len(h.Properties))
	dst = binary.BigEndian.AppendUint16(dst, h.Class)
	dst = append(dst, 0, 0) // weight
	dst = binary.BigEndian.AppendUint64(dst, h.BodySize)
	dst = append(dst, h.Properties...)
	return append(dst, frameEnd)
}

// AppendContent appends a method, its header frame and the body in as many frames
// as frameMax needs, none for an empty body. A frameMax of 0 is no limit. It panics
// as [AppendMethod] does.
func AppendContent(dst []byte, channel uint16, m Method, rawProperties, body []byte, frameMax uint32) []byte {
	size := max(len(body), 1)
	if frameMax != 0 {
		size = int(min(int64(size), max(int64(frameMax)-FrameOverhead, 1)))
	}
	frames := (len(body) + size - 1) / size
	dst = slices.Grow(dst, 128+len(rawProperties)+len(body)+frames*FrameOverhead)

	dst = AppendMethod(dst, channel, m)
	dst = AppendHeader(dst, channel, Header{Class: basic, BodySize: uint64(len(body)), Properties: rawProperties})
	for chunk := range slices.Chunk(body, size) {
		dst = Frame{Type: BodyFrame, Channel: channel, Payload: chunk}.Append(dst)
	}
	return dst
}
