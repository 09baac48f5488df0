package consumer

import "sync/atomic"

// Stats counts what a consumer has done since New, over all its Runs.
type Stats struct {
	Sessions    uint64 // subscriptions
	Deliveries  uint64 // messages that came
	Redelivered uint64 // of those, the ones that were given out before, to whomever

	// Settlements as they were written to the connection. An ack may have been lost with
	// it: its message then comes again.
	Acked    uint64
	Rejected uint64
	Requeued uint64
	Released uint64

	Failures uint64 // errors and panics of handlers
	Panics   uint64 // of those, the panics
	Stale    uint64 // verdicts that came after the end of their session: those messages come again
}

type stats struct {
	sessions, deliveries, redelivered atomic.Uint64
	settled                           [release + 1]atomic.Uint64
	failures, panics, stale           atomic.Uint64
}

// Stats returns the counts so far.
func (c *Consumer) Stats() Stats {
	s := &c.stats
	return Stats{
		Sessions:    s.sessions.Load(),
		Deliveries:  s.deliveries.Load(),
		Redelivered: s.redelivered.Load(),
		Acked:       s.settled[ack].Load(),
		Rejected:    s.settled[reject].Load(),
		Requeued:    s.settled[requeue].Load(),
		Released:    s.settled[release].Load(),
		Failures:    s.failures.Load(),
		Panics:      s.panics.Load(),
		Stale:       s.stale.Load(),
	}
}
