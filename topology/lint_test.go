package topology_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

// checkWarnings wants exactly these, each "Field: part of the problem".
func checkWarnings(t *testing.T, warnings []topology.Warning, want ...string) {
	t.Helper()
	if len(warnings) != len(want) {
		t.Errorf("%d warnings, want %d: %v", len(warnings), len(want), warnings)
		return
	}
	for i, w := range warnings {
		field, problem, _ := strings.Cut(want[i], ": ")
		if w.Field != field || !strings.Contains(w.Problem, problem) {
			t.Errorf("warning %d is %q: %q, want %q", i, w.Field, w.Problem, want[i])
		}
		if text := w.String(); strings.ContainsAny(text, "\r\n") || strings.HasSuffix(text, ".") {
			t.Errorf("warning %d is not one line without a full stop: %q", i, text)
		}
	}
}

func TestAWarningSaysOfWhatAndWhatToDo(t *testing.T) {
	t.Parallel()
	q := topology.Queue{Name: "log", Type: topology.Stream}
	ws := topology.Topology{Queues: []topology.Queue{q}}.Lint()
	if len(ws) != 1 {
		t.Fatalf("%v", ws)
	}
	w := ws[0]
	if w.Entity != topology.EntityQueue || w.Name != "log" || w.Field != "MaxAge" || w.Problem == "" || w.Hint == "" {
		t.Errorf("%+v", w)
	}
	if want := fmt.Sprintf("queue %q: MaxAge: %s; %s", "log", w.Problem, w.Hint); w.String() != want {
		t.Errorf("%s, want %s", w, want)
	}
}

func TestLintWarnsOfQueues(t *testing.T) {
	t.Parallel()
	args := func(key string, value any) amqp.Table { return amqp.Table{key: value} }
	limited := func(q topology.Queue) topology.Queue { q.Name, q.DeliveryLimit = "q", 5; return q }
	for _, c := range []struct {
		claim string
		queue topology.Queue
		want  []string
	}{
		{"the default delivery limit without dead letters", topology.Queue{Name: "q"}, []string{"DeliveryLimit: failed 21 times is dropped"}},
		{"a limit of -1 before 4.0", topology.Queue{Name: "q", DeliveryLimit: topology.Unlimited}, []string{"DeliveryLimit: takes -1 for 0"}},
		{"a transient queue that is shared", topology.Queue{Name: "q", Transient: true}, []string{"Transient: deprecated"}},
		{"a transient queue that is auto-delete", topology.Queue{Name: "q", Transient: true, AutoDelete: true}, []string{"Transient: deprecated"}},
		{"a delayed retry before 4.3", limited(topology.Queue{DelayedRetry: topology.DelayedRetry{Min: time.Second}}), []string{"DelayedRetry: hot loop"}},
		{"reject-publish-dlx on a quorum queue", limited(topology.Queue{Overflow: topology.RejectPublishDLX}), []string{"Overflow: drop-head"}},
		{"a stream that grows for ever", topology.Queue{Name: "q", Type: topology.Stream}, []string{"MaxAge: until the disk is full"}},
		{"a consumer timeout on a classic queue", topology.Queue{Name: "q", Type: topology.Classic, ConsumerTimeout: time.Hour}, []string{"ConsumerTimeout: RabbitMQ 4.3 refuses"}},
		{"a queue mode", topology.Queue{Name: "q", Type: topology.Classic, Arguments: args("x-queue-mode", "lazy")}, []string{`Arguments["x-queue-mode"]: ignore`}},
		{"a queue version of 1", topology.Queue{Name: "q", Type: topology.Classic, Arguments: args("x-queue-version", 1)}, []string{`Arguments["x-queue-version"]: refuses version 1`}},
		{"a master locator", topology.Queue{Name: "q", Type: topology.Classic, Arguments: args("x-queue-master-locator", "min-masters")}, []string{`Arguments["x-queue-master-locator"]: closes the connection`}},
		{"a mirroring policy", limited(topology.Queue{Arguments: args("x-ha-policy", "all")}), []string{`Arguments["x-ha-policy"]: mirrored queues are gone`}},
		{"an unknown argument", limited(topology.Queue{Arguments: args("x-mesage-ttl", 1)}), []string{`Arguments["x-mesage-ttl"]: no broker acts on it by itself`}},
		{"a leader locator of old", limited(topology.Queue{Arguments: args("x-queue-leader-locator", "least-leaders")}), []string{`Arguments["x-queue-leader-locator"]: deprecated`}},
		{"messages in memory", limited(topology.Queue{Arguments: args("x-max-in-memory-length", 1)}), []string{`Arguments["x-max-in-memory-length"]: ignore`}},
		{"a group size on a classic queue", topology.Queue{Name: "q", Type: topology.Classic, Arguments: args("x-quorum-target-group-size", 3)}, []string{`Arguments["x-quorum-target-group-size"]: ignores it`}},
		{"a dead-letter exchange that is not here", limited(topology.Queue{DeadLetterExchange: "dead"}), []string{"DeadLetterExchange: nothing here declares"}},
		{"a dead-letter queue that is not here", limited(topology.Queue{DeadLetterQueue: "dead"}), []string{"DeadLetterQueue: nothing here declares"}},

		{"nothing in a limit", limited(topology.Queue{}), nil},
		{"nothing in version 2", topology.Queue{Name: "q", Type: topology.Classic, Arguments: args("x-queue-version", 2)}, nil},
		{"nothing in a leader locator", limited(topology.Queue{Arguments: args("x-queue-leader-locator", "balanced")}), nil},
		{"nothing in a transient queue that is exclusive", topology.Queue{Name: "q", Transient: true, Exclusive: true}, nil},
		{"nothing in a delayed retry that is disabled", limited(topology.Queue{DelayedRetry: topology.DelayedRetry{Type: topology.DelayDisabled}}), nil},
		{"nothing in a stream with a size", topology.Queue{Name: "q", Type: topology.Stream, MaxLengthBytes: 1}, nil},
		{"nothing in a broker's own dead-letter exchange", limited(topology.Queue{DeadLetterExchange: "amq.topic"}), nil},
		{"nothing in a queue that is used as it is", topology.Queue{Name: "q", Passive: true}, nil},
		{"nothing in a classic queue", topology.Queue{Name: "q", Type: topology.Classic}, nil},
	} {
		t.Run(c.claim, func(t *testing.T) {
			t.Parallel()
			top := topology.Topology{Queues: []topology.Queue{c.queue}}
			checkWarnings(t, top.Lint(), c.want...)
			if err := top.Validate(); err != nil {
				t.Errorf("is a fault, so no broker was meant to take it: %v", err)
			}
		})
	}
}

// The broker drops a message that comes back to a queue without a rejection on the
// way. The wait of a retry ladder is entered by one.
func TestLintWarnsOfDeadLettersThatComeBackByThemselves(t *testing.T) {
	t.Parallel()
	ring := func(qs ...topology.Queue) topology.Topology {
		for i := range qs {
			qs[i].Name, qs[i].DeadLetterQueue = fmt.Sprint("q", i), fmt.Sprint("q", (i+1)%len(qs))
		}
		return topology.Topology{Queues: qs}
	}
	const drops = "DeadLetterQueue: comes back to this queue"
	aged, short := topology.Queue{MessageTTL: time.Second}, topology.Queue{MaxLength: 5}
	sized := topology.Queue{MaxLengthBytes: 5}
	full := topology.Queue{MaxLength: 5, Overflow: topology.RejectPublish}
	checkWarnings(t, ring(aged).Lint(), drops)
	checkWarnings(t, ring(short).Lint(), drops)
	checkWarnings(t, ring(aged, short, sized).Lint(), drops, drops, drops)
	checkWarnings(t, ring(topology.Queue{}).Lint())
	checkWarnings(t, ring(full).Lint())
	checkWarnings(t, ring(aged, topology.Queue{}).Lint())
	passive := ring(aged, aged)
	passive.Queues[1].Passive = true
	checkWarnings(t, passive.Lint())
	chain := ring(aged, aged, topology.Queue{}) // not a ring: the last leads to the second
	chain.Queues[2].DeadLetterQueue, chain.Queues[2].MessageTTL = "q1", time.Second
	checkWarnings(t, chain.Lint(), drops, drops)
}

func TestLintWarnsOfDeadLettersThatGoNowhere(t *testing.T) {
	t.Parallel()
	top := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "dead"}},
		Queues:    []topology.Queue{{Name: "q", DeadLetterExchange: "dead"}},
	}
	checkWarnings(t, top.Lint(), "DeadLetterExchange: nothing here is bound")
	top.Exchanges[0].Passive = true
	checkWarnings(t, top.Lint())
	top.Exchanges[0].Passive = false
	top.Bindings = []topology.Binding{{Exchange: "dead", Queue: "elsewhere"}}
	checkWarnings(t, top.Lint())
}

func TestLintWarnsOfExchanges(t *testing.T) {
	t.Parallel()
	checkWarnings(t, topology.Topology{Exchanges: []topology.Exchange{
		{Name: "plugin", Kind: "x-consistent-hash", Arguments: amqp.Table{"hash-header": "h"}},
		{Name: "alternate", AlternateExchange: "missing"},
		{Name: "arguments", Arguments: amqp.Table{"x-delayed-type": "direct"}},
		{Name: "fine", AlternateExchange: "plugin"},
		{Name: "own", AlternateExchange: "amq.fanout"},
		{Name: "amq.rabbitmq.log", Kind: "x-whatever", Passive: true},
		{Name: "amq.topic", Kind: topology.KindTopic},
	}}.Lint(),
		"Kind: not built into every broker", "AlternateExchange: nothing here declares", `Arguments["x-delayed-type"]: a direct exchange ignores it`)
}

func TestLintWarnsOfBindings(t *testing.T) {
	t.Parallel()
	top := topology.Topology{Exchanges: []topology.Exchange{{Name: "d"}, {Name: "t", Kind: topology.KindTopic}, {Name: "h", Kind: topology.KindHeaders}, {Name: "p", Passive: true}}}
	top.Bindings = []topology.Binding{
		{Exchange: "d", Queue: "q", RoutingKey: "order.*"},
		{Exchange: "amq.direct", Queue: "q", RoutingKey: "#"},
		{Exchange: "t", Queue: "q", Arguments: amqp.Table{"x-match": "all"}},
		{Exchange: "h", Queue: "q", Arguments: amqp.Table{"x-match": "all", "x-kind": "a"}},

		{Exchange: "t", Queue: "q", RoutingKey: "order.*"},
		{Exchange: "d", Queue: "q", RoutingKey: "a*b"},
		{Exchange: "p", Queue: "q", RoutingKey: "order.*"},
		{Exchange: "elsewhere", Queue: "q", RoutingKey: "order.*"},
		{Exchange: "h", Queue: "q", Arguments: amqp.Table{"x-match": "all-with-x", "x-kind": "a"}},
		{Exchange: "h", Queue: "q", Arguments: amqp.Table{"kind": "a"}},
	}
	checkWarnings(t, top.Lint(), "RoutingKey: literally", "RoutingKey: literally", `Arguments["x-match"]: ignores it`, "Arguments: no header to match")
}
