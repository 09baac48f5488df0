package reconnect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bufferSize is how much may wait in a conn before publishers are held
	// back: a few hundred small messages, enough to fill each system call.
	bufferSize = 64 << 10

	// lastWords bounds how long what was written before a Close may take to
	// leave.
	lastWords = time.Second

	// silentHeartbeats without a byte from the broker, and the connection is
	// given up. The broker sends one each half interval.
	silentHeartbeats = 2

	// stuckHeartbeats without the socket taking what was offered, and the
	// connection is given up, although the broker may still be heard: longer
	// than silence, because a busy broker may pause its reading.
	stuckHeartbeats = 3
)

// conn is what the driver reads from and writes to. It sits above TCP or TLS
// and is closed below it.
//
// Writes are taken into a buffer that one flusher goroutine empties, so what is
// written while a system call is under way travels together with the next. A
// nil from Write therefore proves nothing; accepted and offered tell what may
// have left. Write never waits: the driver calls it under locks that its reader
// goroutine needs. Who writes much calls room before.
//
// Deadlines are conn's own, and the driver's calls that set some do nothing: it
// arms its read deadline only when a frame arrives, and none for writing.
type conn struct {
	under  net.Conn // TCP, or TLS above TCP
	socket net.Conn // what is closed to end it: closing TLS would wait behind a stuck writer

	accepted atomic.Uint64 // bytes taken from the driver
	offered  atomic.Uint64 // bytes handed to the kernel, at least in part; raised before the system call
	lastRead atomic.Int64  // when a byte last arrived, Unix nanoseconds

	greeted bool // the peer's first bytes were looked at; the reader's

	// barrier is called by the driver's reader goroutine before each Read:
	// every frame that arrived before is then dispatched.
	barrier func()

	gone    chan struct{} // closed when the conn is given up
	flushed chan struct{} // closed when the flusher has returned: offered is final

	// mu guards what follows; never held during input or output.
	mu       sync.Mutex
	wake     sync.Cond // signals the flusher
	buf      []byte
	spare    []byte
	drained  chan struct{} // made by a waiting room, closed when buf is taken
	deadline time.Time     // of everything: during the handshake, and for the last words
	idle     time.Duration // longest silence; 0 = no limit
	stuck    time.Duration // longest write; 0 = no limit
	blocked  bool          // the broker said that it does not read
	closing  bool          // no more writes; the flusher closes the socket
	cause    error         // why it was given up; set once
}

func newConn(under, socket net.Conn, handshake time.Time, barrier func()) *conn {
	c := &conn{
		under:    under,
		socket:   socket,
		barrier:  barrier,
		gone:     make(chan struct{}),
		flushed:  make(chan struct{}),
		buf:      make([]byte, 0, bufferSize),
		spare:    make([]byte, 0, bufferSize),
		deadline: handshake,
	}
	c.wake.L = &c.mu
	c.lastRead.Store(time.Now().UnixNano())
	go c.flush()
	return c
}

// established ends the handshake's deadline: from now on silence and stuck
// writes are bounded in heartbeats.
func (c *conn) established(heartbeat time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return // the peer closed right after its open-ok: the last words keep their limit
	}
	c.deadline = time.Time{}
	c.idle = silentHeartbeats * heartbeat
	c.stuck = stuckHeartbeats * heartbeat
	_ = c.under.SetReadDeadline(c.readDeadlineLocked())
	_ = c.under.SetWriteDeadline(c.writeDeadlineLocked())
}

// setBlocked takes the limit off writes, the pending one included, while the
// broker has said that it does not read: the connection is alive then, its
// heartbeats still arrive.
func (c *conn) setBlocked(blocked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = blocked
	_ = c.under.SetWriteDeadline(c.writeDeadlineLocked())
}

func (c *conn) readDeadlineLocked() time.Time {
	if !c.deadline.IsZero() || c.idle == 0 {
		return c.deadline
	}
	return time.Now().Add(c.idle)
}

func (c *conn) writeDeadlineLocked() time.Time {
	if !c.deadline.IsZero() || c.stuck == 0 || c.blocked {
		return c.deadline
	}
	return time.Now().Add(c.stuck)
}

// Read is called by the driver's reader goroutine only.
func (c *conn) Read(p []byte) (int, error) {
	c.barrier()
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	_ = c.under.SetReadDeadline(c.readDeadlineLocked())
	handshake := !c.deadline.IsZero()
	c.mu.Unlock()

	n, err := c.under.Read(p)
	if n > 0 {
		c.lastRead.Store(time.Now().UnixNano())
		if handshake && !c.greeted {
			c.greeted = true
			if wrong := c.notAMQP(p[:n]); wrong != nil {
				err = wrong
			}
		}
	}
	if err != nil {
		// Given up before the driver hears of it: its shutdown may have to wait
		// for what only a closed socket sets free.
		c.mu.Lock()
		handshake = !c.deadline.IsZero() // it may have ended while we read
		c.mu.Unlock()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && handshake:
			err = fmt.Errorf("the handshake took too long: %w", err)
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = fmt.Errorf("nothing received for %v, %d heartbeats: %w", c.quiet().Round(time.Millisecond), silentHeartbeats, err)
		case errors.Is(err, io.EOF):
			err = fmt.Errorf("%w: %w", errPeerClosed, err)
		}
		c.abort(err)
	}
	return n, err
}

// notAMQP looks at the first bytes of the peer, which begin a method frame; the
// driver has no error for anything else that could be told from a cut.
func (c *conn) notAMQP(p []byte) error {
	switch {
	case p[0] == 1: // connection.start
		return nil
	case c.under == c.socket && len(p) >= 2 && p[0] == 0x15 && p[1] == 0x03: // a TLS alert: record type 21, version 3.x
		return errTLSPort
	default:
		return errNotAMQP
	}
}

// Write takes p whole, or nothing and the reason why the connection ended.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cause != nil:
		return 0, c.cause
	case c.closing:
		return 0, net.ErrClosed
	}
	c.buf = append(c.buf, p...)
	c.accepted.Add(uint64(len(p)))
	c.wake.Signal()
	return len(p), nil
}

// room waits until the buffer has room for more, the conn is gone, or ctx ends.
func (c *conn) room(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.cause != nil {
			defer c.mu.Unlock()
			return c.cause
		}
		if len(c.buf) < bufferSize {
			c.mu.Unlock()
			return nil
		}
		if c.drained == nil {
			c.drained = make(chan struct{})
		}
		drained := c.drained
		c.mu.Unlock()
		select {
		case <-drained:
		case <-c.gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// flush is the flusher goroutine. It ends when the conn is given up, or has
// been closed and everything is written.
func (c *conn) flush() {
	defer close(c.flushed)
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.buf) == 0 && !c.closing {
			c.wake.Wait()
		}
		if len(c.buf) == 0 || c.cause != nil {
			c.abortLocked(net.ErrClosed)
			return
		}
		out := c.buf
		c.buf, c.spare = c.spare, nil
		if c.drained != nil {
			close(c.drained)
			c.drained = nil
		}
		err := c.sendLocked(out)
		if cap(out) > 4*bufferSize { // what one large message needed must not stay for ever
			out = make([]byte, 0, bufferSize)
		}
		c.spare = out[:0]
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("the broker took nothing for %v: %w", c.stuck, err)
			}
			c.abortLocked(err)
			return
		}
	}
}

// sendLocked writes out in pieces, so that each has the time that a write may
// take: a large message on a slow line is no stuck peer. It is called with mu
// held, and gives it up while it writes.
func (c *conn) sendLocked(out []byte) error {
	for len(out) > 0 && c.cause == nil {
		piece := out[:min(len(out), bufferSize)]
		out = out[len(piece):]
		_ = c.under.SetWriteDeadline(c.writeDeadlineLocked())
		c.mu.Unlock()
		c.offered.Add(uint64(len(piece)))
		_, err := c.under.Write(piece)
		c.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// abort gives the connection up, at the socket. The first cause stands.
func (c *conn) abort(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abortLocked(cause)
}

func (c *conn) abortLocked(cause error) {
	if c.cause != nil {
		return
	}
	if cause == nil { // dial's deadline came with the end of the handshake, or Drop(nil)
		cause = net.ErrClosed
	}
	c.cause = cause
	c.closing = true
	close(c.gone)
	c.wake.Signal()
	_ = c.socket.Close()
}

// Close is how the driver ends the connection, under its locks, so it waits
// for nothing: what was written last (a close-ok, say) is given a moment by the
// flusher, which then closes the socket.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.closing = true
		c.deadline = time.Now().Add(lastWords)
		_ = c.under.SetDeadline(c.deadline)
		c.wake.Signal()
	}
	return nil
}

// reason is why the connection was given up, nil while it was not.
func (c *conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// quiet is how long nothing has arrived.
func (c *conn) quiet() time.Duration { return time.Since(time.Unix(0, c.lastRead.Load())) }

// LocalAddr is part of net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.under.LocalAddr() }

// RemoteAddr is part of net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.under.RemoteAddr() }

// SetDeadline does nothing, see conn.
func (c *conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing, see conn.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing, see conn.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
