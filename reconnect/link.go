package reconnect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// link keeps one role connected. Its goroutine, own, is the only code that
// dials, waits, declares a connection dead and writes the state.
type link struct {
	pool    *Pool
	role    Role
	failed  map[int]bool  // addresses that failed in the last round; own's
	useless *address      // where the last connection was given up, because of a silence; own's
	turn    chan struct{} // see Channel.Turn

	mu       sync.Mutex // guards what follows; held for no call
	started  bool
	sealed   bool // the pool closes: it must not be started any more
	status   Status
	life     *life           // present while Connected or Blocked
	changed  chan struct{}   // closed and replaced with each change
	trying   []Attempt       // of the present round: what failed, and last what is tried
	stats    ConnectionStats // what is counted
	watchers []*func(StateChange)
}

func newLink(p *Pool, role Role) *link {
	return &link{
		pool:    p,
		role:    role,
		failed:  map[int]bool{},
		turn:    make(chan struct{}, 1),
		changed: make(chan struct{}),
		status:  Status{State: Idle, Since: time.Now()},
	}
}

// start begins the life of the link, once.
func (l *link) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started && !l.sealed && l.status.State == Idle {
		l.started = true
		l.pool.owners.Go(l.own)
	}
}

// seal keeps a link that was not started from it.
func (l *link) seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = true
}

// own connects, serves until the connection is lost, waits, and begins again,
// until the pool closes or an error ends it.
func (l *link) own() {
	ctx := l.pool.running
	waits := l.pool.cfg.Backoff()
	for {
		l.become(Connecting, nil, nil, 0)
		lf, err := l.dialRound(ctx)
		if err == nil {
			l.become(Connected, lf, nil, 0)
			err = l.serve(lf)
			if lf.useless.Load() || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ErrRPCTimeout) {
				l.useless = lf.addr
			}
			if ctx.Err() == nil {
				l.note(func(s *ConnectionStats) { s.Lost++ })
			}
			if time.Since(lf.born) >= stableAfter {
				waits.Reset()
			}
		}
		if ctx.Err() != nil {
			l.become(Closed, nil, ErrClosed, 0)
			return
		}
		wait := nextWait(waits)
		if IsFatal(err) {
			if !l.pool.everUp() || l.pool.cfg.StopOnFatal {
				l.become(Failed, nil, err, 0)
				return
			}
			wait = longestWait
		}
		l.become(Waiting, nil, err, wait)
		if l.pool.pause(ctx, wait) != nil {
			l.become(Closed, nil, ErrClosed, 0)
			return
		}
	}
}

// serve watches a connection until it is lost and says why, or until the pool
// closes.
func (l *link) serve(lf *life) error {
	renewal := newRenewal(lf)
	defer renewal.timer.Stop()
	for {
		select {
		case <-renewal.timer.C:
			renewal.begin()
		case err := <-renewal.done:
			renewal.end(err)
		case e := <-lf.closes:
			err := lf.reason(e)
			lf.drop(err)
			return err
		case <-lf.conn.gone:
			select {
			case e := <-lf.closes: // the broker's own word, if it came first
				return lf.reason(e)
			default:
				return lf.conn.reason()
			}
		case b, ok := <-lf.blocks:
			blocked, _ := lf.isBlocked()
			switch {
			case !ok:
				lf.blocks = nil
			case b.Active == blocked: // said again: nothing changes
			case b.Active:
				lf.setBlocked(true)
				l.become(Blocked, lf, fmt.Errorf("blocked by the broker: %s", b.Reason), 0)
			default:
				lf.setBlocked(false)
				l.become(Connected, lf, nil, 0)
			}
		case <-l.pool.running.Done():
			l.hangUp(lf, renewal)
			return ErrClosed
		}
	}
}

// farewell is how long a Close whose ctx has ended waits for the broker's word.
const farewell = 200 * time.Millisecond

// hangUp closes the connection politely, as long as the pool's closing allows.
func (l *link) hangUp(lf *life, renewal *renewal) {
	ctx := l.pool.closingContext()
	limit := l.pool.cfg.RPCTimeout
	if ctx.Err() != nil {
		ctx, limit = context.Background(), farewell // drained or not, the broker is told
	}
	if blocked, _ := lf.isBlocked(); blocked || !renewal.stop(min(limit, farewell)) {
		lf.drop(ErrClosed) // no answer would come
		<-lf.conn.flushed
		return
	}
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		_ = lf.raw.Close()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done(): // cut short: as above
		timer.Reset(farewell)
		select {
		case <-done:
		case <-timer.C:
		}
	}
	lf.drop(ErrClosed)
	<-done
	<-lf.conn.flushed
}

// become writes the state; nothing else does. It panics on a transition that
// docs/state-machine.md does not have.
func (l *link) become(to State, lf *life, cause error, wait time.Duration) {
	l.mu.Lock()
	from := l.status.State
	if !slices.Contains(transitions[from], to) {
		l.mu.Unlock()
		panic(fmt.Sprintf("reconnect: %s connection from %s to %s", l.role, from, to))
	}
	change := StateChange{Role: l.role, From: from, To: to, At: time.Now(), Cause: cause, Wait: wait}
	if lf == nil {
		change.Address = l.status.Address
	} else {
		change.Address = lf.addr.String()
	}
	if from == Blocked {
		l.stats.Blocked += change.At.Sub(l.status.Since)
	}
	l.status.State, l.status.Since, l.status.Address = to, change.At, ""
	if lf != nil {
		l.status.Address = change.Address
	}
	switch to {
	case Connecting:
		l.status.Attempts++ // the cause of the last failure stays until connected
	case Connected:
		l.status.Cause = nil
		if from == Connecting {
			l.status.Attempts = 0
			l.status.Sessions++
			l.stats.Connected++
		}
	default:
		l.status.Cause = cause
	}
	l.life = lf
	close(l.changed)
	l.changed = make(chan struct{})
	watchers := slices.Clone(l.watchers)
	l.mu.Unlock()
	for _, f := range watchers {
		(*f)(change)
	}
	l.pool.notifier.relay.Tell(change) // who is told finds what the watchers did about it
}

// Watch has f called with every change of the state of role's connection, in order and
// before anything else is done about it, on the goroutine that owns the connection: f must
// return at once, and must not call the pool. remove ends that; a call that is
// under way may still end after it. For users there is Config.OnStateChange.
func (p *Pool) Watch(role Role, f func(StateChange)) (remove func()) {
	l, entry := p.links[role], &f
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers = append(l.watchers, entry)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watchers = slices.DeleteFunc(l.watchers, func(w *func(StateChange)) bool { return w == entry })
	}
}

func (l *link) everUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status.Sessions > 0
}

// serves reports whether lf is in use: before that it only declares the topology.
func (l *link) serves(lf *life) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life == lf
}

func (l *link) setTopologyFault(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.TopologyFault = err
}

func (l *link) read() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// ready waits for a connection, for publishing one that is not blocked. When
// ctx ends first the error says what kept it.
func (l *link) ready(ctx context.Context) (*life, error) {
	l.start()
	for {
		l.mu.Lock()
		status, lf, changed := l.status, l.life, l.changed
		l.mu.Unlock()
		switch status.State {
		case Connected, Blocked:
			if !lf.isOver() && (status.State == Connected || l.role != Publishing) {
				return lf, nil
			}
		case Failed:
			return nil, status.Cause
		case Closed:
			return nil, ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if status.Cause == nil {
				status.Cause = l.underway()
			}
			return nil, waitError(ctx, l.role, status)
		}
	}
}

// try notes that addr is tried after others that failed in this round.
func (l *link) try(failed []Attempt, addr *address) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trying = append(slices.Clone(failed), Attempt{Address: addr.String(), Err: errNoAnswerYet})
}

// underway is how far the present round has come, or nil.
func (l *link) underway() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.trying) == 0 {
		return nil
	}
	return &DialError{Attempts: l.trying}
}

// waitError is what a caller gets whose ctx ended while it waited for a
// connection.
func waitError(ctx context.Context, role Role, s Status) error {
	if s.Cause == nil {
		return fmt.Errorf("no %s connection: %w", role, context.Cause(ctx))
	}
	return fmt.Errorf("no %s connection: %w (%w)", role, s.Cause, context.Cause(ctx))
}

// isPermanent reports whether err is a backoff.Permanent, and what that wraps.
func isPermanent(err error) (bool, error) {
	var p *backoff.PermanentError
	if errors.As(err, &p) {
		return true, p.Err
	}
	return false, nil
}
