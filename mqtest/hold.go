package mqtest

import "slices"

// What the actions do that keep something until later.

// hold keeps a unit, and with it what comes after it on its channel.
func (c *conn) hold(ch *channel, u *unit, e *Event, a, next Action) {
	u.waiting, u.action, u.event = true, &next, e
	l, do, resume := &ch.in, c.post, c.resumeIn
	if !u.inbound() {
		c.sayVerdicts(ch)
		l, do, resume = &ch.out, c.out.do, c.resumeOut
	}
	l.held = slices.Insert(l.held, 0, u)
	if a.kind == kindDelay {
		c.after(a.wait, func() {
			do(func() { u.waiting = false; resume(ch) })
		})
		return
	}
	by := u.by
	by.holds(func() {
		do(func() {
			u.waiting = false
			for _, behind := range l.held {
				if behind != u {
					behind.freed = append(behind.freed, by)
				}
			}
			resume(ch)
		})
	})
}

// hoarded are confirms that wait for each other.
type hoarded struct {
	numbers []uint64
	round   int
}

// hoard keeps a confirm until there are enough.
func (c *conn) hoard(ch *channel, u *unit, g *gather) {
	if ch.gathered == nil {
		ch.gathered = map[*gather]*hoarded{}
	}
	have := ch.gathered[g]
	if have == nil {
		have = &hoarded{}
		ch.gathered[g] = have
	}
	have.numbers = append(have.numbers, u.number)
	u.spent = true
	switch {
	case len(have.numbers) >= g.n:
		c.release(ch, g, have)
	case len(have.numbers) == 1 && g.wait > 0:
		round := have.round
		c.after(g.wait, func() {
			c.out.do(func() {
				if have.round == round {
					c.release(ch, g, have)
				}
			})
		})
	}
}

// release says the confirms that were gathered.
func (c *conn) release(ch *channel, g *gather, have *hoarded) {
	c.sayVerdicts(ch)
	numbers := have.numbers
	have.numbers, have.round = nil, have.round+1
	c.mu.Lock()
	stale := ch.closing || c.closing
	c.mu.Unlock()
	if stale || ch.gathered[g] != have {
		return
	}
	slices.Sort(numbers)
	if g.reverse {
		slices.Reverse(numbers)
	}
	for _, n := range numbers {
		ch.verdicts = append(ch.verdicts, verdict{n, g.nack})
	}
	c.sayVerdicts(ch)
}
