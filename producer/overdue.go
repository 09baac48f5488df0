package producer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// mostDoublings bounds how much longer than ConfirmTimeout a session waits after
// sessions that were given up in vain.
const mostDoublings = 4

var errOverdue = errors.New("a confirm is overdue")

// overdue is how often sessions were given up for an overdue confirm since a
// message last got its verdict.
type overdue struct{ inVain int }

func (o *overdue) note(gaveUp, progress bool) {
	switch {
	case progress:
		o.inVain = 0
	case gaveUp:
		o.inVain = min(o.inVain+1, mostDoublings)
	}
}

// watch gives the session up when the same message has been the oldest in flight
// for too long. It looks four times in that time, so that sending costs nothing.
func (s *session) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	s.p.mu.Lock()
	limit := s.p.cfg.ConfirmTimeout << s.p.overdue.inVain
	s.p.mu.Unlock()
	if limit < 0 {
		return
	}
	ticker := time.NewTicker(max(limit/4, time.Millisecond))
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
		c := s.oldest()
		if blocked, _ := s.ch.Blocked(); blocked {
			c = nil
		}
		if c == nil || c != oldest {
			oldest, since = c, now
			continue
		}
		if now.Sub(since) >= limit {
			giveUp(fmt.Errorf("%w: none for message %s within %v of its sending", errOverdue, c.pub.MessageId, limit))
			return
		}
	}
}

// oldest returns what was sent first of what has no verdict.
func (s *session) oldest() *Confirmation {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for _, c := range s.window.entries() {
		if c != nil {
			return c
		}
	}
	return nil
}
