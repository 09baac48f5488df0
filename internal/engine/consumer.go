package engine

import (
	"math"
	"slices"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

type consumer struct {
	ch        *Channel
	queue     *queue
	tag       string
	seq       uint64
	noAck     bool
	exclusive bool
	prefetch  int // 0: none
	priority  int
	timeout   time.Duration
	args      wire.Table
	unacked   int
	timedOut  int    // released deliveries that the client has not settled
	quiescing bool   // single active, and to be replaced once it holds nothing
	inTurn    bool   // stands in its queue's turn
	gone      bool   // cancelled; it may still hold deliveries
	cursor    uint64 // a stream's: the offset that comes next
}

// can tells whether the consumer may be given a message now.
func (c *consumer) can() bool {
	switch {
	case c.gone, c.ch.behind, c.timedOut > 0:
		return false
	case !c.noAck && c.room() <= 0:
		return false
	case c.ch.globalLimit > 0 && !c.noAck && c.queue.kind == classic && c.ch.globalHeld >= c.ch.globalLimit:
		return false
	}
	return true
}

// unlimitedPrefetch is what a consumer of a quorum queue may hold that asks for no
// limit (rabbit_fifo_client's UNLIMITED_PREFETCH_COUNT).
const unlimitedPrefetch = 2000

// room is how much more the consumer may hold.
func (c *consumer) room() int {
	switch {
	case c.prefetch > 0:
		return c.prefetch - c.unacked
	case c.queue.kind == quorum:
		return unlimitedPrefetch - c.unacked
	}
	return math.MaxInt
}

// wake puts the consumer in turn, behind those of its priority, if it can take
// something.
func (c *consumer) wake() {
	if c.inTurn || !c.can() {
		return
	}
	q := c.queue
	c.inTurn = true
	at := len(q.turn)
	for at > 0 && q.turn[at-1].priority < c.priority {
		at--
	}
	q.turn = slices.Insert(q.turn, at, c)
	q.touch()
}

func (c *consumer) leaveTurn() {
	if c.inTurn {
		c.inTurn = false
		c.queue.turn = remove(c.queue.turn, c)
	}
}

// Consume starts a consumer. It calls ok under the lock before the first
// delivery, so that consume-ok comes first on the wire.
func (ch *Channel) Consume(m *wire.BasicConsume, ok func(consumerTag string)) *Exception {
	return ch.do(func(vh *vhost) *Exception {
		if _, used := ch.consumers[m.ConsumerTag]; used {
			return exceptionf(codeNotAllowed, "attempt to reuse consumer tag '%s'", m.ConsumerTag)
		}
		tag := m.ConsumerTag
		if tag == "" {
			tag = ch.broker.newName("amq.ctag-")
		}
		if m.Queue == replyToName {
			return ch.consumeReplies(tag, m, ok)
		}
		q, e := ch.find(m.Queue)
		if e != nil {
			return e
		}
		if e := q.checkConsume(m); e != nil {
			return e
		}
		c := &consumer{
			ch: ch, queue: q, tag: tag, noAck: m.NoAck, exclusive: m.Exclusive, prefetch: ch.prefetch,
			timeout: q.consumerTimeout, args: m.Arguments,
		}
		if v, has := m.Arguments.Get("x-priority"); has {
			n, _ := integer(v)
			c.priority = int(n)
		}
		if v, has := m.Arguments.Get("x-consumer-timeout"); has && q.kind == quorum && ch.broker.opts.Rules == Rules43 {
			n, _ := integer(v)
			c.timeout = time.Duration(n) * time.Millisecond
		}
		if e := q.admit(c); e != nil {
			return e
		}
		if q.log != nil {
			c.cursor = q.log.start(m.Arguments, ch.broker.now())
		}
		ch.consumers[tag] = c
		ok(tag)
		c.wake()
		q.touch()
		return nil
	})
}

// checkConsume validates a consume.
func (q *queue) checkConsume(m *wire.BasicConsume) *Exception {
	rules := q.vhost.broker.opts.Rules
	known := q.kind.consumeArgs(rules)
	for _, c := range []struct {
		arg   string
		check func(any, wire.Table) argFault
	}{{"x-priority", checkInteger}, {"x-consumer-timeout", checkNotNegative}, {"x-stream-offset", checkOffset}} {
		v, has := m.Arguments.Get(c.arg)
		if !has || !slices.Contains(known, c.arg) {
			continue
		}
		if f := c.check(v, m.Arguments); f != "" {
			if rules == Rules42 && q.kind == stream {
				return crash()
			}
			return exceptionf(codePreconditionFailed, "invalid arg '%s' for %s: %s", c.arg, q, f)
		}
	}
	elsewhere := slices.Concat(classic.consumeArgs(rules), quorum.consumeArgs(rules), stream.consumeArgs(rules))
	for _, a := range m.Arguments {
		if !slices.Contains(known, a.Key) && slices.Contains(elsewhere, a.Key) {
			return exceptionf(codePreconditionFailed, "invalid arg '%s' for %s of queue type %s", a.Key, q, q.kind.module())
		}
	}
	q.vhost.unknownArgs(m.Arguments, known)
	return nil
}

// admit lets a consumer in, where nobody consumes alone.
func (q *queue) admit(c *consumer) *Exception {
	inUse := exceptionf(codeAccessRefused, "%s in exclusive use", q)
	switch {
	case q.kind == stream:
		if c.prefetch == 0 {
			return exceptionf(codePreconditionFailed, "consumer prefetch count is not set for stream %s", q)
		}
		if c.noAck {
			return exceptionf(codeNotImplemented, "automatic acknowledgement not supported by stream %s", q)
		}
		if c.ch.globalLimit > 0 {
			return exceptionf(codeNotImplemented, "%s does not support global qos", q)
		}
		if notAnOffset(c.args) {
			return crash()
		}
	case q.kind == quorum:
		if c.ch.globalLimit > 0 {
			return exceptionf(codeNotImplemented, "%s does not support global qos", q)
		}
	case q.singleActive:
		if c.exclusive {
			return inUse
		}
	case q.exclusive != nil, c.exclusive && len(q.consumers) > 0:
		return inUse
	case c.exclusive:
		q.exclusive = c
	}
	q.had = true
	q.expiry.stop()
	q.vhost.broker.consumerSeq++
	c.seq = q.vhost.broker.consumerSeq
	q.consumers = append(q.consumers, c)
	q.noteConsumer(EventConsumerAdded, c, "")
	return nil
}

// Cancel ends a consumer. What it holds stays with the channel.
func (ch *Channel) Cancel(m *wire.BasicCancel) *Exception {
	return ch.do(func(*vhost) *Exception {
		ch.cancel(m.ConsumerTag)
		return nil
	})
}

// CancelOk is a client's answer to Sink.Cancel. By 4.3 rules a consumer that was
// too slow is kept until then. RabbitMQ asks for no answer, and one about a
// consumer that it does not have is too much for it; before 4.3 it knew none.
func (ch *Channel) CancelOk(consumerTag string) *Exception {
	return ch.do(func(*vhost) *Exception {
		if ch.broker.opts.Rules == Rules42 {
			return NewException(codeCommandInvalid, "unimplemented method")
		}
		if ch.consumers[consumerTag] == nil {
			return crash()
		}
		ch.cancel(consumerTag)
		return nil
	})
}

func (ch *Channel) cancel(tag string) {
	if tag == ch.replyTag && ch.replyTo != "" {
		delete(ch.broker.replies, ch.replyTo)
		ch.replyTo, ch.replyTag = "", ""
		return
	}
	c := ch.consumers[tag]
	if c == nil {
		return // as the specification has it
	}
	delete(ch.consumers, tag)
	c.queue.drop(c, "cancelled")
	c.queue.afterRemoval(c)
}

// drop takes a consumer off the queue.
func (q *queue) drop(c *consumer, reason string) {
	c.leaveTurn()
	c.gone = true
	if c.queue.kind == quorum && c.unacked > 0 {
		c.queue.holders++
	}
	q.consumers = remove(q.consumers, c)
	if q.exclusive == c {
		q.exclusive = nil
	}
	if q.active == c {
		q.active = nil
	}
	q.noteConsumer(EventConsumerRemoved, c, reason)
	q.touch()
}

// afterRemoval deletes an auto-delete queue with its last consumer.
func (q *queue) afterRemoval(c *consumer) {
	if q.deleted || len(q.consumers) > 0 || q.vhost.broker.down {
		return
	}
	if q.autoDelete && q.had {
		q.delete("auto-delete")
		return
	}
	q.used()
}

// chooseActive finds the one that a queue with a single active consumer serves.
// On a quorum queue one of a higher priority takes over as soon as the present
// one holds nothing, and until then nobody is served, even if it goes again.
func (q *queue) chooseActive() *consumer {
	if len(q.consumers) == 0 {
		return nil
	}
	best := q.consumers[0]
	for _, c := range q.consumers[1:] {
		if q.takesOver(c, best) {
			best = c
		}
	}
	if q.active == nil || q.active.timedOut > 0 && best.timedOut == 0 {
		q.active = best
	}
	if q.kind == quorum && (best.priority > q.active.priority || q.active.quiescing) {
		q.active.quiescing = q.active.unacked > 0
		if q.active.quiescing {
			return nil
		}
		q.active = best
	}
	return q.active
}

// takesOver tells whether c comes before another one that came before it: by its
// priority and, on a quorum queue (rabbit_fifo's sort_waiting), by its prefetch.
func (q *queue) takesOver(c, other *consumer) bool {
	switch {
	case c.timedOut > 0 || other.timedOut > 0:
		return c.timedOut == 0
	case c.priority != other.priority:
		return c.priority > other.priority
	}
	return q.kind == quorum && c.room() > other.room()
}
