package mqtest

import (
	"strings"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// Action is what a fault does. It is a value, made by one of the functions that
// return one. The zero value is [Pass].
//
// An action replaces what would have happened: what the event is about goes
// nowhere, unless the action is (or begins with) Pass, Delay, Hold, Twice, Trickle
// or Rewrite. At Received that means that the broker never gets the method, at
// Applied and Sending that the client never gets the frames.
type Action struct {
	kind    kind
	n       int
	wait    time.Duration
	code    uint16
	text    string
	raw     []byte
	methods []Method
	rewrite func([]byte) []byte
	gather  *gather
	next    *Action
}

type kind uint8

const (
	kindPass kind = iota
	kindDrop
	kindDelay
	kindHold
	kindTwice
	kindTrickle
	kindRewrite
	kindCut
	kindReset
	kindCutInside
	kindStall
	kindStopReading
	kindStopSending
	kindSay
	kindSendRaw
	kindNack
	kindReturn
	kindCloseChannel
	kindCloseConnection
	kindCancelConsumer
	kindGather
)

var kindNames = [...]string{
	"pass", "drop", "delay", "hold", "twice", "trickle", "rewrite", "cut", "reset", "cut inside",
	"stall", "stop reading", "stop sending", "answer", "send raw", "nack", "return", "close channel",
	"close connection", "cancel consumer", "gather",
}

// String returns the action's words, those of what comes after it included.
func (a Action) String() string {
	if a.next == nil {
		return kindNames[a.kind]
	}
	return kindNames[a.kind] + ", then " + a.next.String()
}

// Then does one thing after another: Pass().Then(Cut()) lets the client have a
// delivery and cuts the connection behind it; Delay(d).Then(Drop()) waits first.
func (a Action) Then(next Action) Action {
	if a.next != nil {
		next = a.next.Then(next)
	}
	a.next = &next
	return a
}

// Pass lets it happen.
func Pass() Action { return Action{} }

// Drop has it never happen: a method is lost before the broker sees it
// (Received), an answer, a confirm or a delivery on its way to the client
// (Applied, Sending). Nobody is told.
func Drop() Action { return Action{kind: kindDrop} }

// Delay waits. What follows in that direction on the same channel waits behind
// it; other channels go on. At Accepted the whole connection waits.
func Delay(d time.Duration) Action { return Action{kind: kindDelay, wait: d} }

// Hold waits until the test says so: by Release or Remove of the [Injected] or, of
// what an interceptor holds, by its removal. What follows in that direction on the
// same channel waits behind it, in order, and no fault sees it before; other
// channels go on. At Accepted the whole connection waits. Hold().Then(Drop()) has it lost in the end.
//
// At Received the broker does not know of it yet, at Applied and Sending it has
// done its part.
func Hold() Action { return Action{kind: kindHold} }

// Twice has it happen twice: a publish is applied twice and confirmed once, a
// delivery arrives twice.
func Twice() Action { return Action{kind: kindTwice} }

// Trickle writes n bytes at a time with pauses in between, zero for none; the
// connection's other writes in that direction wait. At Accepted it holds for all
// that is sent on the connection. A Broker has no wire behind the stage: there
// it is Pass at Received.
func Trickle(n int, pause time.Duration) Action {
	return Action{kind: kindTrickle, n: max(n, 1), wait: pause}
}

// Rewrite sends the bytes that f returns in place of the frames that it is given,
// which it must not change: frames that are none, or that say something else. It panics
// if f is nil.
func Rewrite(f func(frames []byte) []byte) Action {
	if f == nil {
		panic("mqtest: Rewrite needs a function; Drop sends nothing, Pass what there is")
	}
	return Action{kind: kindRewrite, rewrite: f}
}

// BadFrameEnd sends the frames with a wrong octet at the end of the last.
func BadFrameEnd() Action {
	return Rewrite(func(frames []byte) []byte {
		frames = append([]byte(nil), frames...)
		frames[len(frames)-1] ^= 0xFF
		return frames
	})
}

// Oversize sends the first frame with a length near 2^31 in front.
func Oversize() Action {
	return Rewrite(func(frames []byte) []byte {
		frames = append([]byte(nil), frames...)
		copy(frames[3:], "\x7F\xFF\xFF\xF0")
		return frames
	})
}

// Garbage sends n bytes that are no frame.
func Garbage(n int) Action {
	return Rewrite(func([]byte) []byte { return []byte(strings.Repeat("\xDE\xAD\xBE\xEF", n/4+1)[:n]) })
}

// Tune changes what the broker offers in connection.tune, where a value is not
// zero; a heartbeat is in whole seconds, negative for none. It passes everything
// else.
func Tune(channelMax uint16, frameMax uint32, heartbeat time.Duration) Action {
	return Rewrite(func(frames []byte) []byte {
		u := unit{kind: wire.MethodFrame, id: wire.IDConnectionTune, raw: frames}
		m, ok := u.parse().(*wire.ConnectionTune)
		if !ok {
			return frames
		}
		if channelMax != 0 {
			m.ChannelMax = channelMax
		}
		if frameMax != 0 {
			m.FrameMax = frameMax
		}
		if heartbeat != 0 {
			m.Heartbeat = uint16(max(heartbeat, 0) / time.Second)
		}
		return wire.AppendMethod(nil, 0, m)
	})
}

// Cut ends the connection as a process that is killed does: by a FIN, behind what
// the client was sent before. The broker finds its client gone.
func Cut() Action { return Action{kind: kindCut} }

// Reset ends the connection by an RST, which may overtake what was sent before.
// Where there is no TCP it is Cut.
func Reset() Action { return Action{kind: kindReset} }

// CutInside lets the first n bytes of the frames through and cuts; negative
// counts from their end. At Accepted it lets n bytes through to the client, from
// the first on, and cuts there.
func CutInside(n int) Action { return Action{kind: kindCutInside, n: n} }

// Stall makes the connection half-open: from here on nothing is read and nothing
// is sent, and nobody is told, whatever the broker does with it.
func Stall() Action { return Action{kind: kindStall} }

// StopReading reads nothing more from the client; what the broker sends still arrives.
// The broker takes the client for silent: where heartbeats were agreed on it ends the
// connection after two to three of them, which it does not do in an alarm; see
// [Broker.Block] and [Connection.Block] for that.
func StopReading() Action { return Action{kind: kindStopReading} }

// StopSending sends nothing more to the client; what it sends is still applied.
func StopSending() Action { return Action{kind: kindStopSending} }

// Answer says something else: the methods are sent to the client, on the event's
// channel. It panics if there is no such method or field, or if a field cannot hold
// its value: that is a mistake in the test.
func Answer(methods ...Method) Action {
	for _, m := range methods {
		m.frames(0) // panics here, and not where the fault strikes
	}
	return Action{kind: kindSay, methods: methods}
}

// SendRaw sends bytes to the client, such as the header of another protocol.
func SendRaw(b []byte) Action { return Action{kind: kindSendRaw, raw: b} }

// Nack refuses a publish: at Received the broker never gets it, at Applied it has
// it all the same. It is Pass for everything that is no publish in confirm mode.
func Nack() Action { return Action{kind: kindNack} }

// Return gives a publish back as the broker does what it cannot route, and
// confirms it; the broker never gets it. It is Pass for everything else.
func Return(code int, text string) Action {
	return Action{kind: kindReturn, code: uint16(code), text: text}
}

// CloseChannel closes the channel on both sides: the client is told the reason,
// what it sends on the channel before it has answered is dropped, and the broker
// finds the channel closed by its client. Of a message that the broker has got the
// beginning of it gets the rest first. A text that is empty is made up.
func CloseChannel(code int, text string) Action {
	return Action{kind: kindCloseChannel, code: uint16(code), text: text}
}

// CloseConnection closes the connection on both sides, with that reason for the
// client; what it sends before it has answered is dropped. A text that is empty
// is made up.
func CloseConnection(code int, text string) Action {
	return Action{kind: kindCloseConnection, code: uint16(code), text: text}
}

// CancelConsumer cancels the event's consumer as a broker does whose queue is
// gone: on both sides. It is Pass for events without a consumer tag.
func CancelConsumer() Action { return Action{kind: kindCancelConsumer} }

// Batch holds confirms back until there are n, or until d has passed since the
// first (zero: for ever), and has as few acks as can be say them all. For a fault
// at Applied on basic.publish.
func Batch(n int, d time.Duration) Action { return gathering(n, d, false, false) }

// NackBatch is Batch with nacks.
func NackBatch(n int, d time.Duration) Action { return gathering(n, d, true, false) }

// Reverse is Batch that says them one by one, the last first.
func Reverse(n int, d time.Duration) Action { return gathering(n, d, false, true) }

// gather says how confirms are held back together. Its address tells one Batch
// from another; the confirms themselves are the channel's.
type gather struct {
	n       int
	wait    time.Duration
	nack    bool
	reverse bool
}

func gathering(n int, d time.Duration, nack, reverse bool) Action {
	return Action{kind: kindGather, gather: &gather{n: max(n, 1), wait: d, nack: nack, reverse: reverse}}
}
