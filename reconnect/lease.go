package reconnect

import (
	"context"
	"errors"
	"fmt"
)

// keptLeases is how many channels of a connection wait for their next lease. What is
// leased more often than that at a time is opened anew: channels are cheap, and each
// one kept costs the broker some memory.
const keptLeases = 8

var errReleased = errors.New("the lease of this channel is over")

// Acquire waits, as long as ctx allows, for a connection of role (for Publishing one
// that is not blocked) and for a free channel number on it, and leases a channel, for
// what this package does not do itself. Nobody else uses that channel until it is
// released, which the caller has to do; it is then handed out again, if it is as it
// was: see Channel.Release.
func (p *Pool) Acquire(ctx context.Context, role Role) (*Channel, error) {
	if err := p.admit(role); err != nil {
		return nil, err
	}
	for {
		lf, err := p.links[role].ready(ctx)
		if err != nil {
			return nil, err
		}
		c, err := lf.lend(ctx)
		switch {
		case err == nil:
			return c, nil
		case ctx.Err() != nil || !lf.isOver():
			return nil, err
		}
		// The connection was lost on the way: there will be another.
	}
}

// lend leases a channel that was given back, or a new one.
func (lf *life) lend(ctx context.Context) (*Channel, error) {
	for {
		select {
		case c := <-lf.kept:
			if lease := c.lend(); lease != nil {
				return lease, nil
			}
			continue
		default:
		}
		select {
		case c := <-lf.kept:
			if lease := c.lend(); lease != nil {
				return lease, nil
			}
		case lf.numbers <- struct{}{}:
			c, err := lf.open(ctx)
			if err != nil {
				return nil, err
			}
			c.leased = true
			return c, nil
		case <-lf.conn.gone:
			return nil, lf.lost()
		case <-ctx.Done():
			return nil, lf.noNumber(ctx)
		}
	}
}

// channel opens a channel for a session, which nobody has used before. What is kept
// for leases makes room for it.
func (lf *life) channel(ctx context.Context) (*Channel, error) {
	for {
		select {
		case lf.numbers <- struct{}{}:
			return lf.open(ctx)
		default:
		}
		select {
		case lf.numbers <- struct{}{}:
			return lf.open(ctx)
		case c := <-lf.kept:
			_ = c.close(ctx)
		case <-lf.conn.gone:
			return nil, lf.lost()
		case <-ctx.Done():
			return nil, lf.noNumber(ctx)
		}
	}
}

func (lf *life) lost() error { return fmt.Errorf("open channel: %w: %w", ErrLost, lf.conn.reason()) }

func (lf *life) noNumber(ctx context.Context) error {
	return fmt.Errorf("open channel: all %d that the broker allows on a connection are in use: %w", cap(lf.numbers), context.Cause(ctx))
}

// lend begins the next lease of a channel that was given back; nil if it is over.
func (c *Channel) lend() *Channel {
	if c.raw.IsClosed() {
		return nil
	}
	return &Channel{channel: c.channel, leased: true}
}

// Release ends a lease: nothing may be done with the channel any more, and its next user
// suffers from no late Call, Close or Release of this one. It is kept for the next Acquire
// if nothing but Call was done with it. If Raw was taken, or OnBarrier or Abandon called,
// something has changed, or may have, that outlasts a call (confirm mode, prefetch, a
// consumer, a listener), so it is closed, as it is, after that, when a call is still under
// way. A Call that changes such things has to end the lease by Close instead. Release does
// not wait for the broker's word, as Close does. Further calls do nothing.
func (c *Channel) Release() {
	if !c.leased || c.released.Swap(true) {
		return
	}
	if c.keepForNext() {
		return
	}
	_ = c.closing() // nobody waits for the answer
}

// keepForNext makes the channel available to the next lease, if it is as it was.
func (c *Channel) keepForNext() bool {
	select {
	case c.turn <- struct{}{}: // no call is under way, and none can begin
	default:
		return false
	}
	c.mu.Lock()
	asItWas := !c.closed && !c.changed && !c.raw.IsClosed() // not Err: the driver knows first
	c.mu.Unlock()
	<-c.turn
	if !asItWas {
		return false
	}
	select {
	case c.life.kept <- c:
		return true
	default:
		return false // there are enough
	}
}
