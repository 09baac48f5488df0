package engine

import (
	"slices"
	"strconv"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// deaths is a message's history of dead-lettering, the latest first.
type deaths struct {
	list                               []death
	firstQueue, firstReason, firstFrom string
	lastQueue, lastReason, lastFrom    string
}

type death struct {
	queue, reason string
	exchange      string
	keys          []string
	count         int64
	first         int64 // unix seconds
	expiration    int64 // the message's own when it died first, or noTTL
}

// recorded returns the history with one more death in it.
func (d *deaths) recorded(m *message, queue, reason string) *deaths {
	next := &deaths{}
	if d != nil {
		*next = *d
		next.list = slices.Clone(d.list)
	} else {
		next.firstQueue, next.firstReason, next.firstFrom = queue, reason, m.exchange
	}
	next.lastQueue, next.lastReason, next.lastFrom = queue, reason, m.exchange
	i := slices.IndexFunc(next.list, func(o death) bool { return o.queue == queue && o.reason == reason })
	if i >= 0 {
		again := next.list[i]
		again.count++
		next.list = slices.Insert(slices.Delete(next.list, i, i+1), 0, again)
		return next
	}
	keys := m.keys()
	if m.cc != nil {
		keys = slices.DeleteFunc(keys, func(k string) bool { return slices.Contains(m.cc.bcc, k) })
	}
	next.list = slices.Insert(next.list, 0, death{
		queue: queue, reason: reason, exchange: m.exchange, keys: keys, count: 1,
		first: time.Now().Unix(), expiration: m.ttl,
	})
	return next
}

// cycle tells whether a message would come again to a queue that it has been in,
// without anybody having rejected it since.
func (d *deaths) cycle(queue string) bool {
	i := slices.IndexFunc(d.list, func(o death) bool { return o.queue == queue })
	if i < 0 {
		return false
	}
	return !slices.ContainsFunc(d.list[:i+1], func(o death) bool { return o.reason == "rejected" })
}

// headers are what a consumer sees of it.
func (d *deaths) headers() wire.Table {
	infos := make(wire.Array, len(d.list))
	for i, o := range d.list {
		keys := make(wire.Array, len(o.keys))
		for j, k := range o.keys {
			keys[j] = k
		}
		var t wire.Table
		if o.expiration != noTTL {
			t = append(t, wire.Field{Key: "original-expiration", Value: strconv.FormatInt(o.expiration, 10)})
		}
		infos[i] = append(t,
			wire.Field{Key: "count", Value: o.count},
			wire.Field{Key: "reason", Value: o.reason},
			wire.Field{Key: "queue", Value: o.queue},
			wire.Field{Key: "time", Value: wire.Timestamp(o.first)},
			wire.Field{Key: "exchange", Value: o.exchange},
			wire.Field{Key: "routing-keys", Value: keys},
		)
	}
	return wire.Table{
		{Key: "x-death", Value: infos},
		{Key: "x-first-death-exchange", Value: d.firstFrom},
		{Key: "x-first-death-queue", Value: d.firstQueue},
		{Key: "x-first-death-reason", Value: d.firstReason},
		{Key: "x-last-death-exchange", Value: d.lastFrom},
		{Key: "x-last-death-queue", Value: d.lastQueue},
		{Key: "x-last-death-reason", Value: d.lastReason},
	}
}

// letter is a dead letter on its way into queues.
type letter struct {
	msg *message
	to  []*queue
	of  *stuck // what is sent at least once, or nil
}

// bury takes an entry out of the queue for good: to the dead-letter exchange, if
// there is one, else away. The entry is in the queue's hands no more, unless it is
// dead-lettered at least once.
func (q *queue) bury(e *entry, reason string) {
	switch {
	case q.atLeastOnce:
		q.buryOnce(e, reason)
	case q.sendDead(e.msg, e.deliveries, reason):
		q.noteEntry(EventDeadLettered, e, reason)
	default:
		q.noteEntry(EventDropped, e, reason)
	}
}

// sendDead publishes a message to the queue's dead-letter exchange. It is false if
// there is none.
func (q *queue) sendDead(m *message, deliveries uint32, reason string) bool {
	if !q.deadLetter || q.vhost.exchanges[q.deadLetterExchange] == nil {
		return false
	}
	dead := q.dead(m, deliveries, reason)
	q.post(letter{msg: dead, to: outOfCycles(q.routeDead(dead), dead, reason)})
	return true
}

// post has run store the letter, by itself and behind what was posted before.
func (q *queue) post(l letter) {
	q.vhost.broker.letters = append(q.vhost.broker.letters, l)
}

// store puts a letter into its queues.
func (l letter) store() {
	var from *Channel
	if l.of != nil {
		from = l.of.entry.queue.worker
	}
	for _, to := range l.to {
		if !to.deleted && to.accept(l.msg, from) && l.of != nil {
			l.of.taken = append(l.of.taken, to.name)
		}
	}
	if l.of != nil {
		l.of.entry.queue.arrived(l.of, l.to)
	}
}

// dead is a message as it goes to the queue's dead-letter exchange.
func (q *queue) dead(m *message, deliveries uint32, reason string) *message {
	dead := *m
	dead.deaths = m.deaths.recorded(m, q.name, reason)
	dead.exchange = q.deadLetterExchange
	dead.deliveryCount = 0
	if q.vhost.broker.opts.Rules == Rules43 {
		dead.deliveryCount = deliveries
	}
	if m.ttl != noTTL {
		dead.ttl = noTTL
		dead.properties = withoutExpiration(m.properties)
	}
	if q.hasDeadLetterKey {
		dead.key, dead.cc = q.deadLetterKey, nil
		if m.cc != nil && len(m.cc.bcc) > 0 {
			dead.cc = &extraKeys{bcc: m.cc.bcc}
		}
	}
	return &dead
}

// routeDead finds the queues that a dead letter belongs in.
func (q *queue) routeDead(dead *message) []*queue {
	var headers wire.Table
	if len(dead.properties) > 1 && wire.Flag(dead.properties[0])<<8&wire.FlagHeaders != 0 {
		if p, err := wire.ParseProperties(dead.properties); err == nil {
			headers = p.Headers
		}
	}
	// The publish that brought this about may be going through its own routes.
	b := q.vhost.broker
	routes := b.routed
	b.routed = nil
	defer func() { b.routed = routes }()
	return q.vhost.route(q.vhost.exchanges[q.deadLetterExchange], dead, headers)
}

// outOfCycles leaves out the queues that a dead letter must not come to again.
func outOfCycles(to []*queue, dead *message, reason string) []*queue {
	return slices.DeleteFunc(to, func(q *queue) bool { return reason != "rejected" && dead.deaths.cycle(q.name) })
}

func withoutExpiration(raw []byte) []byte {
	p, err := wire.ParseProperties(raw)
	if err != nil {
		return raw
	}
	p.Flags &^= wire.FlagExpiration
	return p.Append(nil)
}
