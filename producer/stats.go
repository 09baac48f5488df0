package producer

import "sync/atomic"

// Stats counts messages since New. Every message that was accepted is in one
// of Confirmed, Returned, Nacked, Refused, NotSent, Unknown, or in InFlight.
type Stats struct {
	Accepted  uint64 // passed to Publish or PublishAsync
	Confirmed uint64
	Returned  uint64
	Nacked    uint64
	Refused   uint64
	NotSent   uint64
	Unknown   uint64

	// Republished counts sendings after the first, of messages whose verdict
	// was lost with their session.
	Republished uint64

	// InFlight is how many messages hold a place in the in-flight bound.
	// Those given up by their caller count until the broker's verdict.
	InFlight int
}

// stats is guarded by Producer.mu but for what is refused before it is taken.
type stats struct {
	accepted    atomic.Uint64
	republished atomic.Uint64
	verdicts    [Unknown + 1]atomic.Uint64
}

func (s *stats) count(v Verdict) { s.verdicts[v].Add(1) }

// Stats returns the counts so far.
func (p *Producer) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := func(v Verdict) uint64 { return p.stats.verdicts[v].Load() }
	return Stats{
		Accepted:    p.stats.accepted.Load(),
		Confirmed:   n(Confirmed),
		Returned:    n(Returned),
		Nacked:      n(Nacked),
		Refused:     n(Refused),
		NotSent:     n(NotSent),
		Unknown:     n(Unknown),
		Republished: p.stats.republished.Load(),
		InFlight:    p.inFlight,
	}
}
