package engine

import "github.com/mqkit/mqkit/internal/wire"

// run delivers what can be delivered and drops what has to go.
func (q *queue) run() {
	if q.deleted {
		return
	}
	if q.log != nil {
		q.runStream()
		return
	}
	if q.singleActive {
		q.chooseActive()
	}
	if q.requeued { // RabbitMQ's requeue_and_run: what is too much is offered to nobody
		q.requeued = false
		q.dropHead()
	}
	q.expire()
	for q.ready.n > 0 {
		c := q.nextConsumer()
		if c == nil {
			break
		}
		q.deliver(c, q.ready.pop())
		q.expire()
	}
	q.fresh = nil
	q.dropHead()
	q.expire()
	q.watchExpiry()
	q.tellPublishers()
}

// nextConsumer is whose turn it is: the highest priority first, and among
// equals one message each.
func (q *queue) nextConsumer() *consumer {
	if q.singleActive {
		c := q.chooseActive()
		if c == nil || !c.ready() {
			return nil
		}
		return c
	}
	for len(q.turn) > 0 {
		if c := q.turn[0]; c.ready() {
			return c
		}
	}
	return nil
}

// ready tells whether the consumer can take something, and takes it out of its
// queue's turn if not.
func (c *consumer) ready() bool {
	if c.can() {
		if c.ch.sink.Ready() {
			return true
		}
		c.ch.behind = true
	}
	c.leaveTurn()
	return false
}

// served sends a consumer to the end of the line of its equals.
func (q *queue) served(c *consumer) {
	if !c.inTurn {
		return
	}
	if !c.can() {
		c.leaveTurn()
		return
	}
	if len(q.turn) < 2 || q.turn[0] != c {
		return
	}
	i := 1
	for i < len(q.turn) && q.turn[i].priority == c.priority {
		q.turn[i-1] = q.turn[i]
		i++
	}
	q.turn[i-1] = c
}

func (q *queue) deliver(c *consumer, e *entry) {
	ch := c.ch
	ch.nextTag++
	e.tag, e.holder = ch.nextTag, c
	if !c.noAck {
		c.unacked++
		if q.kind == classic {
			ch.globalHeld++
		}
		ch.hold(e, c.timeout.Milliseconds())
	}
	d := &ch.broker.delivery
	*d = Delivery{Exchange: e.msg.exchange, RoutingKey: e.msg.key, Properties: e.outgoing(), Body: e.msg.body}
	ch.noteHeld(EventDelivered, e, "")
	ch.sink.Deliver(c.tag, e.tag, e.redelivered, d)
	if c.noAck {
		ch.noteHeld(EventAcked, e, "")
	}
	q.served(c)
}

// tick is how often a channel looks for overdue deliveries before 4.3, in
// milliseconds.
const tick = 60_000

// hold notes a delivery until it is settled.
func (ch *Channel) hold(e *entry, timeout int64) {
	q := e.queue
	q.unacked++
	q.unackedBytes += int64(len(e.msg.body))
	if q.kind == quorum && e.holder == nil {
		q.holders++
	}
	ch.unacked.push(e)
	e.due = 0
	if timeout > 0 && (q.kind == quorum || ch.broker.opts.Rules == Rules42) {
		if ch.broker.opts.Rules == Rules42 {
			timeout = (timeout + tick - 1) / tick * tick
		}
		e.due = ch.broker.now() + timeout
		if ch.overdue.at == 0 || e.due < ch.overdue.at {
			ch.overdue.set(ch.broker, e.due, ch.checkOverdue)
		}
	}
}

// letGo is the other end of hold.
func (ch *Channel) letGo(e *entry) {
	q := e.queue
	q.unacked--
	q.unackedBytes -= int64(len(e.msg.body))
	if q.kind == quorum && q.unacked == 0 {
		q.used()
	}
	c := e.holder
	if c != nil {
		c.unacked--
		if q.kind == classic {
			ch.globalHeld--
		}
	}
	if q.kind == quorum && (c == nil || c.gone && c.unacked == 0) {
		q.holders--
	}
}

// Get fetches one message. It calls ok under the lock with what it found, nil if
// the queue is empty.
func (ch *Channel) Get(m *wire.BasicGet, ok func(*GetOk)) *Exception {
	return ch.do(func(*vhost) *Exception {
		q, e := ch.find(m.Queue)
		if e != nil {
			return e
		}
		if q.kind == stream {
			return exceptionf(codeNotImplemented, "basic.get not supported by stream queues %s", q)
		}
		if q.kind == quorum && q.singleActive {
			kind := "quorum"
			if ch.broker.opts.Rules == Rules43 {
				kind = erlangBinary(kind) // as it prints it
			}
			return exceptionf(codeResourceLocked, "cannot obtain access to locked %s. basic.get operations are not "+
				"supported by %s queues with single active consumer", q, kind)
		}
		q.used()
		q.expire()
		if q.ready.n == 0 {
			ok(nil)
			return nil
		}
		en := q.ready.pop()
		q.expire() // what is left is counted
		ch.nextTag++
		en.tag, en.holder = ch.nextTag, nil
		if !m.NoAck {
			ch.hold(en, q.consumerTimeout.Milliseconds())
		}
		ch.noteHeld(EventDelivered, en, "")
		ok(&GetOk{
			Tag: en.tag, Redelivered: en.redelivered, Remaining: uint32(q.ready.n),
			Delivery: Delivery{
				Exchange: en.msg.exchange, RoutingKey: en.msg.key, Properties: en.outgoing(), Body: en.msg.body,
			},
		})
		if m.NoAck {
			ch.noteHeld(EventAcked, en, "")
		}
		q.touch()
		return nil
	})
}
