package engine

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"sync"
	"time"
)

// Broker holds vhosts with all that is in them. Its methods, and those of the
// connections and channels that it gives out, may be called from anywhere.
type Broker struct {
	opts Options

	// mu guards everything: whatever is reachable from here. A method whose
	// caller is not in this package takes it, and settles what it set going (by
	// leave) before it lets go.
	mu      sync.Mutex
	vhosts  map[string]*vhost
	conns   map[*Conn]struct{}
	replies map[string]*Channel // direct reply-to: by the name that stands in reply-to
	closed  bool
	down    bool // from Kill to Restart

	consumerSeq uint64

	clock   int64    // this call's time, unix milliseconds; 0: not asked for yet
	dirty   []*queue // have something to deliver, to drop or to wait for
	letters []letter // dead letters that are on their way

	// Scratch space of routing and delivering.
	routed        []*queue
	round         uint64
	topicRound    uint64 // of topicMatch
	reached       []*exchange
	seenExchanges map[*exchange]bool
	delivery      Delivery
	settling      []*entry
}

// vhost is a namespace of exchanges and queues.
type vhost struct {
	broker      *Broker
	name        string
	defaultType string // of queues whose declare names none, and that can be of it
	exchanges   map[string]*exchange
	queues      map[string]*queue
}

// New starts an empty broker.
func New(o Options) *Broker {
	b := &Broker{
		opts: o.withDefaults(), vhosts: map[string]*vhost{}, conns: map[*Conn]struct{}{},
		replies: map[string]*Channel{},
	}
	for _, name := range b.opts.Vhosts {
		b.addVhost(name, "")
	}
	return b
}

func (b *Broker) addVhost(name, defaultType string) {
	vh := &vhost{
		broker: b, name: name, defaultType: defaultType,
		exchanges: map[string]*exchange{}, queues: map[string]*queue{},
	}
	for _, p := range predeclared {
		x := newExchange(p.name, p.kind)
		x.durable = true
		x.internal = p.name == "amq.rabbitmq.trace"
		vh.exchanges[p.name] = x
	}
	b.vhosts[name] = vh
}

func (b *Broker) enter() {
	b.mu.Lock()
	b.clock = 0
}

func (b *Broker) leave() {
	b.run()
	b.mu.Unlock()
}

// run does what this call has set going: deliver, drop, dead-letter, until
// nothing is left to do. A dead letter is stored once its queues have dealt with all
// that came before it, since a queue of RabbitMQ takes each message singly: what it
// delivers at once does not fill it. It is no recursion, so that queues may
// dead-letter in a circle.
func (b *Broker) run() {
	b.runDirty()
	for i := 0; i < len(b.letters); i++ {
		b.letters[i].store()
		b.runDirty()
	}
	clear(b.letters)
	b.letters = b.letters[:0]
}

func (b *Broker) runDirty() {
	for i := 0; i < len(b.dirty); i++ {
		q := b.dirty[i]
		q.dirty = false
		q.run()
	}
	clear(b.dirty)
	b.dirty = b.dirty[:0]
}

// touch has run look at the queue.
func (q *queue) touch() {
	if !q.dirty && !q.deleted {
		q.dirty = true
		q.vhost.broker.dirty = append(q.vhost.broker.dirty, q)
	}
}

// now is the time of this call in unix milliseconds.
func (b *Broker) now() int64 {
	if b.clock == 0 {
		b.clock = time.Now().UnixMilli()
	}
	return b.clock
}

// newName invents a name as RabbitMQ does: 22 characters of base64.
func (b *Broker) newName(prefix string) string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(id[:])
}

func (b *Broker) note(e Event) {
	if b.opts.Event != nil {
		b.opts.Event(e)
	}
}

// noteEntry tells of something that happened to a message in a queue.
func (q *queue) noteEntry(kind EventKind, e *entry, reason string) {
	if q.vhost.broker.opts.Event == nil {
		return
	}
	q.vhost.broker.opts.Event(Event{
		Kind: kind, Vhost: q.vhost.name, Queue: q.name, Exchange: e.msg.exchange, RoutingKey: e.msg.key,
		MessageID: messageID(e.msg.properties), Redelivered: e.redelivered, Reason: reason, Body: e.msg.body,
	})
}

// noteHeld is noteEntry for what a channel does with a delivery.
func (ch *Channel) noteHeld(kind EventKind, e *entry, reason string) {
	if ch.broker.opts.Event == nil {
		return
	}
	tag := ""
	if e.holder != nil {
		tag = e.holder.tag
	}
	ch.broker.opts.Event(Event{
		Kind: kind, Conn: ch.conn.info.Name, Channel: ch.number, Vhost: e.queue.vhost.name, Queue: e.queue.name,
		Exchange: e.msg.exchange, RoutingKey: e.msg.key, MessageID: messageID(e.msg.properties),
		ConsumerTag: tag, Tag: e.tag, Redelivered: e.redelivered, Reason: reason, Body: e.msg.body,
	})
}

func (q *queue) noteConsumer(kind EventKind, c *consumer, reason string) {
	q.vhost.broker.note(Event{
		Kind: kind, Conn: c.ch.conn.info.Name, Channel: c.ch.number, Vhost: q.vhost.name, Queue: q.name,
		ConsumerTag: c.tag, Reason: reason,
	})
}

// timer calls a function under the lock once its time has come.
type timer struct {
	t  *time.Timer
	at int64 // unix milliseconds, 0: not set
}

// set has f called at that time, unless it is set for it already.
func (t *timer) set(b *Broker, at int64, f func()) {
	if t.at == at || b.closed {
		return
	}
	t.stop()
	t.at = at
	t.t = time.AfterFunc(time.Duration(at-b.now())*time.Millisecond, func() {
		b.enter()
		defer b.leave()
		if t.at == at && !b.closed {
			t.at = 0
			f()
		}
	})
}

func (t *timer) stop() {
	if t.t != nil {
		t.t.Stop()
	}
	t.t, t.at = nil, 0
}

// Close stops every timer. The broker is not used afterwards.
func (b *Broker) Close() {
	b.enter()
	defer b.leave()
	b.closed = true
	for _, vh := range b.vhosts {
		for _, q := range vh.queues {
			q.stopTimers()
		}
	}
	for c := range b.conns {
		for ch := range c.channels {
			ch.overdue.stop()
		}
	}
}

func (q *queue) stopTimers() {
	q.expiry.stop()
	q.ttlTimer.stop()
	q.retryer.stop()
	q.stuckTimer.stop()
}

// remove deletes the first v.
func remove[T comparable](s []T, v T) []T {
	if i := slices.Index(s, v); i >= 0 {
		return slices.Delete(s, i, i+1)
	}
	return s
}
