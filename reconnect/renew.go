package reconnect

import (
	"context"
	"fmt"
	"time"
)

const (
	// renewLead is how long before its end a secret is renewed, or a quarter of its
	// time if that is less: so there is time for some failures.
	renewLead = time.Minute

	// renewTries is how many attempts fit into that lead.
	renewTries = 5

	// leastRenewal is between two questions for a secret, whatever is answered.
	leastRenewal = 100 * time.Millisecond

	// renewReason is what the broker logs.
	renewReason = "renewed by mqkit before it expires"
)

// renewal keeps the secret of one connection from expiring, by connection.update-secret.
// It belongs to the goroutine that owns the connection, which also closes it: the
// driver pairs no answers with questions, so these two must not overlap.
type renewal struct {
	lf    *life
	timer *time.Timer // stopped if the secret never expires
	done  chan error  // of the one that is under way; nil if none is

	expires time.Time
	pause   time.Duration // after a failure

	fresh Credentials // of the one that is under way
}

func newRenewal(lf *life) *renewal {
	r := &renewal{lf: lf, timer: time.NewTimer(time.Hour)}
	r.timer.Stop()
	r.schedule(lf.creds)
	return r
}

// schedule sets the timer for a secret that was just accepted.
func (r *renewal) schedule(c Credentials) {
	if c.Expires.IsZero() || r.lf.link.pool.cfg.Credentials == nil {
		return
	}
	r.expires = c.Expires
	life := time.Until(c.Expires)
	lead := min(life/4, renewLead)
	r.pause = max(lead/renewTries, leastRenewal)
	r.timer.Reset(max(life-lead, leastRenewal))
}

// begin asks for a new secret and tells it to the broker, in the background: the owner
// goes on watching the connection.
func (r *renewal) begin() {
	done := make(chan error, 1)
	if r.lf.link.pool.begin(func() { done <- r.renew() }) {
		r.done = done
	}
}

func (r *renewal) renew() error {
	p := r.lf.link.pool
	ctx, cancel := context.WithTimeout(p.running, p.cfg.DialTimeout)
	defer cancel()
	fresh, err := p.cfg.Credentials(ctx)
	if err != nil {
		return fmt.Errorf("get credentials: %w", err)
	}
	r.fresh = fresh
	// Not ctx: the answer belongs to this question, and the guard bounds it.
	return r.lf.call(context.Background(), "renew the secret", func() error {
		return r.lf.raw.UpdateSecret(fresh.Password, renewReason)
	}, func(bool) {})
}

// end takes the outcome of one renewal.
func (r *renewal) end(err error) {
	r.done = nil
	l := r.lf.link
	if err == nil {
		l.note(func(s *ConnectionStats) { s.Renewed++ })
		l.pool.cfg.Logger.Info("secret renewed", "role", l.role.String(), "expires", r.fresh.Expires)
		r.schedule(r.fresh)
		return
	}
	l.note(func(s *ConnectionStats) { s.RenewalFailures++ })
	l.pool.cfg.Logger.Warn("secret not renewed", "role", l.role.String(), "error", err, "expires", r.expires)
	r.timer.Reset(r.pause)
}

// stop ends it, and waits as long as limit for one that is under way. It reports whether
// none is any more: then the connection may be closed by a question of its own.
func (r *renewal) stop(limit time.Duration) bool {
	r.timer.Stop()
	if r.done == nil {
		return true
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.done:
		return true
	case <-timer.C:
		return false
	}
}
