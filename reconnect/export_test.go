package reconnect

import (
	"context"
	"net"
)

// Through has a pool reach its addresses by dial, not by TCP.
func (cfg Config) Through(dial func(ctx context.Context, network, address string) (net.Conn, error)) Config {
	cfg.Dial = dial
	return cfg
}

// Another opens a channel on the connection of c, and on no other.
func (c *Channel) Another(ctx context.Context) (*Channel, error) { return c.life.channel(ctx) }

// LongestWait is the pause after an error that a retry will hardly mend.
const LongestWait = longestWait

// StableAfter is how long something must have lived for its backoff to start
// afresh.
const StableAfter = stableAfter

// Farewell is how long a Close whose ctx has ended waits for the broker's word.
const Farewell = farewell
