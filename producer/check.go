package producer

import (
	"fmt"
	"math"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/reconnect"
)

const (
	// shortString is how long an AMQP short string can be. A longer one makes
	// the driver write a bare basic.publish, for which the broker closes the
	// connection while later publishes still return nil.
	shortString = 255

	// defaultFrameMax is RabbitMQ's default; the value of the connection is used once
	// there is one.
	defaultFrameMax = 128 << 10

	// frameOverhead is a frame's type, channel, size and end; headerOverhead is
	// a content header's class, weight, body size and property flags.
	frameOverhead  = 8
	headerOverhead = 14

	// correlationSize is kept free for the correlation header.
	correlationSize = 64

	maxTableDepth = 32
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
		if n, err := strconv.ParseInt(m.Expiration, 10, 64); err != nil || n < 0 || n > math.MaxUint32 || m.Expiration[0] == '+' {
			return nil, 0, refuse("Expiration", "%q is not a number of milliseconds from 0 to %d (see TTL)", m.Expiration, uint32(math.MaxUint32))
		}
	}
	if !m.Timestamp.IsZero() { // zero is not sent
		if err := checkTime(m.Timestamp); err != nil {
			return nil, 0, refuse("Timestamp", "%v", err)
		}
	}
	size += 1 + 1 + 8 // delivery mode, priority, timestamp
	if len(m.Headers) > 0 {
		table, n, err := checkTable(m.Headers, 1)
		if err != nil {
			return nil, 0, refuse("Headers", "%v", err)
		}
		headers = table
		size += n
	}
	return headers, size, nil
}

// checkTable returns t in types that the driver sends as they are, and its
// encoded size. t itself is not changed.
func checkTable(t map[string]any, depth int) (amqp.Table, int, error) {
	if depth > maxTableDepth {
		return nil, 0, fmt.Errorf("is nested deeper than %d", maxTableDepth)
	}
	out := make(amqp.Table, len(t))
	size := 4
	for k, v := range t {
		if len(k) > shortString {
			return nil, 0, fmt.Errorf("key %q... has %d bytes, AMQP allows %d", k[:32], len(k), shortString)
		}
		if depth == 1 && k == correlationHeader {
			continue // ours; a message that is passed on may still carry it
		}
		value, n, err := checkField(v, depth)
		if err != nil {
			return nil, 0, fmt.Errorf("%q %w", k, err)
		}
		out[k] = value
		size += 1 + len(k) + n
	}
	return out, size, nil
}

// checkField returns v as the driver has to see it, and its encoded size with
// the type octet.
func checkField(v any, depth int) (any, int, error) {
	switch v := v.(type) {
	case nil:
		return v, 1, nil
	case bool, int8, uint8:
		return v, 2, nil
	case int16, uint16:
		return v, 3, nil
	case int32, uint32, float32:
		return v, 5, nil
	case int64, float64:
		return v, 9, nil
	case int:
		// The driver would send 32 bits of it and say nothing.
		return int64(v), 9, nil
	case amqp.Decimal:
		return v, 6, nil
	case time.Time:
		return v, 9, checkTime(v)
	case string:
		return v, 5 + len(v), nil
	case []byte:
		return v, 5 + len(v), nil
	case []any:
		if depth >= maxTableDepth {
			return nil, 0, fmt.Errorf("is nested deeper than %d", maxTableDepth)
		}
		out := make([]any, len(v))
		size := 5
		for i, e := range v {
			value, n, err := checkField(e, depth+1)
			if err != nil {
				return nil, 0, fmt.Errorf("[%d] %w", i, err)
			}
			out[i] = value
			size += n
		}
		return out, size, nil
	case amqp.Table:
		t, n, err := checkTable(v, depth+1)
		return t, n + 1, err
	case map[string]any:
		t, n, err := checkTable(v, depth+1)
		return t, n + 1, err
	case uint, uint64:
		return nil, 0, fmt.Errorf("is a %T, which AMQP 0-9-1 has no type for: use int64, or a string", v)
	default:
		return nil, 0, fmt.Errorf("is a %T, which cannot be a header: use one of the types that Message.Headers lists", v)
	}
}

func checkTime(t time.Time) error {
	if t.Unix() < 0 {
		return fmt.Errorf("%v is before 1970, AMQP counts seconds from there", t)
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
