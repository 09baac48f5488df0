package mqtest

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/wire"
)

// embedded is the upstream that is a broker in this process.
type embedded struct {
	c      *conn
	server *amqpserver.Conn
	part   []byte // of a frame: what faults have left of one
	parked []parcel
	deaf   bool // what came is no AMQP
	dirty  bool // something was sent since idle

	mu     sync.Mutex // guards what follows, and is held while the server is told of it
	behind bool
}

// parcel is what waits for the end of a block.
type parcel struct {
	b       []byte
	applied func() // see upstream.send; nil: nobody wants to know
}

// Where deliveries to a client that does not read stop, and start again.
const behindAt = 512 << 10

// newEmbedded returns the broker's end for a client.
func newEmbedded(c *conn, cfg amqpserver.Config) *embedded {
	u := &embedded{c: c}
	u.server = amqpserver.NewConn(cfg, u.toClient, c.brokerEnded)
	c.server.Store(u)
	return u
}

// toClient is called under the locks of the server: it must not block.
func (u *embedded) toClient(frames []byte) {
	if u.c.out.frames(frames) > behindAt {
		u.fallBehind()
	}
}

// fallBehind and caughtUp each ask under the lock what waits now, and the bytes that
// one waits for are what the other is called after: neither can miss the other.
func (u *embedded) fallBehind() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.behind && u.c.out.full(behindAt) != nil {
		u.behind = true
		u.server.Behind(true)
	}
}

// caughtUp is called by write whenever it has emptied the outbox.
func (u *embedded) caughtUp() {
	u.mu.Lock()
	caughtUp := u.behind && u.c.out.full(1) == nil
	if caughtUp {
		u.behind = false
		u.server.Behind(false)
	}
	u.mu.Unlock()
	if caughtUp {
		u.server.Resume() // which takes locks that toClient is called under
	}
}

func (u *embedded) start(header [8]byte) { u.server.Start(header) }

func (u *embedded) send(b []byte, applied func()) {
	u.sendParked()
	if len(u.parked) > 0 {
		u.parked = append(u.parked, parcel{slices.Clone(b), applied})
		return
	}
	u.handle(b, applied)
}

// sendParked goes on with what came while the connection was being blocked.
func (u *embedded) sendParked() {
	for len(u.parked) > 0 && !u.server.Blocked() {
		next := u.parked[0]
		u.parked = u.parked[1:]
		u.handle(next.b, next.applied)
	}
}

// handle has the server take what it can. Of a connection that is blocked meanwhile
// the rest is parked, in front of what is parked already.
func (u *embedded) handle(b []byte, applied func()) {
	if u.deaf {
		return
	}
	if len(u.part) > 0 {
		b = append(u.part, b...)
		u.part = nil
	}
	done := false
	for len(b) > 0 {
		switch {
		case u.c.ignoring():
			return // it was cut off meanwhile: what is left of a publish is lost
		case u.server.Blocked():
			u.parked = slices.Insert(u.parked, 0, parcel{slices.Clone(b), applied})
			return
		}
		size, ok := nextFrame(b, u.limit())
		switch {
		case !ok:
			u.deaf = true
			u.server.Malformed(u.malformed(b))
			return
		case size == 0:
			u.part = append([]byte(nil), b...)
			return
		}
		t, channel, _ := frameOf(b)
		done = u.server.Handle(wire.Frame{Type: t, Channel: channel, Payload: append([]byte(nil), b[7:size-1]...)})
		u.dirty = true
		b = b[size:]
	}
	if done && applied != nil {
		applied()
	}
}

// malformed asks wire what is wrong, so that there is one place that knows.
func (u *embedded) malformed(b []byte) *wire.FrameError {
	r := wire.NewReader(bytes.NewReader(b))
	r.SetMax(u.server.FrameMax())
	_, err := r.Next()
	var e *wire.FrameError
	if errors.As(err, &e) {
		return e
	}
	return &wire.FrameError{Code: 501, Text: "FRAME_ERROR - cannot decode"}
}

func (u *embedded) idle() {
	if u.dirty {
		u.dirty = false
		u.server.Idle()
	}
}

func (u *embedded) unblock() {
	u.server.Unblock()
	u.c.post(func() {
		u.sendParked()
		u.idle()
	})
}

func (u *embedded) heard() { u.server.Heard() }

func (u *embedded) blocked() bool { return u.server.Blocked() }

func (u *embedded) synced() bool { return true }

func (u *embedded) limit() int { return int(u.server.FrameMax()) }

func (u *embedded) close(err error) { u.server.Gone(err) }

func (u *embedded) abort() {}

// remote is the upstream that is a broker behind a socket.
type remote struct {
	c    *conn
	sock net.Conn
	done atomic.Bool // the client is gone: what still arrives is dropped
}

// remoteBacklog is how much of the broker's may wait for the client.
const remoteBacklog = 1 << 20

func newRemote(c *conn, sock net.Conn) *remote {
	u := &remote{c: c, sock: sock}
	c.ends.Go(u.read)
	return u
}

// read takes what the broker sends, as whole frames.
func (u *remote) read() {
	buf, filled, blind := make([]byte, 64<<10), 0, false
	for {
		if filled == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
		n, err := u.sock.Read(buf[filled:])
		filled += n
		whole := 0
		for whole < filled && !blind {
			size, ok := nextFrame(buf[whole:filled], 0)
			blind = !ok
			if size == 0 {
				break
			}
			whole += size
		}
		if blind || err != nil {
			whole = filled
		}
		if whole > 0 && !u.done.Load() {
			u.c.out.frames(buf[:whole])
		}
		filled = copy(buf, buf[whole:filled])
		if err != nil {
			_ = u.sock.Close()
			u.c.brokerEnded(err)
			return
		}
		for wait := u.c.out.full(remoteBacklog); wait != nil && !u.done.Load(); wait = u.c.out.full(remoteBacklog) {
			select {
			case <-wait:
			case <-u.c.gone:
				u.done.Store(true)
			}
		}
	}
}

func (u *remote) start(header [8]byte) { u.send(header[:], nil) }

// send need not tell of an error: read meets it too. What a broker behind a socket
// has carried out only its answers say.
func (u *remote) send(b []byte, _ func()) { _, _ = u.sock.Write(b) }

func (u *remote) idle() {}

func (u *remote) heard() {}

func (u *remote) blocked() bool { return false }

func (u *remote) synced() bool { return false }

// largestFrame bounds a frame where nothing was agreed upon.
const largestFrame = 128 << 20

func (u *remote) limit() int {
	u.c.mu.Lock()
	defer u.c.mu.Unlock()
	if u.c.frameMax == 0 {
		return largestFrame
	}
	return u.c.frameMax
}

// close lets the broker read to the end what it was sent before: an RST, which
// closing with something unread would cause, could take it away.
func (u *remote) close(error) {
	u.done.Store(true)
	if half, ok := u.sock.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = u.sock.SetReadDeadline(time.Now().Add(lingering))
		return
	}
	_ = u.sock.Close()
}

func (u *remote) abort() {
	if !u.done.Load() {
		u.done.Store(true)
		_ = u.sock.Close()
	}
}
