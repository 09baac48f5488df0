package integration_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

// declared declares t for one test and returns a channel in confirm mode.
func declared(t *testing.T, url string, top topology.Topology) *amqp.Channel {
	t.Helper()
	newBareBroker(t, url).removeAfter(top)
	_, ch := dial(t, url)
	if err := topology.Declare(t.Context(), ch, top); err != nil {
		t.Fatal(err)
	}
	return ch
}

// rejectNext waits for a message in queue and rejects it.
func rejectNext(t *testing.T, ch *amqp.Channel, queue string, requeue bool) {
	t.Helper()
	eventually(t, "a message in "+queue, 30*time.Second, func() bool {
		d, ok, err := ch.Get(queue, false)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if err := d.Reject(requeue); err != nil {
				t.Fatal(err)
			}
		}
		return ok
	})
}

// next waits for a message in queue and takes it.
func next(t *testing.T, ch *amqp.Channel, queue string) (d amqp.Delivery) {
	t.Helper()
	eventually(t, "a message in "+queue, 30*time.Second, func() bool {
		var ok bool
		var err error
		if d, ok, err = ch.Get(queue, true); err != nil {
			t.Fatal(err)
		}
		return ok
	})
	return d
}

func TestWorkQueueKeepsWhatIsRejected(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	for claim, q := range map[string]topology.Queue{
		"at least once": {},
		"at most once":  {DeadLetterStrategy: topology.AtMostOnce},
		"classic":       {Type: topology.Classic},
	} {
		t.Run(claim, func(t *testing.T) {
			q.Name = "topo-" + uniqueName(t)
			ch := declared(t, node.URL(), topology.WithDeadLetters(q))
			publishConfirmed(t, ch, q.Name, "bad")
			rejectNext(t, ch, q.Name, false)
			dead := next(t, ch, q.Name+".dead")
			if string(dead.Body) != "bad" || dead.RoutingKey != q.Name || dead.Headers["x-first-death-queue"] != q.Name || dead.Headers["x-first-death-reason"] != "rejected" {
				t.Errorf("the dead letter is %q with key %q and headers %v", dead.Body, dead.RoutingKey, dead.Headers)
			}
		})
	}
}

func TestWorkQueueKeepsWhatFailsTooOften(t *testing.T) {
	t.Parallel()
	q := topology.Queue{Name: "topo-" + uniqueName(t), DeliveryLimit: 2}
	ch := declared(t, sharedNode(t).URL(), topology.WithDeadLetters(q))
	publishConfirmed(t, ch, q.Name, "poison")
	for range 3 {
		rejectNext(t, ch, q.Name, true)
	}
	if dead := next(t, ch, q.Name+".dead"); dead.Headers["x-first-death-reason"] != "delivery_limit" {
		t.Errorf("the dead letter has headers %v", dead.Headers)
	}
	// The last place does not drop it, however often somebody looks.
	publishConfirmed(t, ch, q.Name+".dead", "poison")
	for range 30 {
		rejectNext(t, ch, q.Name+".dead", true)
	}
	next(t, ch, q.Name+".dead")
}

// Without its three settings the broker silently dead-letters at most once: with
// nowhere to go the message is gone. With them it is kept until there is.
func TestAtLeastOnceKeepsADeadLetterUntilItHasAPlace(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	evaluate(t, node, "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 500).") // 3 minutes
	for _, c := range []struct {
		claim string
		queue func(name string) topology.Queue
		valid bool
		kept  bool
	}{
		{"the preset", func(name string) topology.Queue { return topology.WorkQueue(name).Queues[0] }, true, true},
		{"at most once", func(name string) topology.Queue {
			return topology.WithDeadLetters(topology.Queue{Name: name, DeadLetterStrategy: topology.AtMostOnce}).Queues[0]
		}, true, false},
		{"without the overflow", func(name string) topology.Queue {
			return topology.Queue{Name: name, DeadLetterExchange: name + ".dead", DeadLetterStrategy: topology.AtLeastOnce}
		}, false, false},
	} {
		t.Run(c.claim, func(t *testing.T) {
			b := newBareBroker(t, node.URL())
			q := c.queue("topo-" + uniqueName(t))
			if err := q.Validate(); (err == nil) != c.valid {
				t.Errorf("Validate says %v", err)
			}
			exchange := topology.Exchange{Name: q.Name + ".dead", Kind: topology.KindFanout} // with no queue behind it
			if err := b.declareExchange(exchange); err != nil {
				t.Fatal(err)
			}
			if err := b.declare(q); err != nil {
				t.Fatal(err)
			}
			_, ch := dial(t, node.URL())
			publishConfirmed(t, ch, q.Name, "x")
			rejectNext(t, ch, q.Name, false)

			place := topology.Topology{Queues: []topology.Queue{{Name: q.Name + ".dead"}}, Bindings: []topology.Binding{{Exchange: q.Name + ".dead", Queue: q.Name + ".dead"}}}
			if err := topology.Declare(t.Context(), ch, place); err != nil {
				t.Fatal(err)
			}
			if c.kept {
				next(t, ch, q.Name+".dead")
				return
			}
			in, err := ch.Consume(q.Name+".dead", "", true, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-in:
				t.Error("the dead letter was kept")
			case <-time.After(3 * time.Second): // six times what the other takes
			}
		})
	}
}

func TestPresetsRouteAsInTheTutorials(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	for _, c := range []struct {
		claim   string
		top     func(name string) topology.Topology
		publish []string
		want    map[string][]string // queue, without the name: keys
	}{
		{
			"fanout", func(n string) topology.Topology { return topology.Fanout(n, n+".a", n+".b") },
			[]string{"", "x"},
			map[string][]string{"a": {"", "x"}, "b": {"", "x"}},
		},
		{
			"direct", func(n string) topology.Topology {
				return topology.Direct(n, topology.To(n+".a", "error"), topology.To(n+".b", "info", "warning", "error"))
			},
			[]string{"info", "error", "debug"},
			map[string][]string{"a": {"error"}, "b": {"info", "error"}},
		},
		{
			"topic", func(n string) topology.Topology {
				return topology.Topic(n, topology.To(n+".a", "*.orange.*"), topology.To(n+".b", "*.*.rabbit", "lazy.#"))
			},
			[]string{"quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox", "lazy.brown.fox", "lazy.pink.rabbit", "quick.brown.fox"},
			map[string][]string{"a": {"quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox"}, "b": {"quick.orange.rabbit", "lazy.orange.elephant", "lazy.brown.fox", "lazy.pink.rabbit"}},
		},
	} {
		t.Run(c.claim, func(t *testing.T) {
			name := "topo-" + uniqueName(t)
			ch := declared(t, node.URL(), c.top(name))
			for _, key := range c.publish {
				confirm, err := ch.PublishWithDeferredConfirm(name, key, false, false, amqp.Publishing{Body: []byte(key)})
				if err != nil {
					t.Fatal(err)
				}
				if acked, err := confirm.WaitContext(t.Context()); err != nil || !acked {
					t.Fatalf("acked %v, %v", acked, err)
				}
			}
			for queue, want := range c.want {
				var got []string
				for range want {
					got = append(got, string(next(t, ch, name+"."+queue).Body))
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s got %q, want %q", queue, got, want)
				}
				if d, more, _ := ch.Get(name+"."+queue, true); more {
					t.Errorf("%s got %q as well", queue, d.Body)
				}
			}
			if err := ch.PublishWithContext(t.Context(), "", name+".a", true, false, amqp.Publishing{Body: []byte("bad")}); err != nil {
				t.Fatal(err)
			}
			rejectNext(t, ch, name+".a", false)
			if dead := next(t, ch, name+".dead"); dead.Headers["x-first-death-queue"] != name+".a" {
				t.Errorf("the dead letter has headers %v", dead.Headers)
			}
		})
	}
}

func TestRetryLadderBringsAMessageBackAfterItsDelay(t *testing.T) {
	t.Parallel()
	name := "topo-" + uniqueName(t)
	const short, long = 200 * time.Millisecond, time.Hour
	ch := declared(t, sharedNode(t).URL(), topology.WorkQueue(name).Merge(topology.RetryLadder(name, short, long)))
	begin := time.Now()
	publishConfirmed(t, ch, topology.RetryQueue(name, long), "later")
	publishConfirmed(t, ch, topology.RetryQueue(name, short), "soon")
	back := next(t, ch, name)
	if waited := time.Since(begin); string(back.Body) != "soon" || waited < short {
		t.Errorf("%q came back after %v", back.Body, waited)
	}
	if back.Headers["x-first-death-reason"] != "expired" {
		t.Errorf("it came back with headers %v", back.Headers)
	}
}

// What a broker exports is declared again without a difference.
func TestAnExportIsTheTopologyThatWasDeclared(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	if !node.Controlled() {
		t.Skip("needs rabbitmqctl")
	}
	name := "topo-" + uniqueName(t)
	top := topology.Topic(name, topology.To(name+".q", "a.#")).Merge(topology.Topology{
		Exchanges: []topology.Exchange{{Name: name + ".h", Kind: topology.KindHeaders, AlternateExchange: name}},
		Queues: []topology.Queue{
			{Name: name + ".classic", Type: topology.Classic, MessageTTL: 30 * time.Second, MaxPriority: 9, Arguments: amqp.Table{"x-max-length": 0}},
			{Name: name + ".stream", Type: topology.Stream, MaxAge: 36 * time.Hour, MaxSegmentBytes: 1_000_000},
			{Name: name + ".direct", DeadLetterQueue: name + ".q", DelayedRetry: topology.DelayedRetry{Min: time.Second}, Arguments: amqp.Table{"x-delivery-limit": 0}},
		},
		Bindings: []topology.Binding{{Exchange: name + ".h", Queue: name + ".stream", Arguments: amqp.Table{"x-match": "all", "n": int64(1 << 40)}}, {Exchange: name, ToExchange: name + ".h", RoutingKey: "#"}},
	})
	ch := declared(t, node.URL(), top)

	file := "/tmp/" + strings.ReplaceAll(name, "/", "-") + ".json"
	ctl(t, node, "export_definitions", file)
	exported, err := node.Exec(t.Context(), "cat", file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := topology.Load(strings.NewReader(exported), topology.LoadOptions{VHost: "/"})
	if err != nil {
		t.Fatal(err)
	}
	mine := func(s string) bool { return strings.HasPrefix(s, name) }
	got := topology.Topology{
		Exchanges: slices.DeleteFunc(all.Exchanges, func(e topology.Exchange) bool { return !mine(e.Name) }),
		Queues:    slices.DeleteFunc(all.Queues, func(q topology.Queue) bool { return !mine(q.Name) }),
		Bindings:  slices.DeleteFunc(all.Bindings, func(b topology.Binding) bool { return !mine(b.Exchange) }),
	}
	if len(got.Exchanges) != len(top.Exchanges) || len(got.Queues) != len(top.Queues) || len(got.Bindings) != len(top.Bindings) {
		t.Errorf("exported are %d exchanges, %d queues, %d bindings", len(got.Exchanges), len(got.Queues), len(got.Bindings))
	}
	if err := top.Merge(got).Validate(); err != nil {
		t.Errorf("what was declared and what was exported contradict each other: %v", err)
	}
	if merged := top.Merge(got); fmt.Sprint(merged) != fmt.Sprint(top) {
		t.Errorf("together they are\n%v, not\n%v", merged, top)
	}
	if err := topology.Declare(t.Context(), ch, got); err != nil {
		t.Error(err)
	}
}
