// Package sendable knows what can be sent in an AMQP table: the rules of the protocol, of
// the driver and of RabbitMQ, which closes the connection over what it does not like.
package sendable

import (
	"fmt"
	"math"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// MaxShortString is how many bytes an AMQP short string, such as a key, can have.
	MaxShortString = 255

	// MaxDepth is how deep the driver reads: what is nested deeper costs every reader its
	// connection, although the broker takes it.
	MaxDepth = 32

	// MaxElements is how many entries the driver reads of one array or table, likewise.
	MaxElements = 8192

	// MaxExpiration is ten years in milliseconds, what RabbitMQ 4.3 takes at most.
	MaxExpiration int64 = 315_360_000_000

	// MaxBody is what RabbitMQ can be configured to take at most. For more it closes the
	// connection, not the channel.
	MaxBody = 512 << 20

	// MaxTable is what fits into a method's frame beside the rest, with RabbitMQ's default
	// frame_max of 128 KiB.
	MaxTable = 127 << 10
)

// Table returns t in types that the driver sends as they are, and its encoded size. t
// itself is not changed. A key that drop names is left out.
func Table(t map[string]any, drop string) (amqp.Table, int, error) { return table(t, drop, 1) }

func table(t map[string]any, drop string, depth int) (amqp.Table, int, error) {
	if depth > MaxDepth {
		return nil, 0, fmt.Errorf("is nested deeper than %d", MaxDepth)
	}
	if len(t) > MaxElements {
		return nil, 0, fmt.Errorf("has %d entries: clients read %d at most", len(t), MaxElements)
	}
	out := make(amqp.Table, len(t))
	size := 4
	for k, v := range t {
		if len(k) > MaxShortString {
			return nil, 0, fmt.Errorf("key %q... has %d bytes, AMQP allows %d", k[:32], len(k), MaxShortString)
		}
		if drop != "" && k == drop {
			continue
		}
		value, n, err := Value(v, depth)
		if err != nil {
			return nil, 0, fmt.Errorf("%q %w", k, err)
		}
		out[k] = value
		size += 1 + len(k) + n
	}
	return out, size, nil
}

// Value returns v, in a table of that depth, as the driver has to see it, and its encoded
// size with the type octet.
func Value(v any, depth int) (any, int, error) {
	switch v := v.(type) {
	case nil:
		return v, 1, nil
	case bool, int8, uint8:
		return v, 2, nil
	case int16, uint16:
		return v, 3, nil
	case int32, uint32:
		return v, 5, nil
	case float32:
		return v, 5, finite(float64(v))
	case int64:
		return v, 9, nil
	case float64:
		return v, 9, finite(v)
	case int:
		// The driver would send 32 bits of it and say nothing.
		return int64(v), 9, nil
	case amqp.Decimal:
		return v, 6, nil
	case time.Time:
		return v, 9, Time(v)
	case string:
		return v, 5 + len(v), nil
	case []byte:
		return v, 5 + len(v), nil
	case []any:
		return array(v, depth)
	case amqp.Table:
		t, n, err := table(v, "", depth+1)
		return t, n + 1, err
	case map[string]any:
		t, n, err := table(v, "", depth+1)
		return t, n + 1, err
	case uint, uint64:
		return nil, 0, fmt.Errorf("is a %T, which AMQP 0-9-1 has no type for: use int64, or a string", v)
	default:
		return nil, 0, fmt.Errorf("is a %T, which AMQP has no type for: use a bool, string, []byte, an integer, a float, time.Time, amqp.Decimal, nil, or []any or amqp.Table of these", v)
	}
}

func array(v []any, depth int) (any, int, error) {
	if depth >= MaxDepth {
		return nil, 0, fmt.Errorf("is nested deeper than %d", MaxDepth)
	}
	if len(v) > MaxElements {
		return nil, 0, fmt.Errorf("has %d elements: clients read %d at most", len(v), MaxElements)
	}
	out := make([]any, len(v))
	size := 5
	for i, e := range v {
		value, n, err := Value(e, depth+1)
		if err != nil {
			return nil, 0, fmt.Errorf("[%d] %w", i, err)
		}
		out[i] = value
		size += n
	}
	return out, size, nil
}

// finite refuses what RabbitMQ closes the connection for, with 541.
func finite(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("is %v, at which the broker closes the connection: use a finite number, or a string", f)
	}
	return nil
}

// Time refuses what AMQP cannot count.
func Time(t time.Time) error {
	if t.Unix() < 0 {
		return fmt.Errorf("%v is before 1970, AMQP counts seconds from there", t)
	}
	return nil
}
