package ledger

import (
	"cmp"
	"fmt"
	"slices"
)

// Check judges books. They must not be written to any more.
func Check(b *Books) Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &check{b: b, Report: Report{Verdicts: map[string]int{}, Again: map[string]int{}}}
	c.index()
	c.verdicts()
	c.order()
	c.fates()
	c.sightings()
	if b.Events != nil {
		c.settlements()
	}
	slices.SortStableFunc(c.Findings, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.Promise, b.Promise), cmp.Compare(a.ID, b.ID)) })
	return c.Report
}

type check struct {
	Report
	b *Books

	attempts map[string][]Attempt
	told     map[string]string // the verdicts
	receipts map[string][]Receipt
	settled  map[delivery]Settlement
	stored   map[string]int    // how often a queue took it, by the broker's book
	wire     map[sending]Kind  // what was said of it
	returned map[string]uint64 // the session in which the broker has returned it last
	sessions map[channel]uint64
}

// delivery names one: a tag of a consumer's session.
type delivery struct {
	session string
	tag     uint64
}

// sending names one: a confirm number of a publisher's session.
type sending struct {
	session uint64
	number  uint64
}

// channel is one of a connection, as the broker knows it.
type channel struct {
	conn   int
	number uint16
}

func (c *check) finding(promise int, id, format string, args ...any) {
	c.Findings = append(c.Findings, Finding{promise, id, fmt.Sprintf(format, args...)})
}

func (c *check) index() {
	c.attempts, c.told = map[string][]Attempt{}, map[string]string{}
	c.receipts, c.settled = map[string][]Receipt{}, map[delivery]Settlement{}
	for _, a := range c.b.attempts {
		c.attempts[a.ID] = append(c.attempts[a.ID], a)
	}
	for _, v := range c.b.verdicts {
		if before, twice := c.told[v.ID]; twice {
			c.finding(3, v.ID, "it has two verdicts, %s and %s", before, v.Verdict)
		}
		c.told[v.ID] = v.Verdict
		c.Verdicts[v.Verdict]++
	}
	for _, a := range c.b.answers {
		if told := c.told[a.ID]; told != a.Verdict {
			c.finding(3, a.ID, "its caller was told %q, and its verdict is %q", a.Verdict, told)
		}
	}
	for _, a := range c.b.late {
		c.finding(3, a.ID, "attempt %d was made after its verdict", a.Attempt)
	}
	for _, r := range c.b.receipts {
		c.receipts[r.ID] = append(c.receipts[r.ID], r)
	}
	for _, s := range c.b.settlements {
		at := delivery{s.Session, s.Tag}
		if before, twice := c.settled[at]; twice {
			c.finding(4, s.ID, "delivery %d of %s was settled twice, as %s and as %s", s.Tag, s.Session, before.Done, s.Done)
		}
		c.settled[at] = s
	}
	c.Messages, c.Answers, c.Attempts, c.Receipts = len(c.told), len(c.b.answers), len(c.b.attempts), len(c.b.receipts)
	for id, list := range c.attempts {
		if _, ok := c.told[id]; !ok {
			c.finding(3, id, "it has no verdict")
		}
		for i, a := range list {
			if a.Attempt != i+1 || i > 0 && a.Session <= list[i-1].Session {
				c.finding(8, id, "attempt %d was number %d, in session %d", i+1, a.Attempt, a.Session)
			}
		}
	}
	if c.b.Events != nil {
		c.readWire()
	}
}

// fates is promises 1 and 2, and what 5 and 7 say of what was seen.
func (c *check) fates() {
	left := map[string]int{}
	for _, id := range c.b.Left {
		left[id]++
		if len(c.attempts[id]) == 0 {
			c.finding(2, id, "it is in a queue, and was not published")
		}
	}
	for id := range left {
		// Of several sendings, or dead letters, there may be a copy.
		if len(c.attempts[id]) == 1 && !c.b.DeadLetters && slices.ContainsFunc(c.receipts[id], c.isTaken) {
			c.finding(4, id, "it was acked in a session that was closed in good order, and is in a queue")
		}
	}
	balance, rule := map[string]int{}, map[string]bool{}
	for _, e := range c.b.Events {
		switch e.Kind {
		case Stored:
			balance[e.ID]++
		case Acked:
			balance[e.ID]--
		case DeadLettered, Dropped, Purged:
			balance[e.ID]--
			rule[e.ID] = true
		default:
		}
	}
	for id, verdict := range c.told {
		seen := len(c.receipts[id]) > 0
		if verdict == "unknown" && seen {
			c.UnknownSeen++
		}
		switch there := seen || left[id] > 0; {
		case there && verdict == "not sent":
			c.finding(5, id, "it was called not sent, and was seen or is in a queue")
		case there && verdict == "returned" && len(c.attempts[id]) == 1:
			c.finding(7, id, "it was sent once and called returned, and was seen or is in a queue")
		case verdict != "confirmed" || left[id] > 0 || rule[id]:
		case !seen:
			c.finding(1, id, "it was confirmed, no consumer has seen it, and it is in no queue")
		case !c.done(id):
			c.finding(1, id, "it was confirmed, no consumer is done with it, and it is in no queue")
		}
	}
	if c.b.Events == nil {
		return
	}
	for id, n := range balance {
		if n != left[id] {
			c.finding(1, id, "%d of it should be in queues, %d are", n, left[id])
		}
	}
	for id := range left {
		if _, ok := balance[id]; !ok {
			c.finding(2, id, "it is in a queue that never took it")
		}
	}
}

// isTaken reports whether the broker must have the ack of a delivery.
func (c *check) isTaken(r Receipt) bool {
	return slices.Contains(c.b.Orderly, r.Session) && c.settled[delivery{r.Session, r.Tag}].Done == "ack"
}

// done reports whether a consumer has finished with a message.
func (c *check) done(id string) bool {
	return slices.ContainsFunc(c.receipts[id], func(r Receipt) bool {
		s, ok := c.settled[delivery{r.Session, r.Tag}]
		return ok && (s.Done == "ack" || s.Done == "reject" && !c.b.DeadLetters)
	})
}

// order is promise 8: in each session what is sent again comes first, in its old order.
func (c *check) order() {
	first := map[string]int{}
	again := map[uint64]int{} // the last of those sent again in a session, by its first sending
	fresh := map[uint64]bool{}
	for i, a := range c.b.attempts {
		if a.Attempt == 1 {
			first[a.ID] = i
			fresh[a.Session] = true
			continue
		}
		if fresh[a.Session] {
			c.finding(8, a.ID, "session %d sent it again behind something newer", a.Session)
		}
		if last, ok := again[a.Session]; ok && first[a.ID] < last {
			c.finding(8, a.ID, "session %d sent it again out of its order", a.Session)
		}
		again[a.Session] = first[a.ID]
	}
}
