package topology

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

const queueTypeArgument = "x-queue-type"

// queueArgument is what is known of one x-argument of queue.declare.
type queueArgument struct {
	key   string
	field string      // the field of Queue that says it, if there is one
	types []QueueType // the queue types that act on it
	other elsewhere   // what the broker does with it on the other types

	// fault returns what is wrong with a value, or "".
	fault func(v any) string

	// get returns what the fields of q say, nil for nothing; set is its reverse and
	// reports false for what the fields cannot say.
	get func(q Queue) any
	set func(q *Queue, v any) bool
}

// elsewhere is the fate of an argument on a queue type that has no use for it.
type elsewhere int

const (
	refusedElsewhere elsewhere = iota // 406 from the broker that knows it; ignored by older ones
	dependsElsewhere                  // works on some supported brokers, refused by others
	ignoredElsewhere                  // taken in silence
)

var (
	anyType         = []QueueType{Quorum, Classic, Stream}
	quorumOrClassic = []QueueType{Quorum, Classic}
	quorumOnly      = []QueueType{Quorum}
	classicOnly     = []QueueType{Classic}
	streamOnly      = []QueueType{Stream}
)

// maxExpiry is the broker's own limit for TTLs, ten years.
const maxExpiry = 315_360_000_000 * time.Millisecond

// queueArguments is every argument of RabbitMQ 3.10 to 4.3, each tried on 3.10.8,
// 4.0.5 and 4.3.6 with every queue type and with wrong values.
var queueArguments = []queueArgument{
	{
		key: "x-dead-letter-exchange", field: "DeadLetterExchange", types: quorumOrClassic, fault: text,
		get: func(q Queue) any {
			if q.DeadLetterQueue != "" {
				return ""
			}
			return orNil(q.DeadLetterExchange)
		},
		set: textSetter(func(q *Queue) *string { return &q.DeadLetterExchange }),
	},
	{
		key: "x-dead-letter-routing-key", field: "DeadLetterRoutingKey", types: quorumOrClassic, fault: text,
		get: func(q Queue) any {
			if q.DeadLetterQueue != "" {
				return q.DeadLetterQueue
			}
			return orNil(q.DeadLetterRoutingKey)
		},
		set: textSetter(func(q *Queue) *string { return &q.DeadLetterRoutingKey }),
	},
	{
		key: "x-dead-letter-strategy", field: "DeadLetterStrategy", types: quorumOnly,
		fault: oneOf(AtMostOnce, AtLeastOnce),
		get:   func(q Queue) any { return orNil(string(q.DeadLetterStrategy)) },
		set:   textSetter(func(q *Queue) *DeadLetterStrategy { return &q.DeadLetterStrategy }),
	},
	{
		key: "x-message-ttl", field: "MessageTTL", types: quorumOrClassic,
		fault: integer(0, int64(maxExpiry/time.Millisecond)),
		get:   func(q Queue) any { return millis(q.MessageTTL) },
		set:   millisSetter(func(q *Queue) *time.Duration { return &q.MessageTTL }),
	},
	{
		key: "x-expires", field: "Expires", types: quorumOrClassic,
		fault: integer(1, int64(maxExpiry/time.Millisecond)),
		get:   func(q Queue) any { return millis(q.Expires) },
		set:   millisSetter(func(q *Queue) *time.Duration { return &q.Expires }),
	},
	{
		key: "x-max-length", field: "MaxLength", types: quorumOrClassic,
		fault: integer(0, math.MaxInt64),
		get:   func(q Queue) any { return orNil(q.MaxLength) },
		set:   integerSetter(func(q *Queue) *int64 { return &q.MaxLength }),
	},
	{
		key: "x-max-length-bytes", field: "MaxLengthBytes", types: anyType,
		fault: integer(0, math.MaxInt64),
		get:   func(q Queue) any { return orNil(q.MaxLengthBytes) },
		set:   integerSetter(func(q *Queue) *int64 { return &q.MaxLengthBytes }),
	},
	{
		key: "x-overflow", field: "Overflow", types: quorumOrClassic,
		fault: oneOf(DropHead, RejectPublish, RejectPublishDLX),
		get:   func(q Queue) any { return orNil(string(q.Overflow)) },
		set:   textSetter(func(q *Queue) *Overflow { return &q.Overflow }),
	},
	{
		key: "x-delivery-limit", field: "DeliveryLimit", types: quorumOnly,
		fault: integer(Unlimited, math.MaxInt64),
		get:   func(q Queue) any { return orNil(q.DeliveryLimit) },
		set:   integerSetter(func(q *Queue) *int64 { return &q.DeliveryLimit }),
	},
	{
		key: "x-max-priority", field: "MaxPriority", types: classicOnly,
		fault: integer(0, math.MaxUint8),
		get: func(q Queue) any {
			return orNil(int64(q.MaxPriority))
		},
		set: func(q *Queue, v any) bool {
			n, ok := wholeNumber(v)
			if !ok || n < 1 || n > math.MaxUint8 {
				return false
			}
			q.MaxPriority = uint8(n)
			return true
		},
	},
	{
		key: "x-single-active-consumer", field: "SingleActiveConsumer", types: quorumOrClassic, fault: flag,
		get: func(q Queue) any { return orNil(q.SingleActiveConsumer) },
		set: func(q *Queue, v any) bool {
			q.SingleActiveConsumer, _ = v.(bool)
			return q.SingleActiveConsumer
		},
	},
	{
		key: "x-delayed-retry-type", field: "DelayedRetry.Type", types: quorumOnly,
		fault: oneOf(DelayFailed, DelayReturned, DelayAll, DelayDisabled),
		get: func(q Queue) any {
			if q.DelayedRetry.Type == "" && (q.DelayedRetry.Min != 0 || q.DelayedRetry.Max != 0) {
				return string(DelayFailed)
			}
			return orNil(string(q.DelayedRetry.Type))
		},
		set: textSetter(func(q *Queue) *DelayedRetryType { return &q.DelayedRetry.Type }),
	},
	{
		key: "x-delayed-retry-min", field: "DelayedRetry.Min", types: quorumOnly,
		fault: integer(1, math.MaxInt64),
		get:   func(q Queue) any { return millis(q.DelayedRetry.Min) },
		set:   millisSetter(func(q *Queue) *time.Duration { return &q.DelayedRetry.Min }),
	},
	{
		key: "x-delayed-retry-max", field: "DelayedRetry.Max", types: quorumOnly,
		fault: integer(1, math.MaxInt64),
		get:   func(q Queue) any { return millis(q.DelayedRetry.Max) },
		set:   millisSetter(func(q *Queue) *time.Duration { return &q.DelayedRetry.Max }),
	},
	{
		key: "x-consumer-timeout", field: "ConsumerTimeout", types: quorumOnly, other: dependsElsewhere,
		fault: integer(0, math.MaxInt64),
		get:   func(q Queue) any { return millis(q.ConsumerTimeout) },
		set:   millisSetter(func(q *Queue) *time.Duration { return &q.ConsumerTimeout }),
	},
	{
		key: "x-max-age", field: "MaxAge", types: streamOnly, fault: age,
		get: func(q Queue) any { return orNil(formatAge(q.MaxAge)) },
		set: func(q *Queue, v any) bool {
			d, ok := parseAge(v)
			if !ok || formatAge(d) != v {
				return false
			}
			q.MaxAge = d
			return true
		},
	},
	{
		key: "x-stream-max-segment-size-bytes", field: "MaxSegmentBytes", types: streamOnly,
		fault: integer(0, 3_000_000_000),
		get:   func(q Queue) any { return orNil(q.MaxSegmentBytes) },
		set:   integerSetter(func(q *Queue) *int64 { return &q.MaxSegmentBytes }),
	},
	{key: "x-stream-filter-size-bytes", types: streamOnly, fault: integer(16, 255)},
	{key: "x-initial-cluster-size", types: streamOnly, fault: integer(1, math.MaxInt64)},
	{key: "x-quorum-initial-group-size", types: quorumOnly, fault: integer(1, math.MaxInt64)},
	{key: "x-quorum-target-group-size", types: quorumOnly, other: ignoredElsewhere, fault: integer(1, math.MaxInt64)},
	{key: "x-queue-leader-locator", types: anyType, fault: oneOf("client-local", "balanced", "random", "least-leaders", "min-masters")},
	{key: "x-consumer-disconnected-timeout", types: quorumOnly, fault: integer(0, math.MaxInt64)},
	{key: "x-max-in-memory-length", types: quorumOnly, fault: integer(0, math.MaxInt64)},
	{key: "x-max-in-memory-bytes", types: quorumOnly, fault: integer(0, math.MaxInt64)},
	{key: "x-queue-mode", types: classicOnly, fault: oneOf("default", "lazy")},
	{key: "x-queue-version", types: classicOnly, fault: integer(1, 2)},
	{key: "x-queue-master-locator", types: classicOnly, fault: oneOf("client-local", "min-masters", "random")},
}

var queueArgumentsByKey = func() map[string]*queueArgument {
	m := make(map[string]*queueArgument, len(queueArguments))
	for i := range queueArguments {
		m[queueArguments[i].key] = &queueArguments[i]
	}
	return m
}()

// works reports whether a queue of that type acts on the argument.
func (a queueArgument) works(t QueueType) bool { return slices.Contains(a.types, t) }

// name is how a message to the user calls the argument: by the field that says
// it, or by its key.
func (a queueArgument) name(q Queue) string {
	if a.get != nil && a.get(q) != nil {
		if q.DeadLetterQueue != "" && strings.HasPrefix(a.field, "DeadLetter") && a.field != "DeadLetterStrategy" {
			return "DeadLetterQueue"
		}
		return a.field
	}
	return argumentName(a.key)
}

func argumentName(key string) string { return "Arguments[" + strconv.Quote(key) + "]" }

// The checks of values. Each returns what is wrong, or "".

func text(v any) string {
	if _, ok := v.(string); !ok {
		return fmt.Sprintf("has to be a string and is %s", describe(v))
	}
	return ""
}

func flag(v any) string {
	if _, ok := v.(bool); !ok {
		return fmt.Sprintf("has to be true or false and is %s", describe(v))
	}
	return ""
}

func integer(least, most int64) func(any) string {
	return func(v any) string {
		n, ok := wholeNumber(v)
		switch {
		case !ok:
			return fmt.Sprintf("has to be an integer and is %s", describe(v))
		case n < least:
			return fmt.Sprintf("is %d and has to be at least %d", n, least)
		case n > most:
			return fmt.Sprintf("is %d and has to be at most %d", n, most)
		}
		return ""
	}
}

func oneOf[S ~string](values ...S) func(any) string {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	return func(v any) string {
		if s, ok := v.(string); ok && slices.Contains(names, s) {
			return ""
		}
		return fmt.Sprintf("is %s and has to be one of %s", describe(v), strings.Join(names, ", "))
	}
}

func age(v any) string {
	if _, ok := parseAge(v); !ok {
		return fmt.Sprintf("is %s and has to be a number above 0 with one of the units Y, M, D, h, m, s, as in 7D", describe(v))
	}
	return ""
}

// describe says what a value is, with its type where that is the point.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		return strconv.Quote(v)
	case bool:
		return strconv.FormatBool(v)
	}
	if n, ok := wholeNumber(v); ok {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%v (a %T)", v, v)
}

// The ways from a field to a value and back.

// orNil returns v, or nil for the zero value, which is not sent.
func orNil[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

func millis(d time.Duration) any { return orNil(d.Milliseconds()) }

func textSetter[S ~string](field func(*Queue) *S) func(*Queue, any) bool {
	return func(q *Queue, v any) bool {
		s, ok := v.(string)
		if !ok || s == "" {
			return false
		}
		*field(q) = S(s)
		return true
	}
}

func integerSetter(field func(*Queue) *int64) func(*Queue, any) bool {
	return func(q *Queue, v any) bool {
		n, ok := wholeNumber(v)
		if !ok || n == 0 {
			return false
		}
		*field(q) = n
		return true
	}
}

func millisSetter(field func(*Queue) *time.Duration) func(*Queue, any) bool {
	return func(q *Queue, v any) bool {
		n, ok := wholeNumber(v)
		if !ok || n == 0 || n > math.MaxInt64/int64(time.Millisecond) || n < math.MinInt64/int64(time.Millisecond) {
			return false
		}
		*field(q) = time.Duration(n) * time.Millisecond
		return true
	}
}

// ageUnits are the broker's, without years and months, which formatAge leaves
// out: 365D says more than 1Y.
var ageUnits = []struct {
	unit string
	span time.Duration
}{{"D", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

// formatAge writes an age in the largest unit that divides it, because brokers
// before 4.3 compare the texts of two declarations and not the ages.
func formatAge(d time.Duration) string {
	if d == 0 {
		return ""
	}
	for _, u := range ageUnits {
		if d%u.span == 0 {
			return strconv.FormatInt(int64(d/u.span), 10) + u.unit
		}
	}
	return d.String()
}

// parseAge reads what the broker takes as an age.
func parseAge(v any) (time.Duration, bool) {
	s, ok := v.(string)
	if !ok || len(s) < 2 {
		return 0, false
	}
	n, err := strconv.ParseInt(s[:len(s)-1], 10, 64)
	if err != nil || n <= 0 || s[0] == '+' {
		return 0, false
	}
	span := time.Duration(0)
	switch s[len(s)-1] {
	case 'Y':
		span = 365 * 24 * time.Hour
	case 'M':
		span = 30 * 24 * time.Hour
	default:
		for _, u := range ageUnits {
			if u.unit == s[len(s)-1:] {
				span = u.span
			}
		}
	}
	if span == 0 || n > math.MaxInt64/int64(span) {
		return 0, false
	}
	return time.Duration(n) * span, true
}
