package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// TestAClosedDeliveryChannelIsNoDelivery: the driver closes it with the connection, with
// the channel, and when the broker cancels; who reads on gets empty messages for ever.
func TestAClosedDeliveryChannelIsNoDelivery(t *testing.T) {
	for name, tt := range map[string]struct {
		end         func(*fixture)
		connections int
	}{
		"connection lost":           {func(f *fixture) { f.cut(f.subscription) }, 2},
		"channel closed":            {func(f *fixture) { f.broker.CloseChannels(320) }, 1},
		"subscription is cancelled": {func(f *fixture) { f.cancel() }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var handled, told []string
				f := newMemoryFixture(t, consumer.Config{OnDelivery: func(r consumer.Receipt) {
					told = append(told, fmt.Sprint(r.Tag))
				}}, func(_ context.Context, d *consumer.Delivery) error {
					handled = append(handled, string(d.Body))
					return nil
				})
				f.until("it is subscribed", func() bool { return f.Status().Subscribed })
				f.enqueue("a", "b")
				f.until("both are acked", func() bool { return f.queue.Len() == 0 })
				tt.end(f)
				f.renewed()
				f.until("it is subscribed again", func() bool { s := f.Status(); return s.Subscribed && s.Sessions == 2 })
				f.enqueue("c")
				f.until("it is acked", func() bool { return f.queue.Len() == 0 })
				time.Sleep(time.Minute) // in the bubble
				synctest.Wait()
				if !slices.Equal(handled, []string{"a", "b", "c"}) || !slices.Equal(told, []string{"1", "2", "1"}) {
					t.Errorf("handled %q, told of the tags %q", handled, told)
				}
				if s := f.Stats(); s.Deliveries != 3 || s.Sessions != 2 {
					t.Errorf("%+v", s)
				}
				if n := len(f.received.of("connection.open")); n != tt.connections {
					t.Errorf("%d connections, want %d", n, tt.connections)
				}
			})
		})
	}
}

// TestAFullQueueIsNotTakenWhole: the driver keeps all that the broker sends, and where no
// prefetch is set that is the queue.
func TestAFullQueueIsNotTakenWhole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n, most = 5000, 100
		f := newMemoryFixture(t, consumer.Config{}, newGate().handle)
		f.enqueue(make([]string, n)...)
		f.waiting(most - 1)
		time.Sleep(time.Minute) // in the bubble
		if got := f.queue.Info(); got.Unacked != most || got.Ready != n-most {
			t.Errorf("%d were taken, %d are left", got.Unacked, got.Ready)
		}
		bare, err := f.pool.Acquire(t.Context(), reconnect.Consuming)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bare.Raw().QueueDeclare("all", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		all := f.broker.Queue("all")
		all.Enqueue(make([]mqtest.Message, n)...)
		if _, err := bare.Raw().Consume("all", "", false, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // in the bubble
		if got := all.Info(); got.Unacked != n {
			t.Errorf("the driver alone has taken %d of %d", got.Unacked, n)
		}
		bare.Abandon()
	})
}

// TestASecondCrashWhileItComesBackIsSurvived, at each step of that.
func TestASecondCrashWhileItComesBackIsSurvived(t *testing.T) {
	for _, step := range []string{
		"connection.start", "connection.tune", "connection.open-ok", "channel.open-ok", "queue.declare-ok", "basic.qos-ok", "basic.consume-ok", "basic.deliver",
	} {
		t.Run(step, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGate()
				f := newMemoryFixture(t, consumer.Config{}, g.handle)
				f.enqueue("a")
				first := g.next(t)
				second := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Conn: f.subscription.Conn + 1, Method: step, Count: 1, Do: mqtest.Cut()})
				f.cut(f.subscription)
				first.cause(t)
				again := g.next(t)
				again.end <- nil
				f.until("it is acked", func() bool { return f.queue.Len() == 0 })
				f.struck(second)
				if string(again.Body) != "a" || !again.Redelivered {
					t.Errorf("%q came, redelivered %v", again.Body, again.Redelivered)
				}
			})
		})
	}
}

// TestQosIsNeverGlobal: RabbitMQ 4.3 takes a limit for all consumers of a channel, and
// counts it for each.
func TestQosIsNeverGlobal(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{Prefetch: 50, DrainTimeout: patience}, g.handle)
		f.conn(f.subscription.Conn).Do(mqtest.CloseConnection(501, "")) // then one delivery at a time
		f.renewed()
		f.cut(f.received.of("basic.consume")[1])
		f.received.await(t, 0, 3, "basic.consume")
		f.cancel()
		f.received.await(t, 0, 4, "basic.consume")
		f.stop()
		if err := f.wait(); err != nil {
			t.Error(err)
		}
		all := f.received.of("basic.qos")
		for _, e := range all {
			if e.Field("global") != false {
				t.Errorf("%v is global", e)
			}
		}
		if len(all) < 4 {
			t.Errorf("it was asked for a prefetch %d times", len(all))
		}
	})
}

// TestAForgedXDeathIsNoFailure: a client can write any header, and the broker's count of
// deliveries is another one.
func TestAForgedXDeathIsNoFailure(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var attempts []int
		f := newMemoryFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
			if d.Headers["x-death"] == nil {
				t.Error("the header has not come through")
			}
			if attempts = append(attempts, d.Attempt()); len(attempts) == 1 {
				return consumer.Requeue(nil)
			}
			return nil
		})
		lease, err := f.pool.Acquire(t.Context(), reconnect.Publishing)
		if err != nil {
			t.Fatal(err)
		}
		forged := amqp.Table{"x-death": []any{amqp.Table{"queue": "q", "reason": "rejected", "count": int64(9)}}}
		if err := lease.Raw().PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Headers: forged}); err != nil {
			t.Fatal(err)
		}
		f.until("it is acked", func() bool { return f.Status().Acked == 1 })
		if want := []int{1, 2}; !slices.Equal(attempts, want) {
			t.Errorf("attempts %v, want %v", attempts, want)
		}
		lease.Release()
	})
}
