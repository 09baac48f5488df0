package producer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/reconnect"
)

// correlationHeader tells the return of a message whose MessageID is in flight
// more than once; a return carries no number. Consumers and tools strip it.
const correlationHeader = "x-mqkit-correlation"

var errSuspects = errors.New("the broker closed the channel for one of several messages")

// session is one life of one channel in confirm mode. Its confirm numbers, its
// returns and its window end with it.
type session struct {
	p       *Producer
	ch      *reconnect.Channel
	returns chan amqp.Return

	// Guarded by p.mu.
	number   uint64 // of the session
	tag      uint64 // of the last that was taken
	window   window
	byID     map[string]*Confirmation // what is unresolved, by what tells its return
	serial   uint64                   // of the last private correlation id
	swept    time.Time                // when the whole window was last looked through
	sweep    *time.Timer              // has it looked through again
	armed    bool                     // sweep is
	ready    []int                    // scratch of settleLocked
	over     bool
	progress bool // a message got its verdict here
}

// serve is the session function: it sets the channel up and sends what is
// queued, one after the other, until the session or the producer ends.
func (p *Producer) serve(ctx context.Context, ch *reconnect.Channel) error {
	s := &session{
		p:  p,
		ch: ch,
		// Holds a return for every message that can be in flight: the driver
		// drops one that finds no room for 5 s, and its reader waits so long.
		returns: ch.Raw().NotifyReturn(make(chan amqp.Return, p.cfg.MaxInFlight+1)),
		byID:    map[string]*Confirmation{},
	}
	if err := ch.Call(ctx, "switch confirms on", func(raw *amqp.Channel) error { return raw.Confirm(false) }); err != nil {
		return err
	}
	if n := ch.FrameMax(); n > 0 {
		p.frame.Store(int64(n))
	}
	p.mu.Lock()
	p.session = s
	p.sessions++
	s.number = p.sessions
	p.mu.Unlock()
	ch.OnBarrier(s.resolve)
	ch.Ready()
	ctx, giveUp := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(ctx, giveUp)
	}()
	err := s.send(ctx)
	giveUp(nil)
	<-watched
	return s.end(err)
}

// send is the sequencer: the only code that publishes.
func (s *session) send(ctx context.Context) error {
	for {
		if err := s.clear(ctx); err != nil {
			return err
		}
		if s.p.nextIsSuspect() {
			if err := s.try(ctx); err != nil {
				return err
			}
			continue
		}
		c := s.take()
		if c == nil {
			select {
			case <-s.p.work:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		if err := s.publish(c); err != nil {
			return err
		}
	}
}

// try sends one of those that a channel or connection may have been closed for, and
// waits until the broker has done with it. Of all producers on the connection one
// does so at a time, or it could not be told whose message it was.
func (s *session) try(ctx context.Context) error {
	done, err := s.ch.Turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	if s.unproven() { // sent before, with others
		if err := s.exonerate(ctx); err != nil {
			return err
		}
	}
	c := s.take()
	if c == nil {
		return nil // given up meanwhile
	}
	if err := s.publish(c); err != nil {
		return err
	}
	return s.exonerate(ctx)
}

// unproven reports whether an exception could be about something that was sent on this
// channel already.
func (s *session) unproven() bool {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return slices.ContainsFunc(s.window.entries(), func(c *Confirmation) bool { return c != nil && !c.cleared })
}

// clear waits until the connection takes publishes: not blocked, and with room
// for what was written before.
func (s *session) clear(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if blocked, unblocked := s.ch.Blocked(); blocked {
		select {
		case <-unblocked:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return s.ch.Room(ctx)
}

// take makes the head of the queue part of the window, before the driver hears of
// it: its return and its confirm may come while it is still being handed over.
func (s *session) take() *Confirmation {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		c := p.queue.pop()
		if c == nil {
			return nil
		}
		if err := fits(c.headerSize, s.ch); err != nil {
			c.tellLocked(Refused, err)
			p.settleLocked(c)
			continue
		}
		c.place = sent
		c.sendings++
		if c.sendings > 1 {
			p.stats.republished.Add(1)
		}
		c.deferred, c.returned, c.cleared = nil, nil, false
		c.handing = true
		s.tag++
		s.attemptedLocked(c)
		c.mark = s.ch.Accepted()
		s.correlateLocked(c)
		s.window.push(c)
		return c
	}
}

// correlateLocked chooses by what c's return will be told: its MessageID, or a private
// header if that id is in flight already.
func (s *session) correlateLocked(c *Confirmation) {
	if !c.mandatory {
		return
	}
	c.wireID = "m" + c.pub.MessageId
	if c.private {
		delete(c.pub.Headers, correlationHeader)
		c.private = false
	}
	if _, twice := s.byID[c.wireID]; twice {
		s.serial++
		id := strconv.FormatUint(s.serial, 10)
		if c.pub.Headers == nil {
			c.pub.Headers = amqp.Table{}
		}
		c.pub.Headers[correlationHeader] = id
		c.private = true
		c.wireID = "c" + id
	}
	s.byID[c.wireID] = c
}

// publish hands c to the driver. An error of it proves nothing about what has
// left, and the driver has taken back the number: the connection is given up, if the
// driver is not closing it already, for what the broker has said perhaps.
func (s *session) publish(c *Confirmation) error {
	deferred, err := s.ch.Raw().PublishWithDeferredConfirm(c.exchange, c.routingKey, c.mandatory, false, c.pub)
	s.handed(c, deferred)
	if err == nil {
		return nil
	}
	if !s.ch.Raw().IsClosed() && !errors.Is(err, amqp.ErrClosed) {
		s.ch.Drop(fmt.Errorf("publish: %w", err))
	}
	<-s.ch.Done()
	return s.ch.Err()
}

// handed notes that the driver has let go of c; deferred is nil if it has not taken it.
func (s *session) handed(c *Confirmation, deferred *amqp.DeferredConfirmation) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	c.handedOverLocked()
	c.deferred = deferred
	if deferred != nil && isDone(deferred.Done()) {
		s.resolveLocked() // the barrier may have been before
	}
}

// exonerate waits until the broker has processed what was sent, told by its answer to
// what comes after it on this channel: an exception would have come first. That it is
// confirmed need not be waited for, its queue may have no majority.
func (s *session) exonerate(ctx context.Context) error {
	err := s.ch.Call(ctx, "look for the refused message", func(raw *amqp.Channel) error { return raw.Qos(1, 0, false) })
	if err != nil {
		return err
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for _, c := range s.window.entries() {
		if c != nil {
			c.suspect, c.cleared, c.proofs = false, true, 0
		}
	}
	return nil
}

// end takes stock when the session is over: what has its verdict is resolved,
// what lost it goes back to the head of the queue, in its order.
func (s *session) end(cause error) error {
	if s.ch.Raw().IsClosed() {
		<-s.ch.Done() // the driver is closed a moment before it says why
	}
	// While its connection lives, what was handed over may still leave.
	offered, final := s.ch.Offered()
	unsent := func(c *Confirmation) bool { return final && c.mark >= offered }
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	s.resolveAllLocked()
	s.over = true
	p.session = nil
	if s.sweep != nil {
		s.sweep.Stop()
	}
	overdue := errors.Is(cause, errOverdue)
	lost := s.window.entries()
	exception, certain := s.exception()
	suspects := 0
	for _, c := range lost {
		if c != nil && !c.cleared {
			suspects++
		}
	}
	var again []*Confirmation
	for _, c := range lost {
		if c == nil {
			continue
		}
		if exception != nil && !c.cleared && !unsent(c) && s.convictLocked(c, exception, certain && suspects == 1) {
			continue
		}
		if !unsent(c) {
			c.maybeStored = true
		}
		if overdue {
			c.inVain++
		}
		if c.told { // given up by its caller: not written again
			p.settleLocked(c)
			continue
		}
		if c.maybeStored && p.cfg.NoRepublish {
			c.giveUpLocked(cause)
			p.settleLocked(c)
			continue
		}
		c.place = queued
		again = append(again, c)
	}
	p.queue.unshift(again)
	if final || s.ch.Err() != nil && !s.ch.Alone() {
		p.largest.Store(0) // the next broker may take more
	}
	if exception != nil && certain && suspects > 1 {
		cause = errors.Join(errSuspects, cause)
		s.progress = true // next time they go one by one
	}
	if s.progress {
		return fmt.Errorf("%w: %w", reconnect.Again, cause)
	}
	return cause
}

// convictLocked refuses a message for which the session has ended, if it was the only one that
// can be to blame, now or often enough; else it is suspect from now on.
func (s *session) convictLocked(c *Confirmation, exception error, only bool) bool {
	if c.suspect {
		c.proofs++ // it was the only one
	}
	if !only && c.proofs < proofs {
		c.suspect = true
		return false
	}
	s.p.learn(exception)
	c.tellLocked(Refused, &RefusedError{Reason: exception.Error(), Err: exception})
	s.p.settleLocked(c)
	s.progress = true
	return true
}

// proofs is how often a message must have been the only one in flight when its
// connection was closed for something that was said on it. Others use the connection
// too, so once could be chance.
const proofs = 2

// exception is what this session was ended for, if that may have been a message: the
// close names none. It is certain that it was one of this session when the
// channel alone was closed.
func (s *session) exception() (err error, certain bool) { //nolint:revive // the error is a finding, not a failure
	err = s.ch.Err()
	var told *reconnect.BrokerError
	if errors.As(err, &told) {
		err = told
	}
	switch {
	case err == nil:
		return nil, false
	case !s.ch.Alone():
		if reconnect.Inflicted(err) {
			return err, false
		}
		return nil, false
	case told != nil && (told.Code == amqp.AccessRefused || told.Code == amqp.NotFound || told.Code == amqp.PreconditionFailed):
		return told, true
	default:
		return nil, false
	}
}
