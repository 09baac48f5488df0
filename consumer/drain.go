package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/reconnect"
)

const (
	// closeTimeout bounds the wait for close-ok at the end of a drain.
	closeTimeout = 5 * time.Second

	// leaveTimeout bounds how long the next subscription waits for the end of one whose channel
	// lives: the broker may answer late, or never.
	leaveTimeout = time.Second

	// mostUnproven is how many settlements may be on their way to a quorum queue's log when
	// a channel is closed. Its side of the channel takes 32 (quorum_commands_soft_limit),
	// keeps further ones back until some of these are in the log, and forgets what it keeps
	// back when the channel closes, close-ok or not: acks and releases written just before are
	// then lost, and the deliveries counted as failed (rabbitmq-server issue 10327, seen on
	// 3.10 to 4.3). What it has kept back before, up to three commands, may come on top.
	// After more than that a drain waits for proof, see session.prove. On a classic queue of
	// another node it does so after a single ack or reject: from 4.0 on the end of a channel
	// can overtake what was written before it (seen on 4.0.5 and 4.3.6, not on 3.10.8).
	mostUnproven = 32 - 3

	// leastPriority is that of a subscription that wants no message.
	leastPriority = -1000

	// laterTick is how often it is looked whether nothing but Later is waited for.
	laterTick = 50 * time.Millisecond
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
	ctx, stop := s.whileAlive(s.run.deadline)
	defer stop()

	s.setDraining()
	unproven := s.endSubscription(ctx, in)
	s.setCancelled()
	s.giveBack(ctx, 0)
	if unproven == nil {
		unproven = s.prove(ctx, 0)
	}
	if err := s.ch.Err(); err != nil {
		s.end(err)
		return unproven // nil if it was lost: the broker gives all of it out again
	}
	left := s.finishSettling()
	err := errors.Join(unproven, s.close(ctx))
	s.end(errDrained)
	if left > 0 {
		err = errors.Join(&DrainError{Released: left}, err)
	}
	return err
}

// linger lets the handlers of a session finish whose subscription has ended, and its
// channel has not: what is not overdue can still be settled there. It waits for them at
// most until Run is drained. It closes givenBack when nothing more comes, and what waited is
// given back.
func (s *session) linger(in <-chan amqp.Delivery, givenBack chan<- struct{}) {
	r := s.run
	ctx, stop := s.whileAlive(r.deadline)
	defer stop()
	err := s.endSubscription(ctx, in)
	s.releaseWaiting()
	_ = s.flushed(ctx) // if not, the channel is over, or Run is
	close(givenBack)
	s.giveBack(ctx, r.cfg.DrainTimeout)
	draining := r.ctx.Err() != nil
	if err == nil {
		err = s.prove(ctx, r.cfg.DrainTimeout)
	}
	if s.ch.Err() == nil {
		left := s.finishSettling()
		err = errors.Join(err, s.close(ctx))
		if !draining {
			left = 0 // that they were given back has nothing to do with the end of Run
		}
		r.left(left, err)
	}
	if err != nil {
		r.cfg.Logger.Warn("the channel of an ended subscription", "queue", s.queue, "error", err)
	}
	s.end(errCancelled)
	<-s.settlerDone
}

// endSubscription cancels the subscription and takes what came before the answer. If the
// broker has cancelled it, it keeps the consumer until this; if not, a quorum queue answers
// when all that was settled before is in its log.
func (s *session) endSubscription(ctx context.Context, in <-chan amqp.Delivery) error {
	if !s.gone {
		s.provesNext()
	}
	err := s.ch.CallSlow(ctx, "cancel the subscription", func(raw *amqp.Channel) error { return raw.Cancel(s.tag, false) })
	switch {
	case err == nil:
		for raw := range in { // the driver closes it behind the last one
			s.take(&raw)
		}
	case s.run.deadline.Err() != nil:
		return s.unlessLost(err)
	default: // the channel is over, or in a moment will be
		select {
		case <-s.ch.Done():
		case <-ctx.Done():
		}
	}
	return nil
}

// close ends the channel of a session that is settled. Its time is that of closing, not
// what is left of the drain's.
func (s *session) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return s.unlessLost(s.ch.Close(ctx))
}

// unlessLost is nil if err says that the channel is lost, or that its queue is gone: then the
// broker gives out again what it does not have, if it has it.
func (s *session) unlessLost(err error) error {
	switch {
	case err == nil, errors.Is(err, reconnect.ErrLost), reconnect.IsMissing(err):
		return nil
	default:
		return fmt.Errorf("drain: %w", err)
	}
}

// prove waits until the queue has what was settled on the channel, unless it has that anyway.
// The session has still to live: handlers that are overdue may settle meanwhile. When ctx has
// ended, their verdicts prolong it only where a quorum queue would lose more than them, and
// their ctx ends before the queue is looked at.
func (s *session) prove(ctx context.Context, laters time.Duration) error {
	last := false
	for !s.run.stream && s.ch.Err() == nil {
		var err error
		switch arrived, logged := s.isProven(); {
		case !logged:
			err = s.subscribeOnceMore(ctx)
		case !arrived && !last:
			if last = ctx.Err() != nil; last {
				s.abort(fmt.Errorf("%w: %w", ErrStale, errDrained))
			}
			err = s.lookAtQueue(ctx)
		default:
			return nil
		}
		if err != nil {
			s.ch.Abandon() // it has had its time
			return s.unlessLost(err)
		}
		s.giveBack(ctx, laters)
	}
	return nil
}

// subscribeOnceMore does that, and ends it: a quorum queue answers both from behind its log.
// What is delivered meanwhile, one message at most, is treated as everything else. Where that is
// given back while the next session consumes, it comes behind what that one has got.
func (s *session) subscribeOnceMore(ctx context.Context) error {
	var in <-chan amqp.Delivery
	err := s.ask(ctx, func(raw *amqp.Channel) (err error) {
		if err := raw.Qos(1, 0, false); err != nil {
			return err
		}
		tag := s.tag + "-end"
		in, err = raw.Consume(s.queue, tag, false, false, false, false, amqp.Table{consumerPriority: int64(leastPriority)})
		if err != nil {
			return err
		}
		s.provesNext()
		return raw.Cancel(tag, false)
	})
	if err != nil {
		return err
	}
	for raw := range in {
		s.take(&raw)
	}
	return nil
}

// lookAtQueue has a classic queue answer behind what was settled: it goes the same way.
func (s *session) lookAtQueue(ctx context.Context) error {
	return s.ask(ctx, func(raw *amqp.Channel) error {
		s.mu.Lock()
		s.unproven.final = s.writing.final
		s.mu.Unlock()
		_, err := raw.QueueDeclarePassive(s.queue, true, false, false, false, nil)
		return err
	})
}

// ask calls f when all that is settled is written.
func (s *session) ask(ctx context.Context, f func(*amqp.Channel) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := s.flushed(ctx); err != nil {
		return err
	}
	return s.ch.CallSlow(ctx, "wait for the settlements to be written", f)
}

// flushed waits until all verdicts are handed to the driver: the settler may be behind, and
// what it writes after a proof has none.
func (s *session) flushed(ctx context.Context) error {
	flushed := make(chan struct{})
	s.mu.Lock()
	s.flushes = flushed
	s.mu.Unlock()
	s.wakeSettler()
	select {
	case <-flushed:
	case <-s.settlerDone: // the channel is over, or in a moment will be
	case <-ctx.Done():
		return fmt.Errorf("write the settlements: %w", context.Cause(ctx))
	}
	return nil
}

// provesNext notes that the next answer proves what is written by now.
func (s *session) provesNext() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unproven = s.writing
}

// isProven reports what the queue is sure to take of what is on its way to it, see
// mostUnproven: if it is a classic one, and if it is a quorum queue.
func (s *session) isProven() (arrived, logged bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.ledger.due(s.noMultiple)
	return s.run.quorum || s.unproven.final+due.final == 0, s.run.classic || s.unproven.writes+due.writes <= mostUnproven
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

// giveBack releases what is not to be handled any more, oldest first, and waits until the
// handlers have finished or ctx ends; what is left then goes with the end of the session.
// If laters is not 0, what is to be settled later is waited for only so long once no
// handler runs.
func (s *session) giveBack(ctx context.Context, laters time.Duration) {
	s.releaseWaiting()
	tick := time.NewTicker(laterTick)
	defer tick.Stop()
	alone := time.Now() // since when nothing but laters is waited for
	for {
		select {
		case <-s.handled():
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !s.onlyLaters() {
			alone = time.Now()
		} else if laters > 0 && time.Since(alone) > laters {
			return
		}
	}
}

// releaseWaiting releases the deliveries that no handler has begun, in the order in which
// they came.
func (s *session) releaseWaiting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.givesBack || s.run.stream {
		return
	}
	for _, d := range s.byTagLocked() {
		_ = s.settleLocked(d, release)
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
