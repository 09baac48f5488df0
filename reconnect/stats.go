package reconnect

import "time"

// Stats counts what a pool's connections have done since Open.
type Stats struct {
	Publishing ConnectionStats
	Consuming  ConnectionStats
}

// ConnectionStats counts what became of one role's connections, one after the other.
type ConnectionStats struct {
	Attempts  uint64 // to connect to one address
	Failures  uint64 // of those, the ones that did not succeed
	Connected uint64 // connections made
	Lost      uint64 // connections that ended otherwise than by Close

	// Blocked is for how long, in all, the broker took no publishes.
	Blocked time.Duration

	// Renewed is how often a secret was renewed, and RenewalFailures how often that
	// failed.
	Renewed         uint64
	RenewalFailures uint64

	// Channels are open at the moment, sessions' and leases' alike; Kept of these
	// wait for the next Acquire.
	Channels int
	Kept     int
}

// Stats returns the counts so far.
func (p *Pool) Stats() Stats {
	return Stats{Publishing: p.links[Publishing].count(), Consuming: p.links[Consuming].count()}
}

func (l *link) count() ConnectionStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	if l.status.State == Blocked {
		s.Blocked += time.Since(l.status.Since)
	}
	if l.life != nil {
		s.Channels, s.Kept = len(l.life.numbers), len(l.life.kept)
	}
	return s
}

// note changes what is counted.
func (l *link) note(change func(*ConnectionStats)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.stats)
}
