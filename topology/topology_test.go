package topology_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

func TestQueueDefaultsToQuorumWhereTheBrokerAllowsIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		queue topology.Queue
		want  topology.QueueType
	}{
		{topology.Queue{Name: "q"}, topology.Quorum},
		{topology.Queue{Name: "q", Passive: true}, topology.Quorum},
		{topology.Queue{}, topology.Classic},
		{topology.Queue{Name: "q", Transient: true}, topology.Classic},
		{topology.Queue{Name: "q", Exclusive: true}, topology.Classic},
		{topology.Queue{Name: "q", AutoDelete: true}, topology.Classic},
		{topology.Queue{Name: "q", Type: topology.Stream}, topology.Stream},
	} {
		if got := c.queue.DeclaredType(); got != c.want {
			t.Errorf("%+v is declared as %s, want %s", c.queue, got, c.want)
		}
		if got := c.queue.DeclareArguments()["x-queue-type"]; got != string(c.want) {
			t.Errorf("%+v is sent with x-queue-type %v, want %s", c.queue, got, c.want)
		}
	}
}

func TestDeclareArgumentsSendsTheFields(t *testing.T) {
	t.Parallel()
	original := amqp.Table{"x-custom": 5, "nested": amqp.Table{"list": []any{1, int32(2)}}}
	for _, c := range []struct {
		queue topology.Queue
		want  amqp.Table
	}{
		{topology.Queue{Name: "q"}, amqp.Table{"x-queue-type": "quorum"}},
		{topology.Queue{
			Name: "q", DeadLetterExchange: "x", DeadLetterRoutingKey: "k", DeadLetterStrategy: topology.AtLeastOnce, Overflow: topology.RejectPublish,
			MessageTTL: 30 * time.Second, Expires: time.Hour, MaxLength: 10, MaxLengthBytes: 1000, DeliveryLimit: topology.Unlimited,
			SingleActiveConsumer: true, ConsumerTimeout: time.Minute, DelayedRetry: topology.DelayedRetry{Min: time.Second, Max: time.Minute},
		}, amqp.Table{
			"x-queue-type": "quorum", "x-dead-letter-exchange": "x", "x-dead-letter-routing-key": "k", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
			"x-message-ttl": int64(30_000), "x-expires": int64(3_600_000), "x-max-length": int64(10), "x-max-length-bytes": int64(1000), "x-delivery-limit": int64(-1),
			"x-single-active-consumer": true, "x-consumer-timeout": int64(60_000), "x-delayed-retry-type": "failed", "x-delayed-retry-min": int64(1000), "x-delayed-retry-max": int64(60_000),
		}},
		{topology.Queue{Name: "q", DelayedRetry: topology.DelayedRetry{Type: topology.DelayReturned, Min: time.Second}}, amqp.Table{"x-queue-type": "quorum", "x-delayed-retry-type": "returned", "x-delayed-retry-min": int64(1000)}},
		{topology.Queue{Name: "q", DeadLetterQueue: "d"}, amqp.Table{"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "d"}},
		{topology.Queue{Name: "q", Type: topology.Classic, MaxPriority: 9}, amqp.Table{"x-queue-type": "classic", "x-max-priority": int64(9)}},
		{topology.Queue{Name: "q", Type: topology.Stream, MaxAge: 36 * time.Hour, MaxSegmentBytes: 1000}, amqp.Table{"x-queue-type": "stream", "x-max-age": "36h", "x-stream-max-segment-size-bytes": int64(1000)}},
		{topology.Queue{Name: "q", Type: topology.Stream, MaxAge: 48 * time.Hour}, amqp.Table{"x-queue-type": "stream", "x-max-age": "2D"}},
		{topology.Queue{Name: "q", Type: topology.Stream, MaxAge: 90 * time.Second}, amqp.Table{"x-queue-type": "stream", "x-max-age": "90s"}},
		{topology.Queue{Name: "q", Type: topology.Stream, MaxAge: 5 * time.Minute}, amqp.Table{"x-queue-type": "stream", "x-max-age": "5m"}},
		{topology.Queue{Name: "q", Arguments: original}, amqp.Table{"x-queue-type": "quorum", "x-custom": int64(5), "nested": amqp.Table{"list": []any{int64(1), int32(2)}}}},
	} {
		if got := c.queue.DeclareArguments(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v is sent with\n%v, want\n%v", c.queue, got, c.want)
		}
	}
	if want := (amqp.Table{"x-custom": 5, "nested": amqp.Table{"list": []any{1, int32(2)}}}); !reflect.DeepEqual(original, want) {
		t.Errorf("the caller's table was changed to %v", original)
	}
	e := topology.Exchange{Name: "x", AlternateExchange: "a", Arguments: amqp.Table{"n": 1}}
	if want := (amqp.Table{"alternate-exchange": "a", "n": int64(1)}); !reflect.DeepEqual(e.DeclareArguments(), want) {
		t.Errorf("the exchange is sent with %v, want %v", e.DeclareArguments(), want)
	}
}

func TestDeadLettersKnowsEveryWayToNameAPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		queue topology.Queue
		want  bool
	}{
		{topology.Queue{Name: "q"}, false},
		{topology.Queue{Name: "q", DeadLetterExchange: "x"}, true},
		{topology.Queue{Name: "q", DeadLetterQueue: "d"}, true},
		{topology.Queue{Name: "q", Arguments: amqp.Table{"x-dead-letter-exchange": ""}}, true},
	} {
		if got := c.queue.DeadLetters(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.queue, got, c.want)
		}
	}
}

func TestMergeKeepsOneOfEachDefinition(t *testing.T) {
	t.Parallel()
	a := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x", Passive: true}, {Name: "y"}},
		Queues:    []topology.Queue{{Name: "q"}, {Name: "r", Passive: true}, {Exclusive: true}},
		Bindings:  []topology.Binding{{Exchange: "x", Queue: "q", Arguments: amqp.Table{"a": 1}}},
	}
	b := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x", Kind: topology.KindTopic}, {Name: "y", Kind: topology.KindDirect}, {Name: "y", Kind: topology.KindFanout}},
		Queues:    []topology.Queue{{Name: "q", Passive: true}, {Name: "r", MaxLength: 1}, {Exclusive: true}},
		Bindings:  []topology.Binding{{Exchange: "x", Queue: "q", Arguments: amqp.Table{"a": int64(1)}}, {Exchange: "x", Queue: "q", RoutingKey: "k"}},
	}
	got := a.Merge(b)
	want := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x", Kind: topology.KindTopic}, {Name: "y"}, {Name: "y", Kind: topology.KindFanout}},
		Queues:    []topology.Queue{{Name: "q"}, {Name: "r", MaxLength: 1}, {Exclusive: true}, {Exclusive: true}},
		Bindings:  []topology.Binding{{Exchange: "x", Queue: "q", Arguments: amqp.Table{"a": 1}}, {Exchange: "x", Queue: "q", RoutingKey: "k"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("merged into\n%+v, want\n%+v", got, want)
	}
	got.Queues[0].Name = "changed"
	if a.Queues[0].Name != "q" || !a.Exchanges[0].Passive {
		t.Error("merging changed what was merged")
	}
}

func TestQueuesThatDoNotOutliveASessionBelongToIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		queue topology.Queue
		want  bool
	}{
		{topology.Queue{Name: "durable"}, false},
		{topology.Queue{Name: "transient", Transient: true}, false},
		{topology.Queue{Name: "exclusive", Exclusive: true}, true},
		{topology.Queue{Name: "auto-delete", AutoDelete: true}, true},
		{topology.Queue{Name: "used", Passive: true, AutoDelete: true}, false},
		{topology.Queue{}, true},
	} {
		if got := c.queue.PerSession(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.queue, got, c.want)
		}
	}
}

func TestCoversIsTheBrokers404ForSomethingDeclared(t *testing.T) {
	t.Parallel()
	top := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x"}, {Name: "used", Passive: true}},
		Queues:    []topology.Queue{{Name: "q"}, {Name: "used", Passive: true}, {}},
	}
	reply := func(code int, reason string) error {
		return fmt.Errorf("wrapped: %w", &amqp.Error{Code: code, Reason: reason, Server: true})
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{reply(404, "NOT_FOUND - no exchange 'x' in vhost '/'"), true},
		{reply(404, "NOT_FOUND - no queue 'q' in vhost '/'"), true},
		{reply(404, "NOT_FOUND - no queue 'x' in vhost '/'"), false},
		{reply(404, "NOT_FOUND - no queue 'used' in vhost '/'"), false},
		{reply(404, "NOT_FOUND - no exchange 'used' in vhost '/'"), false},
		{reply(404, "NOT_FOUND - no queue '' in vhost '/'"), false},
		{reply(406, "NOT_FOUND - no queue 'q' in vhost '/'"), false},
		{&amqp.Error{Code: 404, Reason: "no queue 'q' in vhost '/'"}, false},
		{errors.New("no queue 'q' in vhost '/'"), false},
		{nil, false},
	} {
		if got := top.Covers(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	t.Parallel()
	of := func() topology.Topology {
		args := func() amqp.Table {
			return amqp.Table{"n": 1, "table": amqp.Table{"k": "v"}, "list": []any{"a", amqp.Table{"k": "v"}}, "bytes": []byte("b")}
		}
		return topology.Topology{
			Exchanges: []topology.Exchange{{Name: "x", Arguments: args()}},
			Queues:    []topology.Queue{{Name: "q", Arguments: args()}, {Name: "r"}},
			Bindings:  []topology.Binding{{Exchange: "x", Queue: "q", Arguments: args()}},
		}
	}
	original := of()
	clone := original.Clone()
	if !reflect.DeepEqual(clone, of()) {
		t.Fatalf("the clone is %+v", clone)
	}
	for _, args := range []amqp.Table{original.Exchanges[0].Arguments, original.Queues[0].Arguments, original.Bindings[0].Arguments} {
		args["n"] = 2
		args["table"].(amqp.Table)["k"] = "other"
		args["list"].([]any)[0] = "other"
		args["list"].([]any)[1].(amqp.Table)["k"] = "other"
		args["bytes"].([]byte)[0] = 'o'
	}
	original.Exchanges[0].Name, original.Queues[0].Name, original.Bindings[0].Queue = "other", "other", "other"
	if !reflect.DeepEqual(clone, of()) {
		t.Errorf("the clone became %+v", clone)
	}
	if empty := (topology.Topology{}).Clone(); !reflect.DeepEqual(empty, topology.Topology{}) {
		t.Errorf("the clone of nothing is %#v", empty)
	}
}
