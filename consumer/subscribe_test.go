package consumer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

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
	f := withNews(t, false, g.handle, topology.Queue{Exclusive: true})
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
	for _, e := range f.received.of("queue.declare") {
		if e.Field("passive") == true {
			t.Errorf("it asks for %v, which went with its connection", e.Field("queue"))
		}
	}
	if list := f.broker.Bindings("/"); len(list) != 1 || list[0].Destination != second || list[0].Source != "news" || list[0].RoutingKey != "k" {
		t.Errorf("the bindings are %+v", list)
	}
	f.broker.Queue(second).Enqueue(mqtest.Message{})
	if d := g.next(t); d.Queue != second {
		t.Errorf("it says it came from %q", d.Queue)
	}
}

// withNews has an exchange "news", to which a queue that the broker names is bound.
func withNews(t *testing.T, memory bool, h consumer.Handler, own topology.Queue, changes ...setup) *fixture {
	t.Helper()
	return fixtureOn(t, memory, consumer.Config{Declare: &own, Bindings: []topology.Binding{{Exchange: "news", RoutingKey: "k"}}}, h,
		append(changes, func(_ *mqtest.Config, pool *reconnect.Config) {
			pool.Topology = topology.Topology{Exchanges: []topology.Exchange{{Name: "news"}}}
		}))
}

// TestAQueueThatTheBrokerNamedIsTakenUpOnItsConnection: it goes with the connection, and one
// that nobody consumes any more would keep what is in it, and take more.
func TestAQueueThatTheBrokerNamedIsTakenUpOnItsConnection(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := withNews(t, false, g.handle, topology.Queue{Exclusive: true}, rules42)
	f.until("it is subscribed", func() bool { return f.Status().Subscribed })
	name := f.Status().Queue
	own := f.broker.Queue(name)
	for _, body := range []string{"a", "b"} {
		own.Enqueue(mqtest.Message{Body: []byte(body)})
	}
	g.next(t)
	if n := f.broker.CloseChannels(406); n != 1 {
		t.Fatalf("%d channels were closed", n)
	}
	f.until("it is subscribed again", func() bool { s := f.Status(); return s.Subscribed && s.Sessions == 2 })
	for _, want := range []string{"a", "b"} {
		c := g.next(t)
		if c.end <- nil; string(c.Body) != want || c.Queue != name {
			t.Errorf("%q came from %q", c.Body, c.Queue)
		}
	}
	own.Delete()
	began := time.Now()
	f.until("it is subscribed to another", func() bool { s := f.Status(); return s.Subscribed && s.Sessions == 3 && s.Queue != name })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if list := f.broker.Bindings("/"); len(list) != 1 || list[0].Destination != f.Status().Queue {
		t.Errorf("the bindings are %+v", list)
	}
}

// TestAQueueThatTheBrokerNamedIsNotGivenUpWhileItCannotBeUsed: another one would be declared
// beside it.
func TestAQueueThatTheBrokerNamedIsNotGivenUpWhileItCannotBeUsed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := withNews(t, true, newGate().handle, topology.Queue{Exclusive: true})
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		name := f.Status().Queue
		away := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "queue.declare", Count: 2,
			Do: mqtest.CloseChannel(404, "NOT_FOUND - queue '"+name+"' in vhost '/' process is stopped by supervisor"),
		})
		if n := f.broker.CloseChannels(406); n != 1 {
			t.Fatalf("%d channels were closed", n)
		}
		f.until("it is subscribed again", func() bool { s := f.Status(); return s.Subscribed && s.Sessions == 2 })
		if got := f.Status().Queue; got != name || away.Hits() != 2 {
			t.Errorf("it is subscribed to %q after %d refusals, before to %q", got, away.Hits(), name)
		}
	})
}

// TestAMissingExchangeCostsNoQueueEachTime: what a session declares before it fails is there
// as long as the connection.
func TestAMissingExchangeCostsNoQueueEachTime(t *testing.T) {
	for name, own := range map[string]topology.Queue{"exclusive": {Exclusive: true}, "auto-delete": {AutoDelete: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := withNews(t, true, newGate().handle, own, func(_ *mqtest.Config, pool *reconnect.Config) { pool.NoRedeclare = true })
				f.until("it is subscribed", func() bool { return f.Status().Subscribed })
				missing := f.broker.Inject(mqtest.Fault{
					Point: mqtest.Received, Method: "queue.bind",
					Do: mqtest.CloseChannel(404, "NOT_FOUND - no exchange 'news' in vhost '/'"),
				})
				f.cut(f.subscription)
				time.Sleep(time.Minute) // in the bubble
				if n := missing.Hits(); n < 10 {
					t.Errorf("it was tried %d times", n)
				}
				if n := len(f.broker.Queues("/")); n != 1 {
					t.Errorf("there are %d queues", n)
				}
				missing.Remove()
				f.until("it is subscribed again", func() bool { return f.Status().Subscribed })
				if n := len(f.broker.Queues("/")); n != 1 {
					t.Errorf("there are %d queues in the end", n)
				}
			})
		})
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

// TestAFirstSubscriptionWaitsForAQueueThatCannotBeUsedAtTheMoment: its leader changes, say.
func TestAFirstSubscriptionWaitsForAQueueThatCannotBeUsedAtTheMoment(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{}, newGate().handle)
		f.stop()
		if err := f.wait(); err != nil {
			t.Fatal(err)
		}
		away := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "basic.consume", Count: 2,
			Do: mqtest.CloseChannel(404, "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/': its leader <0.1.0> may be stopping or being demoted"),
		})
		f.run(newGate().handle)
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		if away.Hits() != 2 {
			t.Errorf("it was refused %d times", away.Hits())
		}
	})
}

// TestAQueueWithoutAMajorityCostsTheOthersLittle: RabbitMQ answers its basic.consume, after
// a while or at once, by closing the connection, which the others have in common with it.
func TestAQueueWithoutAMajorityCostsTheOthersLittle(t *testing.T) {
	for name, after := range map[string]time.Duration{"after a while": 10 * time.Second, "at once": 0} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const handling = time.Minute
				f := newMemoryFixture(t, consumer.Config{Prefetch: 20}, func(ctx context.Context, _ *consumer.Delivery) error {
					select {
					case <-time.After(handling):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}, queues(topology.Queue{Name: "q", DeliveryLimit: 20}, topology.Queue{Name: "minority"}),
					func(_ *mqtest.Config, pool *reconnect.Config) { pool.Backoff = nil })
				f.until("it is subscribed", func() bool { return f.Status().Subscribed })
				f.enqueue("good")
				refused := f.broker.Inject(mqtest.Fault{
					Point: mqtest.Received, Method: "basic.consume", If: func(e *mqtest.Event) bool { return e.Field("queue") == "minority" },
					Do: mqtest.Delay(after).Then(mqtest.CloseConnection(541, "INTERNAL_ERROR - timed out consuming from quorum queue 'minority' in vhost '/': {'%2F_minority',rabbit@a}")),
				})
				c, err := consumer.New(f.pool, consumer.Config{Queue: "minority"})
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- c.Run(ctx, newGate().handle) }()
				up := 0
				const looks = 600
				for range looks {
					time.Sleep(time.Second) // in the bubble
					if f.Status().Subscribed {
						up++
					}
				}
				lost := f.pool.Stats().Consuming.Lost
				if n := refused.Hits(); n < 4 || lost > 12 || up < looks*9/10 {
					t.Errorf("%d subscriptions were refused, %d connections lost; the other queue was consumed in %d of %d seconds", n, lost, up, looks)
				}
				if got := f.Status().Acked; got != 1 {
					t.Errorf("%d of its messages were acked", got)
				}
				for _, qos := range f.received.of("basic.qos") {
					if n := fmt.Sprint(qos.Field("prefetch-count")); n == "1" {
						t.Error("it asks for one delivery at a time, and no message was the cause")
						break
					}
				}
				refused.Remove()            // the majority is back
				time.Sleep(5 * time.Minute) // in the bubble
				f.until("both are consumed", func() bool { return c.Status().Subscribed && f.Status().Subscribed })
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
