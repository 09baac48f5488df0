package mqtest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipe returns two ends of a connection in memory. Unlike net.Pipe's, its writes
// fill a buffer, as those to a socket do: a peer that does not read is noticed by
// its silence, not by the next write. Blocked calls wait on channels alone, so
// that a bubble of testing/synctest sees them as waiting.
func pipe() (client, server net.Conn) {
	a, b := newFlow(), newFlow()
	client = &end{in: a, out: b, name: "client", read: newDeadline(), write: newDeadline()}
	server = &end{in: b, out: a, name: "mqtest", read: newDeadline(), write: newDeadline()}
	return client, server
}

// pipeBuffer is about what a socket holds.
const pipeBuffer = 256 << 10

// flow is one direction.
type flow struct {
	mu      sync.Mutex // guards what follows
	buf     []byte
	ended   bool          // its writer has ended it
	unread  bool          // its reader is gone
	reset   bool          // an end was reset
	changed chan struct{} // closed and replaced with each change
}

func newFlow() *flow { return &flow{changed: make(chan struct{})} }

// change does something under the lock, and wakes who waits.
func (f *flow) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	f.changedLocked()
}

func (f *flow) changedLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// end is one end.
type end struct {
	in, out     *flow
	name        string
	read, write *deadline

	mu     sync.Mutex // guards what follows
	closed bool
	linger bool // Close is a reset
}

func (e *end) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

func (e *end) Read(b []byte) (int, error) {
	for {
		passed := e.read.passed()
		e.in.mu.Lock()
		changed := e.in.changed
		switch {
		case e.isClosed():
			e.in.mu.Unlock()
			return 0, net.ErrClosed
		case isDone(passed):
			e.in.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case e.in.reset:
			e.in.mu.Unlock()
			return 0, syscall.ECONNRESET
		case len(e.in.buf) > 0 || len(b) == 0:
			n := copy(b, e.in.buf)
			if e.in.buf = e.in.buf[n:]; len(e.in.buf) == 0 {
				e.in.buf = nil
			}
			e.in.changedLocked()
			e.in.mu.Unlock()
			return n, nil
		case e.in.ended:
			e.in.mu.Unlock()
			return 0, io.EOF
		}
		e.in.mu.Unlock()
		select {
		case <-changed:
		case <-passed:
		}
	}
}

func (e *end) Write(b []byte) (n int, err error) {
	for {
		passed := e.write.passed()
		e.out.mu.Lock()
		changed := e.out.changed
		switch {
		case e.isClosed():
			err = net.ErrClosed
		case isDone(passed):
			err = os.ErrDeadlineExceeded
		case e.out.reset:
			err = syscall.ECONNRESET
		case e.out.unread || e.out.ended:
			err = syscall.EPIPE
		}
		if err == nil {
			if m := min(len(b), pipeBuffer-len(e.out.buf)); m > 0 {
				e.out.buf = append(e.out.buf, b[:m]...)
				n, b = n+m, b[m:]
				e.out.changedLocked()
			}
		}
		e.out.mu.Unlock()
		if err != nil || len(b) == 0 {
			return n, err
		}
		select {
		case <-changed:
		case <-passed:
		}
	}
}

// CloseWrite is a FIN.
func (e *end) CloseWrite() error {
	e.out.change(func() { e.out.ended = true })
	return nil
}

// SetLinger makes Close a reset, if it is given 0.
func (e *end) SetLinger(seconds int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.linger = seconds == 0
	return nil
}

func (e *end) Close() error {
	e.mu.Lock()
	was, linger := e.closed, e.linger
	e.closed = true
	e.mu.Unlock()
	if was {
		return net.ErrClosed
	}
	e.out.change(func() {
		e.out.ended = true
		if e.out.reset = e.out.reset || linger; linger {
			e.out.buf = nil
		}
	})
	e.in.change(func() { e.in.unread, e.in.reset = true, e.in.reset || linger })
	e.read.set(time.Time{})
	e.write.set(time.Time{})
	return nil
}

func (e *end) LocalAddr() net.Addr  { return addr(e.name) }
func (e *end) RemoteAddr() net.Addr { return addr("peer of " + e.name) }

func (e *end) SetDeadline(t time.Time) error {
	e.read.set(t)
	e.write.set(t)
	return nil
}

func (e *end) SetReadDeadline(t time.Time) error  { e.read.set(t); return nil }
func (e *end) SetWriteDeadline(t time.Time) error { e.write.set(t); return nil }

type addr string

func (addr) Network() string  { return "memory" }
func (a addr) String() string { return string(a) }

// deadline is a time limit that can be moved while someone waits.
type deadline struct {
	mu    sync.Mutex // guards what follows
	timer *time.Timer
	done  chan struct{} // closed once it has passed
}

func newDeadline() *deadline { return &deadline{done: make(chan struct{})} }

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.done // it is about to be closed
	}
	d.timer = nil
	if isDone(d.done) {
		d.done = make(chan struct{})
	}
	switch wait := time.Until(t); {
	case t.IsZero():
	case wait <= 0:
		close(d.done)
	default:
		done := d.done
		d.timer = time.AfterFunc(wait, func() { close(done) })
	}
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
