package reconnect

import "context"

// Another opens a channel on the connection of c, and on no other.
func (c *Channel) Another(ctx context.Context) (*Channel, error) { return c.life.channel(ctx) }

// LongestWait is the pause after an error that a retry will hardly mend.
const LongestWait = longestWait

// StableAfter is how long something must have lived for its backoff to start
// afresh.
const StableAfter = stableAfter

// Farewell is how long a Close whose ctx has ended waits for the broker's word.
const Farewell = farewell

// Is reports whether two leases are of the same channel.
func (c *Channel) Is(other *Channel) bool { return c.channel == other.channel }

// NoteClose has the channel look as in the moment before its close is said.
func (c *Channel) NoteClose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// Stop keeps it from being noted that the channel is closed, until goOn is called.
func (c *Channel) Stop() (goOn func()) {
	c.mu.Lock()
	return c.mu.Unlock
}
