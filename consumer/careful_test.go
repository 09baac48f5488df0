package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/topology"
)

// TestAMessageThatCannotBeReadCostsNoOther: each time that it ends the connection, the
// broker counts a failed delivery for all that was given out. At the limit it goes,
// and nothing goes with it.
func TestAMessageThatCannotBeReadCostsNoOther(t *testing.T) {
	t.Parallel()
	const limit = 5
	var mu sync.Mutex
	handled, most := map[string]int{}, 0
	f := newFixture(t, consumer.Config{Prefetch: 20, Workers: 4}, func(_ context.Context, d *consumer.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		handled[string(d.Body)]++
		most = max(most, d.Attempt()-1)
		return nil
	}, queues(topology.Queue{Name: "q", DeliveryLimit: limit, DeadLetterQueue: "dead"}, topology.Queue{Name: "dead"}))
	poison := f.broker.Inject(mqtest.Fault{
		Point: mqtest.Sending, Method: "basic.deliver", If: func(e *mqtest.Event) bool { return string(e.Body) == "poison" },
		Do: mqtest.BadFrameEnd(),
	})
	f.enqueue("poison")
	for i := range 50 {
		f.enqueue(fmt.Sprint(i))
	}
	f.until("all others are handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(handled) == 50
	})
	f.until("it is dead-lettered", func() bool { return f.broker.Queue("dead").Len() == 1 })
	if n := poison.Hits(); n != limit+1 {
		t.Errorf("it ended %d connections, want %d", n, limit+1)
	}
	if most > 1 {
		t.Errorf("a good message was counted as failed %d times", most)
	}
	f.until("the prefetch is as it was", func() bool {
		qos := f.received.of("basic.qos")
		return fmt.Sprint(qos[len(qos)-1].Field("prefetch-count")) == "20"
	})
	if got := f.broker.Queue("dead").Bodies(); got[0] != "poison" {
		t.Errorf("dead-lettered is %q", got)
	}
}

// TestDeliveriesThatDoNotAddUpEndTheSession: an ack for several would cover what no
// handler has seen.
func TestDeliveriesThatDoNotAddUpEndTheSession(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]mqtest.Action{"one is missing": mqtest.Drop(), "one comes twice": mqtest.Twice()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			handled := map[string]bool{}
			f := newFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
				mu.Lock()
				defer mu.Unlock()
				handled[string(d.Body)] = true
				return nil
			})
			wrong := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.deliver", Skip: 1, Count: 1, Do: do})
			f.enqueue("0", "1", "2", "3")
			f.until("all are handled", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(handled) == 4
			})
			f.until("all are acked", func() bool { return f.queue.Len() == 0 })
			if wrong.Hits() != 1 || f.Stats().Sessions != 2 {
				t.Errorf("%d faults, %+v", wrong.Hits(), f.Stats())
			}
		})
	}
}

// TestAStreamIsNotReadOneByOne: it counts no failed deliveries, so nothing of it can be
// lost with what ended the connection.
func TestAStreamIsNotReadOneByOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{Offset: consumer.OffsetFirst, Prefetch: 20}, newGate().handle, aStream())
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		f.conn(f.subscription.Conn).Do(mqtest.CloseConnection(501, ""))
		f.renewed()
		for i, qos := range f.received.of("basic.qos") {
			if n := fmt.Sprint(qos.Field("prefetch-count")); n != "20" {
				t.Errorf("session %d asks for %s at a time", i+1, n)
			}
		}
	})
}

// TestOneByOneHasAnEndWithoutAPrefetchToo: where the prefetch is without a bound, as many
// as could have been given out together is no number.
func TestOneByOneHasAnEndWithoutAPrefetchToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{Prefetch: consumer.Unlimited}, func(_ context.Context, d *consumer.Delivery) error {
			if n := d.Attempt(); n != 1 { // what has come when the prefetch is restored goes back uncounted
				t.Errorf("delivery %d is attempt %d", d.Tag, n)
			}
			return nil
		})
		f.conn(f.subscription.Conn).Do(mqtest.CloseConnection(501, ""))
		f.renewed()
		f.enqueue(numbered(1, 1200)...)
		f.until("all are acked", func() bool { return f.queue.Len() == 0 })
		var asked []string
		for _, qos := range f.received.of("basic.qos") {
			asked = append(asked, fmt.Sprint(qos.Field("prefetch-count")))
		}
		if want := "[0 1 0]"; fmt.Sprint(asked) != want { // 0 is no bound
			t.Errorf("the sessions ask for %v at a time, want %s", asked, want)
		}
	})
}

// TestWhatFailsHoldsOthersUpOnlyBrieflyWhileOneIsAskedForAtATime: it comes first each time,
// and with its usual pauses the others would wait for most of an hour.
func TestWhatFailsHoldsOthersUpOnlyBrieflyWhileOneIsAskedForAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		good := make(chan struct{})
		f := newMemoryFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
			if string(d.Body) == "good" {
				close(good)
				return nil
			}
			return errors.New("failed")
		}, queues(topology.Queue{Name: "q"}))
		f.enqueue("bad")
		f.until("its pauses are long", func() bool { return f.Status().Failures == 8 })
		f.conn(f.subscription.Conn).Do(mqtest.CloseConnection(541, ""))
		f.renewed()
		f.enqueue("good")
		began := time.Now()
		receive(t, good)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it was handled after %v", took)
		}
		if n := f.Status().Failures; n < 100 {
			t.Errorf("it was not behind what fails: %d failures", n)
		}
	})
}

// TestWhoSettlesSeveralAtATimeGetsThemAfterACloseToo: one at a time would be waited for
// without end.
func TestWhoSettlesSeveralAtATimeGetsThemAfterACloseToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var batch []*consumer.Delivery
		f := newMemoryFixture(t, consumer.Config{Prefetch: 20}, func(_ context.Context, d *consumer.Delivery) error {
			if batch = append(batch, d); len(batch) == 3 {
				for _, d := range batch {
					_ = d.Ack() // one of the session before is stale
				}
				batch = nil
			}
			return consumer.Later
		})
		f.conn(f.subscription.Conn).Do(mqtest.CloseConnection(501, ""))
		f.renewed()
		f.enqueue(numbered(1, 9)...)
		f.until("all are acked", func() bool { return f.queue.Len() == 0 })
		if n := fmt.Sprint(f.received.of("basic.qos")[1].Field("prefetch-count")); n != "1" {
			t.Errorf("the second session asks for %s at a time", n)
		}
	})
}

// TestAnAutoDeleteQueueIsNotReadOneByOne: to go back to the prefetch ends a subscription, and
// with the last one the broker deletes the queue and all that is in it.
func TestAnAutoDeleteQueueIsNotReadOneByOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		own := &topology.Queue{Name: "q", AutoDelete: true}
		f := newMemoryFixture(t, consumer.Config{Declare: own, Prefetch: 2}, func(context.Context, *consumer.Delivery) error { return nil }, queues())
		f.conn(f.subscription.Conn).Do(mqtest.CloseConnection(501, ""))
		f.until("it is subscribed again", func() bool { s := f.Status(); return s.Subscribed && s.Sessions == 2 })
		f.enqueue(numbered(1, 9)...)
		time.Sleep(time.Minute) // in the bubble
		if s := f.Stats(); s.Acked != 9 || s.Sessions != 2 {
			t.Errorf("%d of 9 are acked, in %d sessions", s.Acked, s.Sessions)
		}
	})
}

// TestAnExclusiveConsumerIsBackAtOnceWhenAllIsWell: as long as its careful subscription is
// there, the broker refuses another one.
func TestAnExclusiveConsumerIsBackAtOnceWhenAllIsWell(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{Prefetch: 5, Exclusive: true}, func(context.Context, *consumer.Delivery) error { return nil },
			queues(topology.Queue{Name: "q", Type: topology.Classic}))
		refused := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close"})
		slow := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.cancel", Count: 1, Do: mqtest.Delay(100 * time.Millisecond)})
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		f.conn(f.subscription.Conn).Do(mqtest.CloseConnection(541, ""))
		f.renewed()
		f.enqueue(numbered(0, 9)...)
		f.until("all are settled", func() bool { return f.queue.Len() == 0 })
		f.received.await(t, 0, 3, "basic.consume")
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		var asked []string
		for _, qos := range f.received.of("basic.qos") {
			asked = append(asked, fmt.Sprint(qos.Field("prefetch-count")))
		}
		if slow.Hits() != 1 || refused.Hits() != 0 || fmt.Sprint(asked) != "[5 1 5]" {
			t.Errorf("it was refused %d times, and asked for %v at a time", refused.Hits(), asked)
		}
	})
}

// TestABadMessageBehindACarefulSubscriptionCostsNoOther: the ack that ends the careful
// phase brings the next message before the answer to the cancel. If that one ends the
// connection, the next session is careful again.
func TestABadMessageBehindACarefulSubscriptionCostsNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		most := map[string]int{}
		f := newMemoryFixture(t, consumer.Config{Prefetch: 5}, func(_ context.Context, d *consumer.Delivery) error {
			most[string(d.Body)] = max(most[string(d.Body)], d.Attempt()-1)
			time.Sleep(10 * time.Millisecond) // in the bubble
			return nil
		}, queues(topology.Queue{Name: "q", DeliveryLimit: 3, DeadLetterQueue: "dead"}, topology.Queue{Name: "dead"}))
		poison := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Sending, Method: "basic.deliver", If: func(e *mqtest.Event) bool { return string(e.Body) == "poison" },
			Do: mqtest.Delay(15 * time.Millisecond).Then(mqtest.BadFrameEnd()),
		})
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		f.conn(f.subscription.Conn).Do(mqtest.CloseConnection(541, ""))
		f.renewed()
		f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.cancel-ok", Do: mqtest.Delay(20 * time.Millisecond)})
		f.enqueue(numbered(0, 4)...)
		f.enqueue("poison")
		f.enqueue(numbered(10, 60)...)
		f.until("all are settled", func() bool { return f.queue.Len() == 0 })
		for body, n := range most {
			if n > 0 {
				t.Errorf("%s was counted as failed %d times", body, n)
			}
		}
		if n := poison.Hits(); n != 4 || len(most) != 56 || f.broker.Queue("dead").Len() != 1 {
			t.Errorf("%d connections were ended, %d messages handled, %d dead-lettered", n, len(most), f.broker.Queue("dead").Len())
		}
	})
}
