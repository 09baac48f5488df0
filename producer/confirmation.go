package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var errWithdrawn = errors.New("withdrawn")

// place is where a message is on its way.
type place uint8

const (
	admitting place = iota // waits for room in the in-flight bound
	queued                 // waits for its turn to be sent
	sent                   // handed to the driver, or being handed
	settled                // its slot is free again
)

// Confirmation is a message on its way and, in the end, its verdict. Its
// methods may be called from any goroutine.
type Confirmation struct {
	p          *Producer
	exchange   string
	routingKey string
	mandatory  bool
	pub        amqp.Publishing
	headerSize int
	size       int       // what it counts against MaxInFlightBytes
	began      time.Time // when it was published; zero if nobody observes

	done chan struct{}
	err  error // valid once done is closed

	// Guarded by p.mu.
	place       place
	told        bool // done is closed
	maybeStored bool // a session was lost after bytes of it may have left
	suspect     bool // one of those a channel exception may have been about
	proofs      int  // sessions that were ended for something while it was the only one in flight
	sendings    int
	inVain      int           // sessions that were given up for an overdue confirm while it was in flight
	admitted    chan struct{} // closed when it is taken in; nil if it need not wait

	// Of the present session, guarded by p.mu.
	deferred *amqp.DeferredConfirmation // nil while it is being handed over
	handing  bool                       // the driver is reading it
	givenUp  error                      // why its caller gave it up meanwhile
	mark     uint64                     // bytes that the connection had accepted before it
	wireID   string                     // what tells its return
	private  bool                       // it carries the correlation header
	returned *ReturnedError
	cleared  bool // the broker has processed it without an exception
}

// MessageID returns the id under which the message is published.
func (c *Confirmation) MessageID() string { return c.pub.MessageId }

// Done is closed when the message has its verdict.
func (c *Confirmation) Done() <-chan struct{} { return c.done }

// Err is ErrPending until Done is closed; then nil if the message was confirmed,
// else a *PublishError.
func (c *Confirmation) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return ErrPending
	}
}

// Verdict is Pending until Done is closed.
func (c *Confirmation) Verdict() Verdict { return VerdictOf(c.Err()) }

// Wait waits for the verdict, at most until ctx ends. The end of ctx decides
// nothing: Wait then returns the ctx's error and the message is still on its
// way. (Publish is what gives a message up with its ctx.)
func (c *Confirmation) Wait(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	default:
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the verdict of message %s: %w", c.pub.MessageId, context.Cause(ctx))
	}
}

// Withdraw gives the message up and returns its verdict as Err does: nil if it was
// confirmed before; wrapping ErrNotSent if it was never handed to the connection, and now
// never is; wrapping ErrUnconfirmed otherwise, it is then never sent again. It
// waits, if at all, for the moment in which the message is being handed over.
func (c *Confirmation) Withdraw() error {
	c.p.withdraw(c, errWithdrawn)
	<-c.done
	return c.err
}

// tellLocked gives the message its verdict, once.
func (c *Confirmation) tellLocked(v Verdict, err error) {
	if c.told {
		return
	}
	c.told = true
	c.p.stats.count(v)
	if v != Confirmed {
		c.err = &PublishError{MessageID: c.pub.MessageId, Verdict: v, MaybeStored: c.maybeStored, Err: err}
	}
	c.p.outcome(Outcome{
		MessageID: c.pub.MessageId, Exchange: c.exchange, RoutingKey: c.routingKey, Bytes: len(c.pub.Body),
		Attempts: c.sendings, Verdict: v, Err: c.err,
	}, c.began)
	close(c.done)
}

// handedOverLocked: the driver has copied the message, its body may change again.
// Whoever gave it up meanwhile had to wait for that.
func (c *Confirmation) handedOverLocked() {
	c.handing = false
	if c.givenUp != nil {
		c.giveUpLocked(c.givenUp)
	}
}

// giveUpLocked tells a message that will not be sent any more what is known of it.
func (c *Confirmation) giveUpLocked(cause error) {
	if c.maybeStored || c.place == sent {
		c.maybeStored = true
		c.tellLocked(Unknown, fmt.Errorf("%w: %w", ErrUnconfirmed, cause))
		return
	}
	c.tellLocked(NotSent, fmt.Errorf("%w: %w", ErrNotSent, cause))
}
