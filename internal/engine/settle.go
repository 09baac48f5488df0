package engine

import "github.com/mqkit/mqkit/internal/wire"

// verdict is what a client says of a delivery.
type verdict uint8

const (
	ack     verdict = iota
	discard         // basic.reject: not to be seen again
	drop            // basic.nack: the same, but not counted as a failure
	fail            // basic.reject with requeue
	release         // basic.nack with requeue, and recover: by 4.3 rules no failure
)

// reason is the word of events for what is put back by v.
func (v verdict) reason() string {
	if v == fail {
		return "rejected"
	}
	return "released"
}

// Ack settles a delivery, or all up to it.
func (ch *Channel) Ack(m *wire.BasicAck) *Exception {
	return ch.do(func(*vhost) *Exception { return ch.settle(m.DeliveryTag, m.Multiple, ack) })
}

// Nack gives up a delivery, or all up to it.
func (ch *Channel) Nack(m *wire.BasicNack) *Exception {
	v := drop
	if m.Requeue {
		v = release
	}
	return ch.do(func(*vhost) *Exception { return ch.settle(m.DeliveryTag, m.Multiple, v) })
}

// Reject gives up a delivery.
func (ch *Channel) Reject(m *wire.BasicReject) *Exception {
	v := discard
	if m.Requeue {
		v = fail
	}
	return ch.do(func(*vhost) *Exception { return ch.settle(m.DeliveryTag, false, v) })
}

// Recover requeues all that the channel holds. It calls ok under the lock before
// the first redelivery.
func (ch *Channel) Recover(m *wire.BasicRecover, ok func()) *Exception {
	return ch.do(func(*vhost) *Exception {
		if !m.Requeue {
			return NewException(codeNotImplemented, "requeue=false")
		}
		for _, e := range ch.unacked.takeAll() {
			ch.apply(e, release)
		}
		ok()
		return nil
	})
}

func (ch *Channel) settle(tag uint64, multiple bool, v verdict) *Exception {
	if !multiple {
		e := ch.unacked.take(tag)
		if e == nil {
			return exceptionf(codePreconditionFailed, "unknown delivery tag %d", tag)
		}
		if ch.tx != nil {
			ch.tx.verdicts = append(ch.tx.verdicts, settlement{e, v})
		} else {
			ch.apply(e, v)
		}
		return nil
	}
	es, ok := ch.unacked.takeUpTo(tag, ch.broker.settling[:0])
	if !ok {
		return exceptionf(codePreconditionFailed, "unknown delivery tag %d", tag)
	}
	for _, e := range es {
		if ch.tx != nil {
			ch.tx.verdicts = append(ch.tx.verdicts, settlement{e, v})
		} else {
			ch.apply(e, v)
		}
	}
	clear(es)
	ch.broker.settling = es
	return nil
}

// apply carries a verdict out.
func (ch *Channel) apply(e *entry, v verdict) {
	c := e.holder
	if e.released {
		// The queue took it back already. Once nothing of that kind is left the
		// consumer is served again.
		if c.timedOut--; c.timedOut == 0 {
			c.wake()
			c.queue.touch()
		}
		return
	}
	switch v {
	case ack:
		ch.letGo(e)
		ch.noteHeld(EventAcked, e, "")
	case discard, drop:
		ch.letGo(e)
		if e.queue.deleted || e.queue.kind == stream {
			break
		}
		if v == discard {
			e.deliveries++
		}
		e.acquired++
		e.queue.bury(e, "rejected")
	case fail, release:
		ch.requeue(e, v == fail, v.reason())
	}
	if c == nil || c.gone {
		return
	}
	if ch.globalLimit > 0 {
		ch.wake()
	} else {
		c.wake()
	}
	if c.queue.singleActive {
		c.queue.touch()
	}
}

// requeue gives a delivery back to its queue; failed says that it counts.
func (ch *Channel) requeue(e *entry, failed bool, reason string) {
	if e.released {
		return
	}
	ch.letGo(e)
	q := e.queue
	if q.deleted || q.kind == stream {
		return
	}
	ch.noteHeld(EventRequeued, e, reason)
	q.takeBack(e, failed, reason)
}

// takeBack puts an entry where its type of queue puts what was delivered before:
// a classic one where it stood, a quorum one in front of everything new.
func (q *queue) takeBack(e *entry, failed bool, reason string) {
	rules := q.vhost.broker.opts.Rules
	e.redelivered = true
	e.holder, e.tag, e.due = nil, 0, 0
	if failed || rules == Rules42 {
		e.deliveries++
	}
	e.acquired++
	q.touch()
	if q.kind == classic {
		q.requeued = true
		q.ready.giveBack(e, q.levelOf(e.msg))
		return
	}
	// Before 4.3 what comes by rabbit_fifo's return, so by nack or reject, is then written
	// anew behind all the rest, without its priority: else its log would grow for ever.
	if q.deliveryLimit < 0 && rules == Rules42 && (reason == release.reason() || reason == fail.reason()) {
		q.nextPos++
		e.pos = q.nextPos
		q.ready.push(e, q.levelOf(&message{priority: -1}))
		return
	}
	if q.deliveryLimit >= 0 && int64(e.deliveries) > q.deliveryLimit {
		q.bury(e, "delivery_limit")
		return
	}
	if q.delay(e, failed) {
		return
	}
	q.ready.giveReturned(e)
}
