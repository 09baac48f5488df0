package reconnect

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Again is returned, or wrapped, by a session function that got something done
// and wants the next session without a wait.
var Again = errors.New("the next session, at once") //nolint:revive,staticcheck // it asks for something, it tells of no error

// Run calls session with a fresh channel of role, again and again, until it
// returns nil or a backoff.Permanent error (which Run returns unwrapped), ctx
// ends, or the pool is closed. It is the one loop that retries: a producer and
// a consumer are each a session function on it.
//
// The session's ctx ends with Run's ctx and, its cause wrapping ErrLost, when
// the channel or its connection ends. A session that has set itself up calls
// Channel.Ready. An error of a session that never got so far and that is fatal
// (see IsFatal) ends Run if no session before it did, or with
// Config.StopOnFatal; later it is retried at the longest wait. After a lost
// connection the next session begins as soon as there is another; after any
// other error there is a backoff. But where the connection was lost for something
// that was said on it while a session set itself up, that session may be why (a queue
// without a majority is such a case): it lets those work that use the same connection, for
// a second at first, and in the end for five minutes, until it has been ready. When a
// session ended because something that Config.Topology declares was missing, the topology
// is declared again first. failed, which may be nil, is called from Run's goroutine with
// each error that leads to another session.
//
// The channel is closed when the session returns, unless it was kept.
func (p *Pool) Run(ctx context.Context, role Role, session func(context.Context, *Channel) error, failed func(error)) error {
	if err := p.admit(role); err != nil {
		return err
	}
	waits := p.cfg.Backoff()
	succeeded, redeclare := false, false
	costly := 0 // connections in a row that may have been lost for what a session said to set itself up
	for {
		lf, err := p.links[role].ready(ctx)
		if err != nil {
			return err
		}
		if redeclare {
			if err := lf.declare(ctx); err != nil && ctx.Err() != nil {
				return err
			}
		}
		began := time.Now()
		ready, err := runSession(ctx, lf, session)
		succeeded = succeeded || ready
		if err == nil {
			return nil
		}
		if permanent, inner := isPermanent(err); permanent {
			return inner
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fatal := !ready && IsFatal(err)
		if fatal && (!succeeded || p.cfg.StopOnFatal) {
			return err
		}
		if failed != nil {
			failed(err)
		}
		redeclare = mendable(err, p.cfg.Topology)
		if ready {
			costly = 0
		}
		if ready && time.Since(began) >= stableAfter {
			waits.Reset()
		}
		switch {
		case !ready && lf.isOver() && saidOnIt(err):
			costly++
			if _, err = p.links[role].ready(ctx); err == nil {
				err = p.pause(ctx, costlyWait(costly))
			}
		case lf.isOver(), errors.Is(err, Again):
			// The link waits before it dials again; or progress was made.
			continue
		case fatal:
			err = p.pause(ctx, longestWait)
		default:
			err = p.pause(ctx, nextWait(waits))
		}
		if err != nil {
			return err
		}
	}
}

// runSession opens a channel and runs one session on it.
func runSession(ctx context.Context, lf *life, session func(context.Context, *Channel) error) (ready bool, err error) {
	ch, err := lf.channel(ctx)
	if err != nil {
		return false, err
	}
	sctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	returned := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-ch.done:
			cancel(ch.Err())
		case <-returned:
		}
	}()
	err = session(sctx, ch)
	close(returned)
	<-ended
	if !ch.isKept() {
		// When ctx has ended nobody waits for the answer; it is seen to in the
		// background.
		if cerr := ch.close(ctx); cerr != nil && err == nil && ctx.Err() == nil && lf.conn.reason() == nil {
			err = fmt.Errorf("end session: %w", cerr)
		}
	}
	return ch.isReady(), err
}

// pause waits before the next attempt, unless ctx ends or the pool closes.
func (p *Pool) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.running.Done():
		return ErrClosed
	}
}
