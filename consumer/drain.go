package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// DrainError is returned by Run when handlers had not finished at the end of
// Config.DrainTimeout. Their deliveries were given back to the broker and will be
// given out again.
type DrainError struct {
	Released int // deliveries given back although a handler had begun on them
	Running  int // handlers that still ran when Run returned
}

func (e *DrainError) Error() string {
	return fmt.Sprintf("drain: %d deliveries were given back unfinished, %d handlers still run", e.Released, e.Running)
}

// errDrained is the cause of a handler's ctx that ends at the deadline.
var errDrained = errors.New("the drain's deadline has passed")

// drain ends a session whose channel lives: no more deliveries, those that no
// handler has begun go back at once, handlers finish, their verdicts are
// written, the channel is closed. The broker counts what is unsettled when a
// channel closes as failed, so nothing is left to that.
func (s *session) drain(in <-chan amqp.Delivery) error {
	r := s.run
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.drainTimeout())
	defer cancel()
	ctx, stop := s.whileAlive(ctx)
	defer stop()

	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	if err := s.ch.Call(ctx, "cancel the subscription", func(raw *amqp.Channel) error { return raw.Cancel(s.tag, false) }); err == nil {
		// The driver closes in after the last delivery that came before cancel-ok.
		for raw := range in {
			s.take(&raw)
		}
	}
	s.giveBack()
	select {
	case <-s.settledAll():
	case <-ctx.Done():
	}
	if err := s.ch.Err(); err != nil {
		s.end(err)
		return nil // the broker gives all of it out again
	}
	left := s.releaseRunning()
	s.finishSettling()
	closing, cancelClose := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancelClose()
	err := s.ch.Close(closing)
	s.end(errDrained)
	if left > 0 {
		return &DrainError{Released: left}
	}
	if err != nil && s.ch.Err() == nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}

// closeTimeout bounds the wait for close-ok, with which the broker says that it
// has every ack.
const closeTimeout = 5 * time.Second

// whileAlive returns a ctx that also ends with the session's channel.
func (s *session) whileAlive(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-s.ch.Done():
			cancel(s.ch.Err())
		case <-stopped:
		}
	}()
	return ctx, func() {
		close(stopped)
		<-ended
		cancel(nil)
	}
}

// giveBack releases what no handler has begun, and what is paused, one by one:
// from RabbitMQ 4.3 on that counts as nothing. Earlier brokers count it as a
// failed delivery, so there the workers go on with what waits.
func (s *session) giveBack() {
	major, minor := s.ch.ServerVersion()
	free := major > 4 || major == 4 && minor >= 3
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.paused {
		_ = s.settleLocked(d, release)
	}
	if free {
		for d := range s.queued {
			_ = s.settleLocked(d, release)
		}
	}
	s.noticeLocked()
}

// releaseRunning gives back, at the deadline, what has no verdict, and tells
// the handlers that it was for nothing. It returns how many there were.
func (s *session) releaseRunning() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for i := range s.ledger.entries {
		if s.ledger.entries[i].verdict == undecided {
			s.ledger.settle(s.ledger.base+uint64(i), release)
			n++
		}
	}
	clear(s.queued)
	if n > 0 {
		s.abort(fmt.Errorf("%w: %w", ErrStale, errDrained))
	}
	return n
}

// linger lets the handlers of a session finish whose subscription the broker has
// cancelled. Its channel lives: what is not overdue can still be settled there.
// It waits for them at most until Run is drained.
func (s *session) linger(ctx context.Context) {
	r := s.run
	rpc, stopRPC := s.whileAlive(context.WithoutCancel(ctx))
	defer stopRPC()
	// Without the driver's cancel-ok the broker keeps the consumer until this.
	_ = s.ch.Call(rpc, "cancel the subscription", func(raw *amqp.Channel) error { return raw.Cancel(s.tag, false) })
	s.giveBack()
	quiet := s.settledAll()
	select {
	case <-quiet:
	case <-s.ch.Done():
	case <-ctx.Done():
		timer := time.NewTimer(r.drainTimeout())
		defer timer.Stop()
		select {
		case <-quiet:
		case <-s.ch.Done():
		case <-timer.C:
			r.left(s.releaseRunning())
		}
	}
	s.finishSettling()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = s.ch.Close(closing)
	s.end(errCancelled)
}
