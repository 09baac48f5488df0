package engine

import (
	"maps"
	"slices"

	"github.com/mqkit/mqkit/internal/wire"
)

// ConnInfo is what the engine needs to know of a connection.
type ConnInfo struct {
	Vhost string
	User  string // that a message's user-id is compared with
	Name  string // for events and ConsumerInfo
	// NoCancelNotify is set for a client that has not announced the capability
	// consumer_cancel_notify: its sinks' Cancel is not called.
	NoCancelNotify bool
	// Closed is told, under the lock, that the broker ends the connection by
	// itself: its vhost was deleted. The connection is closed in the engine
	// already. Defaults to nobody.
	Closed func(*Exception)
}

// Conn is a client's connection: what its exclusive queues live as long as.
type Conn struct {
	broker    *Broker
	vhost     *vhost
	info      ConnInfo
	channels  map[*Channel]struct{}
	exclusive map[*queue]struct{}
	closed    bool
}

// Connect opens a vhost.
func (b *Broker) Connect(info ConnInfo) (*Conn, *Exception) {
	b.enter()
	defer b.leave()
	vh := b.vhosts[info.Vhost]
	if vh == nil {
		return nil, exceptionf(codeNotAllowed, "vhost %s not found", info.Vhost)
	}
	c := &Conn{broker: b, vhost: vh, info: info, channels: map[*Channel]struct{}{}, exclusive: map[*queue]struct{}{}}
	b.conns[c] = struct{}{}
	return c, nil
}

// Close ends the connection: its channels' deliveries are requeued, its
// exclusive queues deleted. It may be called twice. Behind [Broker.Kill] all that
// waits for Restart.
func (c *Conn) Close() {
	c.broker.enter()
	defer c.broker.leave()
	if !c.broker.down {
		c.close()
	}
}

func (c *Conn) close() {
	if c.closed {
		return
	}
	c.closed = true
	delete(c.broker.conns, c)
	for _, ch := range slices.SortedFunc(maps.Keys(c.channels), func(a, b *Channel) int { return int(a.number) - int(b.number) }) {
		ch.close()
	}
	for _, q := range slices.Collect(maps.Keys(c.exclusive)) {
		q.delete("exclusive")
	}
}

// Channel opens a channel. What the broker sends on it by itself goes to sink.
func (c *Conn) Channel(number uint16, sink Sink) *Channel {
	c.broker.enter()
	defer c.broker.leave()
	ch := &Channel{
		broker: c.broker, conn: c, number: number, sink: sink,
		consumers: map[string]*consumer{}, enqueued: map[*queue]struct{}{}, nextConfirm: 1,
	}
	if c.closed {
		ch.closed = true
		return ch
	}
	c.channels[ch] = struct{}{}
	return ch
}

// Channel is an AMQP channel: one session of publishing and consuming.
type Channel struct {
	broker *Broker
	conn   *Conn
	number uint16
	sink   Sink
	closed bool

	deleting  bool     // a queue, by its own wish
	ended     []string // by that: consumers that are told when the delete is answered
	lastQueue string   // what an empty queue name means

	consumers   map[string]*consumer
	nextTag     uint64 // the delivery tag given last
	unacked     held
	prefetch    int // of consumers to come
	globalLimit int // 4.2: of all consumers together, 0: none
	globalHeld  int // how much of it is used
	behind      bool
	overdue     timer

	confirms    bool
	nextConfirm uint64
	pending     pendingConfirms
	tx          *transaction
	enqueued    map[*queue]struct{} // knows the channel as a publisher

	replyTo  string // direct reply-to: the name of its queue
	replyTag string // its consumer's
}

// do applies a method: on an exception it closes what the exception closes.
func (ch *Channel) do(f func(vh *vhost) *Exception) *Exception {
	ch.broker.enter()
	defer ch.broker.leave()
	if ch.closed {
		return nil
	}
	return ch.failed(f(ch.conn.vhost))
}

func (ch *Channel) failed(e *Exception) *Exception {
	switch {
	case e == nil:
		return nil
	case e.Connection:
		ch.conn.close()
	default:
		ch.flushConfirms() // of what went well before
		ch.close()
	}
	return e
}

// Close ends the channel: consumers go, deliveries that were not settled are
// requeued, counted as failed, and an open transaction is forgotten. It may be
// called twice, and after an exception it is done already.
func (ch *Channel) Close() {
	ch.broker.enter()
	defer ch.broker.leave()
	ch.close()
}

func (ch *Channel) close() {
	if ch.closed {
		return
	}
	ch.closed = true
	delete(ch.conn.channels, ch)
	ch.overdue.stop()
	ch.pending = pendingConfirms{}
	if ch.replyTo != "" {
		delete(ch.broker.replies, ch.replyTo)
	}
	ch.unblock()
	var tags []string
	for tag := range ch.consumers {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	gone := make([]*consumer, 0, len(tags))
	for _, tag := range tags {
		c := ch.consumers[tag]
		c.queue.drop(c, "closed")
		gone = append(gone, c)
	}
	if ch.tx != nil {
		ch.unacked.merge(ch.tx.settled())
		ch.tx = nil
	}
	for _, e := range ch.unacked.takeAll() {
		ch.requeue(e, true, "closed")
	}
	for _, c := range gone {
		c.queue.afterRemoval(c)
	}
	clear(ch.consumers)
}

// newPublisher is a channel for publishes of the broker itself, no more.
func newPublisher() *Channel { return &Channel{enqueued: map[*queue]struct{}{}} }

// unblock has quorum queues forget the channel as a publisher.
func (ch *Channel) unblock() {
	for q := range ch.enqueued {
		delete(q.blocked, ch)
	}
}

// find looks a queue up that the channel may use.
func (ch *Channel) find(name string) (*queue, *Exception) {
	name, e := ch.expandQueue(name)
	if e != nil {
		return nil, e
	}
	q := ch.conn.vhost.queues[name]
	if q == nil {
		return nil, noQueue(ch.conn.vhost.name, name)
	}
	return q, q.checkAccess(ch.conn)
}

func (ch *Channel) expandQueue(name string) (string, *Exception) {
	if name != "" {
		return name, nil
	}
	if ch.lastQueue == "" {
		return "", NewException(codeNotFound, "no previously declared queue")
	}
	return ch.lastQueue, nil
}

func (ch *Channel) expandKey(queueName, key string) (string, string, *Exception) {
	if queueName != "" {
		return queueName, key, nil
	}
	name, e := ch.expandQueue("")
	if e == nil && key == "" {
		key = name
	}
	return name, key, e
}

// cancelled tells the client that a consumer has ended. Where the channel has
// itself deleted the queue delete-ok comes first.
func (ch *Channel) cancelled(tag string) {
	switch {
	case ch.closed || ch.conn.info.NoCancelNotify:
	case ch.deleting:
		ch.ended = append(ch.ended, tag)
	default:
		ch.sink.Cancel(tag)
	}
}

// Resume has the channel's consumers considered again after Sink.Ready has said
// no.
func (ch *Channel) Resume() {
	ch.broker.enter()
	defer ch.broker.leave()
	if ch.closed || !ch.behind {
		return
	}
	ch.behind = false
	ch.wake()
}

// wake puts every consumer back in turn that can take something.
func (ch *Channel) wake() {
	for _, c := range ch.sortedConsumers() {
		c.wake()
	}
}

func (ch *Channel) sortedConsumers() []*consumer {
	return slices.SortedFunc(maps.Values(ch.consumers), func(a, b *consumer) int { return int(a.seq) - int(b.seq) })
}

// Qos limits what consumers may hold: those to come, or by 4.2 rules with
// global all of the channel's together.
func (ch *Channel) Qos(m *wire.BasicQos) *Exception {
	return ch.do(func(*vhost) *Exception {
		if m.PrefetchSize != 0 {
			return exceptionf(codeNotImplemented, "prefetch_size!=0 (%d)", m.PrefetchSize)
		}
		if m.Global && ch.broker.opts.Rules == Rules42 {
			ch.globalLimit = int(m.PrefetchCount)
		} else {
			ch.prefetch = int(m.PrefetchCount)
			ch.globalLimit = 0
		}
		ch.wake()
		return nil
	})
}
