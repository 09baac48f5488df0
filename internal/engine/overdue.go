package engine

import "slices"

// checkOverdue deals with deliveries that were not settled in time. By 4.2 rules
// the channel is closed. By 4.3 rules the deliveries go back to their queue and
// their consumer is told that it is cancelled. It is not, yet: younger
// deliveries stay valid, and once it has settled the overdue ones (which makes no
// difference any more) it is served again. It ends when the client says so. Where
// nobody can be told (the delivery is of a get or of a consumer that has ended, or the
// client has not announced that it listens) the channel is closed too, and what was
// overdue has gone back before that, so it does not count as failed.
func (ch *Channel) checkOverdue() {
	if ch.closed {
		return
	}
	now := ch.broker.now()
	var due []*entry
	next := int64(0)
	for _, s := range ch.unacked.slots[ch.unacked.head:] {
		switch {
		case s.e == nil || s.e.due == 0:
		case s.e.due <= now:
			due = append(due, s.e)
		case next == 0 || s.e.due < next:
			next = s.e.due
		}
	}
	if next != 0 {
		ch.overdue.set(ch.broker, next, ch.checkOverdue)
	}
	if len(due) == 0 {
		return
	}
	if ch.broker.opts.Rules == Rules42 {
		ch.tooSlow(due[0].timeoutUsed())
		return
	}
	var slow []*consumer
	closes := false
	for _, e := range due {
		c := e.holder
		switch {
		case c == nil || ch.consumers[c.tag] != c || ch.conn.info.NoCancelNotify:
			closes = true
		case !slices.Contains(slow, c):
			slow = append(slow, c)
		}
		ch.unacked.replace(e.tag, &entry{msg: e.msg, queue: e.queue, holder: c, tag: e.tag, released: true})
		if c != nil {
			c.timedOut++
		}
		ch.requeue(e, false, "timeout")
	}
	if closes {
		ch.tooSlow(-1)
		return
	}
	for _, c := range slow {
		c.leaveTurn()
		ch.cancelled(c.tag)
	}
}

// timeoutUsed is the one that a delivery was given, in milliseconds.
func (e *entry) timeoutUsed() int64 {
	if e.holder != nil {
		return e.holder.timeout.Milliseconds()
	}
	return e.queue.consumerTimeout.Milliseconds()
}

func (ch *Channel) tooSlow(timeout int64) {
	e := exceptionf(codePreconditionFailed, "delivery acknowledgement on channel %d timed out. Timeout value used: %d ms. "+
		"This timeout value can be configured, see consumers doc guide to learn more", ch.number, timeout)
	_ = ch.failed(e)
	ch.sink.Close(e)
}
