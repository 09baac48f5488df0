package integration_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// admin is a channel of the bare driver, for what a test does to a broker and
// looks up on it.
func admin(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// ready is how many messages wait in a queue.
func ready(t *testing.T, ch *amqp.Channel, queue string) int {
	t.Helper()
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q.Messages
}

// publish publishes numbered messages, from 0.
func publish(t *testing.T, p *producer.Producer, queue string, n int) {
	t.Helper()
	for i := range n {
		if _, err := p.PublishAsync(t.Context(), producer.Text(fmt.Sprint(i)).ToQueue(queue)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := p.Stats(); s.Confirmed != s.Accepted {
		t.Fatalf("%+v", s)
	}
}

func TestConsumerComesBackWhenItsQueueDoes(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	url := sharedNode(t).URL()
	own := admin(t, url)
	declare := func() {
		if _, err := own.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
			t.Fatal(err)
		}
	}
	declare()
	pool, _ := open(t, reconnect.Config{URLs: []string{url}, First: reconnect.Consuming})
	var handled atomic.Int64
	c := consume(t, pool, consumer.Config{Queue: queue}, func(context.Context, *consumer.Delivery) error {
		handled.Add(1)
		return nil
	})
	c.awaitSubscribed(t)
	if _, err := own.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Status is red and says why", 5*time.Second, func() bool {
		s := c.Status()
		return !s.Subscribed && s.Cause != nil && strings.Contains(s.Cause.Error(), "404")
	})
	t.Log(c.Status())
	declare()
	eventually(t, "the consumer is subscribed again", 5*time.Second, func() bool { return c.Status().Subscribed })
	p := newProducer(t, pool, producer.Config{})
	mustBe(t, p.Publish(t.Context(), producer.Text("x").ToQueue(queue)), producer.Confirmed)
	eventually(t, "the new queue is consumed", patience, func() bool { return handled.Load() == 1 })
}

func TestTopologyIsDeclaredAgainWhenItsQueueIsDeleted(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	url := sharedNode(t).URL()
	pool, _ := open(t, quorum(queue, url))
	c := consume(t, pool, consumer.Config{Queue: queue}, func(context.Context, *consumer.Delivery) error { return nil })
	c.awaitSubscribed(t)
	if _, err := admin(t, url).QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the consumer has a second session", 5*time.Second, func() bool {
		s := c.Status()
		return s.Subscribed && s.Sessions == 2
	})
}

func TestFirstSubscriptionToAMissingQueueIsFatal(t *testing.T) {
	t.Parallel()
	pool, _ := open(t, reconnect.Config{URLs: []string{sharedNode(t).URL()}, First: reconnect.Consuming})
	c := consume(t, pool, consumer.Config{Queue: uniqueName(t)}, func(context.Context, *consumer.Delivery) error { return nil })
	<-c.done
	var told *reconnect.BrokerError
	if !errors.As(c.err, &told) || told.Code != 404 || !reconnect.IsFatal(c.err) {
		t.Fatal(c.err)
	}
}

// TestStaleAckTouchesNothing: the tag of a delivery from before a cut names another
// delivery after it.
func TestStaleAckTouchesNothing(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	queue := uniqueName(t)
	pool, states := open(t, quorum(queue, node.URL()))
	p := newProducer(t, pool, producer.Config{})
	publish(t, p, queue, 2)

	var mu sync.Mutex
	var late error
	seen := map[string]int{}
	var tags []uint64
	held := make(chan *consumer.Delivery, 1)
	var once sync.Once
	goOn := make(chan struct{})
	ended := make(chan error, 1)
	c := consume(t, pool, consumer.Config{Queue: queue, Workers: 2}, func(ctx context.Context, d *consumer.Delivery) error {
		mu.Lock()
		seen[string(d.Body)]++
		tags = append(tags, d.Tag)
		mu.Unlock()
		first := false
		if string(d.Body) == "0" {
			once.Do(func() { first = true })
		}
		if !first {
			return nil
		}
		held <- d
		<-goOn
		ended <- context.Cause(ctx)
		mu.Lock()
		late = d.Ack()
		mu.Unlock()
		return nil
	})
	d := <-held
	must(t, node.CloseConnections(t.Context(), "test"))
	states.await(t, reconnect.Consuming, reconnect.Waiting, 1) // the cut happened
	states.await(t, reconnect.Consuming, reconnect.Connected, 2)
	eventually(t, "the second session gives out the message again", patience, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen["0"] == 2
	})
	close(goOn)
	if cause := <-ended; !errors.Is(cause, consumer.ErrStale) {
		t.Errorf("the handler's ctx ended with %v, want ErrStale", cause)
	}
	eventually(t, "the late ack was tried", patience, func() bool { mu.Lock(); defer mu.Unlock(); return late != nil })
	if !errors.Is(late, consumer.ErrStale) {
		t.Errorf("late ack: %v, want ErrStale", late)
	}
	if d.Tag != tags[len(tags)-1] && !slices.Contains(tags[2:], d.Tag) {
		t.Logf("tags %v: the late one was not used again", tags)
	}
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	if n := ready(t, admin(t, node.URL()), queue); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// handleTheRest handles what is left of n messages, in a consumer of its own, and tests that
// none was dropped and none handled twice. handled counts by body.
func handleTheRest(t *testing.T, pool *reconnect.Pool, queue string, n int, handled map[string]int) {
	t.Helper()
	var mu sync.Mutex
	c := consume(t, pool, consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		handled[string(d.Body)]++
		return nil
	})
	eventually(t, "every message is handled", patience, func() bool { mu.Lock(); defer mu.Unlock(); return len(handled) == n })
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	for body, times := range handled {
		if times != 1 {
			t.Errorf("message %s was handled %d times", body, times)
		}
	}
}

// TestADrainsManyAcksAreKept: each has a frame of its own, as the handler of the first
// delivery ends last, and a quorum queue keeps only 32 settlements for a channel that is
// closed behind them.
func TestADrainsManyAcksAreKept(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	url := sharedNode(t).URL()
	pool, _ := open(t, quorum(queue, url))
	const n, workers, rounds = 400, 100, 3
	publish(t, newProducer(t, pool, producer.Config{}), queue, n)
	var mu sync.Mutex
	handled := map[string]int{}
	for range rounds {
		var running sync.WaitGroup
		running.Add(workers - 1)
		var begun atomic.Int64
		end := make(chan struct{})
		c := consume(t, pool, consumer.Config{Queue: queue, Workers: workers, Prefetch: workers}, func(_ context.Context, d *consumer.Delivery) error {
			mu.Lock()
			handled[string(d.Body)]++
			mu.Unlock()
			begun.Add(1)
			<-end
			switch {
			case d.Tag == 1:
				running.Wait()
			case d.Tag <= workers: // before 4.3 what the proof brings is handled as well
				running.Done()
			}
			return nil
		})
		eventually(t, "all run", patience, func() bool { return begun.Load() == workers })
		stopped := make(chan error, 1)
		go func() { stopped <- c.stop() }()
		eventually(t, "it drains", patience, func() bool { return !c.Status().Subscribed })
		close(end)
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
	}
	handleTheRest(t, pool, queue, n, handled)
}

func TestDrainLetsASlowHandlerFinishAndGivesBackTheRest(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	url := sharedNode(t).URL()
	pool, _ := open(t, reconnect.Config{URLs: []string{url}, Topology: topology.Topology{Queues: []topology.Queue{{Name: queue, DeliveryLimit: 2}}}})
	p := newProducer(t, pool, producer.Config{})
	const n = 150 // in every round more than are prefetched
	publish(t, p, queue, n)
	own := admin(t, url)

	handled := map[string]int{}
	var mu sync.Mutex
	// Ten rounds: were what is given back counted as failures, the limit of 2 would
	// have dropped it.
	for round := range 10 {
		begun := make(chan struct{})
		goOn := make(chan struct{})
		var once sync.Once
		c := consume(t, pool, consumer.Config{Queue: queue, Prefetch: prefetchFor(t)}, func(ctx context.Context, d *consumer.Delivery) error {
			once.Do(func() { close(begun) })
			<-goOn
			mu.Lock()
			handled[string(d.Body)]++
			mu.Unlock()
			return nil
		})
		<-begun
		eventually(t, "it has all that it may prefetch", patience, func() bool { return c.Status().Waiting == prefetchFor(t)-1 })
		stopped := make(chan error, 1)
		go func() { stopped <- c.stop() }()
		eventually(t, "the consumer drains and has given back what waited", patience, func() bool {
			s := c.Status()
			return !s.Subscribed && s.Waiting == 0 && s.Handling == 1
		})
		select {
		case err := <-stopped:
			t.Fatalf("Run returned %v while a handler ran", err)
		default:
		}
		close(goOn)
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		done := len(handled)
		mu.Unlock()
		// The broker's count of a quorum queue follows a moment later.
		eventually(t, fmt.Sprintf("round %d: %d of %d handled, the rest is left", round, done, n), patience, func() bool {
			return ready(t, own, queue) == n-done
		})
	}
	handleTheRest(t, pool, queue, n, handled)
}

// prefetchFor is as much as a drain can give back uncounted: from 4.3 on anything.
func prefetchFor(t *testing.T) int {
	if met, _ := meets(sharedNode(t).Version(), ">=4.3"); met {
		return 100
	}
	return 1
}

func TestDrainAtItsDeadlineReportsWhatItGaveBack(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	url := sharedNode(t).URL()
	pool, _ := open(t, quorum(queue, url))
	p := newProducer(t, pool, producer.Config{})
	publish(t, p, queue, 1)
	begun := make(chan struct{}, 1)
	c := consume(t, pool, consumer.Config{Queue: queue, DrainTimeout: time.Second}, func(ctx context.Context, d *consumer.Delivery) error {
		begun <- struct{}{}
		<-ctx.Done() // heeds nothing but its ctx
		return ctx.Err()
	})
	<-begun
	var left *consumer.DrainError
	if err := c.stop(); !errors.As(err, &left) || left.Released != 1 || left.Running != 0 {
		t.Fatalf("Run returned %v", err)
	}
	ch := admin(t, url)
	eventually(t, "it is in the queue again", patience, func() bool { return ready(t, ch, queue) == 1 })
}

func TestVerdictsReachTheBroker(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	url := sharedNode(t).URL()
	dead := queue + ".dead"
	pool, _ := open(t, reconnect.Config{URLs: []string{url}, Topology: topology.Topology{Queues: []topology.Queue{
		{Name: queue, DeadLetterQueue: dead, DeliveryLimit: 3},
		{Name: dead, DeliveryLimit: topology.Unlimited},
	}}})
	p := newProducer(t, pool, producer.Config{})
	for _, body := range []string{"ack", "reject", "requeue", "release", "panic", "fail", "by hand", "goexit", "not json"} {
		mustBe(t, p.Publish(t.Context(), producer.Text(body).ToQueue(queue)), producer.Confirmed)
	}
	var mu sync.Mutex
	count := map[string]int{}
	c := consume(t, pool, consumer.Config{Queue: queue, Workers: 3}, func(ctx context.Context, d *consumer.Delivery) error {
		body := string(d.Body)
		mu.Lock()
		count[body]++
		again := count[body] > 1
		mu.Unlock()
		switch {
		case body == "reject":
			return consumer.Reject(errors.New("no good"))
		case body == "requeue": // until the delivery limit
			return consumer.Requeue(nil)
		case body == "not json":
			return consumer.JSON(func(context.Context, struct{}, *consumer.Delivery) error { return nil })(ctx, d)
		case again:
			return nil
		case body == "release":
			return consumer.Release(nil)
		case body == "panic":
			panic("on purpose")
		case body == "fail":
			return errors.New("on purpose")
		case body == "goexit":
			runtime.Goexit()
		case body == "by hand":
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
			if err := d.Ack(); !errors.Is(err, consumer.ErrSettled) {
				t.Errorf("second ack: %v", err)
			}
			if err := d.Reject(); !errors.Is(err, consumer.ErrSettled) {
				t.Errorf("reject after ack: %v", err)
			}
			return errors.New("the ack stands")
		}
		return nil
	})
	own := admin(t, url)
	eventually(t, "the rejected, the undecodable and the one over its limit are dead-lettered", patience, func() bool { return ready(t, own, dead) == 3 })
	want := map[string]int{"ack": 1, "reject": 1, "requeue": 4, "release": 2, "panic": 2, "fail": 2, "by hand": 1, "goexit": 2, "not json": 1}
	eventually(t, "all have come as often as they should", patience, func() bool {
		mu.Lock()
		defer mu.Unlock()
		for body, n := range want {
			if count[body] < n {
				return false
			}
		}
		return true
	})
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	for body, n := range want {
		if count[body] != n {
			t.Errorf("%s came %d times, want %d", body, count[body], n)
		}
	}
	if n := ready(t, own, queue); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	s := c.Status()
	if s.Sessions != 1 || s.Failures != 5 {
		t.Errorf("%d sessions, %d failures, want 1 and 5: %+v", s.Sessions, s.Failures, s)
	}
}

// TestRandomFinishingNeverBreaksAcks: sixteen workers finish in any order, some
// reject in the middle of a prefix, one is stuck: no 406, nothing given out twice.
func TestRandomFinishingNeverBreaksAcks(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	url := sharedNode(t).URL()
	pool, states := open(t, quorum(queue, url))
	p := newProducer(t, pool, producer.Config{})
	const n = 5000
	publish(t, p, queue, n)
	var mu sync.Mutex
	seen := map[string]int{}
	stuck := make(chan struct{})
	var first atomic.Bool
	c := consume(t, pool, consumer.Config{Queue: queue, Workers: 16, Prefetch: 300}, func(_ context.Context, d *consumer.Delivery) error {
		mu.Lock()
		seen[string(d.Body)]++
		mu.Unlock()
		if first.CompareAndSwap(false, true) {
			<-stuck
		}
		if len(d.Body)%2 == 0 && d.Body[0] == '3' {
			return consumer.Reject(nil)
		}
		return nil
	})
	// All but the stuck one are acked although it holds up the prefix.
	eventually(t, "everything but the stuck one is settled", patience, func() bool {
		s := c.Status()
		return s.Acked+s.Rejected == n-1
	})
	close(stuck)
	eventually(t, "everything is settled", patience, func() bool { s := c.Status(); return s.Acked+s.Rejected == n })
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	for body, times := range seen {
		if times != 1 {
			t.Errorf("message %s came %d times", body, times)
		}
	}
	if len(seen) != n || ready(t, admin(t, url), queue) != 0 {
		t.Errorf("%d of %d were seen", len(seen), n)
	}
	if s := c.Status(); s.Sessions != 1 || s.Rejected == 0 {
		t.Errorf("%+v", s)
	}
	if n := states.count(reconnect.Consuming, reconnect.Waiting); n != 0 {
		t.Errorf("the connection was lost %d times", n)
	}
}

func TestServerNamedQueueIsTheSessionsOwn(t *testing.T) {
	t.Parallel()
	node := ownNode(t, broker.Options{})
	pool, states := open(t, reconnect.Config{URLs: []string{node.URL()}})
	p := newProducer(t, pool, producer.Config{})
	got := make(chan string, 10)
	c := consume(t, pool, consumer.Config{
		Declare:  &topology.Queue{Exclusive: true},
		Bindings: []topology.Binding{{Exchange: "amq.topic", RoutingKey: "a.*"}},
	}, func(_ context.Context, d *consumer.Delivery) error {
		got <- string(d.Body)
		return nil
	})
	c.awaitSubscribed(t)
	first := c.Status().Queue
	mustBe(t, p.Publish(t.Context(), producer.Text("1").To("amq.topic", "a.b")), producer.Confirmed)
	if s := <-got; s != "1" {
		t.Fatal(s)
	}
	must(t, node.CloseConnections(t.Context(), "test"))
	states.await(t, reconnect.Consuming, reconnect.Waiting, 1)
	eventually(t, "the consumer has a second session", patience, func() bool { s := c.Status(); return s.Subscribed && s.Sessions == 2 })
	if now := c.Status().Queue; now == first || !strings.HasPrefix(now, "amq.gen-") {
		t.Errorf("queue %q after %q", now, first)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	mustBe(t, p.Publish(ctx, producer.Text("2").To("amq.topic", "a.b")), producer.Confirmed)
	if s := <-got; s != "2" {
		t.Fatal(s)
	}
}

// TestServerNamedQueueIsTakenUpWhileItsConnectionLives: a session that lost its channel finds
// what was published meanwhile.
func TestServerNamedQueueIsTakenUpWhileItsConnectionLives(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	proxy := mqtest.NewProxy(t, node.URL())
	pool, states := open(t, reconnect.Config{URLs: []string{proxy.URL()}})
	p := newProducer(t, pool, producer.Config{})
	key := uniqueName(t)
	begun, got := make(chan struct{}, 1), make(chan string, 10)
	c := consume(t, pool, consumer.Config{
		Declare:  &topology.Queue{Exclusive: true},
		Bindings: []topology.Binding{{Exchange: "amq.topic", RoutingKey: key}},
	}, func(ctx context.Context, d *consumer.Delivery) error {
		if !d.Redelivered && string(d.Body) == "1" {
			begun <- struct{}{}
			<-ctx.Done() // its channel is lost
			return ctx.Err()
		}
		got <- string(d.Body)
		return nil
	})
	c.awaitSubscribed(t)
	first := c.Status().Queue
	for _, body := range []string{"1", "2"} {
		mustBe(t, p.Publish(t.Context(), producer.Text(body).To("amq.topic", key)), producer.Confirmed)
	}
	<-begun
	if proxy.CloseChannels(406) == 0 {
		t.Fatal("no channel was closed")
	}
	eventually(t, "the consumer has a second session", patience, func() bool { s := c.Status(); return s.Subscribed && s.Sessions == 2 })
	if now := c.Status().Queue; now != first {
		t.Errorf("queue %q after %q", now, first)
	}
	for _, want := range []string{"1", "2"} {
		if s := <-got; s != want {
			t.Errorf("%q came, want %q", s, want)
		}
	}
	if n := states.count(reconnect.Consuming, reconnect.Waiting); n != 0 {
		t.Errorf("the connection was lost %d times", n)
	}
}
