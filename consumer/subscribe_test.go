package consumer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestSubscriptionIsAsConfigured(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{
		Prefetch: 7, Priority: 3, Exclusive: true, Arguments: amqp.Table{"x-consumer-timeout": 60_000},
	}, g.handle)
	f.until("it is subscribed", func() bool { return f.Status().Subscribed })
	list := f.broker.Consumers("/")
	if len(list) != 1 {
		t.Fatalf("the broker has the consumers %+v", list)
	}
	c := list[0]
	if c.Queue != "q" || c.Tag != f.subscription.ConsumerTag || c.Prefetch != 7 || c.Priority != 3 || !c.Exclusive || c.NoAck {
		t.Errorf("%+v", c)
	}
	if c.Arguments["x-consumer-timeout"] != int64(60_000) {
		t.Errorf("its arguments are %v", c.Arguments)
	}
}

// TestUnlimitedIsAMQPsZero: it has no other number for that.
func TestUnlimitedIsAMQPsZero(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{Prefetch: consumer.Unlimited}, newGate().handle)
	f.enqueue(make([]string, 300)...)
	f.waiting(299)
	if n := fmt.Sprint(f.received.of("basic.qos")[0].Field("prefetch-count")); n != "0" {
		t.Errorf("it asks for %s at a time", n)
	}
}

// TestDeclaredQueueIsTheSessionsOwn: each session declares it anew, with its
// bindings, and may get another name for it.
func TestDeclaredQueueIsTheSessionsOwn(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{
		Declare: &topology.Queue{Exclusive: true}, Bindings: []topology.Binding{{Exchange: "news", RoutingKey: "k"}},
	}, g.handle, func(_ *mqtest.Config, pool *reconnect.Config) {
		pool.Topology = topology.Topology{Exchanges: []topology.Exchange{{Name: "news"}}}
	})
	f.until("it is subscribed", func() bool { return f.Status().Subscribed })
	first := f.Status().Queue
	f.cut(f.subscription)
	f.until("it is subscribed again", func() bool { s := f.Status(); return s.Subscribed && s.Sessions == 2 })
	second := f.Status().Queue
	if first == second || !strings.HasPrefix(second, "amq.gen-") {
		t.Errorf("first %q, then %q", first, second)
	}
	if f.broker.Queue(first).Exists() {
		t.Errorf("%q is still there", first)
	}
	if list := f.broker.Bindings("/"); len(list) != 1 || list[0].Destination != second || list[0].Source != "news" || list[0].RoutingKey != "k" {
		t.Errorf("the bindings are %+v", list)
	}
	f.broker.Queue(second).Enqueue(mqtest.Message{})
	if d := g.next(t); d.Queue != second {
		t.Errorf("it says it came from %q", d.Queue)
	}
}

func TestQueueOfTheTopologyIsDeclaredAgainWhenItIsDeleted(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{}, g.handle)
	f.until("it is subscribed", func() bool { return f.Status().Subscribed })
	if !f.queue.Delete() {
		t.Fatal("the queue was not there")
	}
	f.renewed()
	f.enqueue("a")
	if d := g.next(t); string(d.Body) != "a" {
		t.Errorf("it gets %q", d.Body)
	}
}

func TestFatalErrorBeforeTheFirstSubscriptionEndsRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{}, func(context.Context, *consumer.Delivery) error { return nil }, queues())
	if err := f.wait(); !reconnect.IsFatal(err) || !strings.Contains(err.Error(), "no queue 'q'") {
		t.Errorf("Run without its queue: %v", err)
	}
}
