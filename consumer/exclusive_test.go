package consumer_test

import (
	"context"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestAnExclusiveQueueIsTriedForUntilItsOldConnectionIsGone: a client that gives up a
// silent connection is back before the broker has given it up too, which then answers 405
// for a queue that only that connection may use.
func TestAnExclusiveQueueIsTriedForUntilItsOldConnectionIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		handled := make(chan string, 1)
		f := newMemoryFixture(t, consumer.Config{Declare: &topology.Queue{Name: "own", Exclusive: true}},
			func(_ context.Context, d *consumer.Delivery) error {
				handled <- string(d.Body)
				return nil
			}, func(_ *mqtest.Config, pool *reconnect.Config) { pool.Heartbeat = 2 * time.Second })
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		locked := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Sending, Method: "channel.close", If: func(e *mqtest.Event) bool { return e.Field("reply-code") == uint16(405) },
		})
		old := f.conn(f.subscription.Conn)
		// Its end is seen by the client alone: a read that has begun would still see it.
		f.struck(f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "heartbeat", Count: 1, Do: mqtest.Stall()}))
		f.struck(locked)
		f.until("Status says why it is not subscribed", func() bool {
			s := f.Status()
			return !s.Subscribed && s.Cause != nil && brokersCode(s.Cause) == 405
		})
		old.Do(mqtest.Cut())
		began := time.Now()
		f.until("it is subscribed again", func() bool { s := f.Status(); return s.Subscribed && s.Sessions == 2 })
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		f.broker.Queue("own").Enqueue(mqtest.Message{Body: []byte("x")})
		if got := receive(t, handled); got != "x" {
			t.Errorf("it got %q", got)
		}
		if locked.Hits() == 0 {
			t.Error("it was never locked out")
		}
	})
}

// TestTheNextRunTakesUpTheQueueThatTheBrokerHasNamed: it lives on with its connection, and
// what comes between two runs is in it.
func TestTheNextRunTakesUpTheQueueThatTheBrokerHasNamed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		handled := make(chan string, 1)
		h := func(_ context.Context, d *consumer.Delivery) error {
			handled <- string(d.Body)
			return nil
		}
		f := newMemoryFixture(t, consumer.Config{Declare: &topology.Queue{Exclusive: true}}, h)
		name, _ := f.subscription.Field("queue").(string)
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		f.stop()
		if err := f.wait(); err != nil {
			t.Fatal(err)
		}
		f.broker.Queue(name).Enqueue(mqtest.Message{Body: []byte("between")})
		f.run(h)
		if got := f.subscription.Field("queue"); name == "" || got != name {
			t.Errorf("the queues are %q and %q", name, got)
		}
		if got := receive(t, handled); got != "between" {
			t.Errorf("it got %q", got)
		}

		// With its connection it is gone, and the next run has another.
		f.stop()
		if err := f.wait(); err != nil {
			t.Fatal(err)
		}
		f.conn(f.subscription.Conn).Do(mqtest.Cut())
		f.run(h)
		if got := f.subscription.Field("queue"); got == name {
			t.Errorf("it asks for %q, which is gone", got)
		}
	})
}

// TestTheNextRunDeclaresAnotherWhenTheNamedQueueIsGone, as one that goes with its last
// consumer is.
func TestTheNextRunDeclaresAnotherWhenTheNamedQueueIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := func(context.Context, *consumer.Delivery) error { return nil }
		f := newMemoryFixture(t, consumer.Config{Declare: &topology.Queue{Exclusive: true, AutoDelete: true}}, h)
		name := f.subscription.Field("queue")
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		f.stop()
		if err := f.wait(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		f.run(h)
		f.until("it is subscribed again", func() bool { return f.Status().Subscribed })
		if got := f.subscription.Field("queue"); got == name || time.Since(began) > time.Second {
			t.Errorf("after %v it asks for %q, and had %q", time.Since(began), got, name)
		}
	})
}
