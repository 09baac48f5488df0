package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/reconnect"
)

// session is one subscription on one channel. Its tags, its ledger and its
// settler end with it; handlers that still run then find it over.
type session struct {
	run   *run
	ch    *reconnect.Channel
	queue string
	tag   string
	began time.Time

	// handlers is the ctx of the handlers of this session.
	handlers context.Context
	abort    context.CancelCauseFunc

	subscribed  bool          // the broker has answered the subscription; set before anything is handed out
	gone        bool          // the broker has cancelled it; set before it lingers
	careful     bool          // it asks for one delivery at a time
	once        sync.Once     // of restored
	restored    chan struct{} // closed when that has gone well for long enough
	drains      chan struct{} // closed when a drain begins
	wake        chan struct{} // capacity 1: the settler is to look
	settlerDone chan struct{}

	mu         sync.Mutex // guards what follows; held for no call and no write
	ledger     ledger
	progress   progress                  // of a stream
	left       bool                      // the next session of a stream begins where this one was
	paused     map[*Delivery]*time.Timer // failed, released when the timer fires
	queued     map[*Delivery]struct{}    // no handler has begun
	handling   int                       // handlers that run, and deliveries that are settled later
	laters     int                       // those
	first      time.Time                 // when the oldest unwritten verdict was given
	over       bool                      // nothing can be settled any more
	draining   bool                      // verdicts are written at once
	noMultiple bool                      // some tags may be void: ack one by one
	cancelled  bool                      // the broker sends no more: it has answered the cancel, or has sent one
	ending     bool                      // the settler writes what there is and ends
	givesBack  bool                      // what waits for a handler is not handled any more
	quiet      chan struct{}             // closed when it gets quiet, see isQuietLocked
	flushes    chan struct{}             // closed when no verdict waits to be written
	unproven   amount                    // settlements that were handed to the settler, see mostUnproven
	writing    amount                    // of these, what it may be writing now
}

func newSession(r *run, ch *reconnect.Channel) *session {
	s := &session{
		run:         r,
		ch:          ch,
		began:       time.Now(),
		careful:     r.isCareful(),
		restored:    make(chan struct{}),
		drains:      make(chan struct{}),
		wake:        make(chan struct{}, 1),
		settlerDone: make(chan struct{}),
		paused:      map[*Delivery]*time.Timer{},
		queued:      map[*Delivery]struct{}{},
	}
	s.handlers, s.abort = context.WithCancelCause(context.WithoutCancel(r.ctx))
	return s
}

// receive notes a delivery that no handler has begun. It is nil if deliveries came that
// cannot have been sent like this: a session whose books do not hold is given up.
func (s *session) receive(raw *amqp.Delivery) *Delivery {
	d := newDelivery(s, raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ledger.add(d.Tag) {
		s.ch.Drop(fmt.Errorf("delivery %d came behind delivery %d: one is missing, or came twice", d.Tag, s.ledger.last))
		return nil
	}
	s.run.received(d)
	if s.run.stream {
		s.progress.add(d.Tag, d)
	}
	s.queued[d] = struct{}{}
	return d
}

// begin reports whether a worker may handle d: its session is not over, it has no verdict,
// and it is not to be given back.
func (s *session) begin(d *Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.queued[d]; !ok || s.givesBack {
		return false
	}
	delete(s.queued, d)
	s.handling++
	return true
}

// finish notes that d's handler has returned; v is undecided if the handler has
// settled it already.
func (s *session) finish(d *Delivery, v verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handling--
	switch {
	case v != undecided:
		_ = s.settleLocked(d, v)
	case s.over || !s.ledger.settled(d.Tag):
		s.run.tellSettledLocked(d, stale)
	}
	s.noticeLocked()
}

// later notes that d's handler has returned and that d is settled afterwards:
// until then it stays among those that are handled.
func (s *session) later(d *Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.ledger.settled(d.Tag) {
		s.handling--
		s.noticeLocked()
		return
	}
	d.later = true
	s.laters++
	if s.careful {
		s.restore()
	}
}

// pause has d released after a while.
func (s *session) pause(d *Delivery, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handling--
	switch {
	case s.over || s.ledger.settled(d.Tag):
	case s.draining:
		_ = s.settleLocked(d, release)
	default:
		if s.careful {
			wait = min(wait, pauseFirst) // all others wait behind it
		}
		s.paused[d] = time.AfterFunc(wait, func() { _ = s.settle(d, release) })
	}
	s.noticeLocked()
}

// fail notes what d's handler failed with, for those who observe.
func (s *session) fail(d *Delivery, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.failure = err
}

// hold waits before the handler of a stream is called again for d, and reports whether it
// is to be: d is not settled, and the session is not over, and not draining.
func (s *session) hold(d *Delivery, wait time.Duration) bool {
	if d.isSettled() {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !d.isSettled()
	case <-s.ch.Done():
	case <-s.drains:
	}
	return false
}

// settle takes a verdict; the settler writes it.
func (s *session) settle(d *Delivery, v verdict) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.settleLocked(d, v); err != nil {
		return err
	}
	s.noticeLocked()
	return nil
}

func (s *session) settleLocked(d *Delivery, v verdict) error {
	if s.over {
		s.run.c.stats.stale.Add(1)
		s.run.tellSettledLocked(d, stale)
		return fmt.Errorf("%s: %w", v, ErrStale)
	}
	if s.ledger.pending() == 0 {
		s.first = time.Now()
	}
	if !s.ledger.settle(d.Tag, v) {
		return fmt.Errorf("%s: %w", v, ErrSettled)
	}
	s.run.tellSettledLocked(d, v.String())
	delete(s.queued, d)
	if s.run.stream {
		s.progress.advance(&s.ledger)
	}
	if d.later {
		d.later = false
		s.laters--
		s.handling--
	}
	if t := s.paused[d]; t != nil {
		t.Stop()
		delete(s.paused, d)
	}
	return nil
}

// noticeLocked wakes the settler when there is something for it, and whoever
// waits for the handlers when there are none.
func (s *session) noticeLocked() {
	if s.quiet != nil && s.isQuietLocked() {
		close(s.quiet)
		s.quiet = nil
	}
	// The first wakes it to set its timer, a full one to write at once.
	if n := s.ledger.pending(); n > 0 && (n == 1 || s.dueLocked()) {
		s.wakeSettler()
	}
}

// isQuietLocked reports whether all that is to be handled is.
func (s *session) isQuietLocked() bool {
	return s.handling == 0 && (s.givesBack || len(s.queued) == 0)
}

func (s *session) wakeSettler() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// dueLocked reports whether what is pending is to be written at once: nothing
// is being handled or waits for a handler, so nothing more can come to share
// the ack; or so much is finished that the broker may run out of prefetch.
func (s *session) dueLocked() bool {
	idle := s.handling == 0 && len(s.queued) == 0
	full := s.run.cfg.Prefetch > 0 && 2*s.ledger.pending() >= s.run.cfg.Prefetch
	return idle || full || s.draining || s.flushes != nil
}

// holdsLocked reports whether verdicts wait for the answer to the subscription's
// cancel: Run's ctx has ended, and each ack that goes out before it would bring
// one delivery more, only to be given back.
func (s *session) holdsLocked() bool {
	return s.run.ctx.Err() != nil && !s.cancelled && !s.ending
}

// settler is the one goroutine that writes verdicts. It ends with the session's
// channel or when finishSettling is called.
func (s *session) settler() {
	defer close(s.settlerDone)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var ws []write
	for {
		s.mu.Lock()
		var wait time.Duration
		ws = ws[:0]
		if n := s.ledger.pending(); n > 0 && !s.holdsLocked() {
			if wait = time.Until(s.first.Add(s.run.cfg.FlushInterval)); wait <= 0 || s.dueLocked() {
				ws, wait = s.ledger.flush(ws, s.noMultiple), 0
			}
		}
		ending := s.ending
		if ending && !s.run.stream {
			ws = s.ledger.releaseRest(ws)
		}
		s.writing = amountOf(ws)
		s.unproven.writes += s.writing.writes
		s.unproven.final += s.writing.final
		if s.flushes != nil && s.ledger.pending() == 0 && len(ws) == 0 {
			close(s.flushes)
			s.flushes = nil
		}
		s.mu.Unlock()
		if len(ws) > 0 {
			if err := s.write(ws); err != nil {
				return
			}
			if !ending {
				continue // there may be more already
			}
		}
		if ending {
			return
		}
		if wait <= 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-s.ch.Done():
			return
		}
	}
}

// write hands verdicts to the driver. An error means that the channel is over, or in a
// moment will be; anything else that fails has its connection given up.
func (s *session) write(ws []write) error {
	ctx := context.Background() // Room ends with the connection
	for _, w := range ws {
		if err := s.ch.Room(ctx); err != nil {
			return err
		}
		var err error
		switch w.verdict {
		case ack:
			err = s.ch.Raw().Ack(w.tag, w.multiple)
		case reject:
			err = s.ch.Raw().Reject(w.tag, false)
		case requeue:
			err = s.ch.Raw().Reject(w.tag, true)
		case release:
			err = s.ch.Raw().Nack(w.tag, w.multiple, true)
		}
		if err != nil {
			if !s.ch.Raw().IsClosed() && !errors.Is(err, amqp.ErrClosed) {
				s.ch.Drop(fmt.Errorf("settle: %w", err))
			}
			return err
		}
		s.run.count(w)
		if s.careful {
			s.wentWell(w.covers)
		}
	}
	return nil
}

// end makes the session over: handlers that still run are told by their ctx, and
// nothing can be settled any more.
func (s *session) end(cause error) {
	s.goOn(cause)
	s.mu.Lock()
	s.over = true
	for d := range s.queued {
		s.run.tellSettledLocked(d, stale)
	}
	clear(s.queued)
	for d, t := range s.paused {
		t.Stop()
		s.run.tellSettledLocked(d, stale)
		delete(s.paused, d)
	}
	s.mu.Unlock()
	s.abort(fmt.Errorf("%w: %w", ErrStale, cause))
	for _, l := range s.run.lanes {
		l.forget(s) // a worker that is stuck must not keep them
	}
}

// byTagLocked returns the deliveries that no handler has begun, oldest first.
func (s *session) byTagLocked() []*Delivery {
	return slices.SortedFunc(maps.Keys(s.queued), func(a, b *Delivery) int { return cmp.Compare(a.Tag, b.Tag) })
}

// counts for Status.
func (s *session) counts() (waiting, paused, laters int, draining bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queued), len(s.paused), s.laters, s.draining
}

// onlyLaters reports whether nothing is handled but what is to be settled later.
func (s *session) onlyLaters() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.laters > 0 && s.handling == s.laters && (s.givesBack || len(s.queued) == 0)
}

var errCancelled = errors.New("the broker cancelled the subscription: its queue was deleted, the queue's node is gone, or a delivery stayed unsettled for too long")
