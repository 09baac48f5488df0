package main

import (
	"fmt"
	"sync/atomic"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// cuts are the moments at which a connection is cut, each of them once.
type cuts struct {
	books    *ledger
	talk     *talk
	planned  int
	begun    atomic.Int64
	injected []*mqtest.Injected
}

// planCuts spreads three cuts over n orders. What each of them loses has to be
// made good in another way.
func planCuts(proxies []*mqtest.Proxy, n int, books *ledger, talk *talk) *cuts {
	c := &cuts{books: books, talk: talk}
	// The broker does not have the order: it is published again.
	c.plan(proxies, mqtest.Received, "basic.publish", "the broker never gets it", after(n/4))
	// The broker cannot know that orders were handled: it gives them out again.
	c.plan(proxies, mqtest.Received, "basic.ack", "the broker never gets it", func() bool {
		orders, _ := books.consumed()
		return orders >= n/2
	})
	// The broker has the order, but the producer cannot know: it publishes it again,
	// and there are two.
	c.plan(proxies, mqtest.Applied, "basic.publish", "the broker has it and the confirm is lost", after(3*n/4))
	return c
}

// plan has a connection cut the first time that due says so of such a method, on
// whichever of the proxies.
func (c *cuts) plan(proxies []*mqtest.Proxy, point mqtest.Point, method, what string, due func() bool) {
	c.planned++
	var done atomic.Bool
	for _, p := range proxies {
		c.injected = append(c.injected, p.Inject(mqtest.Fault{
			Point: point, Method: method, Do: mqtest.Cut(),
			If: func(e *mqtest.Event) bool {
				if !due() || !done.CompareAndSwap(false, true) {
					return false
				}
				orders, _ := c.books.consumed()
				c.talk.line(fmt.Sprintf("cut %d of %d, when %d orders were consumed: %s %s, %s",
					c.begun.Add(1), c.planned, orders, method, point, what))
				return true
			},
		}))
	}
}

// after is true from the call that follows n others.
func after(n int) func() bool {
	var calls atomic.Int64
	return func() bool { return calls.Add(1) > int64(n) }
}

// faults tells what has happened so far. Of a run that was interrupted no more is
// expected.
func (c *cuts) faults(pool *reconnect.Pool, interrupted bool) faults {
	f := faults{planned: c.planned, lostPublishing: lost(pool, reconnect.Publishing), lostConsuming: lost(pool, reconnect.Consuming)}
	for _, in := range c.injected {
		f.made += in.Hits()
	}
	if interrupted {
		f.planned = f.made
	}
	return f
}

// lost counts the connections of role that were made and are gone.
func lost(pool *reconnect.Pool, role reconnect.Role) int {
	s := pool.Status(role)
	if s.State == reconnect.Connected || s.State == reconnect.Blocked {
		return s.Sessions - 1
	}
	return s.Sessions
}
