package wire

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// FrameError is input that RabbitMQ closes the connection for, with what its close
// method says.
type FrameError struct {
	Code uint16
	Text string // the whole reply text: "FRAME_ERROR - cannot decode <<0>>"

	silent silence
}

// silence is where RabbitMQ says nothing because its reader has crashed.
type silence uint8

const (
	never silence = iota
	offChannelZero
	always
)

func (e *FrameError) Error() string { return fmt.Sprintf("%s (%d)", e.Text, e.Code) }

// Silent tells whether RabbitMQ, on that channel, closes the socket without a close
// method. It does so for an unknown method, and for a table it cannot read in a
// method on any channel but 0.
func (e *FrameError) Silent(channel uint16) bool {
	return e.silent == always || e.silent == offChannelZero && channel != 0
}

// Unknown returns the error for a frame that is none of the four kinds, or too short
// for its kind, or a heartbeat with a payload.
func (f Frame) Unknown() *FrameError { return f.fault(501, "FRAME_ERROR", ": unknown_frame") }

// Unexpected returns the error for a frame that is sound but out of place: a
// heartbeat on a channel, a body on channel 0.
func (f Frame) Unexpected() *FrameError { return f.fault(505, "UNEXPECTED_FRAME", "") }

// fault words an error as RabbitMQ does, which prints the payload as an Erlang term
// (and breaks it in two lines past column 80, which we do not).
func (f Frame) fault(code uint16, name, reason string) *FrameError {
	octets, shown := "all", f.Payload
	if len(shown) > 16 {
		octets, shown = "first 16", shown[:16]
	}
	return &FrameError{Code: code, Text: fmt.Sprintf("%s - type %d, %s octets = %s%s", name, f.Type, octets, erlangTerm(shown), reason)}
}

// cannotDecode is the error for a method whose fields are too short, or too long.
func cannotDecode(fields []byte) *FrameError {
	return &FrameError{Code: 501, Text: ReplyText("FRAME_ERROR - cannot decode " + erlangBinary(fields))}
}

// erlangTerm prints octets as ~p does: as text if they can be read.
func erlangTerm(b []byte) string {
	if len(b) == 0 {
		return "<<>>"
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return erlangBinary(b)
		}
	}
	return "<<" + strconv.Quote(string(b)) + ">>"
}

// erlangBinary prints octets as ~w does, as many as fit a reply text.
func erlangBinary(b []byte) string {
	s := []byte("<<")
	for i, c := range b[:min(len(b), 256)] {
		if i > 0 {
			s = append(s, ',')
		}
		s = strconv.AppendUint(s, uint64(c), 10)
	}
	return string(append(s, ">>"...))
}

// ReplyText cuts what a close method says down to the 255 bytes that fit, ending it
// in "..." as RabbitMQ does.
func ReplyText(s string) string {
	if len(s) <= 255 {
		return s
	}
	n := 252
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
