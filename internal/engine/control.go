package engine

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Vhosts lists the vhosts by name.
func (b *Broker) Vhosts() []string {
	b.enter()
	defer b.leave()
	return slices.Sorted(maps.Keys(b.vhosts))
}

// AddVhost creates a vhost, if it is not there. The type is that of queues whose
// declare names none: "" is classic. Those that are transient, exclusive or
// auto-delete are classic in any case.
func (b *Broker) AddVhost(name, defaultQueueType string) {
	b.enter()
	defer b.leave()
	if b.vhosts[name] == nil {
		b.addVhost(name, defaultQueueType)
	}
}

// DeleteVhost deletes a vhost with all that is in it, and ends the connections
// to it.
func (b *Broker) DeleteVhost(name string) bool {
	b.enter()
	defer b.leave()
	vh := b.vhosts[name]
	if vh == nil {
		return false
	}
	delete(b.vhosts, name)
	for c := range b.conns {
		if c.vhost != vh {
			continue
		}
		c.close()
		if c.info.Closed != nil {
			c.info.Closed(exceptionf(codeConnectionForced, "vhost '%s' is deleted", name))
		}
	}
	for _, q := range vh.sortedQueues() {
		q.delete("vhost deleted")
	}
	return true
}

func (vh *vhost) sortedQueues() []*queue {
	return slices.SortedFunc(maps.Values(vh.queues), func(a, b *queue) int { return strings.Compare(a.name, b.name) })
}

func (vh *vhost) sortedExchanges() []*exchange {
	return slices.SortedFunc(maps.Values(vh.exchanges), func(a, b *exchange) int { return strings.Compare(a.name, b.name) })
}

// Exchanges lists a vhost's exchanges by name, the default one first.
func (b *Broker) Exchanges(vhost string) []ExchangeInfo {
	b.enter()
	defer b.leave()
	vh := b.vhosts[vhost]
	if vh == nil {
		return nil
	}
	var out []ExchangeInfo
	for _, x := range vh.sortedExchanges() {
		out = append(out, ExchangeInfo{
			Vhost: vhost, Name: x.name, Type: x.kind, Durable: x.durable, AutoDelete: x.autoDelete,
			Internal: x.internal, Arguments: slices.Clone(x.args),
		})
	}
	return out
}

// Queues lists a vhost's queues by name.
func (b *Broker) Queues(vhost string) []QueueInfo {
	b.enter()
	defer b.leave()
	vh := b.vhosts[vhost]
	if vh == nil {
		return nil
	}
	var out []QueueInfo
	for _, q := range vh.sortedQueues() {
		out = append(out, q.info())
	}
	return out
}

// Queue looks one queue up.
func (b *Broker) Queue(vhost, name string) (QueueInfo, bool) {
	b.enter()
	defer b.leave()
	q := b.find(vhost, name)
	if q == nil {
		return QueueInfo{}, false
	}
	return q.info(), true
}

func (b *Broker) find(vhost, name string) *queue {
	if vh := b.vhosts[vhost]; vh != nil {
		return vh.queues[name]
	}
	return nil
}

func (q *queue) info() QueueInfo {
	bytes := q.ready.bytes + q.asideBytes + q.unackedBytes
	if q.log != nil {
		bytes = q.log.bytes
	}
	return QueueInfo{
		Vhost: q.vhost.name, Name: q.name, Type: q.kind.String(), Durable: q.durable, AutoDelete: q.autoDelete,
		Exclusive: q.owner != nil, Arguments: slices.Clone(q.args), Ready: q.readyCount() + len(q.delayed) + len(q.stuck),
		Unacked: q.unacked, Bytes: int(bytes), Consumers: len(q.consumers),
	}
}

// Bindings lists a vhost's bindings by source, and within it in the order in
// which they were made. The default exchange's are not listed.
func (b *Broker) Bindings(vhost string) []BindingInfo {
	b.enter()
	defer b.leave()
	vh := b.vhosts[vhost]
	if vh == nil {
		return nil
	}
	var out []BindingInfo
	for _, x := range vh.sortedExchanges() {
		for _, bd := range slices.SortedFunc(maps.Values(x.bindings), func(a, b *binding) int { return cmp.Compare(a.seq, b.seq) }) {
			info := BindingInfo{Vhost: vhost, Source: x.name, RoutingKey: bd.key, Arguments: slices.Clone(bd.args)}
			if bd.queue != nil {
				info.Destination = bd.queue.name
			} else {
				info.Destination, info.ToExchange = bd.dest.name, true
			}
			out = append(out, info)
		}
	}
	return out
}

// Consumers lists a vhost's consumers by queue, and for each queue in the order
// in which they came.
func (b *Broker) Consumers(vhost string) []ConsumerInfo {
	b.enter()
	defer b.leave()
	vh := b.vhosts[vhost]
	if vh == nil {
		return nil
	}
	var out []ConsumerInfo
	for _, q := range vh.sortedQueues() {
		for _, c := range q.consumers {
			out = append(out, ConsumerInfo{
				Vhost: vhost, Queue: q.name, Tag: c.tag, Conn: c.ch.conn.info.Name, Channel: c.ch.number,
				NoAck: c.noAck, Exclusive: c.exclusive, Prefetch: c.prefetch, Priority: c.priority,
				Active: c.timedOut == 0 && (!q.singleActive || q.active == c), Unacked: c.unacked,
				Arguments: slices.Clone(c.args),
			})
		}
	}
	return out
}

// Messages lists what is in a queue: first what waits, in the order in which it
// would be delivered, then what delayed retry holds, then what was delivered and
// is not settled, by the order of publishing.
func (b *Broker) Messages(vhost, queue string) []MessageInfo {
	b.enter()
	defer b.leave()
	q := b.find(vhost, queue)
	if q == nil {
		return nil
	}
	q.expire()
	var out []MessageInfo
	if q.log != nil {
		for offset := q.log.first(); offset < q.log.next; offset++ {
			out = append(out, (&entry{msg: q.log.at(offset).msg, queue: q, pos: offset}).info())
		}
		return out
	}
	for _, e := range q.ready.all() {
		out = append(out, e.info())
	}
	for _, d := range q.delayed {
		info := d.entry.info()
		info.Delayed = true
		out = append(out, info)
	}
	for _, s := range q.stuck {
		out = append(out, s.entry.info())
	}
	for _, e := range b.heldOf(q) {
		info := e.info()
		info.Unacked = true
		out = append(out, info)
	}
	return out
}

// heldOf finds what channels hold of a queue, a transaction's verdicts included.
func (b *Broker) heldOf(q *queue) []*entry {
	var out []*entry
	for c := range b.conns {
		for ch := range c.channels {
			for _, s := range ch.unacked.slots {
				if s.e != nil && s.e.queue == q && !s.e.released {
					out = append(out, s.e)
				}
			}
			if ch.tx != nil {
				for _, v := range ch.tx.verdicts {
					if v.e.queue == q && !v.e.released {
						out = append(out, v.e)
					}
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b *entry) int { return cmp.Compare(a.pos, b.pos) })
	return out
}

func (e *entry) info() MessageInfo {
	info := MessageInfo{
		Exchange: e.msg.exchange, RoutingKey: e.msg.key, Properties: e.outgoing(), Body: e.msg.body,
		Redelivered: e.redelivered, DeliveryCount: int(e.deliveries),
	}
	if e.expires != 0 {
		info.Expires = time.UnixMilli(e.expires)
	}
	return info
}

// Enqueue stores a message in a queue, as a new client's publish through the default
// exchange does. It is false if there is no such queue, if it is full and rejects, if
// the body is too large, or if the properties are malformed.
func (b *Broker) Enqueue(vhost, queue string, properties, body []byte) bool {
	b.enter()
	defer b.leave()
	q := b.find(vhost, queue)
	if q == nil || len(body) > b.opts.MaxMessageSize {
		return false
	}
	s, properties, e := scanProperties(properties)
	if e != nil {
		return false
	}
	from := newPublisher()
	defer from.unblock()
	return q.accept(&message{
		key: q.name, properties: properties, body: body, ttl: s.ttl, priority: s.priority, persistent: s.persistent,
	}, from)
}

// Purge drops what is ready in a queue, and counts it.
func (b *Broker) Purge(vhost, queue string) int {
	b.enter()
	defer b.leave()
	q := b.find(vhost, queue)
	if q == nil || q.log != nil {
		return 0
	}
	return q.purge()
}

// DeleteQueue deletes a queue, whoever it belongs to.
func (b *Broker) DeleteQueue(vhost, queue string) bool {
	b.enter()
	defer b.leave()
	q := b.find(vhost, queue)
	if q == nil {
		return false
	}
	q.delete("deleted")
	return true
}

// CancelConsumers ends a queue's consumers as the loss of its node does, and
// says how many. What they hold they may still settle.
func (b *Broker) CancelConsumers(vhost, queue string) int {
	b.enter()
	defer b.leave()
	q := b.find(vhost, queue)
	if q == nil {
		return 0
	}
	gone := slices.Clone(q.consumers)
	for _, c := range gone {
		delete(c.ch.consumers, c.tag)
		q.drop(c, "cancelled by the broker")
		c.ch.cancelled(c.tag)
	}
	for _, c := range gone {
		q.afterRemoval(c)
	}
	return len(gone)
}

// Kill begins what Restart ends: until then nobody sees connections end, since
// with them their queues are going down.
func (b *Broker) Kill() {
	b.enter()
	defer b.leave()
	b.down = true
}

// Restart is a node's restart after it was killed: connections are gone without a
// word (close them first, behind Kill, to say one), and what is not durable is lost:
// exchanges, queues, bindings, and in a classic queue the messages that are not
// persistent. A durable auto-delete queue stays until it has lost consumers again:
// its process (rabbit_amqqueue_process) has died before it could see them go, and
// starts with has_had_consumers = false.
func (b *Broker) Restart() {
	b.enter()
	defer b.leave()
	b.down = true
	for c := range b.conns {
		c.info.Closed = nil
		for ch := range c.channels {
			ch.sink = deaf{}
		}
		c.close()
	}
	b.down = false
	b.letters = slices.DeleteFunc(b.letters, func(l letter) bool { return l.of != nil }) // sent again below
	for _, vh := range b.vhosts {
		for _, q := range vh.sortedQueues() {
			if !q.durable {
				q.delete("restart")
				continue
			}
			for _, bd := range slices.Collect(maps.Values(q.bindings)) {
				if !bd.durable() {
					bd.detach()
				}
			}
			if q.kind == classic {
				q.forgetTransient()
			}
			q.had = false
			q.used()
		}
		for _, x := range vh.sortedExchanges() {
			if !x.durable {
				vh.deleteExchange(x)
			}
		}
		for _, q := range vh.sortedQueues() {
			q.resend()
		}
	}
}

func (q *queue) forgetTransient() {
	kept := q.ready.all()
	q.ready.clear()
	slices.SortFunc(kept, func(a, b *entry) int { return cmp.Compare(a.pos, b.pos) })
	for _, e := range kept {
		if e.msg.persistent {
			q.ready.push(e, q.levelOf(e.msg))
		} else {
			q.noteEntry(EventDropped, e, "restart")
		}
	}
}

// deaf is the sink of a client that is gone.
type deaf struct{}

func (deaf) Deliver(string, uint64, bool, *Delivery)               {}
func (deaf) Return(uint16, string, string, string, []byte, []byte) {}
func (deaf) Confirm(uint64, bool, bool)                            {}
func (deaf) Cancel(string)                                         {}
func (deaf) Close(*Exception)                                      {}
func (deaf) Ready() bool                                           { return true }
