package engine

import (
	"slices"
	"strings"

	"github.com/mqkit/mqkit/internal/wire"
)

// Publish takes a message. The sink's Return and Confirm come before it is back,
// in this order, unless confirms are batched. The engine keeps the slices.
func (ch *Channel) Publish(m *wire.BasicPublish, properties, body []byte) *Exception {
	return ch.do(func(vh *vhost) *Exception { return ch.publish(vh, m, properties, body) })
}

func (ch *Channel) publish(vh *vhost, m *wire.BasicPublish, properties, body []byte) *Exception {
	b := ch.broker
	if m.Immediate {
		return NewException(codeNotImplemented, "immediate=true")
	}
	if len(body) > b.opts.MaxMessageSize {
		return exceptionf(codePreconditionFailed, "message size %d is larger than configured max size %d",
			len(body), b.opts.MaxMessageSize)
	}
	x := vh.exchanges[m.Exchange]
	if x == nil {
		return noExchange(vh.name, m.Exchange)
	}
	if x.internal {
		return exceptionf(codeAccessRefused, "cannot publish to internal exchange '%s' in vhost '%s'", x.name, vh.name)
	}
	s, properties, e := scanProperties(properties)
	if e != nil {
		return e
	}
	if s.replyTo == replyToName {
		if ch.replyTo == "" {
			return NewException(codePreconditionFailed, "fast reply consumer does not exist")
		}
		properties = withReplyTo(properties, ch.replyTo)
	}
	if s.hasUser && s.userID != ch.conn.info.User {
		return exceptionf(codePreconditionFailed, "user_id property set to '%s' but authenticated user was '%s'",
			s.userID, ch.conn.info.User)
	}
	msg := &message{
		exchange: x.name, key: m.RoutingKey, cc: s.cc, properties: properties, body: body,
		ttl: s.ttl, priority: s.priority, persistent: s.persistent,
	}
	var number uint64
	if ch.confirms || ch.tx != nil {
		number = ch.nextConfirm
		ch.nextConfirm++
	}
	if b.opts.Event != nil {
		b.note(Event{
			Kind: EventPublished, Conn: ch.conn.info.Name, Channel: ch.number, Vhost: vh.name, Exchange: x.name,
			RoutingKey: m.RoutingKey, MessageID: messageID(properties), Tag: number, Body: body,
		})
	}
	queues := vh.route(x, msg, s.headers)
	if len(queues) == 1 && queues[0].name == msg.key {
		msg.key = queues[0].name // one string for all of them
	}
	if ch.tx != nil {
		ch.tx.publishes = append(ch.tx.publishes, txPublish{msg, slices.Clone(queues), m.Mandatory})
		return nil
	}
	refused := ch.store(msg, queues, m.Mandatory)
	if ch.confirms {
		ch.confirm(number, refused)
	}
	return nil
}

// store puts a message into its queues, or returns it, and tells whether a queue
// has refused it.
func (ch *Channel) store(msg *message, queues []*queue, mandatory bool) (refused bool) {
	routed := len(queues) > 0
	if msg.exchange == "" && strings.HasPrefix(msg.key, replyToName) {
		routed = ch.broker.reply(msg) || routed
	}
	for _, q := range queues {
		if !q.deleted && !q.accept(msg, ch) {
			refused = true
		}
	}
	if !routed && mandatory {
		if ch.broker.opts.Event != nil {
			ch.broker.note(Event{
				Kind: EventReturned, Conn: ch.conn.info.Name, Channel: ch.number, Vhost: ch.conn.vhost.name,
				Exchange: msg.exchange, RoutingKey: msg.key, MessageID: messageID(msg.properties), Body: msg.body,
			})
		}
		ch.sink.Return(codeNoRoute, "NO_ROUTE", msg.exchange, msg.key, msg.properties, msg.body)
	}
	return refused
}

// accept stores a message in the queue, unless it is full and rejects. Without a
// publisher (a dead letter) nobody is told.
func (q *queue) accept(msg *message, from *Channel) bool {
	if q.refuses(msg, from) {
		if q.vhost.broker.opts.Event != nil {
			q.noteEntry(EventRefused, &entry{msg: msg, queue: q}, "maxlen")
		}
		return false
	}
	if q.log != nil {
		q.log.append(q, msg)
		q.touch()
		return true
	}
	q.nextPos++
	e := &entry{msg: msg, pos: q.nextPos, queue: q, deliveries: msg.deliveryCount}
	if e.deliveries > 0 { // it was dead-lettered
		e.acquired, e.redelivered = e.deliveries, true
	}
	if ttl := shorter(q.ttl, msg.ttl); ttl != noTTL {
		if ttl == 0 && q.kind == quorum {
			ttl = 1
		}
		e.expires = q.vhost.broker.now() + ttl
		q.timed = true
	}
	q.fresh = e
	q.ready.push(e, q.levelOf(msg))
	q.noteEntry(EventEnqueued, e, "")
	q.touch()
	return true
}

func shorter(a, b int64) int64 {
	if a == noTTL || b != noTTL && b < a {
		return b
	}
	return a
}

// levelOf is where a message's priority puts it.
func (q *queue) levelOf(m *message) int {
	p := int(m.priority)
	switch {
	case q.kind == classic:
		return min(max(p, 0), len(q.ready.levels)-1)
	case q.ready.twoToOne:
		if p > 4 {
			return 1
		}
		return 0
	case p < 0:
		return 4
	}
	return min(p, len(q.ready.levels)-1)
}
