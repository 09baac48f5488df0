package producer

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// errNoRoom says which bound is meant.
var errNoRoom = errors.New("in flight are as many messages or bytes as the bound allows")

// enqueue has admit wait for room.
func (p *Producer) enqueue(c *Confirmation) error {
	c.admitted = make(chan struct{})
	p.waiting = append(p.waiting, c)
	return nil
}

// turnAway has it not wait.
func turnAway(*Confirmation) error { return ErrFull }

// admit takes c in, or does what full says when there is no room: refuse, or wait until
// ctx ends. Those that wait are taken in order. full is called with mu held.
func (p *Producer) admit(ctx context.Context, c *Confirmation, full func(*Confirmation) error) error {
	p.mu.Lock()
	p.stats.accepted.Add(1) // in the lock: who sees it counted finds its place taken
	var why error
	switch {
	case p.over != nil:
		why = p.over
	case ctx.Err() != nil:
		why = context.Cause(ctx)
	case p.away != nil:
		why = p.away
	case len(p.waiting) == 0 && p.roomLocked(c):
		p.takeLocked(c)
		p.mu.Unlock()
		p.signal()
		return nil
	default:
		why = full(c)
	}
	if why != nil {
		c.giveUpLocked(why)
		p.mu.Unlock()
		return c.err
	}
	in := c.admitted
	p.mu.Unlock()
	select {
	case <-in:
		return nil
	case <-c.done:
		return c.err
	case <-ctx.Done():
		if isDone(in) {
			return nil
		}
		why := fmt.Errorf("%w: %w", p.why(ctx), errNoRoom)
		p.withdraw(c, why)
		<-c.done
		return c.err
	}
}

// roomLocked reports whether c fits into the bound. A message larger than the
// bound fits when it is alone.
func (p *Producer) roomLocked(c *Confirmation) bool {
	return p.inFlight == 0 || p.inFlight < p.cfg.MaxInFlight && p.bytes+c.size <= p.cfg.MaxInFlightBytes
}

func (p *Producer) takeLocked(c *Confirmation) {
	p.inFlight++
	p.bytes += c.size
	c.place = queued
	p.queue.push(c)
	if c.admitted != nil {
		close(c.admitted)
	}
}

// nextIsSuspect reports whether what is to be sent next has to be sent alone.
func (p *Producer) nextIsSuspect() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.queue.next()
	return c != nil && c.suspect
}

// signal wakes the sequencer.
func (p *Producer) signal() {
	select {
	case p.work <- struct{}{}:
	default:
	}
}

// settleLocked frees c's place in the bound and lets those in that wait.
func (p *Producer) settleLocked(c *Confirmation) {
	if c.place == settled {
		return
	}
	c.place = settled
	p.inFlight--
	p.bytes -= c.size
	if p.inFlight == 0 && p.stopped {
		close(p.idle)
	}
	p.letInLocked()
}

// letInLocked takes in those that wait and now fit, in order.
func (p *Producer) letInLocked() {
	taken := 0
	for taken < len(p.waiting) && p.roomLocked(p.waiting[taken]) {
		p.takeLocked(p.waiting[taken])
		p.waiting[taken] = nil
		taken++
	}
	if taken > 0 {
		p.waiting = p.waiting[taken:]
		p.signal()
	}
}

// withdraw gives c up for its caller. What was never handed over is removed;
// otherwise it keeps its place until the broker's verdict or the end of its
// session, and is never sent again.
func (p *Producer) withdraw(c *Confirmation, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.withdrawLocked(c, cause)
}

func (p *Producer) withdrawLocked(c *Confirmation, cause error) {
	if c.told {
		return
	}
	if c.handing { // told in a moment, when the driver has let go of the body
		c.givenUp = cause
		return
	}
	c.giveUpLocked(cause)
	switch c.place {
	case admitting:
		p.waiting = slices.DeleteFunc(p.waiting, func(w *Confirmation) bool { return w == c })
		p.letInLocked() // those behind it may be smaller
	case queued:
		p.queue.remove()
		p.settleLocked(c)
	}
}

// refuseWaitingLocked ends the wait of those that were not taken in.
func (p *Producer) refuseWaitingLocked(cause error) {
	for _, c := range p.waiting {
		c.giveUpLocked(cause)
	}
	p.waiting = nil
}

// openLocked returns those that were taken in and have no verdict yet, in order.
func (p *Producer) openLocked() []*Confirmation {
	var open []*Confirmation
	if p.session != nil {
		for _, c := range p.session.window.entries() {
			if c != nil && !c.told {
				open = append(open, c)
			}
		}
	}
	for _, c := range p.queue.entries() {
		if !c.told {
			open = append(open, c)
		}
	}
	return open
}

// fifo is a queue from which entries leave at the head, or anywhere by being
// told their verdict; those are dropped when they come to the head, or when
// they are half of it.
type fifo struct {
	list []*Confirmation
	head int
	dead int
}

func (q *fifo) push(c *Confirmation) { q.list = append(q.list, c) }

// pop returns the first entry that still wants to be sent, nil if there is none.
func (q *fifo) pop() *Confirmation {
	for q.head < len(q.list) {
		c := q.list[q.head]
		q.list[q.head] = nil
		q.list, q.head = compact(q.list, q.head+1)
		if !c.told {
			return c
		}
		q.dead--
	}
	return nil
}

// next is the entry that pop would return, nil if there is none.
func (q *fifo) next() *Confirmation {
	for _, c := range q.list[q.head:] {
		if !c.told {
			return c
		}
	}
	return nil
}

// remove notes that one entry was told its verdict.
func (q *fifo) remove() {
	q.dead++
	if q.dead >= 64 && q.dead*2 >= len(q.list)-q.head {
		q.list = slices.DeleteFunc(q.entries(), func(c *Confirmation) bool { return c.told })
		q.head, q.dead = 0, 0
	}
}

// unshift puts cs before everything else.
func (q *fifo) unshift(cs []*Confirmation) {
	q.list = append(cs, q.list[q.head:]...)
	q.head = 0
}

func (q *fifo) entries() []*Confirmation { return q.list[q.head:] }
