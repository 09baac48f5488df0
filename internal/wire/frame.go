package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// FrameType is the first octet of a frame.
type FrameType byte

// The four kinds of frame.
const (
	MethodFrame    FrameType = 1
	HeaderFrame    FrameType = 2
	BodyFrame      FrameType = 3
	HeartbeatFrame FrameType = 8
)

// FrameOverhead is what a frame adds to its payload: 7 octets in front, 1 behind.
// frame_max counts them in.
const FrameOverhead = 8

// MinFrameMax is what a Reader takes before the connection is tuned, and the least
// frame_max that RabbitMQ agrees to since 4.1.
const MinFrameMax = 8192

const (
	frameStart = 7 // type, channel, size
	frameEnd   = 0xCE

	// unlimited bounds a payload where frame_max is 0, no limit.
	unlimited = MaxBodySize

	// growth is how much is allocated ahead of the bytes that have come: a whole
	// frame of the usual size, no more on the word of a length.
	growth = 128 << 10
)

// Frame is one frame. Its type may be none of the four: it is for the receiver to
// object, with [Frame.Unknown].
type Frame struct {
	Type    FrameType
	Channel uint16
	Payload []byte
}

// Append appends the frame to dst.
func (f Frame) Append(dst []byte) []byte {
	dst = appendFrameHeader(dst, f.Type, f.Channel, len(f.Payload))
	dst = append(dst, f.Payload...)
	return append(dst, frameEnd)
}

func appendFrameHeader(dst []byte, t FrameType, channel uint16, size int) []byte {
	dst = append(dst, byte(t))
	dst = binary.BigEndian.AppendUint16(dst, channel)
	return binary.BigEndian.AppendUint32(dst, uint32(size))
}

// Reader takes frames from a stream. It is not safe for concurrent use.
type Reader struct {
	r   *bufio.Reader
	max uint32
}

// NewReader returns a Reader of r with the limit of [MinFrameMax].
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 32<<10), max: MinFrameMax}
}

// SetMax sets the frame_max agreed upon, for the frames to come; 0 is none, which
// still leaves one of 512 MiB. As RabbitMQ does, the Reader lets a frame exceed it
// by 8 octets.
func (r *Reader) SetMax(frameMax uint32) {
	if r.max = min(frameMax, unlimited); r.max == 0 {
		r.max = unlimited
	}
}

// ReadProtocolHeader reads the eight octets that a client opens with.
func (r *Reader) ReadProtocolHeader() (header [8]byte, err error) {
	_, err = io.ReadFull(r.r, header[:])
	return header, err
}

// Peek returns the next n octets without taking them, so that the receiver of a
// broker's first answer can tell a frame from a protocol header.
func (r *Reader) Peek(n int) ([]byte, error) { return r.r.Peek(n) }

// Buffered returns how many octets have been read from the stream and not taken:
// with none, Next may have to wait.
func (r *Reader) Buffered() int { return r.r.Buffered() }

// Next returns the next frame. Its payload belongs to the caller.
//
// The error is io.EOF if the stream ended between two frames, io.ErrUnexpectedEOF
// if it ended inside one, a *[FrameError] for a frame that is too large or ends
// wrong, or the stream's. After any of them the stream has lost its place.
func (r *Reader) Next() (Frame, error) {
	head, err := r.r.Peek(frameStart)
	if err != nil {
		if len(head) > 0 {
			err = cutShort(err)
		}
		return Frame{}, err
	}
	f := Frame{Type: FrameType(head[0]), Channel: binary.BigEndian.Uint16(head[1:])}
	size := binary.BigEndian.Uint32(head[3:])
	if size > r.max {
		return Frame{}, f.fault(501, "FRAME_ERROR", fmt.Sprintf("{frame_too_large,%d,%d}", size, int64(r.max)-FrameOverhead))
	}
	if _, err := r.r.Discard(frameStart); err != nil {
		return Frame{}, err
	}
	if f.Payload, err = r.payload(int(size)); err != nil {
		return Frame{}, cutShort(err)
	}
	end, err := r.r.ReadByte()
	if err != nil {
		return Frame{}, cutShort(err)
	}
	if end != frameEnd {
		return Frame{}, f.fault(501, "FRAME_ERROR", fmt.Sprintf("{invalid_frame_end_marker,%d}", end))
	}
	return f, nil
}

func (r *Reader) payload(size int) ([]byte, error) {
	var payload []byte
	for len(payload) < size {
		n := min(size-len(payload), growth)
		payload = slices.Grow(payload, n)
		from := len(payload)
		payload = payload[:from+n]
		if _, err := io.ReadFull(r.r, payload[from:]); err != nil {
			return nil, err
		}
	}
	return payload, nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
