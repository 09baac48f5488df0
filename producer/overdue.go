package producer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// leastConfirmTimeout keeps a wrong unit from sending everything again and again.
	leastConfirmTimeout = 10 * time.Millisecond

	// longestConfirmTimeout is where doubling ends.
	longestConfirmTimeout = time.Hour
)

var errOverdue = errors.New("a confirm is overdue")

// watch gives the session up, or its connection, when the same message has been the oldest in flight
// for too long. It looks four times in that time, so that sending costs nothing.
func (s *session) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	base := s.p.cfg.ConfirmTimeout
	if base < 0 {
		return
	}
	ticker := time.NewTicker(base / 4)
	defer ticker.Stop()
	var oldest *Confirmation
	var since time.Time
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		c, inVain := s.oldest()
		if blocked, _ := s.ch.Blocked(); blocked {
			c = nil
		}
		if c == nil || c != oldest {
			oldest, since = c, now
			continue
		}
		if limit := patience(base, inVain); now.Sub(since) >= limit {
			err := fmt.Errorf("%w: none for message %s within %v of its sending", errOverdue, c.pub.MessageId, limit)
			s.ch.GiveUp(err, base) // whose close may never be answered
			giveUp(err)
			return
		}
	}
}

// patience is how long a message waits for its confirm that was sent in vain so many
// times: twice as long each time, so that a broker that is slow, or a queue without
// a majority, is not flooded with copies.
func patience(base time.Duration, inVain int) time.Duration {
	limit := base
	for ; inVain > 0 && limit < longestConfirmTimeout; inVain-- {
		limit *= 2
	}
	return limit
}

// oldest returns what was sent first of what has no verdict, and how many sessions
// were given up for it or while it was in flight.
func (s *session) oldest() (*Confirmation, int) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for _, c := range s.window.entries() {
		if c != nil {
			return c, c.inVain
		}
	}
	return nil, 0
}
