package ledger

import "slices"

// The causes of a sighting that is not the first.
const (
	causeRepublished  = "published again, its verdict was lost or a nack"
	causeDeadLettered = "dead-lettered"
	causeEnded        = "its session ended before its ack was taken"
	causeRequeued     = "requeued"
	causeReleased     = "released"
	causeTimeout      = "consumer timeout"
)

// sightings is promise 6, and of 2 that nothing unknown is seen.
func (c *check) sightings() {
	var exact map[delivery]given
	if c.b.Events != nil {
		exact = c.exactCauses()
	}
	for id, list := range c.receipts {
		if len(c.attempts[id]) == 0 {
			c.finding(2, id, "it was seen, and was not published")
			continue
		}
		if c.b.Events == nil {
			c.admissibleCauses(id, list)
			continue
		}
		for i, r := range list {
			g, ok := exact[delivery{r.Session, r.Tag}]
			if !ok {
				c.finding(6, id, "delivery %d of %s has no cause", r.Tag, r.Session)
				continue
			}
			if i > 0 {
				c.Again[g.cause]++
			}
			if r.Failures != g.failures {
				c.finding(6, id, "delivery %d of %s was told of %d failures, and there were %d", r.Tag, r.Session, r.Failures, g.failures)
			}
		}
	}
}

// given is why a copy of a message was given out, and how often it had failed before: the
// broker counts what was put back, but for what was released.
type given struct {
	cause    string
	failures int
}

// exactCauses finds for each delivery of the broker's book why it was made: its message
// was stored, or put back.
func (c *check) exactCauses() map[delivery]given {
	causes := map[delivery]given{}
	stored := map[string][]given{} // by id and queue: copies that were not given out yet
	back := map[string][]given{}   // those that were put back
	dead := map[string]int{}       // how often it has left the queue for another
	copies := map[string]int{}     // how often it came there
	for _, e := range c.b.Events {
		at, which := e.ID+"\x00"+e.Queue, delivery{e.Session, e.Tag}
		switch e.Kind {
		case DeadLettered:
			dead[e.ID]++
		case Stored:
			if e.Queue != c.b.Queue {
				stored[at] = append(stored[at], given{cause: causeDeadLettered})
				dead[e.ID]-- // which may be told before or behind this
				continue
			}
			if copies[e.ID]++; copies[e.ID] > len(c.attempts[e.ID]) {
				c.finding(6, e.ID, "it was stored %d times, and sent %d times", copies[e.ID], len(c.attempts[e.ID]))
			}
			stored[at] = append(stored[at], given{cause: causeRepublished})
		case Requeued:
			cause, failures := c.putBack(e), causes[which].failures
			if cause != causeReleased {
				failures++
			}
			back[at] = append(back[at], given{cause, failures})
		case Delivered:
			from := stored
			if e.Redelivered {
				from = back
			}
			if len(from[at]) == 0 {
				continue // it came from nowhere
			}
			causes[which], from[at] = from[at][0], from[at][1:] // in the order in which they came
		default:
		}
	}
	for id, n := range dead {
		switch {
		case n < 0:
			c.finding(6, id, "it came to another queue, and was not dead-lettered")
		case n > 0:
			c.finding(1, id, "it was dead-lettered, and came to no other queue")
		}
	}
	return causes
}

// putBack is why a delivery was put back, which the consumer must have said, unless
// its session is over.
func (c *check) putBack(e Event) string {
	said := c.settled[delivery{e.Session, e.Tag}].Done
	switch e.Reason {
	case "rejected":
		if said != "requeue" {
			c.finding(6, e.ID, "delivery %d of %s was requeued, and its handler said %q", e.Tag, e.Session, said)
		}
		return causeRequeued
	case "released":
		if said != "release" && said != "stale" { // stale: its handler outlasted the drain
			c.finding(6, e.ID, "delivery %d of %s was released, and its handler said %q", e.Tag, e.Session, said)
		}
		return causeReleased
	case "timeout":
		return causeTimeout
	default:
		return causeEnded
	}
}

// admissibleCauses looks for a cause of each sighting but the first in what the
// publisher and the consumer know.
func (c *check) admissibleCauses(id string, list []Receipt) {
	again := len(c.attempts[id]) - 1
	rejected := c.wasRejected(list)
	first := slices.IndexFunc(list, func(r Receipt) bool { return r.Queue == c.b.Queue })
	var open []Receipt // those before that may have caused one
	for i, r := range list {
		cause := ""
		if r.Redelivered {
			for i, before := range open {
				if before.Queue != r.Queue {
					continue
				}
				if cause = c.comesAgain(before, r); cause != "" {
					open = slices.Delete(open, i, i+1)
					break
				}
			}
		}
		switch {
		case cause != "":
		case r.Queue != c.b.Queue: // with the redelivered flag of where it was rejected
			if !rejected {
				c.finding(6, id, "delivery %d of %s came from %q, and nobody has rejected it", r.Tag, r.Session, r.Queue)
				continue
			}
			cause = causeDeadLettered // at least once: a copy may come twice
		case i == first:
			open = append(open, r)
			continue
		case again > 0:
			again--
			cause = causeRepublished
		default:
			c.finding(6, id, "delivery %d of %s (redelivered %v) has no cause", r.Tag, r.Session, r.Redelivered)
			continue
		}
		c.Again[cause]++
		open = append(open, r)
	}
}

// wasRejected reports whether one of deliveries went to the dead-letter queue. Where it
// stands among them says nothing: each queue has a consumer that writes for itself.
func (c *check) wasRejected(deliveries []Receipt) bool {
	return c.b.DeadLetters && slices.ContainsFunc(deliveries, func(r Receipt) bool {
		return r.Queue == c.b.Queue && c.settled[delivery{r.Session, r.Tag}].Done == "reject"
	})
}

// comesAgain is why the message of a delivery may be given out again, "" if it may not.
func (c *check) comesAgain(before, now Receipt) string {
	switch s, ok := c.settled[delivery{before.Session, before.Tag}]; {
	case ok && s.Done == "requeue":
		return causeRequeued
	case ok && s.Done == "release":
		return causeReleased
	case before.Session != now.Session:
		return causeEnded // also of an ack or a reject: it may not have been taken
	default:
		return ""
	}
}
