package record

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/sendable"
	"github.com/mqkit/mqkit/producer"
)

// version is the v of every record written here.
const version = 1

// Record is one message.
type Record struct {
	Exchange   string
	RoutingKey string
	Properties Properties
	Headers    amqp.Table
	Body       []byte

	// Of a message that was received; ReceivedAt is zero for another.
	Queue       string
	Redelivered bool
	ReceivedAt  time.Time
}

// Properties are AMQP's. An empty one is not set: the driver can neither send
// nor show an empty text or a priority of 0.
type Properties struct {
	ContentType     string
	ContentEncoding string
	DeliveryMode    uint8 // 2 is persistent, 1 or 0 transient
	Priority        uint8
	CorrelationID   string
	ReplyTo         string
	Expiration      string
	MessageID       string
	Timestamp       time.Time
	Type            string
	UserID          string
	AppID           string
}

// texts lists the properties that are texts, in the order in which they are
// written.
func (p *Properties) texts() []textProperty {
	return []textProperty{
		{"content_type", &p.ContentType},
		{"content_encoding", &p.ContentEncoding},
		{"correlation_id", &p.CorrelationID},
		{"reply_to", &p.ReplyTo},
		{"expiration", &p.Expiration},
		{"message_id", &p.MessageID},
		{"type", &p.Type},
		{"user_id", &p.UserID},
		{"app_id", &p.AppID},
	}
}

type textProperty struct {
	name  string
	value *string
}

// FromDelivery is a message as it was received at that time.
func FromDelivery(d *consumer.Delivery, at time.Time) Record {
	return Record{
		Exchange:    d.Exchange,
		RoutingKey:  d.RoutingKey,
		Headers:     d.Headers,
		Body:        d.Body,
		Queue:       d.Queue,
		Redelivered: d.Redelivered,
		ReceivedAt:  at,
		Properties: Properties{
			ContentType:     d.ContentType,
			ContentEncoding: d.ContentEncoding,
			DeliveryMode:    deliveryMode(d.Transient),
			Priority:        d.Priority,
			CorrelationID:   d.CorrelationID,
			ReplyTo:         d.ReplyTo,
			Expiration:      d.Expiration,
			MessageID:       d.MessageID,
			Timestamp:       d.Timestamp,
			Type:            d.Type,
			UserID:          d.UserID,
			AppID:           d.AppID,
		},
	}
}

// FromMessage is a message that was to be published.
func FromMessage(m *producer.Message) Record {
	return Record{
		Exchange:   m.Exchange,
		RoutingKey: m.RoutingKey,
		Headers:    m.Headers,
		Body:       m.Body,
		Properties: Properties{
			ContentType:     m.ContentType,
			ContentEncoding: m.ContentEncoding,
			DeliveryMode:    deliveryMode(m.Transient),
			Priority:        m.Priority,
			CorrelationID:   m.CorrelationID,
			ReplyTo:         m.ReplyTo,
			Expiration:      m.Expiration,
			MessageID:       m.MessageID,
			Timestamp:       m.Timestamp,
			Type:            m.Type,
			UserID:          m.UserID,
			AppID:           m.AppID,
		},
	}
}

// Message is the record as something to publish.
func (r *Record) Message() producer.Message {
	return producer.Message{
		Exchange:        r.Exchange,
		RoutingKey:      r.RoutingKey,
		Headers:         r.Headers,
		Body:            r.Body,
		ContentType:     r.Properties.ContentType,
		ContentEncoding: r.Properties.ContentEncoding,
		Transient:       r.Properties.DeliveryMode != amqp.Persistent,
		Priority:        r.Properties.Priority,
		CorrelationID:   r.Properties.CorrelationID,
		ReplyTo:         r.Properties.ReplyTo,
		Expiration:      r.Properties.Expiration,
		MessageID:       r.Properties.MessageID,
		Timestamp:       r.Properties.Timestamp,
		Type:            r.Properties.Type,
		UserID:          r.Properties.UserID,
		AppID:           r.Properties.AppID,
	}
}

func deliveryMode(transient bool) uint8 {
	if transient {
		return amqp.Transient
	}
	return amqp.Persistent
}

// Set sets the property of that name, as it stands in a record, from a text. What no
// message can have is an error.
func (p *Properties) Set(name, value string) error {
	for _, t := range p.texts() {
		if t.name != name {
			continue
		}
		if len(value) > sendable.MaxShortString {
			return fmt.Errorf("has %d bytes, AMQP allows %d", len(value), sendable.MaxShortString)
		}
		if n, err := strconv.ParseInt(value, 10, 64); name == "expiration" && value != "" && (err != nil || n < 0 || n > sendable.MaxExpiration) {
			return fmt.Errorf("expected whole milliseconds from 0 to %d", sendable.MaxExpiration)
		}
		*t.value = value
		return nil
	}
	small := func(to *uint8, most uint64) error {
		n, err := strconv.ParseUint(value, 10, 8)
		if err != nil || n > most {
			return fmt.Errorf("expected a whole number from 0 to %d", most)
		}
		*to = uint8(n)
		return nil
	}
	switch name {
	case "delivery_mode":
		return small(&p.DeliveryMode, uint64(amqp.Persistent))
	case "priority":
		return small(&p.Priority, 255)
	case "timestamp":
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return errors.New("expected a time such as 2026-01-02T03:04:05Z")
		}
		p.Timestamp = t
		return sendable.Time(t)
	default:
		return fmt.Errorf("there is no property %q", name)
	}
}
