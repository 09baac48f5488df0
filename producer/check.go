package producer

import (
	"fmt"
	"regexp"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/sendable"
	"github.com/mqkit/mqkit/reconnect"
)

const (
	// shortString is how long an AMQP short string can be. A longer one makes
	// the driver write a bare basic.publish, for which the broker closes the
	// connection while later publishes still return nil.
	shortString = sendable.MaxShortString

	// defaultFrameMax is RabbitMQ's default; the value of the connection is used once
	// there is one.
	defaultFrameMax = 128 << 10

	// frameOverhead is a frame's type, channel, size and end; headerOverhead is
	// a content header's class, weight, body size and property flags.
	frameOverhead  = 8
	headerOverhead = 14

	// correlationSize is kept free for the correlation header.
	correlationSize = 64
)

// check finds what in m breaks a rule of AMQP or of the driver, before the
// driver sees it, and returns the headers as they are to be sent and the size of
// the encoded content header.
func check(m *Message) (headers amqp.Table, size int, err error) {
	refuse := func(field, reason string, args ...any) error {
		return &RefusedError{Field: field, Reason: fmt.Sprintf(reason, args...)}
	}
	size = headerOverhead + frameOverhead + correlationSize
	for _, s := range []struct{ name, value string }{
		{"Exchange", m.Exchange},
		{"RoutingKey", m.RoutingKey},
		{"ContentType", m.ContentType},
		{"ContentEncoding", m.ContentEncoding},
		{"CorrelationID", m.CorrelationID},
		{"ReplyTo", m.ReplyTo},
		{"Expiration", m.Expiration},
		{"MessageID", m.MessageID},
		{"Type", m.Type},
		{"UserID", m.UserID},
		{"AppID", m.AppID},
	} {
		if len(s.value) > shortString {
			return nil, 0, refuse(s.name, "has %d bytes, AMQP allows %d", len(s.value), shortString)
		}
		size += 1 + len(s.value)
	}
	if m.Expiration != "" {
		if n, err := strconv.ParseInt(m.Expiration, 10, 64); err != nil || n < 0 || n > sendable.MaxExpiration || m.Expiration[0] == '+' {
			return nil, 0, refuse("Expiration", "%q is not a number of milliseconds from 0 to %d (see TTL)", m.Expiration, sendable.MaxExpiration)
		}
	}
	if !m.Timestamp.IsZero() { // zero is not sent
		if err := sendable.Time(m.Timestamp); err != nil {
			return nil, 0, refuse("Timestamp", "%v", err)
		}
	}
	if len(m.Body) > sendable.MaxBody {
		return nil, 0, refuse("Body", "has %d bytes, RabbitMQ takes %d at most", len(m.Body), sendable.MaxBody)
	}
	size += 1 + 1 + 8 // delivery mode, priority, timestamp
	if len(m.Headers) > 0 {
		table, n, err := sendable.Table(m.Headers, correlationHeader) // ours; a message that is passed on may still carry it
		if err != nil {
			return nil, 0, refuse("Headers", "%v", err)
		}
		headers = table
		size += n
	}
	return headers, size, nil
}

// tooLarge is how RabbitMQ 3.10 to 4.3 says what it takes.
var tooLarge = regexp.MustCompile(`message size \d+ is larger than (?:configured )?max size (\d+)`)

// learn keeps what a refusal tells of what the broker takes.
func (p *Producer) learn(refusal error) {
	if m := tooLarge.FindStringSubmatch(refusal.Error()); m != nil {
		if n, err := strconv.ParseInt(m[1], 10, 64); err == nil {
			p.largest.Store(n)
		}
	}
}

// checkSize refuses a body that is too large, as far as that is known.
func (p *Producer) checkSize(n int) error {
	if limit := p.cfg.MaxMessageSize; limit > 0 && n > limit {
		return &RefusedError{Field: "Body", Reason: fmt.Sprintf("has %d bytes, Config.MaxMessageSize allows %d", n, limit)}
	}
	if limit := p.largest.Load(); limit > 0 && int64(n) > limit {
		return &RefusedError{Field: "Body", Reason: fmt.Sprintf("has %d bytes, the broker takes %d", n, limit)}
	}
	return nil
}

// fits refuses a message whose content header is larger than one frame of the
// connection: the broker would close the connection for it.
func fits(size int, ch *reconnect.Channel) error {
	if limit := ch.FrameMax(); limit > 0 && size > limit {
		return headerTooLarge(size, limit)
	}
	return nil
}

func headerTooLarge(size, limit int) error {
	return &RefusedError{Field: "Headers", Reason: fmt.Sprintf("properties and headers are %d bytes encoded, one frame of %d must hold them", size, limit)}
}
