package mqtest

import (
	"time"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// Queue is a handle of one queue by its name. Of a queue that is not there
// everything is empty.
type Queue struct {
	b           *Broker
	vhost, name string
}

// QueueInfo is a queue as it is now.
type QueueInfo struct {
	Name, Type                     string // the type is classic, quorum or stream
	Durable, AutoDelete, Exclusive bool
	Arguments                      map[string]any
	Ready                          int // messages that wait; of a stream all
	Unacked                        int // delivered, not settled
	Bytes                          int // of bodies
	Consumers                      int
}

// Message is a message, in a queue or on its way. Of its properties the empty ones
// are not there.
type Message struct {
	Exchange   string // that it was published to
	RoutingKey string
	Body       []byte

	Headers         map[string]any
	ContentType     string
	ContentEncoding string
	Transient       bool // the zero value is persistent
	Priority        uint8
	CorrelationID   string
	ReplyTo         string
	Expiration      string
	MessageID       string
	Timestamp       time.Time
	Type            string
	UserID          string
	AppID           string

	// Of Messages only, but for Redelivered, which a delivery says as well.

	Redelivered   bool
	Unacked       bool // delivered to a consumer and not settled
	Delayed       bool // held back by delayed retry
	DeliveryCount int
	Expires       time.Time // zero: never
}

// Exists tells whether the queue is there.
func (q *Queue) Exists() bool {
	_, ok := q.b.engine.Queue(q.vhost, q.name)
	return ok
}

// Info returns what is known of the queue.
func (q *Queue) Info() QueueInfo {
	info, ok := q.b.engine.Queue(q.vhost, q.name)
	if !ok {
		return QueueInfo{}
	}
	return queueInfo(info)
}

// Len counts its messages, those that are delivered and not settled included: as
// many as Messages returns.
func (q *Queue) Len() int {
	info := q.Info()
	if info.Type == "stream" {
		return info.Ready // a delivery takes nothing out
	}
	return info.Ready + info.Unacked
}

// Messages returns what is in it, and takes nothing out: first what waits, in the
// order in which it would be delivered, then what delayed retry holds back, then
// what is not settled.
func (q *Queue) Messages() []Message {
	var list []Message
	for _, m := range q.b.engine.Messages(q.vhost, q.name) {
		list = append(list, message(m))
	}
	return list
}

// Bodies returns those of Messages.
func (q *Queue) Bodies() []string {
	var list []string
	for _, m := range q.b.engine.Messages(q.vhost, q.name) {
		list = append(list, string(m.Body))
	}
	return list
}

// Enqueue puts messages in, one by one, each as a new client's publish to the default
// exchange does; of the message's fields that a publish could not set none counts. It
// is false, and has stopped, at the first that the queue does not take: it is not
// there, is full and rejects (a quorum queue takes the one that makes it too full), or
// the message is larger than RabbitMQ takes (16 MiB) or malformed.
func (q *Queue) Enqueue(messages ...Message) bool {
	for _, m := range messages {
		if !q.b.engine.Enqueue(q.vhost, q.name, m.properties(), append([]byte(nil), m.Body...)) {
			return false
		}
	}
	return true
}

// Purge drops what waits in it, and counts it.
func (q *Queue) Purge() int { return q.b.engine.Purge(q.vhost, q.name) }

// Delete deletes it, whoever it belongs to; its consumers are cancelled. It is
// false if it was not there.
func (q *Queue) Delete() bool { return q.b.engine.DeleteQueue(q.vhost, q.name) }

// CancelConsumers cancels its consumers, as the loss of a node does, and tells
// how many.
func (q *Queue) CancelConsumers() int { return q.b.engine.CancelConsumers(q.vhost, q.name) }

func queueInfo(q engine.QueueInfo) QueueInfo {
	return QueueInfo{
		Name: q.Name, Type: q.Type, Durable: q.Durable, AutoDelete: q.AutoDelete, Exclusive: q.Exclusive,
		Arguments: arguments(q.Arguments), Ready: q.Ready, Unacked: q.Unacked, Bytes: q.Bytes, Consumers: q.Consumers,
	}
}

func arguments(t wire.Table) map[string]any {
	m, _ := plain(t).(map[string]any)
	return m
}

func message(m engine.MessageInfo) Message {
	out := withProperties(m.Properties)
	out.Exchange, out.RoutingKey, out.Body = m.Exchange, m.RoutingKey, m.Body
	out.Redelivered, out.Unacked, out.Delayed = m.Redelivered, m.Unacked, m.Delayed
	out.DeliveryCount, out.Expires = m.DeliveryCount, m.Expires
	return out
}

// withProperties has nothing but what properties say.
func withProperties(properties []byte) Message {
	p, _ := wire.ParseProperties(properties)
	out := Message{
		ContentType:     p.ContentType,
		ContentEncoding: p.ContentEncoding, Transient: p.DeliveryMode != 2, Priority: p.Priority,
		CorrelationID: p.CorrelationID, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageID: p.MessageID,
		Type: p.Type, UserID: p.UserID, AppID: p.AppID,
	}
	if p.Has(wire.FlagHeaders) {
		out.Headers = arguments(p.Headers)
	}
	if p.Has(wire.FlagTimestamp) {
		out.Timestamp = time.Unix(int64(p.Timestamp), 0).UTC()
	}
	return out
}

func (m *Message) properties() []byte {
	p := wire.Properties{
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, DeliveryMode: 2, Priority: m.Priority,
		CorrelationID: m.CorrelationID, ReplyTo: m.ReplyTo, Expiration: m.Expiration, MessageID: m.MessageID,
		Type: m.Type, UserID: m.UserID, AppID: m.AppID,
	}
	if m.Headers != nil {
		p.Headers = tableOf(m.Headers)
	}
	if m.Transient {
		p.DeliveryMode = 1
	}
	if !m.Timestamp.IsZero() {
		p.Timestamp = wire.Timestamp(m.Timestamp.Unix())
	}
	p.Mark()
	return p.Append(nil)
}
