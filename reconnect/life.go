package reconnect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// life is one connection from its dial to its end. Nothing of it is used again
// after that: the next life has another conn, another *amqp.Connection, other
// channels.
type life struct {
	link      *link
	addr      *address
	creds     Credentials // what it logged in with
	conn      *conn
	raw       *amqp.Connection
	heartbeat time.Duration
	born      time.Time
	closes    chan *amqp.Error
	blocks    chan amqp.Blocking

	numbers chan struct{} // holds one for each channel that is open; as large as channel_max
	kept    chan *Channel // leases that were given back

	redeclaring chan struct{}                  // held by the one who declares the topology again
	faults      atomic.Pointer[topologyFaults] // of the last time

	useless   atomic.Bool  // given up, because nothing was confirmed on it
	confirmed atomic.Int64 // when a message was last confirmed, in nanoseconds since born

	// barriers is what the channels of this life want to be called at the
	// barrier; copied on write.
	barriers atomic.Pointer[[]*func()]

	mu      sync.Mutex // guards what follows; held for no call
	blocked bool
	unblock chan struct{} // closed when not blocked
	freed   time.Time     // when it was last unblocked
}

func newLife(l *link, addr *address) *life {
	lf := &life{link: l, addr: addr, unblock: make(chan struct{}), kept: make(chan *Channel, keptLeases), redeclaring: make(chan struct{}, 1)}
	close(lf.unblock)
	return lf
}

// start is called once, when the AMQP handshake is done.
func (lf *life) start(raw *amqp.Connection) {
	lf.raw = raw
	lf.born = time.Now()
	lf.heartbeat = heartbeatOf(raw)
	lf.numbers = make(chan struct{}, raw.Config.ChannelMax)
	lf.conn.established(lf.heartbeat)
	lf.closes = raw.NotifyClose(make(chan *amqp.Error, 1))
	lf.blocks = raw.NotifyBlocked(make(chan amqp.Blocking, 16))
}

func (lf *life) barrier() {
	if fs := lf.barriers.Load(); fs != nil {
		for _, f := range *fs {
			(*f)()
		}
	}
}

// onBarrier has f called at each barrier until remove is called; a call that is
// under way then may still end after it.
func (lf *life) onBarrier(f func()) (remove func()) {
	p := &f
	lf.editBarriers(func(fs []*func()) []*func() { return append(fs, p) })
	return func() {
		lf.editBarriers(func(fs []*func()) []*func() {
			return slices.DeleteFunc(fs, func(q *func()) bool { return q == p })
		})
	}
}

func (lf *life) editBarriers(edit func([]*func()) []*func()) {
	for {
		old := lf.barriers.Load()
		var fs []*func()
		if old != nil {
			fs = slices.Clone(*old)
		}
		fs = edit(fs)
		if lf.barriers.CompareAndSwap(old, &fs) {
			return
		}
	}
}

// setBlocked records what the broker said of this connection. It belongs to
// this life: the next one begins unblocked.
func (lf *life) setBlocked(blocked bool) {
	lf.conn.setBlocked(blocked)
	lf.mu.Lock()
	defer lf.mu.Unlock()
	switch {
	case blocked && !lf.blocked:
		lf.unblock = make(chan struct{})
	case !blocked && lf.blocked:
		close(lf.unblock)
		lf.freed = time.Now()
	}
	lf.blocked = blocked
}

// freeFor is how long the broker has read from this connection since it last
// said that it does not; very long if it never did.
func (lf *life) freeFor() time.Duration {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	return time.Since(lf.freed)
}

// isBlocked reports whether the broker reads nothing from this connection, and
// a channel that closes when it does again.
func (lf *life) isBlocked() (bool, <-chan struct{}) {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	return lf.blocked, lf.unblock
}

// isOver reports whether the connection has ended, be it that its owner has not
// seen it yet.
func (lf *life) isOver() bool { return lf.conn.reason() != nil || lf.raw.IsClosed() }

// drop gives the connection up.
func (lf *life) drop(cause error) { lf.conn.abort(cause) }

// reason is why the connection ended: the broker's own word if it gave one.
func (lf *life) reason(closed *amqp.Error) error {
	if be := asBrokerError(orNil(closed)); be != nil {
		return be
	}
	err := lf.conn.reason()
	switch {
	case closed != nil && (err == nil || errors.Is(err, net.ErrClosed)):
		return closed // the driver has hung up, and says why
	case err != nil:
		return err
	default:
		return errPeerClosed
	}
}

// orNil keeps a nil pointer from becoming an error that is not nil.
func orNil(e *amqp.Error) error {
	if e == nil {
		return nil
	}
	return e
}

// call is callWithin RPCTimeout. Its errors say what was attempted.
func (lf *life) call(ctx context.Context, what string, f func() error, release func(abandoned bool)) error {
	if err := lf.callWithin(ctx, lf.link.pool.cfg.RPCTimeout, what, f, release); err != nil {
		return explain(what, err)
	}
	return nil
}

// callWithin runs f, which makes calls of the driver that wait for the broker's
// answer and that know no limit of their own. ctx ends only the wait of this
// caller: release is then called once f has returned. When the broker does not
// answer within limit, in which the time of being blocked does not count, the
// whole connection is given up, because nothing else sets the driver free.
func (lf *life) callWithin(ctx context.Context, limit time.Duration, what string, f func() error, release func(abandoned bool)) error {
	if ctx.Err() != nil {
		release(false)
		return context.Cause(ctx)
	}
	const (
		waited int32 = iota
		finished
		abandoned
	)
	var state atomic.Int32
	done := make(chan error, 1)
	answered := make(chan struct{})
	p := lf.link.pool
	if !p.begin(func() { lf.guard(limit, what, answered) }) {
		release(false)
		return ErrClosed
	}
	if !p.begin(func() {
		err := f()
		close(answered)
		if state.CompareAndSwap(waited, finished) {
			done <- err
			return
		}
		release(true)
	}) {
		close(answered)
		release(false)
		return ErrClosed
	}
	select {
	case err := <-done:
		release(false)
		return err
	case <-ctx.Done():
		if state.CompareAndSwap(waited, abandoned) {
			return context.Cause(ctx)
		}
		err := <-done // it had just come
		release(false)
		return err
	}
}

// guard drops the connection when an answer does not come.
func (lf *life) guard(limit time.Duration, what string, answered <-chan struct{}) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case <-answered:
			return
		case <-lf.conn.gone:
			return
		case <-timer.C:
			if blocked, unblock := lf.isBlocked(); blocked {
				select {
				case <-answered:
					return
				case <-lf.conn.gone:
					return
				case <-unblock:
				}
				timer.Reset(limit)
				continue
			}
			if free := lf.freeFor(); free < limit { // it was blocked meanwhile
				timer.Reset(limit - free)
				continue
			}
			lf.drop(fmt.Errorf("%s: %w within %v", what, ErrRPCTimeout, limit))
			return
		}
	}
}
