package topology

import (
	"reflect"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Kind is the kind of an exchange: how it picks the queues for a message. Kinds
// that come with a plugin begin with "x-" and are sent as they are.
type Kind string

// The kinds that every broker has.
const (
	KindDirect  Kind = "direct"  // routing key equals binding key; the default
	KindFanout  Kind = "fanout"  // to every binding
	KindTopic   Kind = "topic"   // words matched by pattern: * is one word, # any number
	KindHeaders Kind = "headers" // message headers matched against the binding's arguments
)

// kindLocalRandom is built into RabbitMQ since 4.0.
const kindLocalRandom Kind = "x-local-random"

// Exchange is an exchange to declare. Exchange{Name: "x"} is durable, direct, and
// stays when its last binding goes.
type Exchange struct {
	// Name is the exchange's name, at most 255 bytes. It cannot be empty: the
	// default exchange is always there. Names beginning with "amq." belong to the
	// broker.
	Name string

	// Kind defaults to KindDirect.
	Kind Kind

	// Transient makes an exchange that a broker restart removes. Defaults to
	// durable.
	Transient bool

	// AutoDelete makes the broker delete the exchange when its last binding goes.
	// Defaults to staying.
	AutoDelete bool

	// Internal makes an exchange that only other exchanges can publish to: a
	// client's publish is refused with 403. Defaults to open.
	Internal bool

	// Passive uses the exchange as it is: nothing is declared or compared, it only
	// has to exist. Defaults to declaring it.
	Passive bool

	// AlternateExchange names the exchange that gets the messages that no binding
	// of this one takes. Defaults to none: they are returned or dropped.
	AlternateExchange string

	// Arguments are sent as they are, besides what the fields above say. A Go int
	// is sent as a 64-bit integer. Defaults to none.
	Arguments amqp.Table
}

const alternateExchangeArgument = "alternate-exchange"

// DeclaredKind is the kind that is sent to the broker: Kind, or its default.
func (e Exchange) DeclaredKind() Kind {
	if e.Kind == "" {
		return KindDirect
	}
	return e.Kind
}

// DeclareArguments returns the table that is sent in exchange.declare.
func (e Exchange) DeclareArguments() amqp.Table {
	args := normalTable(e.Arguments)
	if e.AlternateExchange != "" {
		args[alternateExchangeArgument] = e.AlternateExchange
	}
	return args
}

// differingExchange returns the names of what differs between two definitions.
func differingExchange(a, b Exchange) []string {
	var d []string
	if a.DeclaredKind() != b.DeclaredKind() {
		d = append(d, "Kind")
	}
	if a.Transient != b.Transient {
		d = append(d, "Transient")
	}
	if a.AutoDelete != b.AutoDelete {
		d = append(d, "AutoDelete")
	}
	if a.Internal != b.Internal {
		d = append(d, "Internal")
	}
	return append(d, differingKeys(a.DeclareArguments(), b.DeclareArguments())...)
}

// predeclared are the exchanges that the broker makes itself. Declaring one is
// taken as long as the definition is the broker's own.
var predeclared = map[string]Exchange{
	"amq.direct":         {Name: "amq.direct", Kind: KindDirect},
	"amq.fanout":         {Name: "amq.fanout", Kind: KindFanout},
	"amq.topic":          {Name: "amq.topic", Kind: KindTopic},
	"amq.headers":        {Name: "amq.headers", Kind: KindHeaders},
	"amq.match":          {Name: "amq.match", Kind: KindHeaders},
	"amq.rabbitmq.trace": {Name: "amq.rabbitmq.trace", Kind: KindTopic, Internal: true},
}

// normalTable copies a table with every Go int as an int64, at any depth: the
// driver sends an int as 32 bits and drops the rest.
func normalTable(t amqp.Table) amqp.Table {
	n := make(amqp.Table, len(t))
	for k, v := range t {
		n[k] = normalValue(v)
	}
	return n
}

func normalValue(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case amqp.Table:
		return normalTable(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = normalValue(v[i])
		}
		return list
	}
	return v
}

// differingKeys returns the keys whose values differ, sorted. Integers of
// different widths are equal, as they are to the broker.
func differingKeys(a, b amqp.Table) []string {
	var d []string
	for k, v := range a {
		if w, ok := b[k]; !ok || !equalValue(v, w) {
			d = append(d, k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			d = append(d, k)
		}
	}
	slices.Sort(d)
	return d
}

func equalValue(a, b any) bool {
	if x, ok := wholeNumber(a); ok {
		y, ok := wholeNumber(b)
		return ok && x == y
	}
	return reflect.DeepEqual(a, b)
}

// wholeNumber returns the value of any integer type that the driver can send.
func wholeNumber(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	}
	return 0, false
}
