package topology_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/mqkit/mqkit/topology"
)

func TestPresetsAreValidAndNotWarnedOf(t *testing.T) {
	t.Parallel()
	for name, top := range map[string]topology.Topology{
		"WorkQueue":                  topology.WorkQueue("orders"),
		"WithDeadLetters, classic":   topology.WithDeadLetters(topology.Queue{Name: "orders", Type: topology.Classic}),
		"WithDeadLetters, exclusive": topology.WithDeadLetters(topology.Queue{Name: "orders", Exclusive: true}),
		"WithDeadLetters, at most":   topology.WithDeadLetters(topology.Queue{Name: "orders", DeadLetterStrategy: topology.AtMostOnce}),
		"WithDeadLetters, elsewhere": topology.WithDeadLetters(topology.Queue{Name: "orders", DeadLetterExchange: "failed"}),
		"Fanout":                     topology.Fanout("logs", "a", "b"),
		"Fanout, no queue":           topology.Fanout("logs"),
		"Direct":                     topology.Direct("logs", topology.To("errors", "error"), topology.To("all", "info", "warning", "error")),
		"Topic":                      topology.Topic("logs", topology.To("kern", "kern.*"), topology.To("all", "#")),
		"RetryLadder":                topology.WorkQueue("orders").Merge(topology.RetryLadder("orders", time.Second, 90*time.Second)),
	} {
		if err := top.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if ws := top.Lint(); len(ws) > 0 {
			t.Errorf("%s: %v", name, ws)
		}
	}
}

func TestWithDeadLettersMakesTheThreeSettingsTogether(t *testing.T) {
	t.Parallel()
	q := topology.WorkQueue("orders").Queues[0]
	if q.DeadLetterExchange != "orders.dead" || q.DeadLetterStrategy != topology.AtLeastOnce || q.Overflow != topology.RejectPublish {
		t.Errorf("a work queue is %+v", q)
	}
	q = topology.WithDeadLetters(topology.Queue{Name: "orders", DeadLetterStrategy: topology.AtMostOnce, Overflow: topology.DropHead, MaxLength: 5}).Queues[0]
	if q.DeadLetterStrategy != topology.AtMostOnce || q.Overflow != topology.DropHead || q.MaxLength != 5 {
		t.Errorf("what was asked for is %+v", q)
	}
	q = topology.WithDeadLetters(topology.Queue{Name: "orders", Type: topology.Classic}).Queues[0]
	if q.DeadLetterStrategy != "" || q.Overflow != "" {
		t.Errorf("a classic queue is %+v", q)
	}
}

func TestPresetsShareOnePlaceForDeadLetters(t *testing.T) {
	t.Parallel()
	top := topology.Topic("logs", topology.To("kern", "kern.*", "*.critical"), topology.To("all", "#"))
	want := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "logs", Kind: topology.KindTopic}, {Name: "logs.dead", Kind: topology.KindFanout}},
		Queues: []topology.Queue{
			{Name: "kern", DeadLetterExchange: "logs.dead", DeadLetterStrategy: topology.AtLeastOnce, Overflow: topology.RejectPublish},
			{Name: "all", DeadLetterExchange: "logs.dead", DeadLetterStrategy: topology.AtLeastOnce, Overflow: topology.RejectPublish},
			{Name: "logs.dead", DeliveryLimit: 1<<31 - 1},
		},
		Bindings: []topology.Binding{
			{Exchange: "logs", Queue: "kern", RoutingKey: "kern.*"},
			{Exchange: "logs", Queue: "kern", RoutingKey: "*.critical"},
			{Exchange: "logs", Queue: "all", RoutingKey: "#"},
			{Exchange: "logs.dead", Queue: "logs.dead"},
		},
	}
	if !reflect.DeepEqual(top, want) {
		t.Errorf("it is\n%+v, want\n%+v", top, want)
	}
}

func TestRetryLadderComesBackToTheQueue(t *testing.T) {
	t.Parallel()
	top := topology.RetryLadder("orders", 500*time.Millisecond, time.Hour)
	for i, want := range []string{"orders.retry.500ms", "orders.retry.1h"} {
		if q := top.Queues[i]; q.Name != want || q.DeadLetterQueue != "orders" || q.MessageTTL == 0 {
			t.Errorf("step %d is %+v, want %s", i, q, want)
		}
	}
}
