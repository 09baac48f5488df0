package topology_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

var long = strings.Repeat("x", 256)

// faultsOf takes the faults out of a joined error.
func faultsOf(t *testing.T, err error) []*topology.Fault {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("Validate returned a %T, want joined faults", err)
	}
	var faults []*topology.Fault
	for _, e := range joined.Unwrap() {
		var f *topology.Fault
		if !errors.As(e, &f) {
			t.Fatalf("Validate joined a %T, want *topology.Fault", e)
		}
		faults = append(faults, f)
	}
	return faults
}

// checkFaults wants exactly the faults in want, each "Field: part of the problem".
func checkFaults(t *testing.T, err error, want ...string) {
	t.Helper()
	faults := faultsOf(t, err)
	if len(faults) != len(want) {
		t.Errorf("%d faults, want %d:\n%v", len(faults), len(want), err)
		return
	}
	for i, f := range faults {
		field, problem, _ := strings.Cut(want[i], ": ")
		if f.Field != field || !strings.Contains(f.Problem, problem) {
			t.Errorf("fault %d is %q: %q, want %q", i, f.Field, f.Problem, want[i])
		}
		if text := f.Error(); strings.ContainsAny(text, "\r\n") || strings.HasSuffix(text, ".") {
			t.Errorf("fault %d is not one line without a full stop: %q", i, text)
		}
	}
}

func TestValidateReportsFaultsOfQueues(t *testing.T) {
	t.Parallel()
	args := func(key string, value any) amqp.Table { return amqp.Table{key: value} }
	for _, c := range []struct {
		claim string
		queue topology.Queue
		want  []string
	}{
		{"a name that is too long", topology.Queue{Name: long}, []string{"Name: 256 bytes"}},
		{"a name that is not UTF-8", topology.Queue{Name: "a\xff"}, []string{"Name: UTF-8"}},
		{"a name with a line break", topology.Queue{Name: "a\nb"}, []string{"Name: line break"}},
		{"a name with a carriage return", topology.Queue{Name: "a\rb"}, []string{"Name: line break"}},
		{"a name with the broker's prefix", topology.Queue{Name: "amq.mine"}, []string{"Name: belongs to the broker"}},
		{"a dead-letter exchange with a line break", topology.Queue{Name: "q", DeadLetterExchange: "a\n"}, []string{"DeadLetterExchange: line break"}},
		{"an unknown type", topology.Queue{Name: "q", Type: "bogus"}, []string{`Type: "bogus" is no queue type`}},

		{"a transient quorum queue", topology.Queue{Name: "q", Type: topology.Quorum, Transient: true}, []string{"Transient: always durable"}},
		{"an exclusive quorum queue", topology.Queue{Name: "q", Type: topology.Quorum, Exclusive: true}, []string{"Exclusive: cannot be exclusive"}},
		{"an auto-delete quorum queue", topology.Queue{Name: "q", Type: topology.Quorum, AutoDelete: true}, []string{"AutoDelete: cannot be auto-delete"}},
		{"a transient stream", topology.Queue{Name: "q", Type: topology.Stream, Transient: true}, []string{"Transient: always durable"}},
		{"an exclusive stream", topology.Queue{Name: "q", Type: topology.Stream, Exclusive: true}, []string{"Exclusive: cannot be exclusive"}},
		{"an auto-delete stream", topology.Queue{Name: "q", Type: topology.Stream, AutoDelete: true}, []string{"AutoDelete: cannot be auto-delete"}},

		{"priorities on a quorum queue", topology.Queue{Name: "q", MaxPriority: 5}, []string{"MaxPriority: a quorum queue has no x-max-priority"}},
		{"priorities on a stream", topology.Queue{Name: "q", Type: topology.Stream, MaxPriority: 5}, []string{"MaxPriority: a stream queue has no x-max-priority"}},
		{"a TTL on a stream", topology.Queue{Name: "q", Type: topology.Stream, MessageTTL: time.Second}, []string{"MessageTTL: a stream queue has no"}},
		{"an expiry on a stream", topology.Queue{Name: "q", Type: topology.Stream, Expires: time.Second}, []string{"Expires: a stream queue has no"}},
		{"a length on a stream", topology.Queue{Name: "q", Type: topology.Stream, MaxLength: 1}, []string{"MaxLength: a stream queue has no"}},
		{"an overflow on a stream", topology.Queue{Name: "q", Type: topology.Stream, Overflow: topology.DropHead}, []string{"Overflow: a stream queue has no"}},
		{"dead letters of a stream", topology.Queue{Name: "q", Type: topology.Stream, DeadLetterExchange: "x"}, []string{"DeadLetterExchange: a stream queue has no"}},
		{"a single active consumer on a stream", topology.Queue{Name: "q", Type: topology.Stream, SingleActiveConsumer: true}, []string{"SingleActiveConsumer: a stream queue has no"}},
		{"a delivery limit on a stream", topology.Queue{Name: "q", Type: topology.Stream, DeliveryLimit: 5}, []string{"DeliveryLimit: a stream queue has no"}},
		{"a delivery limit on a classic queue", topology.Queue{Name: "q", Type: topology.Classic, DeliveryLimit: 5}, []string{"DeliveryLimit: a classic queue has no"}},
		{"a dead-letter strategy on a classic queue", topology.Queue{Name: "q", Type: topology.Classic, DeadLetterStrategy: topology.AtMostOnce}, []string{"DeadLetterStrategy: a classic queue has no"}},
		{"a delayed retry on a classic queue", topology.Queue{Name: "q", Type: topology.Classic, DelayedRetry: topology.DelayedRetry{Min: time.Second}}, []string{"DelayedRetry.Type: a classic queue has no", "DelayedRetry.Min: a classic queue has no"}},
		{"an age on a quorum queue", topology.Queue{Name: "q", MaxAge: time.Hour}, []string{"MaxAge: a quorum queue has no"}},
		{"an age on a classic queue", topology.Queue{Name: "q", Type: topology.Classic, MaxAge: time.Hour}, []string{"MaxAge: a classic queue has no"}},
		{"a segment size on a quorum queue", topology.Queue{Name: "q", MaxSegmentBytes: 1}, []string{"MaxSegmentBytes: a quorum queue has no"}},
		{"a queue mode on a quorum queue", topology.Queue{Name: "q", Arguments: args("x-queue-mode", "lazy")}, []string{`Arguments["x-queue-mode"]: a quorum queue has no`}},
		{"a queue version on a quorum queue", topology.Queue{Name: "q", Arguments: args("x-queue-version", 2)}, []string{`Arguments["x-queue-version"]: a quorum queue has no`}},

		{"a negative TTL", topology.Queue{Name: "q", MessageTTL: -time.Second}, []string{"MessageTTL: cannot be negative"}},
		{"a TTL below a millisecond", topology.Queue{Name: "q", MessageTTL: time.Microsecond}, []string{"MessageTTL: multiple of 1ms"}},
		{"a TTL over ten years", topology.Queue{Name: "q", MessageTTL: 88000 * time.Hour}, []string{"MessageTTL: ten years"}},
		{"a negative expiry", topology.Queue{Name: "q", Expires: -time.Second}, []string{"Expires: cannot be negative"}},
		{"an expiry over ten years", topology.Queue{Name: "q", Expires: 88000 * time.Hour}, []string{"Expires: ten years"}},
		{"a negative consumer timeout", topology.Queue{Name: "q", ConsumerTimeout: -time.Second}, []string{"ConsumerTimeout: cannot be negative"}},
		{"an age below a second", topology.Queue{Name: "q", Type: topology.Stream, MaxAge: time.Millisecond}, []string{"MaxAge: multiple of 1s"}},
		{"a negative length", topology.Queue{Name: "q", MaxLength: -1}, []string{"MaxLength: at least 0"}},
		{"a negative length in bytes", topology.Queue{Name: "q", MaxLengthBytes: -1}, []string{"MaxLengthBytes: at least 0"}},
		{"a delivery limit below unlimited", topology.Queue{Name: "q", DeliveryLimit: -2}, []string{"DeliveryLimit: at least -1"}},
		{"a segment size over 3 GB", topology.Queue{Name: "q", Type: topology.Stream, MaxSegmentBytes: 3_000_000_001}, []string{"MaxSegmentBytes: at most 3000000000"}},
		{"an unknown overflow", topology.Queue{Name: "q", Overflow: "bogus"}, []string{"Overflow: one of drop-head, reject-publish, reject-publish-dlx"}},
		{"an unknown dead-letter strategy", topology.Queue{Name: "q", DeadLetterStrategy: "bogus"}, []string{"DeadLetterStrategy: one of at-most-once, at-least-once"}},

		{"a TTL that is a string", topology.Queue{Name: "q", Arguments: args("x-message-ttl", "1000")}, []string{`Arguments["x-message-ttl"]: has to be an integer and is "1000"`}},
		{"a TTL that is a float", topology.Queue{Name: "q", Arguments: args("x-message-ttl", 1000.0)}, []string{`Arguments["x-message-ttl"]: has to be an integer and is 1000 (a float64)`}},
		{"an expiry of 0", topology.Queue{Name: "q", Arguments: args("x-expires", 0)}, []string{`Arguments["x-expires"]: at least 1`}},
		{"a priority over 255", topology.Queue{Name: "q", Type: topology.Classic, Arguments: args("x-max-priority", 256)}, []string{`Arguments["x-max-priority"]: at most 255`}},
		{"a single active consumer that is a string", topology.Queue{Name: "q", Arguments: args("x-single-active-consumer", "true")}, []string{`Arguments["x-single-active-consumer"]: true or false`}},
		{"a dead-letter exchange that is a number", topology.Queue{Name: "q", Arguments: args("x-dead-letter-exchange", 3)}, []string{`Arguments["x-dead-letter-exchange"]: has to be a string and is 3`}},
		{"an argument that is nil", topology.Queue{Name: "q", Arguments: args("x-max-length", nil)}, []string{`Arguments["x-max-length"]: is nil`}},
		{"an age without a unit", topology.Queue{Name: "q", Type: topology.Stream, Arguments: args("x-max-age", "7")}, []string{`Arguments["x-max-age"]: one of the units`}},
		{"an age in weeks", topology.Queue{Name: "q", Type: topology.Stream, Arguments: args("x-max-age", "1w")}, []string{`Arguments["x-max-age"]: one of the units`}},
		{"an age of 0", topology.Queue{Name: "q", Type: topology.Stream, Arguments: args("x-max-age", "0s")}, []string{`Arguments["x-max-age"]: above 0`}},
		{"an age with a sign", topology.Queue{Name: "q", Type: topology.Stream, Arguments: args("x-max-age", "+7D")}, []string{`Arguments["x-max-age"]: above 0`}},
		{"a filter size below 16", topology.Queue{Name: "q", Type: topology.Stream, Arguments: args("x-stream-filter-size-bytes", 15)}, []string{`Arguments["x-stream-filter-size-bytes"]: at least 16`}},
		{"an initial cluster size of 0", topology.Queue{Name: "q", Type: topology.Stream, Arguments: args("x-initial-cluster-size", 0)}, []string{`Arguments["x-initial-cluster-size"]: at least 1`}},
		{"an initial group size of 0", topology.Queue{Name: "q", Arguments: args("x-quorum-initial-group-size", 0)}, []string{`Arguments["x-quorum-initial-group-size"]: at least 1`}},
		{"an unknown leader locator", topology.Queue{Name: "q", Arguments: args("x-queue-leader-locator", "bogus")}, []string{`Arguments["x-queue-leader-locator"]: one of client-local, balanced`}},
		{"a queue version of 3", topology.Queue{Name: "q", Type: topology.Classic, Arguments: args("x-queue-version", 3)}, []string{`Arguments["x-queue-version"]: at most 2`}},
		{"a consumer timeout that is a string", topology.Queue{Name: "q", Arguments: args("x-consumer-timeout", "1m")}, []string{`Arguments["x-consumer-timeout"]: integer`}},
		{"a delivery limit that is a string, which the broker ignores", topology.Queue{Name: "q", Arguments: args("x-delivery-limit", "3")}, []string{`Arguments["x-delivery-limit"]: integer`}},

		{"a field and the same argument", topology.Queue{Name: "q", MessageTTL: time.Second, Arguments: args("x-message-ttl", 1000)}, []string{`MessageTTL: is also set as Arguments["x-message-ttl"]`}},
		{"the type as an argument", topology.Queue{Name: "q", Arguments: args("x-queue-type", "quorum")}, []string{`Arguments["x-queue-type"]: field Type`}},

		{"a dead-letter routing key alone", topology.Queue{Name: "q", DeadLetterRoutingKey: "k"}, []string{"DeadLetterRoutingKey: needs a dead-letter exchange"}},
		{"a dead-letter routing key that is too long", topology.Queue{Name: "q", DeadLetterExchange: "x", DeadLetterRoutingKey: long}, []string{"DeadLetterRoutingKey: 256 bytes"}},
		{"a dead-letter queue and exchange", topology.Queue{Name: "q", DeadLetterQueue: "d", DeadLetterExchange: "x"}, []string{"DeadLetterQueue: as well as DeadLetterExchange"}},
		{"a dead-letter queue and routing key", topology.Queue{Name: "q", DeadLetterQueue: "d", DeadLetterRoutingKey: "k"}, []string{"DeadLetterQueue: as well as DeadLetterRoutingKey"}},
		{"a dead-letter queue with a line break", topology.Queue{Name: "q", DeadLetterQueue: "d\n"}, []string{"DeadLetterQueue: line break"}},
		{"a dead-letter queue and the argument", topology.Queue{Name: "q", DeadLetterQueue: "d", Arguments: args("x-dead-letter-exchange", "x")}, []string{`DeadLetterQueue: is also set as Arguments["x-dead-letter-exchange"]`}},
		{"at-least-once alone", topology.Queue{Name: "q", DeadLetterStrategy: topology.AtLeastOnce}, []string{"DeadLetterStrategy: without a dead-letter exchange", "DeadLetterStrategy: without overflow reject-publish"}},
		{"at-least-once without the overflow", topology.Queue{Name: "q", DeadLetterStrategy: topology.AtLeastOnce, DeadLetterExchange: "x"}, []string{"DeadLetterStrategy: without overflow reject-publish"}},
		{"at-least-once with another overflow", topology.Queue{Name: "q", DeadLetterStrategy: topology.AtLeastOnce, DeadLetterExchange: "x", Overflow: topology.DropHead}, []string{"DeadLetterStrategy: without overflow reject-publish"}},
		{"at-least-once without the exchange", topology.Queue{Name: "q", DeadLetterStrategy: topology.AtLeastOnce, Overflow: topology.RejectPublish}, []string{"DeadLetterStrategy: without a dead-letter exchange"}},

		{"an unknown delayed retry, which the broker ignores", topology.Queue{Name: "q", DelayedRetry: topology.DelayedRetry{Type: "bogus", Min: time.Second}}, []string{"DelayedRetry.Type: one of failed, returned, all, disabled"}},
		{"a delayed retry without a shortest delay", topology.Queue{Name: "q", DelayedRetry: topology.DelayedRetry{Max: time.Second}}, []string{"DelayedRetry.Type: without a shortest delay"}},
		{"a delayed retry with the longest delay below the shortest", topology.Queue{Name: "q", DelayedRetry: topology.DelayedRetry{Min: 2 * time.Second, Max: time.Second}}, []string{"DelayedRetry.Max: below the shortest"}},
		{"a delayed retry that is negative", topology.Queue{Name: "q", DelayedRetry: topology.DelayedRetry{Min: -time.Second}}, []string{"DelayedRetry.Min: cannot be negative"}},
		{"a shortest delay without the type", topology.Queue{Name: "q", Arguments: args("x-delayed-retry-min", 1000)}, []string{`Arguments["x-delayed-retry-min"]: without x-delayed-retry-type`}},

		{"an argument of 64 bits without a sign", topology.Queue{Name: "q", Arguments: args("x", uint64(1))}, []string{`Arguments["x"]: use int64`}},
		{"an argument deep inside that cannot be sent", topology.Queue{Name: "q", Arguments: args("x", amqp.Table{"a": []any{uint(1)}})}, []string{`Arguments["x"]: use int64`}},
		{"an argument that is a Go map", topology.Queue{Name: "q", Arguments: args("x", map[string]any{})}, []string{`Arguments["x"]: use amqp.Table`}},
		{"an argument of a type that AMQP does not have", topology.Queue{Name: "q", Arguments: args("x", time.Second)}, []string{`Arguments["x"]: is a time.Duration`}},
		{"an argument whose key is too long", topology.Queue{Name: "q", Arguments: args(long, 1)}, []string{"Arguments: 256 bytes"}},
		{"a key that is too long deep inside", topology.Queue{Name: "q", Arguments: args("x", amqp.Table{long: 1})}, []string{`Arguments["x"]: 256 bytes`}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			t.Parallel()
			checkFaults(t, topology.Topology{Queues: []topology.Queue{c.queue}}.Validate(), c.want...)
			checkFaults(t, c.queue.Validate(), c.want...)
		})
	}
}

func TestValidateReportsFaultsOfServerNamedQueues(t *testing.T) {
	t.Parallel()
	checkFaults(t, topology.Topology{Queues: []topology.Queue{{Exclusive: true}}}.Validate(), "Name: known only to the session")
	for _, c := range []struct {
		claim string
		queue topology.Queue
		want  []string
	}{
		{"none is taken by itself", topology.Queue{}, nil},
		{"an exclusive one", topology.Queue{Exclusive: true}, nil},
		{"a quorum queue", topology.Queue{Type: topology.Quorum}, []string{"Name: cannot be named by the broker"}},
		{"a stream", topology.Queue{Type: topology.Stream}, []string{"Name: cannot be named by the broker"}},
		{"one that is passive", topology.Queue{Passive: true}, []string{"Passive: without a name"}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			t.Parallel()
			checkFaults(t, c.queue.Validate(), c.want...)
		})
	}
}

func TestValidateReportsFaultsOfExchanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		claim    string
		exchange topology.Exchange
		want     []string
	}{
		{"the default exchange", topology.Exchange{}, []string{"Name: default exchange"}},
		{"a name that is too long", topology.Exchange{Name: long}, []string{"Name: 256 bytes"}},
		{"a name with a line break", topology.Exchange{Name: "a\r\n"}, []string{"Name: line break"}},
		{"a name with the broker's prefix", topology.Exchange{Name: "amq.mine"}, []string{"Name: belongs to the broker"}},
		{"a broker's exchange of another kind", topology.Exchange{Name: "amq.direct", Kind: topology.KindTopic}, []string{"Kind: is not what the broker declared"}},
		{"a broker's exchange that is transient", topology.Exchange{Name: "amq.direct", Transient: true}, []string{"Transient: is not what the broker declared"}},
		{"a broker's exchange that is auto-delete", topology.Exchange{Name: "amq.direct", AutoDelete: true}, []string{"AutoDelete: is not what the broker declared"}},
		{"a broker's exchange that is internal", topology.Exchange{Name: "amq.direct", Internal: true}, []string{"Internal: is not what the broker declared"}},
		{"an alternate exchange that is too long", topology.Exchange{Name: "x", AlternateExchange: long}, []string{"AlternateExchange: 256 bytes"}},
		{"a kind that is too long", topology.Exchange{Name: "x", Kind: topology.Kind("x-" + long)}, []string{"Kind: 258 bytes"}},
		{"an unknown kind", topology.Exchange{Name: "x", Kind: "bogus"}, []string{`Kind: "bogus" is no kind of exchange`}},
		{"a kind in capitals", topology.Exchange{Name: "x", Kind: "Direct"}, []string{`Kind: "Direct" is no kind of exchange`}},
		{"an alternate exchange twice", topology.Exchange{Name: "x", AlternateExchange: "a", Arguments: amqp.Table{"alternate-exchange": "a"}}, []string{"AlternateExchange: is also set"}},
		{"an alternate exchange that is a number", topology.Exchange{Name: "x", Arguments: amqp.Table{"alternate-exchange": 3}}, []string{`Arguments["alternate-exchange"]: has to be a string`}},
		{"an argument that cannot be sent", topology.Exchange{Name: "x", Arguments: amqp.Table{"a": uint64(1)}}, []string{`Arguments["a"]: use int64`}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			t.Parallel()
			checkFaults(t, topology.Topology{Exchanges: []topology.Exchange{c.exchange}}.Validate(), c.want...)
		})
	}
}

func TestValidateReportsFaultsOfBindings(t *testing.T) {
	t.Parallel()
	base := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "h", Kind: topology.KindHeaders}, {Name: "d"}, {Name: "local", Kind: "x-local-random"}},
		Queues:    []topology.Queue{{Name: "q"}, {Name: "c", Type: topology.Classic}},
	}
	for _, c := range []struct {
		claim   string
		binding topology.Binding
		want    []string
	}{
		{"the default exchange", topology.Binding{Queue: "q"}, []string{"Exchange: default exchange"}},
		{"no destination", topology.Binding{Exchange: "d"}, []string{"Queue: no destination"}},
		{"two destinations", topology.Binding{Exchange: "d", Queue: "q", ToExchange: "h"}, []string{"ToExchange: as well as Queue"}},
		{"a key that is too long", topology.Binding{Exchange: "d", Queue: "q", RoutingKey: long}, []string{"RoutingKey: 256 bytes"}},
		{"a key that is not UTF-8", topology.Binding{Exchange: "d", Queue: "q", RoutingKey: "\xff"}, []string{"RoutingKey: UTF-8"}},
		{"an exchange name that is too long", topology.Binding{Exchange: long, Queue: "q"}, []string{"Exchange: 256 bytes"}},
		{"a queue name that is too long", topology.Binding{Exchange: "d", Queue: long}, []string{"Queue: 256 bytes"}},
		{"a destination exchange name with a line break", topology.Binding{Exchange: "d", ToExchange: "a\n"}, []string{"ToExchange: line break"}},
		{"an argument that cannot be sent", topology.Binding{Exchange: "d", Queue: "q", Arguments: amqp.Table{"a": uint64(1)}}, []string{`Arguments["a"]: use int64`}},
		{"an unknown x-match", topology.Binding{Exchange: "h", Queue: "q", Arguments: amqp.Table{"x-match": "bogus"}}, []string{`Arguments["x-match"]: one of all, any`}},
		{"an x-match that is no string", topology.Binding{Exchange: "h", Queue: "q", Arguments: amqp.Table{"x-match": true}}, []string{`Arguments["x-match"]: one of all, any`}},
		{"an unknown x-match on the broker's own exchange", topology.Binding{Exchange: "amq.match", Queue: "q", Arguments: amqp.Table{"x-match": "bogus"}}, []string{`Arguments["x-match"]: one of all, any`}},
		{"a quorum queue behind x-local-random", topology.Binding{Exchange: "local", Queue: "q"}, []string{"Queue: classic queues only"}},

		{"none for x-match on another exchange", topology.Binding{Exchange: "d", Queue: "q", Arguments: amqp.Table{"x-match": "bogus"}}, nil},
		{"none for an entity that is not here", topology.Binding{Exchange: "elsewhere", Queue: "too"}, nil},
		{"none for a classic queue behind x-local-random", topology.Binding{Exchange: "local", Queue: "c"}, nil},
	} {
		t.Run(c.claim, func(t *testing.T) {
			t.Parallel()
			with := base
			with.Bindings = []topology.Binding{c.binding}
			checkFaults(t, with.Validate(), c.want...)
		})
	}
}

func TestQueueValidateWantsItsOwnBindings(t *testing.T) {
	t.Parallel()
	own := topology.Queue{Exclusive: true}
	named := topology.Queue{Name: "q"}
	checkFaults(t, own.Validate(topology.Binding{Exchange: "x", RoutingKey: "k"}))
	checkFaults(t, named.Validate(topology.Binding{Exchange: "x"}, topology.Binding{Exchange: "x", Queue: "q"}))
	checkFaults(t, named.Validate(topology.Binding{Exchange: "x", Queue: "other"}), "Queue: leads elsewhere")
	checkFaults(t, named.Validate(topology.Binding{Exchange: "x", ToExchange: "y"}), "Queue: leads elsewhere")
	checkFaults(t, own.Validate(topology.Binding{}), "Exchange: default exchange")
}

func TestValidateReportsNamesWithTwoDefinitions(t *testing.T) {
	t.Parallel()
	two := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x"}, {Name: "x", Kind: topology.KindTopic, Transient: true}},
		Queues:    []topology.Queue{{Name: "q"}, {Name: "q", MaxLength: 5, MessageTTL: time.Second}, {Name: "e", Exclusive: true}, {Name: "e", AutoDelete: true, Transient: true}},
	}
	checkFaults(t, two.Validate(),
		"Kind, Transient: declared twice", "x-max-length, x-message-ttl: declared twice", "Transient, Exclusive, AutoDelete: declared twice")

	same := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x"}, {Name: "x", Kind: topology.KindDirect}, {Name: "x", Passive: true}},
		Queues: []topology.Queue{
			{Name: "q", Passive: true},
			{Name: "q", MessageTTL: time.Second},
			{Name: "q", Type: topology.Quorum, Arguments: amqp.Table{"x-message-ttl": int32(1000)}},
		},
	}
	if err := same.Validate(); err != nil {
		t.Errorf("the same definition in other words is a fault: %v", err)
	}
}

func TestValidateTakesWhatTheBrokerTakes(t *testing.T) {
	t.Parallel()
	good := topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: "d"},
			{Name: "f", Kind: topology.KindFanout, Transient: true, AutoDelete: true},
			{Name: "h", Kind: topology.KindHeaders, Internal: true},
			{Name: "t", Kind: topology.KindTopic, AlternateExchange: "f"},
			{Name: "p", Kind: "x-consistent-hash"},
			{Name: "amq.topic", Kind: topology.KindTopic},
			{Name: "amq.rabbitmq.trace", Kind: topology.KindTopic, Internal: true},
			{Name: "amq.rabbitmq.log", Passive: true},
		},
		Queues: []topology.Queue{
			{Name: "plain"},
			{Name: "amq.gen-there-already", Passive: true, Type: "whatever"},
			{
				Name: "all", DeadLetterExchange: "d", DeadLetterRoutingKey: "k", DeadLetterStrategy: topology.AtLeastOnce, Overflow: topology.RejectPublish,
				MessageTTL: time.Millisecond, Expires: 87600 * time.Hour, MaxLength: 1, MaxLengthBytes: 1, DeliveryLimit: topology.Unlimited, SingleActiveConsumer: true,
				DelayedRetry: topology.DelayedRetry{Min: time.Second, Max: time.Second}, ConsumerTimeout: time.Hour,
			},
			{Name: "classic", Type: topology.Classic, MaxPriority: 255, Overflow: topology.RejectPublishDLX, ConsumerTimeout: time.Hour, Arguments: amqp.Table{"x-queue-version": 1, "x-message-ttl": 0}},
			{Name: "stream", Type: topology.Stream, MaxAge: 7 * 24 * time.Hour, MaxLengthBytes: 1, MaxSegmentBytes: 3_000_000_000, Arguments: amqp.Table{"x-initial-cluster-size": 1, "x-stream-filter-size-bytes": 255}},
			{Name: "direct dead letters", DeadLetterQueue: "plain", DelayedRetry: topology.DelayedRetry{Type: topology.DelayDisabled}},
			{Name: "exclusive", Exclusive: true},
			{Name: "transient", Transient: true},
			{Name: "auto-delete", AutoDelete: true},
			{Name: "leaders", Arguments: amqp.Table{"x-queue-leader-locator": "least-leaders"}},
			{Name: "leader", Type: topology.Stream, Arguments: amqp.Table{"x-queue-leader-locator": "random"}},
			{Name: "limit of 0", Arguments: amqp.Table{"x-delivery-limit": 0, "anything": amqp.Table{"a": []any{1, nil, "b"}}}},
			{Name: strings.Repeat("x", 255)},
			{Name: "ä \t*#"},
		},
		Bindings: []topology.Binding{
			{Exchange: "d", Queue: "plain", RoutingKey: strings.Repeat("k", 255)},
			{Exchange: "d", ToExchange: "h"},
			{Exchange: "d", ToExchange: "d"},
			{Exchange: "h", Queue: "plain", Arguments: amqp.Table{"x-match": "any-with-x", "a": 1}},
			{Exchange: "h", Queue: "plain"},
			{Exchange: "amq.direct", Queue: "plain"},
		},
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if err := (topology.Topology{}).Validate(); err != nil {
		t.Errorf("the empty topology: %v", err)
	}
}

func TestFaultsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for field, q := range map[string]topology.Queue{
		"DeliveryLimit": {Name: "q", DeliveryLimit: -2},
		"MaxPriority":   {Name: "q", MaxPriority: 5},
		"Type":          {Name: "q", Type: "bogus"},
		"Name":          {Name: "amq.q"},
	} {
		f := faultsOf(t, q.Validate())[0]
		if f.Field != field || f.Hint == "" || !strings.HasSuffix(f.Error(), "; "+f.Hint) || !strings.HasPrefix(f.Error(), `queue "`+q.Name+`": `+field+": ") {
			t.Errorf("%+v: %v", f, f)
		}
	}
	if f := faultsOf(t, topology.Queue{Name: "q", DeliveryLimit: -2}.Validate())[0]; !strings.Contains(f.Hint, "topology.Unlimited") {
		t.Errorf("%v", f)
	}
	if f := faultsOf(t, topology.Queue{Name: "q", MaxLength: -2}.Validate())[0]; f.Hint != "" {
		t.Errorf("%v", f)
	}
}

func TestValidateJoinsEveryFault(t *testing.T) {
	t.Parallel()
	err := topology.Topology{
		Exchanges: []topology.Exchange{{}, {Name: "x", Kind: "bogus"}},
		Queues:    []topology.Queue{{Name: "q", Type: topology.Quorum, Transient: true, Exclusive: true, MaxPriority: 5, Overflow: "bogus"}},
		Bindings:  []topology.Binding{{}},
	}.Validate()
	checkFaults(t, err, "Name: default", "Kind: bogus", "Transient: durable", "Exclusive: exclusive", "Overflow: bogus", "MaxPriority: quorum", "Queue: destination", "Exchange: default")
	var first *topology.Fault
	if !errors.As(err, &first) || first.Entity != topology.EntityExchange {
		t.Errorf("errors.As found %+v, want the first fault, of an exchange", first)
	}
}

// TestValidateGoesOnceThroughEachEntity: ten times as many take ten times as long, not a
// hundred times. Of its processor alone, and the shortest of some
// runs, so that a busy machine does not count.
func TestValidateGoesOnceThroughEachEntity(t *testing.T) {
	t.Parallel()
	shortest := func(queues, times int) time.Duration {
		var top topology.Topology
		for i := range queues {
			name := fmt.Sprint("q", i)
			top.Queues = append(top.Queues, topology.Queue{Name: name})
			top.Bindings = append(top.Bindings, topology.Binding{Exchange: "amq.topic", Queue: name, RoutingKey: name})
		}
		least := time.Hour
		for range 3 {
			var err error
			least = min(least, cpuTime(func() {
				for range times {
					err = top.Validate()
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
		}
		return least
	}
	if few, many := shortest(2_000, 10), shortest(20_000, 1); many > 4*few {
		t.Errorf("2,000 queues ten times take %v, 20,000 once take %v", few, many)
	}
}
