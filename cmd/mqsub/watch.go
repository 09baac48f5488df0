package main

import (
	"fmt"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/cli"
)

// idleError says that nothing came for --idle-timeout.
type idleError struct{ limit time.Duration }

func (e *idleError) Error() string {
	return fmt.Sprintf("nothing came for %s (--idle-timeout)", cli.Limit(e.limit))
}

// unsubscribedError says that the connection is up and the queue cannot be
// consumed.
type unsubscribedError struct {
	limit time.Duration
	cause error
	ever  bool // it could before
}

func (e *unsubscribedError) Error() string {
	if e.limit == 0 {
		return fmt.Sprintf("the subscription was lost: %s", cli.Explain(e.cause))
	}
	if !e.ever {
		return fmt.Sprintf("no subscription within %s (--connect-timeout): %s", cli.Limit(e.limit), cli.Explain(e.cause))
	}
	return fmt.Sprintf("the subscription was lost for longer than %s (--retry): %s", cli.Limit(e.limit), cli.Explain(e.cause))
}

// Unwrap returns why it cannot be consumed.
func (e *unsubscribedError) Unwrap() error { return e.cause }

const (
	lookSlow = 200 * time.Millisecond
	lookFast = 10 * time.Millisecond
)

// watchSubscription looks whether the queue is consumed and whether anything
// comes, and ends the run when either has been missing for too long.
func (j *job) watchSubscription(ended <-chan struct{}) {
	interval := lookSlow
	if idle := j.options.idleTimeout; idle > 0 {
		interval = min(max(idle/20, lookFast), lookSlow)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var w subscriptionWatch
	for {
		select {
		case <-ended:
			return
		case <-j.work.Done():
			return
		case now := <-tick.C:
			st := j.consumer.Status()
			if j.isIdle(st, now) {
				j.stop(&idleError{limit: j.options.idleTimeout})
			}
			j.watchLoss(&w, st, now)
		}
	}
}

// isIdle reports whether nothing has come for --idle-timeout, in which time
// without a subscription, or with a message that waits for its reader, does not
// count.
func (j *job) isIdle(st consumer.Status, now time.Time) bool {
	limit := j.options.idleTimeout
	if limit == 0 || !st.Subscribed || j.writing.Load() || st.Waiting > 0 {
		return false
	}
	last := time.Unix(0, j.active.Load())
	return now.Sub(last) >= limit && now.Sub(st.Since) >= limit
}

// subscriptionWatch is what watchLoss remembers.
type subscriptionWatch struct {
	lost time.Time // when it was first seen not to be, zero if it is
	told bool
}

// watchLoss is about a subscription that is missing while its connection is up:
// the connection's own outages are Outage's.
func (j *job) watchLoss(w *subscriptionWatch, st consumer.Status, now time.Time) {
	up, _ := j.outage.Up()
	ever := st.Sessions > 0
	switch {
	case st.Subscribed:
		if w.told {
			j.talk.Note("subscribed again after %s", cli.Seconds(now.Sub(w.lost)))
		}
		*w = subscriptionWatch{}
		return
	case !up:
		w.lost, w.told = time.Time{}, false
		return
	case w.lost.IsZero():
		w.lost = now
		return // its connection may be lost, too, which Outage hears a moment later
	}
	limit := j.options.connection.Retry
	if !ever {
		limit = cli.Retry{For: j.options.connection.ConnectTimeout}
	}
	missing := now.Sub(w.lost)
	if !limit.Forever && missing >= limit.For {
		j.stop(&unsubscribedError{limit: limit.For, cause: st.Cause, ever: ever})
		return
	}
	if !w.told && missing >= tellAfter {
		w.told = true
		j.talk.Note("not subscribed: %s; trying again", cli.Explain(st.Cause))
	}
}

// tellAfter keeps the moment between a connection and its subscription quiet.
const tellAfter = 500 * time.Millisecond
