package producer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Message is what is published. Its zero value, with a RoutingKey, is a safe
// one: persistent, and returned when no queue takes it. Body and Headers must
// not be changed before the message has its verdict: it may have to be sent
// again.
//
// These are all properties of AMQP 0-9-1 but the reserved cluster-id, which the
// driver neither sends nor shows. A property that is empty is not sent; the
// driver cannot send an explicit priority of 0 or an empty string.
type Message struct {
	// Exchange is where it goes; empty is the default exchange, which routes to
	// the queue named by RoutingKey.
	Exchange string

	// RoutingKey, at most 255 bytes.
	RoutingKey string

	// Body is the payload; mqkit never looks into it.
	Body []byte

	// Headers may hold bool, string, []byte, int8 to int64, uint8 to uint32,
	// int (sent as int64), float32, float64, time.Time (whole seconds),
	// amqp.Decimal, nil, and []any and amqp.Table of these. Together they must
	// fit into one frame, 128 KiB by default.
	Headers amqp.Table

	ContentType     string
	ContentEncoding string
	CorrelationID   string
	ReplyTo         string

	// MessageID is set to a UUIDv7 when empty. It stays the same when the
	// message is sent again, so a consumer can tell a repetition by it.
	MessageID string

	// Expiration is how long the message may wait in a queue: milliseconds as a
	// decimal string, see TTL. Empty is for ever.
	Expiration string

	// Priority is 0 to 255; what a queue makes of it is the queue's business.
	Priority uint8

	Timestamp time.Time // whole seconds
	Type      string
	UserID    string // if set, must be the user of the connection
	AppID     string

	// Transient messages may be lost when the broker restarts. Defaults to
	// false: persistent.
	Transient bool

	// AllowUnroutable has a message confirmed that no queue took. Defaults to
	// false: such a message is returned, *ReturnedError.
	AllowUnroutable bool
}

// Text returns a message with s as its body and content type text/plain.
func Text(s string) Message {
	return Message{Body: []byte(s), ContentType: "text/plain; charset=utf-8"}
}

// Bytes returns a message with b as its body and content type
// application/octet-stream. It does not copy b.
func Bytes(b []byte) Message {
	return Message{Body: b, ContentType: "application/octet-stream"}
}

// JSON returns a message with v, encoded, as its body and content type
// application/json.
func JSON(v any) (Message, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return Message{}, fmt.Errorf("encode message: %w", err)
	}
	return Message{Body: b, ContentType: "application/json"}, nil
}

// To returns a copy of m that goes to exchange with routingKey.
func (m Message) To(exchange, routingKey string) Message {
	m.Exchange, m.RoutingKey = exchange, routingKey
	return m
}

// ToQueue returns a copy of m that goes to the queue of that name, by the
// default exchange.
func (m Message) ToQueue(name string) Message { return m.To("", name) }

// TTL returns d as an Expiration, rounded up to whole milliseconds. Zero lets a
// message expire unless a consumer can have it at once.
func TTL(d time.Duration) string {
	ms := int64(max(d, 0) / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return strconv.FormatInt(ms, 10)
}

func (m *Message) publishing(headers amqp.Table) amqp.Publishing {
	mode := amqp.Persistent
	if m.Transient {
		mode = amqp.Transient
	}
	return amqp.Publishing{
		Headers:         headers,
		ContentType:     m.ContentType,
		ContentEncoding: m.ContentEncoding,
		DeliveryMode:    mode,
		Priority:        m.Priority,
		CorrelationId:   m.CorrelationID,
		ReplyTo:         m.ReplyTo,
		Expiration:      m.Expiration,
		MessageId:       m.MessageID,
		Timestamp:       m.Timestamp,
		Type:            m.Type,
		UserId:          m.UserID,
		AppId:           m.AppID,
		Body:            m.Body,
	}
}
