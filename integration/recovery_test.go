package integration_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// probe publishes to the default exchange on the bare driver, again and again, and returns
// when the first message was confirmed.
func probe(ctx context.Context, t *testing.T, url, queue string) time.Time {
	once := func() error {
		conn, err := amqp.DialConfig(url, amqp.Config{Dial: amqp.DefaultDial(time.Second)})
		if err != nil {
			return err
		}
		defer conn.Close()
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		if err := ch.Confirm(false); err != nil {
			return err
		}
		c, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent})
		if err != nil {
			return err
		}
		if ok, err := c.WaitContext(ctx); err != nil || !ok {
			return fmt.Errorf("confirmed %v: %w", ok, err)
		}
		return nil
	}
	for {
		err := once()
		if err == nil {
			return time.Now()
		}
		if ctx.Err() != nil {
			t.Errorf("the probe gave up: %v", err)
			return time.Now()
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// TestAfterAMinutesOutageAllIsBackInSeconds: the broker is away for a minute; then the
// first publish is confirmed within 6 s of that of a bare driver that tries all the time,
// and 200 consumers are subscribed within 2 s of their connection.
func TestAfterAMinutesOutageAllIsBackInSeconds(t *testing.T) {
	t.Parallel()
	const away, consumers, queues = time.Minute, 200, 10
	node := ownNode(t)
	prefix := uniqueName(t)
	top := topology.Topology{}
	for i := range queues {
		top.Queues = append(top.Queues, topology.Queue{Name: fmt.Sprintf("%s.%d", prefix, i), DeliveryLimit: topology.Unlimited})
	}
	first := top.Queues[0].Name
	pool, states := open(t, reconnect.Config{URLs: []string{node.URL()}, Topology: top})
	settled(t, node)
	var all []*consuming
	for i := range consumers {
		all = append(all, consume(t, pool, consumer.Config{Queue: top.Queues[i%queues].Name}, func(context.Context, *consumer.Delivery) error { return nil }))
	}
	for _, c := range all {
		c.awaitSubscribed(t)
	}
	p := newProducer(t, pool, producer.Config{})
	mustBe(t, p.Publish(t.Context(), producer.Text("before").ToQueue(first)), producer.Confirmed)

	if err := node.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	states.await(t, reconnect.Publishing, reconnect.Waiting, 1)
	states.await(t, reconnect.Consuming, reconnect.Waiting, 1)
	ctx, cancel := context.WithTimeout(t.Context(), away+launchTimeout)
	defer cancel()
	waiting, err := p.PublishAsync(ctx, producer.Text("meanwhile").ToQueue(first))
	if err != nil {
		t.Fatal(err)
	}
	pause(ctx, away)
	var back, confirmed time.Time // of the probe, of ours
	var both sync.WaitGroup
	both.Go(func() { back = probe(ctx, t, node.URL(), first) })
	both.Go(func() {
		if err := waiting.Wait(ctx); err != nil {
			t.Error(err)
		}
		confirmed = time.Now()
	})
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	both.Wait()
	for _, c := range all {
		eventually(t, "each is subscribed again", patience, func() bool { s := c.Status(); return s.Subscribed && s.Sessions == 2 })
	}
	connected := states.last(reconnect.Consuming, reconnect.Connected)
	slowest := slices.MaxFunc(all, func(a, b *consuming) int { return a.Status().Since.Compare(b.Status().Since) }).Status().Since
	t.Logf("the first confirm came %v after the probe's, the last of %d subscriptions %v after its connection",
		confirmed.Sub(back).Round(time.Millisecond), consumers, slowest.Sub(connected.At).Round(time.Millisecond))
	if took := confirmed.Sub(back); took > 6*time.Second {
		t.Errorf("the first confirm came %v after the probe's", took)
	}
	if took := slowest.Sub(connected.At); took < 0 || took > 2*time.Second {
		if bare := subscribeBare(t, node.URL(), top.Queues, consumers); took < 0 || took > 2*bare { // a machine may be busy
			t.Errorf("the last consumer was subscribed %v after its connection, the bare driver takes %v", took, bare)
		}
	}
}

// subscribeBare is how long the bare driver takes for so many subscriptions on one connection.
func subscribeBare(t *testing.T, url string, queues []topology.Queue, n int) time.Duration {
	t.Helper()
	conn, _ := dial(t, url)
	began := time.Now()
	for i := range n {
		ch, err := conn.Channel()
		must(t, err)
		must(t, ch.Qos(100, 0, false))
		_, err = ch.Consume(queues[i%len(queues)].Name, "", false, false, false, false, nil)
		must(t, err)
	}
	return time.Since(began)
}
