package producer

import (
	"context"
	"testing"
)

// ends is a ctx that ends while somebody waits with it.
type ends struct{ context.Context }

func (ends) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

// TestWhoWasTakenInIsNotGivenUpWithItsContext: both happened when it looks.
func TestWhoWasTakenInIsNotGivenUpWithItsContext(t *testing.T) {
	t.Parallel()
	for range 50 { // the choice between both is random
		p := &Producer{cfg: Config{MaxInFlight: 1, MaxInFlightBytes: 1}, inFlight: 1, work: make(chan struct{}, 1)}
		c := &Confirmation{p: p, done: make(chan struct{})}
		err := p.admit(ends{context.Background()}, c, func(c *Confirmation) error {
			c.admitted = make(chan struct{})
			p.takeLocked(c)
			return nil
		})
		if err != nil || c.told || c.place != queued {
			t.Fatalf("it was taken in: %v", err)
		}
	}
}
