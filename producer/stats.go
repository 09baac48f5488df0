package producer

import "sync/atomic"

// Stats counts messages since New. Every message is counted in Accepted, and in one of
// Confirmed, Returned, Nacked, Refused, NotSent and Unknown as soon as it has its verdict.
// Until then it is in InFlight, unless it waits for room in the bound.
type Stats struct {
	Accepted  uint64 // passed to a method that publishes, whatever became of them
	Confirmed uint64
	Returned  uint64
	Nacked    uint64
	Refused   uint64
	NotSent   uint64
	Unknown   uint64

	// Republished counts sendings after the first, of messages whose verdict
	// was lost with their session.
	Republished uint64

	// InFlight is how many messages hold a place in the in-flight bound. One that was
	// sent and then given up by its caller is in Unknown, and here as well until the
	// broker's verdict or the end of its session.
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
