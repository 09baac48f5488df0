package integration_test

import (
	"context"
	"errors"
	"sync/atomic"
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
	t.Parallel()
	cl := cluster(t)
	requireVersion(t, cl.Nodes()[0], ">=4.0") // before, the 404 of a lost node comes at once, and says something else
	near, far := cl.Nodes()[0], cl.Nodes()[1]
	queue := uniqueName(t)
	if _, err := admin(t, far.URL()).QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "classic"}); err != nil {
		t.Fatal(err)
	}
	settled(t, cl)
	proxy := mqtest.NewProxy(t, near.URL())
	cancelled := proxy.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.cancel"})
	pool, states := open(t, reconnect.Config{
		URLs: []string{proxy.URL()}, First: reconnect.Consuming,
		Topology: topology.Topology{Queues: []topology.Queue{{Name: queue, Type: topology.Classic}}}, // which is on the node where it was made
	})
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

	// One that is stopped says that it goes: the broker answers a consume with 404.
	if err := far.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the broker cancels the subscription", patience, func() bool { return cancelled.Hits() == 1 })
	eventually(t, "Status is red and says that the queue is not there", patience, func() bool {
		var told *reconnect.BrokerError
		s := c.Status()
		return !s.Subscribed && errors.As(s.Cause, &told) && told.Code == amqp.NotFound
	})
	t.Log(c.Status())
	last := "before"
	back := func(body string) {
		t.Helper()
		if err := far.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := far.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is subscribed again", 2*patience, func() bool { return c.Status().Subscribed })
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		mustBe(t, p.Publish(ctx, producer.Text(body).ToQueue(queue)), producer.Confirmed)
		// A node that is killed has not written down the last ack of a classic queue.
		for got := <-handled; got != body; got = <-handled {
			if got != last {
				t.Fatalf("%q came in the place of %q", got, body)
			}
		}
		last = body
	}
	back("stopped")

	// One that is killed does not: the broker looks for the queue for more than a minute
	// before it answers, and the connection has to bear it.
	if err := far.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the broker cancels the subscription", patience, func() bool { return cancelled.Hits() == 2 })
	<-time.After(25 * time.Second) // more than RPCTimeout
	if s := c.Status(); s.Subscribed || s.Cause == nil {
		t.Errorf("while the node is away: %s", s)
	}
	t.Log(c.Status())
	back("killed")
	if n := states.count(reconnect.Consuming, reconnect.Waiting); n != 0 {
		t.Errorf("the connection was lost %d times", n)
	}
	if s := c.Stats(); s.Sessions < 3 {
		t.Errorf("%+v", s)
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

// TestAnExclusiveConsumerIsBackAtOnceWhenAllIsWell: after a connection that ended for what
// was said on it, one delivery is asked for at a time for a while. That subscription has to
// end before the next one begins: the broker refuses a second one.
func TestAnExclusiveConsumerIsBackAtOnceWhenAllIsWell(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	proxy := mqtest.NewProxy(t, node.URL())
	q := topology.Queue{Name: uniqueName(t), Type: topology.Classic}
	pool, _ := open(t, reconnect.Config{URLs: []string{proxy.URL()}, Topology: topology.Topology{Queues: []topology.Queue{q}}})
	p := newProducer(t, pool, producer.Config{})
	c := consume(t, pool, consumer.Config{Queue: q.Name, Prefetch: 5, Exclusive: true},
		func(context.Context, *consumer.Delivery) error { return nil })
	subscribed := func(sessions int) {
		t.Helper()
		eventually(t, "it is subscribed", patience, func() bool { s := c.Status(); return s.Subscribed && s.Sessions == sessions })
	}
	subscribed(1)
	ended := 0
	for _, conn := range proxy.Connections() {
		conn.Do(mqtest.CloseConnection(541, "INTERNAL_ERROR - test"))
		ended++
	}
	subscribed(2)
	refused := proxy.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close"})
	slow := proxy.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.cancel", Count: 1, Do: mqtest.Delay(200 * time.Millisecond)})
	for range 10 {
		mustBe(t, p.Publish(t.Context(), producer.Text("body").ToQueue(q.Name)), producer.Confirmed)
	}
	subscribed(3)
	eventually(t, "all are acked", patience, func() bool { return c.Stats().Acked == 10 })
	if ended == 0 || slow.Hits() != 1 || refused.Hits() != 0 {
		t.Errorf("%d connections were ended, %d cancels were slow, and the broker refused %d times", ended, slow.Hits(), refused.Hits())
	}
}

// TestAQueueOfItsOwnWithoutALimitKeepsWhatComesBack: before 4.0 the broker takes the -1 that
// says so for 0.
func TestAQueueOfItsOwnWithoutALimitKeepsWhatComesBack(t *testing.T) {
	t.Parallel()
	url, queue := sharedNode(t).URL(), uniqueName(t)
	pool, _ := open(t, reconnect.Config{URLs: []string{url}})
	var times atomic.Int64
	c := consume(t, pool, consumer.Config{Declare: &topology.Queue{Name: queue, DeliveryLimit: topology.Unlimited}}, func(context.Context, *consumer.Delivery) error {
		if times.Add(1) < 25 { // more than the broker's own limit
			return consumer.Requeue(nil)
		}
		return nil
	})
	c.awaitSubscribed(t)
	mustBe(t, newProducer(t, pool, producer.Config{}).Publish(t.Context(), producer.Text("x").ToQueue(queue)), producer.Confirmed)
	eventually(t, "it comes as often as it is put back", patience, func() bool { return c.Stats().Acked == 1 })
	if n := times.Load(); n != 25 {
		t.Errorf("it came %d times", n)
	}
}
