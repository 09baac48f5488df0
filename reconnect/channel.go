package reconnect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Channel is one AMQP channel of one connection, as one session or one lease has it. It
// is never reopened: when it or its connection ends, it is over, and so is everything
// that was said on it.
type Channel struct {
	*channel

	leased   bool        // by Acquire
	released atomic.Bool // the lease is over, though the channel may be lent to somebody else
}

// channel is what one lease has after the other.
type channel struct {
	raw  *amqp.Channel
	life *life

	turn chan struct{} // one RPC at a time: the driver does not pair answers with questions
	done chan struct{} // closed when the channel is over

	mu        sync.Mutex // guards what follows; held for no call
	err       error      // why it is over
	ready     bool
	kept      bool
	closed    bool // by us
	abandoned bool // nobody waits for its close
	changed   bool // by more than calls
	removes   []func()

	alone atomic.Bool // it ended, but its connection did not
}

// open opens a channel, for whom a number was reserved: it is free again when the
// channel is over. A half-opened one is closed when its answer comes.
func (lf *life) open(ctx context.Context) (*Channel, error) {
	c := &Channel{channel: &channel{life: lf, turn: make(chan struct{}, 1), done: make(chan struct{})}}
	var raw *amqp.Channel
	err := lf.call(ctx, "open channel", func() (err error) {
		raw, err = lf.raw.Channel()
		return err
	}, func(abandoned bool) {
		if abandoned && raw != nil {
			_ = raw.Close() // nobody else has it, and the guard bounds nothing worse
		}
		if abandoned || raw == nil {
			<-lf.numbers
		}
	})
	if err != nil {
		return nil, lf.explain(err)
	}
	c.raw = raw
	c.removes = append(c.removes, func() { <-lf.numbers })
	closes := raw.NotifyClose(make(chan *amqp.Error, 1))
	if !lf.link.pool.begin(func() { c.watch(closes) }) {
		return nil, ErrClosed
	}
	return c, nil
}

// watch waits for the end of the channel and records why.
func (c *Channel) watch(closes <-chan *amqp.Error) {
	var err error
	select {
	case e, ok := <-closes:
		err = c.ending(e, ok)
	case <-c.life.conn.gone:
		select {
		case e, ok := <-closes: // the broker's own word, if it came first
			err = c.ending(e, ok)
		default:
			err = c.life.conn.reason()
		}
	}
	c.mu.Lock()
	c.err = fmt.Errorf("%w: %w", ErrLost, err)
	removes := c.removes
	c.removes = nil
	c.mu.Unlock()
	for _, remove := range removes {
		remove()
	}
	close(c.done)
}

// ending is why the channel is over, by what the driver says of it.
func (c *Channel) ending(e *amqp.Error, said bool) error {
	switch {
	case said && e.Server && !c.life.raw.IsClosed():
		c.alone.Store(true)
		return asBrokerError(e)
	case said:
		return c.life.reason(e)
	}
	// Closed by us, or with its connection.
	if err := c.life.conn.reason(); err != nil {
		return err
	}
	return errChannelClosed
}

// String says whose it is: what is behind it holds passwords.
func (c *Channel) String() string {
	return fmt.Sprintf("reconnect.Channel{%s, %s}", c.life.link.role, c.life.addr)
}

// GoString is String.
func (c *Channel) GoString() string { return c.String() }

var errChannelClosed = errors.New("the channel was closed")

// Raw is the driver's channel. What it offers of reconnection and of recovery
// is never switched on. Calls that wait for an answer go through Call. It must not be
// used after the session, or the lease, is over.
func (c *Channel) Raw() *amqp.Channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = true
	return c.raw
}

// Done is closed when the channel is over: closed by either side, or lost with
// its connection.
func (c *Channel) Done() <-chan struct{} { return c.done }

// Err is nil while the channel is usable, else why it is not; it wraps ErrLost
// and, if the broker closed the channel or the connection, a *BrokerError.
func (c *Channel) Err() error {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.err
	default:
		return nil
	}
}

// Alone reports whether the broker ended this channel and left its connection
// open: an exception raised by something done on this channel.
func (c *Channel) Alone() bool { return c.alone.Load() }

// close ends the channel in its turn and waits for the broker's word that it
// has. While the connection is blocked no answer can come, so nobody waits.
func (c *Channel) close(ctx context.Context) error {
	closed := c.closing()
	if closed == nil {
		return nil
	}
	if blocked, _ := c.Blocked(); blocked {
		return nil
	}
	ctx, stop := c.unlessOver(ctx)
	defer stop()
	select {
	case err := <-closed:
		switch {
		case err == nil:
			<-c.done // in a moment: its number is free then
		case errors.Is(err, amqp.ErrClosed) || c.life.isGuess(err):
			<-c.done // it was lost, and we know why
			return fmt.Errorf("close channel: %w", c.Err())
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("close channel: %w", context.Cause(ctx))
	}
}

// closing has the channel closed when it is its turn, and returns where the answer
// comes; nil if nobody is to wait for one.
func (c *Channel) closing() <-chan error {
	c.mu.Lock()
	again, abandoned := c.closed, c.abandoned
	c.closed = true
	c.mu.Unlock()
	if again || c.raw.IsClosed() {
		return nil
	}
	if abandoned {
		c.life.link.pool.begin(func() {
			c.turn <- struct{}{}
			_ = c.raw.Close() // ends with the connection, if no answer comes
			<-c.turn
		})
		return nil
	}
	closed := make(chan error, 1)
	if !c.life.link.pool.begin(func() {
		c.turn <- struct{}{} // the guard sees to it that every turn ends
		closed <- c.life.call(context.Background(), "close channel", c.raw.Close, func(bool) { <-c.turn })
	}) {
		return nil
	}
	return closed
}

// Abandon has the channel closed without anybody waiting for the answer, which may
// not come: the connection, which others use as well, is then not given up for it.
func (c *Channel) Abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandoned, c.changed = true, true
}

// Close ends the channel and waits, as long as ctx allows, for the broker's
// word that it has: acks written before are then known to it. A lease is over with it;
// after the end of a lease it does nothing.
func (c *Channel) Close(ctx context.Context) error {
	if c.leased && c.released.Swap(true) {
		return nil
	}
	return c.close(ctx)
}

// Ready tells that the session is fully set up. The first time counts as
// success: from then on Run retries whatever happens.
func (c *Channel) Ready() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = true
}

// Keep has Run leave the channel open when the session function returns; the
// session has to Close it.
func (c *Channel) Keep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = true
}

func (c *Channel) isReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready
}

func (c *Channel) isKept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

// OnBarrier has f called by the driver's reader goroutine each time that
// everything received so far has been dispatched, until the channel is over.
// f must not block and must not call the driver.
func (c *Channel) OnBarrier(f func()) {
	remove := c.life.onBarrier(f)
	c.mu.Lock()
	over := c.err != nil
	c.removes = append(c.removes, remove)
	c.changed = true
	c.mu.Unlock()
	if over {
		remove()
	}
}

// Blocked reports whether the broker takes no publishes on this connection, and
// a channel that is closed when it does again. It dies with the connection.
func (c *Channel) Blocked() (bool, <-chan struct{}) { return c.life.isBlocked() }

// Room waits until what was written before has left far enough that more may be
// written, the connection is lost, which is Err then, or ctx ends.
func (c *Channel) Room(ctx context.Context) error {
	err := c.life.conn.room(ctx)
	if c.life.conn.reason() == nil {
		return err
	}
	<-c.done // in a moment: the socket does not tell what the broker has said
	return c.Err()
}

// Accepted is how many bytes the connection has taken from the driver so far.
func (c *Channel) Accepted() uint64 { return c.life.conn.accepted.Load() }

// Offered returns how many bytes were ever handed to the kernel, once the
// connection is over and the number is final, which it waits for; ok is false while it
// lives.
func (c *Channel) Offered() (n uint64, ok bool) {
	if !c.life.isOver() {
		return 0, false
	}
	<-c.life.conn.flushed // the driver, or the owner, closes it in a moment
	return c.life.conn.offered.Load(), true
}

// Turn waits until nobody else has it, of all that use role's connection, now or after
// it was lost: for those who must know what a connection is closed for. done gives
// it up.
func (c *Channel) Turn(ctx context.Context) (done func(), err error) {
	turn := c.life.link.turn
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-c.done:
		return nil, c.Err()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Drop gives the whole connection up, at the socket, for cause.
func (c *Channel) Drop(cause error) { c.life.drop(cause) }

// NoteConfirm notes that the broker has just confirmed, or nacked, a message on the
// connection: see GiveUp.
func (c *Channel) NoteConfirm() { c.life.confirmed.Store(int64(time.Since(c.life.born))) }

// GiveUp gives the channel up, for cause, as Abandon does. But if no message was confirmed on
// the connection for so long, by whichever channel, and the pool knows another address, it
// gives the whole connection up, as Drop does: its node may be cut off from the others, and
// is then tried last.
func (c *Channel) GiveUp(cause error, unconfirmed time.Duration) {
	idle := time.Since(c.life.born) - time.Duration(c.life.confirmed.Load())
	if idle >= unconfirmed && len(c.life.link.pool.addrs) > 1 {
		c.life.useless.Store(true)
		c.Drop(cause)
		return
	}
	c.Abandon()
}

// Quiet is how long nothing has arrived on the connection.
func (c *Channel) Quiet() time.Duration { return c.life.conn.quiet() }

// Heartbeat is what both sides agreed on.
func (c *Channel) Heartbeat() time.Duration { return c.life.heartbeat }

// FrameMax is the largest frame that both sides agreed on, in bytes; 0 means no
// limit.
func (c *Channel) FrameMax() int { return c.life.raw.Config.FrameSize }

// Address is host:port of the node.
func (c *Channel) Address() string { return c.life.addr.String() }

// Shares reports whether both channels are on one connection.
func (c *Channel) Shares(other *Channel) bool { return c.life == other.life }

// ServerVersion is what the broker says of itself, such as 4, 3; zeros if that
// cannot be read.
func (c *Channel) ServerVersion() (major, minor int) { return c.life.serverVersion() }

func (lf *life) serverVersion() (major, minor int) {
	v, _ := lf.raw.Properties["version"].(string)
	parts := strings.SplitN(v, ".", 3)
	if len(parts) < 2 {
		return 0, 0
	}
	major, _ = strconv.Atoi(parts[0])
	minor, _ = strconv.Atoi(parts[1])
	return major, minor
}
