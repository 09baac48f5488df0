package amqpserver

import (
	"sync"
	"sync/atomic"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// writer puts frames in order. Its methods may be called under the engine's lock.
type writer struct {
	out func(frames []byte)

	mu       sync.Mutex // held for a call of out; nothing is called under it but out
	buf      []byte     // of the frames in one call of out
	frameMax uint32
	sent     uint64 // calls of out, for the heartbeat
	stopped  bool   // close or close-ok was sent: channels are heard no more
	ended    bool   // end is being called: nothing is sent any more

	// forced is what the engine closed the connection with. The client has been
	// told; the connection has not taken it over yet, as Conn.lock does.
	forced atomic.Pointer[engine.Exception]
}

// flush hands over what is in buf, and forgets a buffer that has grown large.
func (w *writer) flush() {
	w.sent++
	w.out(w.buf)
	if w.buf = w.buf[:0]; cap(w.buf) > 1<<20 {
		w.buf = nil
	}
}

// raw sends bytes that are no channel's.
func (w *writer) raw(b string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.buf = append(w.buf, b...)
	w.flush()
}

// connection sends a method on channel 0. last says that no channel is heard
// after it.
func (w *writer) connection(m wire.Method, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connectionLocked(m, last)
}

func (w *writer) connectionLocked(m wire.Method, last bool) {
	if w.ended {
		return
	}
	w.stopped = w.stopped || last
	w.buf = wire.AppendMethod(w.buf, 0, m)
	w.flush()
}

// force closes the connection on behalf of the engine, and reports whether this
// was its end.
func (w *writer) force(e *engine.Exception) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || w.ended {
		return false
	}
	w.forced.Store(e)
	w.connectionLocked(&wire.ConnectionClose{ReplyCode: e.Code, ReplyText: wire.ReplyText(e.Text)}, true)
	return true
}

// heartbeat sends one if nothing was sent since the count was last asked for.
func (w *writer) heartbeat(since uint64) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent == since && !w.ended {
		w.buf = wire.Frame{Type: wire.HeartbeatFrame}.Append(w.buf)
		w.flush()
	}
	return w.sent
}

func (w *writer) setFrameMax(n uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frameMax = n
}

// stop ends the channels' speech: their answers would come after the close.
func (w *writer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
}

// end ends all speech.
func (w *writer) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped, w.ended = true, true
}

// answer sends a channel's close-ok, which its own close does not hold back.
func (w *writer) answer(channel uint16, m wire.Method) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.buf = wire.AppendMethod(w.buf, channel, m)
	w.flush()
}
