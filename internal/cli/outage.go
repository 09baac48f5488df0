package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/mqkit/mqkit/reconnect"
)

// LostError says that an outage lasted longer than --retry.
type LostError struct {
	Retry Retry
	Cause error
}

func (e *LostError) Error() string {
	if e.Retry.For == 0 {
		return fmt.Sprintf("the connection was lost: %s", Explain(e.Cause))
	}
	return fmt.Sprintf("the connection was lost for longer than %v (--retry): %s", &e.Retry, Explain(e.Cause))
}

// Unwrap returns what was last seen of the connection.
func (e *LostError) Unwrap() error { return e.Cause }

// Outage watches one connection from its first success on, says when it is lost
// and found, and calls giveUp once, with a *LostError, when one outage lasts
// longer than its limit. An outage ends with a connection, or as EndsWith says.
type Outage struct {
	talk   *Talk
	limit  Retry
	giveUp func(error)

	mu     sync.Mutex // guards what follows
	ever   bool       // it was connected
	told   bool       // that it cannot be reached, before it ever was
	since  time.Time  // when it was connected, or lost
	up     bool
	cause  error
	timer  *time.Timer
	closed bool

	progress func() (answers uint64, waiting bool) // nil: a connection is enough
	answers  uint64                                // when it was last lost
	spent    time.Duration                         // how much of the limit the present outage took before it was last connected
	upBefore time.Duration                         // how long it was connected before since
}

// NewOutage returns an Outage that has seen nothing yet.
func NewOutage(talk *Talk, limit Retry, giveUp func(error)) *Outage {
	return &Outage{talk: talk, limit: limit, giveUp: giveUp}
}

// EndsWith has an outage end not with a connection but with what it is for: with
// another answer of the broker, or when nothing waits for one. A connection that is
// lost before that has not ended it, and only adds to its time. progress is called
// with each change of state.
func (o *Outage) EndsWith(progress func() (answers uint64, waiting bool)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.progress = progress
}

// Observe is for reconnect.Config.OnStateChange.
func (o *Outage) Observe(c reconnect.StateChange) {
	if line := o.note(c); line != "" {
		o.talk.Note("%s", line)
	}
}

// look asks for progress; without anybody to ask nothing waits.
func (o *Outage) look() (answers uint64, waiting bool) {
	o.mu.Lock()
	progress := o.progress
	o.mu.Unlock()
	if progress == nil {
		return 0, false
	}
	return progress()
}

// note takes a change in and returns what is to be said about it.
func (o *Outage) note(c reconnect.StateChange) string {
	answers, waiting := o.look()
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return ""
	case c.To == reconnect.Connected && c.From == reconnect.Blocked:
		return "the broker takes messages again"
	case c.To == reconnect.Connected:
		return o.foundLocked(c, waiting)
	case c.To == reconnect.Blocked:
		return fmt.Sprintf("%v: waiting", c.Cause)
	case c.To == reconnect.Waiting:
		return o.lostLocked(c, answers, waiting)
	default:
		return ""
	}
}

func (o *Outage) foundLocked(c reconnect.StateChange, waiting bool) string {
	line := ""
	if o.ever {
		line = fmt.Sprintf("connected again to %s after %s", c.Address, Seconds(c.At.Sub(o.since)))
		o.spent += c.At.Sub(o.since)
	}
	if !waiting {
		o.spent = 0
	}
	o.ever, o.up, o.since = true, true, c.At
	if o.timer != nil && o.limit.For > 0 { // with 0 it is too late
		o.timer.Stop()
	}
	return line
}

func (o *Outage) lostLocked(c reconnect.StateChange, answers uint64, waiting bool) string {
	o.cause = c.Cause
	switch {
	case !o.ever:
		first := !o.told
		o.told = true
		if first && o.talk.ShowsProgress() {
			return "cannot connect yet: " + Explain(c.Cause)
		}
		return ""
	case !o.up:
		return ""
	}
	o.upBefore += c.At.Sub(o.since)
	o.up, o.since = false, c.At
	if answers != o.answers || !waiting {
		o.spent = 0
	}
	o.answers = answers
	line := "connection lost: " + Explain(c.Cause)
	if o.limit.Forever {
		return line + "; trying again"
	}
	left := o.limit.For - o.spent
	o.timer = time.AfterFunc(left, o.expire)
	switch {
	case left <= 0:
		return "" // giving up says it
	case o.spent > 0:
		return fmt.Sprintf("%s; trying again for another %s", line, Seconds(left))
	default:
		return fmt.Sprintf("%s; trying again for %v", line, &o.limit)
	}
}

// expire is called by the timer.
func (o *Outage) expire() {
	o.mu.Lock()
	over := o.up && o.limit.For > 0 || o.closed
	err := &LostError{Retry: o.limit, Cause: o.cause}
	o.mu.Unlock()
	if !over {
		o.giveUp(err)
	}
}

// Up reports whether the connection is up, and since when it is or is not.
func (o *Outage) Up() (bool, time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.up, o.since
}

// UpFor is how long it has been connected in all.
func (o *Outage) UpFor() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.up {
		return o.upBefore + time.Since(o.since)
	}
	return o.upBefore
}

// Stop ends the watch.
func (o *Outage) Stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.timer != nil {
		o.timer.Stop()
	}
}
