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
// longer than its limit.
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
}

// NewOutage returns an Outage that has seen nothing yet.
func NewOutage(talk *Talk, limit Retry, giveUp func(error)) *Outage {
	return &Outage{talk: talk, limit: limit, giveUp: giveUp}
}

// Observe is for reconnect.Config.OnStateChange.
func (o *Outage) Observe(c reconnect.StateChange) {
	if line := o.note(c); line != "" {
		o.talk.Note("%s", line)
	}
}

// note takes a change in and returns what is to be said about it.
func (o *Outage) note(c reconnect.StateChange) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return ""
	case c.To == reconnect.Connected && c.From == reconnect.Blocked:
		return "the broker takes messages again"
	case c.To == reconnect.Connected:
		return o.foundLocked(c)
	case c.To == reconnect.Blocked:
		return fmt.Sprintf("%v: waiting", c.Cause)
	case c.To == reconnect.Waiting:
		return o.lostLocked(c)
	default:
		return ""
	}
}

func (o *Outage) foundLocked(c reconnect.StateChange) string {
	line := ""
	if o.ever {
		line = fmt.Sprintf("connected again to %s after %s", c.Address, Seconds(c.At.Sub(o.since)))
	}
	o.ever, o.up, o.since = true, true, c.At
	if o.timer != nil && o.limit.For > 0 { // with 0 it is too late
		o.timer.Stop()
	}
	return line
}

func (o *Outage) lostLocked(c reconnect.StateChange) string {
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
	o.up, o.since = false, c.At
	line := "connection lost: " + Explain(c.Cause)
	if o.limit.Forever {
		return line + "; trying again"
	}
	o.timer = time.AfterFunc(o.limit.For, o.expire)
	if o.limit.For == 0 {
		return "" // giving up says it
	}
	return fmt.Sprintf("%s; trying again for %v", line, &o.limit)
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

// Stop ends the watch.
func (o *Outage) Stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.timer != nil {
		o.timer.Stop()
	}
}
