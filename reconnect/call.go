package reconnect

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Call runs f, in which the driver's calls that wait for an answer may be
// made. One Call at a time runs on a channel; others wait for their turn. When
// ctx ends, Call returns while f goes on; the channel is then closed as soon as f
// has returned, so that nothing half done (a consumer, say) stays behind. When
// the broker does not answer within Config.RPCTimeout, the connection is given
// up. Errors say what was attempted and, if it was the broker's word, wrap a
// *BrokerError.
func (c *Channel) Call(ctx context.Context, what string, f func(*amqp.Channel) error) error {
	return c.call(ctx, c.life.link.pool.cfg.RPCTimeout, what, f)
}

// CallSlow is Call for what needs a queue's own process, a declare or a consume, and can
// take a broker that is well so long: the connection is given up only after two minutes,
// or Config.RPCTimeout if that is more.
func (c *Channel) CallSlow(ctx context.Context, what string, f func(*amqp.Channel) error) error {
	return c.call(ctx, max(slowAnswer, c.life.link.pool.cfg.RPCTimeout), what, f)
}

// slowAnswer is longer than RabbitMQ looks for a classic queue whose node was killed before
// it answers 404: 68 s (seen on 4.3.6). To give the connection up meanwhile would cost all
// others on it their sessions, again and again, for as long as that node is away.
const slowAnswer = 2 * time.Minute

func (c *Channel) call(ctx context.Context, limit time.Duration, what string, f func(*amqp.Channel) error) error {
	if err := c.takeTurn(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ctx, stop := c.unlessOver(ctx)
	defer stop()
	err := c.life.callWithin(ctx, limit, what, func() error { return f(c.raw) }, func(abandoned bool) {
		if abandoned {
			c.closing() // noted now, and done when the turn is given back
		}
		<-c.turn
	})
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && (errors.Is(err, amqp.ErrClosed) || c.life.isGuess(err)) {
		// The driver only knows that it is closed; we know why.
		<-c.done
		return fmt.Errorf("%s: %w", what, c.Err())
	}
	return explain(what, err)
}

// takeTurn waits until no other call is under way. Whose lease is over by then, or whose
// ctx, has none.
func (c *Channel) takeTurn(ctx context.Context) (err error) {
	select {
	case c.turn <- struct{}{}:
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	switch {
	case c.released.Load():
		err = errReleased
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	if err != nil {
		<-c.turn
	}
	return err
}

// unlessOver returns a ctx that ends with ctx, but not if that ends because the
// channel is over, as a session's does: the driver then answers f at once, and what f
// makes of the answer says more than the channel's end.
func (c *Channel) unlessOver(ctx context.Context) (context.Context, func()) {
	wait, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	disarm := context.AfterFunc(ctx, func() {
		select {
		case <-c.done:
		default:
			cancel(context.Cause(ctx))
		}
	})
	return wait, func() {
		disarm()
		cancel(nil)
	}
}

// explain puts the broker's own word in place of the driver's bare error, and
// beside one that says more already.
func explain(what string, err error) error {
	if ae, ok := err.(*amqp.Error); ok && ae.Server { //nolint:errorlint // only the bare one
		return fmt.Errorf("%s: %w", what, asBrokerError(ae))
	}
	if word := asBrokerError(err); word != nil {
		err = &explained{err, word}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// explained is an error for which the broker has given the reason.
type explained struct {
	error
	word *BrokerError
}

// Unwrap returns the error and the broker's word.
func (e *explained) Unwrap() []error { return []error{e.error, e.word} }

// isGuess reports whether err is what the driver makes of a connection that was
// given up: a code of its own, such as 501, with the text of a socket's error.
func (lf *life) isGuess(err error) bool {
	cause := lf.conn.reason()
	if cause == nil || asBrokerError(err) != nil {
		return false
	}
	var ae *amqp.Error
	return errors.As(err, &ae) || errors.Is(err, cause)
}

// explain does the same for a connection's errors.
func (lf *life) explain(err error) error {
	if be := asBrokerError(err); be != nil {
		return be
	}
	if cause := lf.conn.reason(); cause != nil {
		return fmt.Errorf("%w: %w", ErrLost, cause)
	}
	if lf.raw.IsClosed() {
		return fmt.Errorf("%w: %w", ErrLost, errPeerClosed)
	}
	return err
}
