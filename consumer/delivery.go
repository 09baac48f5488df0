package consumer

import (
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// correlationHeader is what producer adds to tell returns apart; it is none of
// the handler's business.
const correlationHeader = "x-mqkit-correlation"

// Delivery is one message that the broker has handed to this consumer. Its
// fields must not be changed while a handler elsewhere reads them; its methods
// may be called from any goroutine.
//
// A delivery is settled once: by what the handler returns, or before that by
// Ack, Reject, Requeue or Release. Settling is bound to the session in which it
// came: when that is over the broker gives the message out again, and a late
// verdict is ErrStale and touches nothing.
type Delivery struct {
	Body    []byte
	Headers amqp.Table

	Exchange   string
	RoutingKey string

	// Queue is the queue that is consumed; a server-given name is the one of
	// this session.
	Queue string

	// Redelivered tells that the message was given out before, to whomever.
	Redelivered bool

	ContentType     string
	ContentEncoding string
	CorrelationID   string
	ReplyTo         string
	MessageID       string
	Expiration      string // milliseconds, as the publisher gave it
	Priority        uint8
	Timestamp       time.Time
	Type            string
	UserID          string
	AppID           string

	// Transient messages were published as such: delivery mode 1, or none.
	Transient bool

	// Tag is the delivery tag, unique within its session.
	Tag uint64

	// ConsumerTag names this subscription.
	ConsumerTag string

	session *session
	at      time.Time // when it came, if anybody observes
	later   bool      // its handler has returned Later; guarded by session.mu
	failure error     // of its handler; guarded by session.mu
	told    bool      // what became of it was told; guarded by session.mu
}

func newDelivery(s *session, raw *amqp.Delivery) *Delivery {
	headers := raw.Headers
	if _, ok := headers[correlationHeader]; ok {
		delete(headers, correlationHeader) // the driver made this table for us
		if len(headers) == 0 {
			headers = nil
		}
	}
	return &Delivery{
		Body:            raw.Body,
		Headers:         headers,
		Exchange:        raw.Exchange,
		RoutingKey:      raw.RoutingKey,
		Queue:           s.queue,
		Redelivered:     raw.Redelivered,
		ContentType:     raw.ContentType,
		ContentEncoding: raw.ContentEncoding,
		CorrelationID:   raw.CorrelationId,
		ReplyTo:         raw.ReplyTo,
		MessageID:       raw.MessageId,
		Expiration:      raw.Expiration,
		Priority:        raw.Priority,
		Timestamp:       raw.Timestamp,
		Type:            raw.Type,
		UserID:          raw.UserId,
		AppID:           raw.AppId,
		Transient:       raw.DeliveryMode != amqp.Persistent,
		Tag:             raw.DeliveryTag,
		ConsumerTag:     raw.ConsumerTag,
		session:         s,
	}
}

// Attempt is which attempt at this message this is, from 1: one more than
// x-delivery-count, the failed deliveries that a quorum queue counts. From RabbitMQ
// 4.3 on what was released has not failed. Where nothing is counted, as in classic
// queues, it is 1, or 2 if the message was given out before.
func (d *Delivery) Attempt() int {
	if n, ok := count(d.Headers["x-delivery-count"]); ok {
		return n + 1
	}
	if _, ok := count(d.Headers["x-acquired-count"]); ok {
		return 1 // it counts, and nothing has failed yet
	}
	if d.Redelivered {
		return 2
	}
	return 1
}

func count(v any) (int, bool) {
	switch v := v.(type) {
	case int64:
		return int(v), true
	case int32:
		return int(v), true
	case int16:
		return int(v), true
	case int8:
		return int(v), true
	case uint8:
		return int(v), true
	case uint16:
		return int(v), true
	case uint32:
		return int(v), true
	default:
		return 0, false
	}
}

// Ack settles the delivery as done: the broker forgets the message. Nil means
// that the verdict was taken and will be written within the flush interval;
// should the session end before the broker has it, the message comes again. The
// error is ErrSettled or ErrStale.
func (d *Delivery) Ack() error { return d.settle(ack) }

// Reject settles it as never to be done: the broker dead-letters it, or drops it
// where the queue has no dead-letter exchange.
func (d *Delivery) Reject() error { return d.settle(reject) }

// Requeue puts it back into the queue as a failure, which counts towards a
// quorum queue's delivery limit.
func (d *Delivery) Requeue() error { return d.settle(requeue) }

// Release puts it back into the queue; from RabbitMQ 4.3 on that does not count
// towards a quorum queue's delivery limit.
func (d *Delivery) Release() error { return d.settle(release) }

// isSettled reports whether it needs no verdict any more.
func (d *Delivery) isSettled() bool {
	s := d.session
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over || s.ledger.settled(d.Tag)
}

func (d *Delivery) settle(v verdict) error {
	if d.session == nil { // made by a test of a handler
		return ErrStale
	}
	if d.session.run.stream && v != ack {
		return fmt.Errorf("%s: %w", v, ErrStream)
	}
	return d.session.settle(d, v)
}
