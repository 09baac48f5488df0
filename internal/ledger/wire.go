package ledger

import (
	"slices"
	"time"
)

// readWire finds out what the broker has said of each sending: SaidAck, SaidNack, or
// nothing.
func (c *check) readWire() {
	heard := map[channel][]Event{} // the publishes of each channel, by their numbers
	var channels []channel
	for _, e := range c.b.Events {
		if e.Kind == Published {
			at := channel{e.Conn, e.Channel}
			if heard[at] == nil {
				channels = append(channels, at)
			}
			heard[at] = append(heard[at], e)
		}
	}
	numbered := map[sending]string{}
	last := uint64(0)
	for _, a := range c.b.attempts {
		numbered[sending{a.Session, a.Number}] = a.ID
		last = max(last, a.Session)
	}
	// Which session a channel was: the latest that has sent the same under the same
	// numbers, and was before that of the next channel. An earlier one may have sent the
	// same, but then nothing of it that has its verdict: that was not sent again.
	c.sessions = map[channel]uint64{}
	for _, at := range slices.Backward(channels) {
		for s := last; s > 0; s-- {
			if same(heard[at], numbered, s) {
				c.sessions[at], last = s, s-1
				break
			}
		}
		if c.sessions[at] == 0 {
			c.finding(5, heard[at][0].ID, "the broker got what no session has sent, on channel %d of connection %d", at.number, at.conn)
		}
	}

	c.wire, c.returned, c.stored = map[sending]Kind{}, map[string]uint64{}, map[string]int{}
	open := map[channel]map[uint64]bool{} // numbers of which nothing was said
	for _, e := range c.b.Events {
		at := channel{e.Conn, e.Channel}
		switch e.Kind {
		case Published:
			if open[at] == nil {
				open[at] = map[uint64]bool{}
			}
			open[at][e.Tag] = true
		case SaidAck, SaidNack:
			for n := range open[at] {
				if n == e.Tag || e.Multiple && n < e.Tag {
					c.wire[sending{c.sessions[at], n}] = e.Kind
					delete(open[at], n)
				}
			}
		case SaidReturn:
			c.returned[e.ID] = c.sessions[at]
		case Stored:
			c.stored[e.ID]++
		default:
		}
	}
}

func same(heard []Event, numbered map[sending]string, session uint64) bool {
	for _, e := range heard {
		if numbered[sending{session, e.Tag}] != e.ID {
			return false
		}
	}
	return true
}

// verdicts is promises 3, 5 and 7.
func (c *check) verdicts() {
	for id, verdict := range c.told {
		if (verdict == "unknown" || verdict == "confirmed" || verdict == "returned" || verdict == "nacked") && len(c.attempts[id]) == 0 {
			c.finding(5, id, "%s was said of what was handed to no connection", verdict)
		}
		if c.b.Events == nil {
			continue
		}
		switch verdict {
		case "confirmed":
			if !c.said(id, SaidAck) {
				c.finding(3, id, "it was called confirmed, and the broker never confirmed it")
			}
			if c.stored[id] == 0 {
				c.finding(7, id, "it was called confirmed, and no queue took it")
			}
		case "nacked":
			if !c.said(id, SaidNack) {
				c.finding(3, id, "it was called nacked, and the broker never nacked it")
			}
		case "returned":
			if !c.said(id, SaidAck) || c.returned[id] != c.lastAttempt(id).Session {
				c.finding(3, id, "it was called returned, and the broker never returned and confirmed it")
			}
		default:
		}
	}
	for _, e := range c.b.Events {
		if e.Kind == Published && c.told[e.ID] == "not sent" {
			c.finding(5, e.ID, "it was called not sent, and the broker got it")
		}
	}
}

// said reports whether the broker said so of the last sending of the message: what it
// said of those before was lost with their sessions.
func (c *check) said(id string, what Kind) bool {
	a := c.lastAttempt(id)
	return c.wire[sending{a.Session, a.Number}] == what
}

// lastAttempt is zero if there is none.
func (c *check) lastAttempt(id string) Attempt {
	list := c.attempts[id]
	if len(list) == 0 {
		return Attempt{}
	}
	return list[len(list)-1]
}

// settlements is promise 4. What leaves a queue by a reject names no delivery there.
func (c *check) settlements() {
	rejects := map[string]int{} // by handlers, less those that were carried out
	for _, s := range c.b.settlements {
		if s.Done == "reject" {
			rejects[s.ID]++
		}
	}
	finished := map[delivery]time.Time{}
	for _, f := range c.b.finishes {
		finished[delivery{f.Session, f.Tag}] = f.At
	}
	for _, e := range c.b.Events {
		switch which := (delivery{e.Session, e.Tag}); {
		case e.Kind == Acked && e.Session != "":
			s, at := c.settled[which], finished[which]
			if s.Done != "ack" || s.ID != e.ID {
				c.finding(4, e.ID, "delivery %d of %s was acked, and its handler said %q of %q", e.Tag, e.Session, s.Done, s.ID)
			} else if at.IsZero() || e.At.Before(at) {
				c.finding(4, e.ID, "delivery %d of %s was acked before its handler had finished", e.Tag, e.Session)
			}
		case (e.Kind == DeadLettered || e.Kind == Dropped) && e.Reason == "rejected":
			if rejects[e.ID]--; rejects[e.ID] < 0 {
				c.finding(4, e.ID, "it was rejected, and no handler said so")
			}
		}
	}
}
