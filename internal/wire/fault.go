package wire

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// FrameError is input that RabbitMQ closes the connection for, with what its close
// method says.
type FrameError struct {
	Code uint16
	Text string // the whole reply text: "FRAME_ERROR - cannot decode <<0>>"

	silent   silence
	nameless bool // but on channel 0 names no method
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

// Nameless tells whether RabbitMQ's close, on that channel, names no method though
// one was at fault. So it is where its reader stumbles rather than finds fault, and,
// but on channel 0, for a short string that is not utf-8.
func (e *FrameError) Nameless(channel uint16) bool {
	return e.silent == offChannelZero || e.nameless && channel != 0
}

// Unknown returns the error for a frame that is none of the four kinds, or too short
// for its kind, or a heartbeat with a payload.
func (f Frame) Unknown() *FrameError { return f.fault(501, "FRAME_ERROR", "unknown_frame") }

// Unexpected returns the error for a frame that is sound but out of place: a
// heartbeat on a channel, a body on channel 0.
func (f Frame) Unexpected() *FrameError { return f.fault(505, "UNEXPECTED_FRAME", "") }

// fault words an error as RabbitMQ does, which prints payload and reason as Erlang
// terms. A reason is an atom, or a tuple that begins with one.
func (f Frame) fault(code uint16, name, reason string) *FrameError {
	octets, shown := "all", f.Payload
	if len(shown) > 16 {
		octets, shown = "first 16", shown[:16]
	}
	text := wrapOctets(fmt.Sprintf("type %d, %s octets = ", f.Type, octets), erlangTerm(shown))
	if reason != "" {
		text = wrapPair(text+": ", reason)
	}
	return &FrameError{Code: code, Text: name + " - " + text}
}

// lineLength is that of Erlang's ~p: a term that would reach it is broken into lines
// that are indented to where the term begins.
const lineLength = 80

// column is how far the last line of a text goes.
func column(text string) int { return len(text) - 1 - strings.LastIndexByte(text, '\n') }

func fits(text, term string) bool { return column(text)+1+len(term) < lineLength }

// wrapOctets appends a binary, broken between octets. One that is text stays whole.
func wrapOctets(text, term string) string {
	if fits(text, term) || strings.HasPrefix(term, `<<"`) {
		return text + term
	}
	indent := column(text) + len("<<")
	width := min(lineLength-indent-1, len(term)-len("<<>>"))
	text += "<<"
	room := width
	for _, octet := range strings.SplitAfter(term[2:], ",") {
		if len(strings.TrimSuffix(octet, ">>")) > room {
			text += "\n" + strings.Repeat(" ", indent)
			room = width
		}
		text += octet
		room -= len(octet)
	}
	return text
}

// wrapPair appends a tuple of an atom and a number, or an atom alone. A longer tuple
// has to fit, as frame_too_large does behind its empty payload.
func wrapPair(text, term string) string {
	atom, number, pair := strings.Cut(term, ",")
	if !pair || fits(text, term) {
		return text + term
	}
	return text + atom + ",\n" + strings.Repeat(" ", column(text)+1) + number
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
