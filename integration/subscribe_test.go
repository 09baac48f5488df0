package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestALostNodeCancelsTheConsumersOfItsClassicQueue: they are connected to another node, and
// come back with it.
func TestALostNodeCancelsTheConsumersOfItsClassicQueue(t *testing.T) {
	cl := cluster(t)
	near, far := cl.Nodes()[0], cl.Nodes()[1]
	queue := uniqueName(t)
	if _, err := admin(t, far.URL()).QueueDeclare(queue, true, false, false, false, amqp.Table{
		"x-queue-type": "classic", "x-queue-leader-locator": "client-local",
	}); err != nil {
		t.Fatal(err)
	}
	settled(t, cl)
	proxy := mqtest.NewProxy(t, near.URL())
	cancelled := proxy.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.cancel"})
	pool, states := open(t, reconnect.Config{URLs: []string{proxy.URL()}, First: reconnect.Consuming})
	p := newProducer(t, pool, producer.Config{})
	handled := make(chan string, 10)
	c := consume(t, pool, consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		handled <- string(d.Body)
		return nil
	})
	c.awaitSubscribed(t)
	mustBe(t, p.Publish(t.Context(), producer.Text("before").ToQueue(queue)), producer.Confirmed)
	if got := <-handled; got != "before" {
		t.Fatal(got)
	}

	if err := far.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the broker cancels the subscription", patience, func() bool { return cancelled.Hits() == 1 })
	eventually(t, "Status is red and says that the queue is not there", patience, func() bool {
		var told *reconnect.BrokerError
		s := c.Status()
		return !s.Subscribed && errors.As(s.Cause, &told) && told.Code == amqp.NotFound
	})
	t.Log(c.Status())
	if err := far.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := far.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.awaitSubscribed(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	mustBe(t, p.Publish(ctx, producer.Text("after").ToQueue(queue)), producer.Confirmed)
	if got := <-handled; got != "after" {
		t.Errorf("then comes %q", got)
	}
	if s := c.Stats(); s.Sessions < 2 {
		t.Errorf("%+v", s)
	}
	if n := states.count(reconnect.Consuming, reconnect.Waiting); n != 0 {
		t.Errorf("the connection was lost %d times", n)
	}
}

// TestAnExclusiveQueueIsTriedForUntilItsOldConnectionIsGone: a client can be back before
// the broker has noticed that it was away, which then answers 405 for a queue that only
// the old connection may use.
func TestAnExclusiveQueueIsTriedForUntilItsOldConnectionIsGone(t *testing.T) {
	t.Parallel()
	url, queue := sharedNode(t).URL(), uniqueName(t)
	far := mqtest.NewProxy(t, url)        // holds the broker's end
	near := mqtest.NewProxy(t, far.URL()) // loses the client's
	locked := far.Inject(mqtest.Fault{
		Point: mqtest.Sending, Method: "channel.close", If: func(e *mqtest.Event) bool { return e.Field("reply-code") == uint16(amqp.ResourceLocked) },
	})
	// Not between two frames: a read that has begun would still see the end.
	stalled := far.Inject(mqtest.Fault{Point: mqtest.Received, Method: "heartbeat", Count: 1, Do: mqtest.Stall()})
	pool, states := open(t, reconnect.Config{URLs: []string{near.URL()}, First: reconnect.Consuming, Heartbeat: 4 * time.Second})
	handled := make(chan string, 1)
	c := consume(t, pool, consumer.Config{Declare: &topology.Queue{Name: queue, Exclusive: true}}, func(_ context.Context, d *consumer.Delivery) error {
		handled <- string(d.Body)
		return nil
	})
	c.awaitSubscribed(t)
	old := far.Connections()
	if err := stalled.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if near.DropConnections() != 1 {
		t.Fatal("nothing was cut")
	}
	states.await(t, reconnect.Consuming, reconnect.Waiting, 1)
	eventually(t, "Status says that the queue is locked", patience, func() bool {
		var told *reconnect.BrokerError
		s := c.Status()
		return locked.Hits() > 0 && !s.Subscribed && errors.As(s.Cause, &told) && told.Code == amqp.ResourceLocked
	})
	t.Log(c.Status())
	for _, conn := range old {
		conn.Do(mqtest.Cut())
	}
	eventually(t, "it is subscribed again", patience, func() bool { s := c.Status(); return s.Subscribed && s.Sessions == 2 })
	p := newProducer(t, pool, producer.Config{})
	mustBe(t, p.Publish(t.Context(), producer.Text("x").ToQueue(queue)), producer.Confirmed)
	select {
	case got := <-handled:
		if got != "x" {
			t.Errorf("it got %q", got)
		}
	case <-time.After(patience):
		t.Error("nothing came")
	}
}
