package main

import (
	"fmt"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/reconnect"
)

// idleError says that nothing came for --idle-timeout.
type idleError struct{ limit time.Duration }

func (e *idleError) Error() string {
	return fmt.Sprintf("nothing came for %s (--idle-timeout)", cli.Limit(e.limit))
}

// unsubscribedError says that the queue cannot be consumed, although there is a
// connection, or was in between.
type unsubscribedError struct {
	limit time.Duration
	cause error
	ever  bool // it could before
	again bool // the connection was lost, and found, since
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
			j.watchLoss(&w, st, j.pool.Status(reconnect.Consuming).Sessions, now)
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
	lost          time.Time // when it was first seen not to be, zero if it is
	told          bool
	subscriptions int // so far
	connections   int // when it was lost
}

// watchLoss ends the run when there is no first subscription within
// --connect-timeout, or when one that was lost is not back within --retry, however
// often there is a connection in between: a subscription may be what costs it. An
// outage of the connection itself, without one in between, is Outage's. connections
// is how many there were so far.
func (j *job) watchLoss(w *subscriptionWatch, st consumer.Status, connections int, now time.Time) {
	ever := st.Sessions > 0
	switch {
	case st.Subscribed:
		if w.told {
			j.talk.Note("subscribed again after %s", cli.Seconds(now.Sub(w.lost)))
		}
		*w = subscriptionWatch{subscriptions: st.Sessions}
		return
	case w.lost.IsZero(), w.subscriptions != st.Sessions: // it may have been back for a moment
		*w = subscriptionWatch{lost: now, subscriptions: st.Sessions, connections: connections}
		if !ever {
			w.lost = j.begun
		}
		return // its connection may be lost, too, which Outage hears a moment later
	}
	up, since := j.outage.Up()
	again := connections > w.connections
	limit := j.options.connection.Retry
	if !ever {
		limit = cli.Retry{For: j.options.connection.ConnectTimeout}
	}
	missing := now.Sub(w.lost)
	if !limit.Forever && missing >= limit.For && (up || again || !ever) {
		j.stop(&unsubscribedError{limit: limit.For, cause: st.Cause, ever: ever, again: again})
		return
	}
	if up && !w.told && min(missing, now.Sub(since)) >= tellAfter {
		w.told = true
		j.talk.Note("not subscribed: %s; trying again", cli.Explain(st.Cause))
	}
}

// tellAfter keeps the moment between a connection and its subscription quiet.
const tellAfter = 500 * time.Millisecond
