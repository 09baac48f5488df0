package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// closeTimeout bounds the wait for close-ok at the end of a drain.
	closeTimeout = 5 * time.Second

	// A quorum queue's side of a channel takes 32 settlements at a time
	// (quorum_commands_soft_limit), keeps further ones back until some are
	// written to its log, and forgets what it keeps back when the channel closes,
	// close-ok or not: acks and releases written just before are then lost, and
	// the deliveries counted as failed (rabbitmq-server issue 10327, seen on
	// 4.3.6). So a drain gives back single deliveries only as many at a time, with
	// a pause for the log; all that is left at the end goes as one settlement. The
	// pause is a multiple of what the broker took for basic.cancel, which a quorum queue
	// writes to its log as well: so it fits a slow disk or a busy machine.
	paceCount   = 16
	pace        = 50 * time.Millisecond // at least
	paceLongest = 2 * time.Second
	paceFactor  = 4
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
// handler has begun go back, handlers finish, their verdicts are written, the
// channel is closed. The broker counts what is unsettled when a channel closes as
// failed, so nothing is left to that.
func (s *session) drain(in <-chan amqp.Delivery) error {
	r := s.run
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.drainTimeout())
	defer cancel()
	ctx, stop := s.whileAlive(ctx)
	defer stop()

	s.setDraining()
	if err := s.cancelSubscription(ctx); err == nil {
		// The driver closes in after the last delivery that came before cancel-ok.
		for raw := range in {
			s.take(&raw)
		}
	}
	s.setCancelled()
	s.giveBack(ctx, 0)
	if err := s.ch.Err(); err != nil {
		s.end(err)
		return nil // the broker gives all of it out again
	}
	left := s.finishSettling()
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

// linger lets the handlers of a session finish whose subscription the broker has
// cancelled. Its channel lives: what is not overdue can still be settled there.
// It waits for them at most until Run is drained.
func (s *session) linger() {
	r := s.run
	ctx, stop := s.untilDrained()
	defer stop()
	// Without the driver's cancel-ok the broker keeps the consumer until this.
	_ = s.cancelSubscription(ctx)
	s.giveBack(ctx, r.drainTimeout())
	if s.ch.Err() == nil {
		r.left(s.finishSettling())
		closing, cancelClose := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancelClose()
		_ = s.ch.Close(closing)
	}
	s.end(errCancelled)
	<-s.settlerDone
}

// cancelSubscription ends the subscription, and takes the pause between settlements
// from how long that took.
func (s *session) cancelSubscription(ctx context.Context) error {
	began := time.Now()
	err := s.ch.Call(ctx, "cancel the subscription", func(raw *amqp.Channel) error { return raw.Cancel(s.tag, false) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pace = min(max(paceFactor*time.Since(began), pace), paceLongest)
	return err
}

// setDraining: from RabbitMQ 4.3 on a release counts as nothing, so what waits is
// given back and what is paused need not wait longer. Earlier brokers count it as
// a failed delivery, so there the workers go on with what waits.
func (s *session) setDraining() {
	major, minor := s.ch.ServerVersion()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	close(s.drains)
	s.givesBack = s.run.stream || major > 4 || major == 4 && minor >= 3
	for d := range s.paused {
		_ = s.settleLocked(d, release)
	}
	s.noticeLocked()
}

// giveBack releases what is not to be handled any more, oldest first and a few at
// a time, until the handlers have finished or ctx ends; what is left then goes
// with the end of the session. If laters is not 0, what is to be settled later is
// waited for only so long once no handler runs.
func (s *session) giveBack(ctx context.Context, laters time.Duration) {
	pacer := time.NewTicker(s.pauseLength())
	defer pacer.Stop()
	alone := time.Now() // since when nothing but laters is waited for
	for {
		s.releaseWaiting(paceCount)
		select {
		case <-s.handled():
			return
		case <-ctx.Done():
			return
		case <-pacer.C:
		}
		if !s.onlyLaters() {
			alone = time.Now()
		} else if laters > 0 && time.Since(alone) > laters {
			return
		}
	}
}

// releaseWaiting releases up to n deliveries that no handler has begun, in the order
// in which they came.
func (s *session) releaseWaiting(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.givesBack || s.run.stream {
		return
	}
	for _, d := range s.byTagLocked() {
		if n == 0 {
			break
		}
		_ = s.settleLocked(d, release)
		n--
	}
	s.noticeLocked()
}

// handled returns a channel that is closed when all that is to be handled is.
func (s *session) handled() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := make(chan struct{})
	if s.isQuietLocked() {
		close(q)
		return q
	}
	s.quiet = q
	return q
}

// setCancelled lets the settler go on: no ack brings another delivery now.
func (s *session) setCancelled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelled = true
	s.wakeSettler()
}

// finishSettling ends the settler: no handler runs, or the time of those that do
// is over. What they have not settled is released, and they are told. It returns
// how many there were.
func (s *session) finishSettling() int {
	s.mu.Lock()
	running := s.ledger.open - len(s.queued)
	if s.run.stream {
		running = 0 // nothing is given back
	}
	s.ending = true
	given := release.String()
	if s.run.stream {
		given = stale
	}
	for d := range s.queued {
		s.run.tellSettledLocked(d, given)
	}
	clear(s.queued)
	s.mu.Unlock()
	if running > 0 {
		s.abort(fmt.Errorf("%w: %w", ErrStale, errDrained))
	}
	s.wakeSettler()
	<-s.settlerDone
	return running
}

// untilDrained returns a ctx that ends with the session's channel, or when Run's
// ctx has ended and the time for draining is over.
func (s *session) untilDrained() (context.Context, func()) {
	r := s.run
	bounded, cancel := context.WithCancelCause(context.WithoutCancel(r.ctx))
	disarm := context.AfterFunc(r.ctx, func() {
		timer := time.NewTimer(r.drainTimeout())
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(errDrained)
		case <-bounded.Done():
		}
	})
	ctx, stop := s.whileAlive(bounded)
	return ctx, func() {
		disarm()
		cancel(nil)
		stop()
	}
}

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
