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
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	switch c.To {
	case reconnect.Connected:
		o.foundLocked(c)
	case reconnect.Blocked:
		o.talk.Note("%s: waiting", c.Cause)
	case reconnect.Waiting:
		o.cause = c.Cause
		o.lostLocked(c)
	}
}

func (o *Outage) foundLocked(c reconnect.StateChange) {
	switch {
	case c.From == reconnect.Blocked:
		o.talk.Note("the broker takes messages again")
		return
	case o.ever:
		o.talk.Note("connected again to %s after %s", c.Address, Seconds(c.At.Sub(o.since)))
	}
	o.ever, o.up, o.since = true, true, c.At
	if o.timer != nil {
		o.timer.Stop()
		o.timer = nil
	}
}

func (o *Outage) lostLocked(c reconnect.StateChange) {
	switch {
	case !o.ever:
		if !o.told && o.talk.ShowsProgress() {
			o.talk.Note("cannot connect yet: %s", Explain(c.Cause))
		}
		o.told = true
	case o.up:
		o.up, o.since = false, c.At
		o.tellLostLocked(c.Cause)
		if !o.limit.Forever {
			o.timer = time.AfterFunc(o.limit.For, o.expire)
		}
	}
}

func (o *Outage) tellLostLocked(cause error) {
	switch {
	case o.limit.Forever:
		o.talk.Note("connection lost: %s; trying again", Explain(cause))
	case o.limit.For > 0:
		o.talk.Note("connection lost: %s; trying again for %v", Explain(cause), &o.limit)
	}
}

// expire is called by the timer.
func (o *Outage) expire() {
	o.mu.Lock()
	over := o.up || o.closed
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
