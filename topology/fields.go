package topology

import (
	"fmt"
	"math"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// field is one key of an exchange, queue or binding in a file: how it is read and
// how it is written. The tables below are the whole file format.
type field[T any] struct {
	key    string
	decode func(d *decoder, n node, path string, x *T)
	encode func(x *T) any // nil is not written
}

var exchangeFields = []field[Exchange]{
	textField("name", func(e *Exchange) *string { return &e.Name }),
	textField("kind", func(e *Exchange) *Kind { return &e.Kind }),
	flagField("transient", func(e *Exchange) *bool { return &e.Transient }),
	flagField("auto_delete", func(e *Exchange) *bool { return &e.AutoDelete }),
	flagField("internal", func(e *Exchange) *bool { return &e.Internal }),
	flagField("passive", func(e *Exchange) *bool { return &e.Passive }),
	argumentField("alternate_exchange", func(e *Exchange) *string { return &e.AlternateExchange }),
	tableField("arguments", func(e *Exchange) *amqp.Table { return &e.Arguments }),
}

var queueFields = []field[Queue]{
	textField("name", func(q *Queue) *string { return &q.Name }),
	textField("type", func(q *Queue) *QueueType { return &q.Type }),
	flagField("transient", func(q *Queue) *bool { return &q.Transient }),
	flagField("exclusive", func(q *Queue) *bool { return &q.Exclusive }),
	flagField("auto_delete", func(q *Queue) *bool { return &q.AutoDelete }),
	flagField("passive", func(q *Queue) *bool { return &q.Passive }),
	argumentField("dead_letter_exchange", func(q *Queue) *string { return &q.DeadLetterExchange }),
	argumentField("dead_letter_routing_key", func(q *Queue) *string { return &q.DeadLetterRoutingKey }),
	argumentField("dead_letter_queue", func(q *Queue) *string { return &q.DeadLetterQueue }),
	argumentField("dead_letter_strategy", func(q *Queue) *DeadLetterStrategy { return &q.DeadLetterStrategy }),
	durationField("message_ttl", func(q *Queue) *time.Duration { return &q.MessageTTL }),
	durationField("expires", func(q *Queue) *time.Duration { return &q.Expires }),
	integerField("max_length", func(q *Queue) *int64 { return &q.MaxLength }),
	integerField("max_length_bytes", func(q *Queue) *int64 { return &q.MaxLengthBytes }),
	argumentField("overflow", func(q *Queue) *Overflow { return &q.Overflow }),
	{"delivery_limit", decodeDeliveryLimit, encodeDeliveryLimit},
	{"max_priority", decodeMaxPriority, func(q *Queue) any { return orNil(int64(q.MaxPriority)) }},
	flagField("single_active_consumer", func(q *Queue) *bool { return &q.SingleActiveConsumer }),
	{"delayed_retry", decodeDelayedRetry, encodeDelayedRetry},
	durationField("consumer_timeout", func(q *Queue) *time.Duration { return &q.ConsumerTimeout }),
	durationField("max_age", func(q *Queue) *time.Duration { return &q.MaxAge }),
	integerField("max_segment_bytes", func(q *Queue) *int64 { return &q.MaxSegmentBytes }),
	tableField("arguments", func(q *Queue) *amqp.Table { return &q.Arguments }),
}

var delayedRetryFields = []field[DelayedRetry]{
	textField("type", func(r *DelayedRetry) *DelayedRetryType { return &r.Type }),
	durationField("min", func(r *DelayedRetry) *time.Duration { return &r.Min }),
	durationField("max", func(r *DelayedRetry) *time.Duration { return &r.Max }),
}

var bindingFields = []field[Binding]{
	textField("exchange", func(b *Binding) *string { return &b.Exchange }),
	textField("queue", func(b *Binding) *string { return &b.Queue }),
	textField("to_exchange", func(b *Binding) *string { return &b.ToExchange }),
	textField("routing_key", func(b *Binding) *string { return &b.RoutingKey }),
	tableField("arguments", func(b *Binding) *amqp.Table { return &b.Arguments }),
}

var topologyFields = []field[Topology]{
	listField("exchanges", exchangeFields, func(t *Topology) *[]Exchange { return &t.Exchanges }),
	listField("queues", queueFields, func(t *Topology) *[]Queue { return &t.Queues }),
	listField("bindings", bindingFields, func(t *Topology) *[]Binding { return &t.Bindings }),
}

// topology reads a document in our own format.
func (d *decoder) topology(root node) Topology {
	return decodeFields(d, root, "", topologyFields)
}

// decodeFields reads a mapping into a T, strictly.
func decodeFields[T any](d *decoder, n node, path string, fields []field[T]) T {
	var x T
	for _, e := range d.entries(n, path) {
		at := e.key
		if path != "" {
			at = path + "." + e.key
		}
		known := false
		for _, f := range fields {
			if f.key == e.key {
				f.decode(d, e.value, at, &x)
				known = true
			}
		}
		if !known {
			d.fail(e.line, path, "unknown field %q%s", e.key, suggestion(e.key, fields))
		}
	}
	return x
}

// suggestion is what probably was meant by an unknown field.
func suggestion[T any](key string, fields []field[T]) string {
	switch key {
	case "durable":
		return ": everything is durable, unless it says transient: true"
	case "args":
		return ": use arguments"
	case "ttl", "x-message-ttl":
		return ": use message_ttl"
	}
	best, distance := "", 3
	for _, f := range fields {
		if max(len(key)-len(f.key), len(f.key)-len(key)) >= distance {
			continue // each byte more or less is one to insert or delete
		}
		if d := editDistance(key, f.key); d < distance {
			best, distance = f.key, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// editDistance is the number of bytes to insert, delete or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func textField[T any, S ~string](key string, at func(*T) *S) field[T] {
	return field[T]{
		key:    key,
		decode: func(d *decoder, n node, path string, x *T) { *at(x) = S(d.text(n, path)) },
		encode: func(x *T) any { return orNil(string(*at(x))) },
	}
}

// argumentField is a text that is sent as an argument, where the empty one means
// something: as a dead-letter exchange it is the default exchange.
func argumentField[T any, S ~string](key string, at func(*T) *S) field[T] {
	f := textField(key, at)
	f.decode = func(d *decoder, n node, path string, x *T) {
		*at(x) = S(d.text(n, path))
		d.refuseZero(n, path, "")
	}
	return f
}

func flagField[T any](key string, at func(*T) *bool) field[T] {
	return field[T]{
		key:    key,
		decode: func(d *decoder, n node, path string, x *T) { *at(x) = d.flag(n, path) },
		encode: func(x *T) any { return orNil(*at(x)) },
	}
}

func integerField[T any](key string, at func(*T) *int64) field[T] {
	return field[T]{
		key: key,
		decode: func(d *decoder, n node, path string, x *T) {
			*at(x) = d.integer(n, path)
			d.refuseZero(n, path, int64(0))
		},
		encode: func(x *T) any { return orNil(*at(x)) },
	}
}

func durationField[T any](key string, at func(*T) *time.Duration) field[T] {
	return field[T]{
		key: key,
		decode: func(d *decoder, n node, path string, x *T) {
			failed := d.failed()
			if *at(x) = d.duration(n, path); *at(x) == 0 && d.failed() == failed {
				d.refuseZero(n, path, n.value)
			}
		},
		encode: func(x *T) any {
			if *at(x) == 0 {
				return nil
			}
			return formatDuration(*at(x))
		},
	}
}

func tableField[T any](key string, at func(*T) *amqp.Table) field[T] {
	return field[T]{
		key:    key,
		decode: func(d *decoder, n node, path string, x *T) { *at(x) = d.table(n, path) },
		encode: func(x *T) any {
			if len(*at(x)) == 0 {
				return nil
			}
			return *at(x)
		},
	}
}

func listField[T, E any](key string, fields []field[E], at func(*T) *[]E) field[T] {
	return field[T]{
		key: key,
		decode: func(d *decoder, n node, path string, x *T) {
			for i, item := range d.items(n, path) {
				*at(x) = append(*at(x), decodeFields(d, item, fmt.Sprintf("%s[%d]", path, i), fields))
			}
		},
		encode: func(x *T) any {
			if len(*at(x)) == 0 {
				return nil
			}
			items := make([]any, len(*at(x)))
			for i := range *at(x) {
				items[i] = encodeFields(&(*at(x))[i], fields)
			}
			return items
		},
	}
}

func decodeDeliveryLimit(d *decoder, n node, path string, q *Queue) {
	if s, ok := n.value.(string); ok {
		if s != "unlimited" {
			d.fail(n.line, path, "has to be an integer or unlimited and is %q", s)
		}
		q.DeliveryLimit = Unlimited
		return
	}
	q.DeliveryLimit = d.integer(n, path)
	d.refuseZero(n, path, int64(0))
}

func encodeDeliveryLimit(q *Queue) any {
	if q.DeliveryLimit == Unlimited {
		return "unlimited"
	}
	return orNil(q.DeliveryLimit)
}

func decodeMaxPriority(d *decoder, n node, path string, q *Queue) {
	i := d.integer(n, path)
	if i < 0 || i > math.MaxUint8 {
		d.fail(n.line, path, "has to be 1 to 255 and is %d", i)
		return
	}
	q.MaxPriority = uint8(i)
	d.refuseZero(n, path, int64(0))
}

func decodeDelayedRetry(d *decoder, n node, path string, q *Queue) {
	q.DelayedRetry = decodeFields(d, n, path, delayedRetryFields)
}

func encodeDelayedRetry(q *Queue) any {
	if q.DelayedRetry == (DelayedRetry{}) {
		return nil
	}
	return encodeFields(&q.DelayedRetry, delayedRetryFields)
}

// pair is one key of a mapping that is to be written.
type pair struct {
	key   string
	value any
}

// encodeFields returns what a T says, in the order of the table.
func encodeFields[T any](x *T, fields []field[T]) []pair {
	ps := []pair{}
	for _, f := range fields {
		if v := f.encode(x); v != nil {
			ps = append(ps, pair{f.key, v})
		}
	}
	return ps
}
