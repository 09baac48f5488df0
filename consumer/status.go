package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/mqkit/mqkit/reconnect"
)

// Status is how a consumer is, for a readiness probe.
type Status struct {
	// Subscribed: the broker has confirmed the subscription of the present
	// session and something has arrived from it within two heartbeats.
	Subscribed bool

	// Queue is what is consumed, with the server-given name of the present
	// session.
	Queue string

	// Cause is why it is not subscribed, nil if it is.
	Cause error

	// Since is when it was subscribed, or ceased to be.
	Since time.Time

	Handling int // handlers that run, and deliveries that are settled Later
	Overdue  int // of those, handlers that run longer than Config.HandlerTimeout
	Waiting  int // deliveries that no handler has begun
	Paused   int // failed deliveries that wait to be given back

	Sessions    int // subscriptions so far
	Acked       uint64
	Rejected    uint64
	Requeued    uint64
	Released    uint64
	Failures    uint64 // errors and panics of handlers
	LastFailure error
}

// String is one line for people.
func (s Status) String() string {
	if s.Subscribed {
		return fmt.Sprintf("subscribed to %q since %s", s.Queue, s.Since.Format(time.RFC3339))
	}
	return fmt.Sprintf("not subscribed to %q since %s: %v", s.Queue, s.Since.Format(time.RFC3339), s.Cause)
}

// Status says whether the consumer is subscribed, else why not, and counts.
func (c *Consumer) Status() Status {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return Status{Queue: c.cfg.Queue, Cause: errors.New("Run was not called yet")}
	}
	return r.status()
}

func (r *run) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Status{
		Queue:       r.cfg.Queue,
		Cause:       r.cause,
		Since:       r.since,
		Sessions:    r.sessions,
		Acked:       r.settled[ack],
		Rejected:    r.settled[reject],
		Requeued:    r.settled[requeue],
		Released:    r.settled[release],
		Failures:    r.failures,
		LastFailure: r.lastFailure,
		Handling:    int(r.active.Load()),
		Overdue:     int(max(r.overdue.Load(), 0)),
	}
	s := r.session
	if s == nil {
		if conn := r.c.pool.Status(reconnect.Consuming); r.running && conn.State != reconnect.Connected && conn.State != reconnect.Blocked && conn.Cause != nil {
			st.Cause = fmt.Errorf("the consuming connection is %s: %w", conn.State, conn.Cause)
		}
		return st
	}
	st.Queue = s.queue
	waiting, paused, laters, draining := s.counts()
	st.Waiting, st.Paused = waiting, paused
	st.Handling += laters
	switch quiet := s.ch.Quiet(); {
	case draining:
		st.Cause = errors.New("draining")
	case s.ch.Err() != nil:
		st.Cause = s.ch.Err()
	case s.ch.Heartbeat() > 0 && quiet >= 2*s.ch.Heartbeat():
		st.Cause = fmt.Errorf("nothing has arrived for %v", quiet.Round(time.Millisecond))
	default:
		st.Subscribed, st.Cause = true, nil
	}
	return st
}

func (r *run) subscribed(s *session) {
	r.mu.Lock()
	r.session, r.cause, r.since = s, nil, time.Now()
	r.sessions++
	r.c.stats.sessions.Add(1)
	r.mu.Unlock()
	r.cfg.Logger.Info("subscribed", "queue", s.queue, "address", s.ch.Address())
}

// sessionEnded is told by pool.Run of each session that is followed by another.
func (r *run) sessionEnded(err error) {
	r.beCareful(err)
	r.unsubscribed(err)
	r.cfg.Logger.Warn("not subscribed", "queue", r.cfg.Queue, "cause", err)
}

// unsubscribed has Status say why; of what is told of one end, the first counts for when.
func (r *run) unsubscribed(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != nil || r.cause == nil {
		r.since = time.Now()
	}
	r.session, r.cause = nil, cause
}

// over has Status say that Run does not run any more, and why.
func (r *run) over(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running, r.session, r.since, r.cause = false, nil, time.Now(), cause
}

func (r *run) isRunning() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

func (r *run) count(w write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled[w.verdict] += uint64(w.covers)
	r.c.stats.settled[w.verdict].Add(uint64(w.covers))
}

func (r *run) succeeded() {
	if r.trouble.Load() {
		r.mu.Lock()
		r.inARow = 0
		r.trouble.Store(false)
		r.mu.Unlock()
	}
}

// failed counts a failure and returns how long its delivery is held back.
func (r *run) failed(err error) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures++
	r.c.stats.failures.Add(1)
	r.lastFailure = err
	r.inARow++
	r.trouble.Store(true)
	return pauseAfter(r.inARow)
}

// left notes what a session that ended before Run did has not finished cleanly.
func (r *run) left(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releasedAt += n
	if r.ctx.Err() != nil {
		r.lateErr = errors.Join(r.lateErr, err)
	}
}

func (r *run) leftLate() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.releasedAt, r.lateErr
}
