package consumer

import (
	"context"
	"errors"
	"iter"
)

// errNotSettled is the failure of a loop that went on without settling.
var errNotSettled = errors.New("the loop over Messages went on without settling the delivery: call Ack, Reject, Requeue or Release")

// errLeft is what becomes of a delivery at which the loop is left. One of a stream is not put
// back, it is read again by whoever comes.
var errLeft = Release(errors.New("the loop over Messages was left"))

// Messages consumes as Run does, for a loop in place of a handler:
//
//	for d, err := range c.Messages(ctx) {
//		if err != nil {
//			return err // as Run returns it; there is nothing after it
//		}
//		if store(d.Body) == nil {
//			d.Ack()
//		}
//	}
//
// The body of the loop settles each delivery. One that it goes on without settling counts
// as failed, and is released after a pause, as is one at which a handler fails. Leaving the loop,
// by break, return or a panic, releases the present one unless it is settled, and
// drains as Run does at the end of its ctx; what Run would return then is logged at Warn,
// as nothing can be handed to a loop that has been left. The end of ctx ends the loop without
// an error, or with that of the drain. Config.Workers does not count: the loop takes one delivery at a time.
func (c *Consumer) Messages(ctx context.Context) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		l := &loop{next: make(chan *turn), left: make(chan struct{})}
		result := make(chan error, 1)
		cfg := c.cfg
		cfg.Workers = 1                                         // more would race for the turns, and their deliveries' HandlerTimeout would run
		go func() { result <- c.consume(ctx, l.handle, cfg) }() // waited for, whichever way the loop is left
		drain := func() {
			stop()
			if err := <-result; err != nil {
				cfg.Logger.Warn("the drain after a loop that was left", "queue", cfg.Queue, "error", err)
			}
		}
		for {
			select {
			case t := <-l.next:
				if !l.turn(yield, t, drain) {
					return
				}
			case err := <-result:
				if err != nil {
					yield(nil, err)
				}
				return
			}
		}
	}
}

// loop is the body of a loop over Messages, as a handler.
type loop struct {
	next chan *turn
	left chan struct{} // closed when there will be no more turns
}

// turn is one delivery on its way through the body.
type turn struct {
	d       *Delivery
	verdict chan error
}

func (l *loop) handle(_ context.Context, d *Delivery) error {
	t := &turn{d, make(chan error, 1)}
	select {
	case l.next <- t:
		return <-t.verdict
	case <-l.left: // before RabbitMQ 4.3 a drain works through what waits
		return errLeft
	}
}

// turn runs the body, and reports whether it goes on. If not, be it by a panic, drain is
// called.
func (l *loop) turn(yield func(*Delivery, error) bool, t *turn, drain func()) (goesOn bool) {
	defer func() {
		switch {
		case t.d.isSettled():
			t.verdict <- nil
		case !goesOn:
			t.verdict <- errLeft
		default:
			t.verdict <- errNotSettled
		}
		if !goesOn {
			close(l.left)
			drain()
		}
	}()
	return yield(t.d, nil)
}
