package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestWhatFailsTooOftenIsKeptWithDeadLetters: a quorum queue of which nothing is said drops
// a message that has failed 21 times. Lint says so, and the preset keeps it.
func TestWhatFailsTooOftenIsKeptWithDeadLetters(t *testing.T) {
	for name, tt := range map[string]struct {
		top    topology.Topology
		warned bool
		kept   int
	}{
		"alone":             {topology.Topology{Queues: []topology.Queue{{Name: "q"}}}, true, 0},
		"with dead letters": {topology.WithDeadLetters(topology.Queue{Name: "q"}), false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				warned := slices.ContainsFunc(tt.top.Lint(), func(w topology.Warning) bool {
					return w.Name == "q" && strings.Contains(w.Problem, "failed 21 times is dropped")
				})
				if warned != tt.warned {
					t.Errorf("warned of %v: %v", tt.top.Lint(), warned)
				}
				times := 0
				f := newMemoryFixture(t, consumer.Config{}, func(context.Context, *consumer.Delivery) error {
					times++
					return consumer.Requeue(nil)
				}, func(_ *mqtest.Config, pool *reconnect.Config) { pool.Topology = tt.top })
				f.enqueue("a")
				f.until("it is out of the queue", func() bool { return f.queue.Len() == 0 })
				synctest.Wait()
				kept := 0
				for _, q := range f.broker.Queues("/") {
					kept += q.Ready
				}
				if times != 21 || kept != tt.kept {
					t.Errorf("it was handled %d times, and %d are kept", times, kept)
				}
			})
		})
	}
}

// TestAReleaseIsAcquiredAgainAndNotFailed: from 4.3 on the broker counts how often it gave a
// message out, and apart from that how often it has failed. What was only given back has
// not, no matter how often.
func TestAReleaseIsAcquiredAgainAndNotFailed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var seen []string
		f := newMemoryFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
			seen = append(seen, fmt.Sprintf("%v %v %d", d.Headers["x-acquired-count"], d.Headers["x-delivery-count"], d.Attempt()))
			switch len(seen) {
			case 1, 2, 3:
				return consumer.Release(nil)
			case 4, 5:
				return consumer.Requeue(nil)
			default:
				return nil
			}
		}, queues(topology.Queue{Name: "q", DeliveryLimit: 2}))
		f.enqueue("a")
		f.until("it is acked", func() bool { return f.queue.Len() == 0 })
		if want := []string{"<nil> <nil> 1", "1 <nil> 1", "2 <nil> 1", "3 <nil> 1", "4 1 2", "5 2 3"}; !slices.Equal(seen, want) {
			t.Errorf("acquired, failed, attempt: %q, want %q", seen, want)
		}
	})
}

// TestADelayedRetryDelaysWhatFailedAndNothingElse: from 4.3 on. An older broker takes the
// arguments in silence, and Lint says that this is a hot loop.
func TestADelayedRetryDelaysWhatFailedAndNothingElse(t *testing.T) {
	const least, most = 10 * time.Second, 25 * time.Second
	q := topology.Queue{Name: "q", DeliveryLimit: 10, DelayedRetry: topology.DelayedRetry{Min: least, Max: most}}
	for rules, want := range map[mqtest.Rules][]time.Duration{
		mqtest.Rules43: {0, least, 2 * least, most, 0},
		mqtest.Rules42: {0, 0, 0, 0, 0},
	} {
		t.Run(string(rules), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				if ws := (topology.Topology{Queues: []topology.Queue{q}}).Lint(); len(ws) != 1 || !strings.Contains(ws[0].Problem, "hot loop") {
					t.Errorf("warned of %v", ws)
				}
				var gaps []time.Duration
				last := time.Now()
				f := newMemoryFixture(t, consumer.Config{}, func(context.Context, *consumer.Delivery) error {
					gaps = append(gaps, time.Since(last).Round(100*time.Millisecond))
					last = time.Now()
					switch len(gaps) {
					case 1, 2, 3:
						return consumer.Requeue(nil)
					case 4:
						return consumer.Release(nil)
					default:
						return nil
					}
				}, queues(q), func(broker *mqtest.Config, _ *reconnect.Config) { broker.Rules, broker.Strict = rules, false })
				f.enqueue("a")
				f.until("it is acked", func() bool { return f.Status().Acked == 1 })
				if !slices.Equal(gaps, want) {
					t.Errorf("it came after %v, want %v", gaps, want)
				}
			})
		})
	}
}

// TestAcksReachTheBrokerDuringAnAlarm: it reads nothing from a connection that publishes,
// and acks would wait behind.
func TestAcksReachTheBrokerDuringAnAlarm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{Workers: 3}, g.handle, queues(topology.Queue{Name: "q"}, topology.Queue{Name: "other"}))
		p, err := producer.New(f.pool, producer.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(t.Context(), producer.Text("before").ToQueue("other")); err != nil {
			t.Fatal(err)
		}
		f.enqueue("a", "b", "c")
		calls := []*call{g.next(t), g.next(t), g.next(t)}
		f.broker.Block("")
		c, err := p.PublishAsync(t.Context(), producer.Text("held").ToQueue("other"))
		if err != nil {
			t.Fatal(err)
		}
		f.until("the publisher is blocked", func() bool { return f.pool.Status(reconnect.Publishing).State == reconnect.Blocked })
		for _, c := range calls {
			c.end <- nil
		}
		f.until("all are acked", func() bool { return f.queue.Len() == 0 })
		if s := f.pool.Status(reconnect.Publishing); s.State != reconnect.Blocked || c.Verdict() != producer.Pending {
			t.Errorf("the publisher: %+v, its message %s", s, c.Verdict())
		}
		f.broker.Unblock()
		if err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestAMessageWithoutAPriorityIsNoLastOne: a quorum queue of 4.3 takes it for one of
// priority 4, and gives out strictly by priority.
func TestAMessageWithoutAPriorityIsNoLastOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan struct{})
		var got []string
		f := newMemoryFixture(t, consumer.Config{Prefetch: 1}, func(_ context.Context, d *consumer.Delivery) error {
			<-goOn
			got = append(got, string(d.Body))
			return nil
		})
		f.enqueue("first")
		f.until("it is handled", func() bool { return f.Status().Handling == 1 })
		p, err := producer.New(f.pool, producer.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for _, priority := range []uint8{3, 0, 5} { // 0 is not sent
			m := producer.Text(fmt.Sprint(priority)).ToQueue("q")
			m.Priority = priority
			if err := p.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		close(goOn)
		f.until("all are acked", func() bool { return f.queue.Len() == 0 })
		if want := []string{"first", "5", "0", "3"}; !slices.Equal(got, want) {
			t.Errorf("they came as %q, want %q", got, want)
		}
	})
}

// TestConsumerComesBackAfterARestart: with what it had not settled, and no more.
func TestConsumerComesBackAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{}, g.handle)
		f.enqueue("a", "b")
		g.next(t).end <- nil
		b := g.next(t)
		f.until("one is acked", func() bool { return f.queue.Len() == 1 })
		for round := range 3 {
			if err := f.broker.Restart(); err != nil {
				t.Fatal(err)
			}
			b.cause(t)
			if b = g.next(t); string(b.Body) != "b" {
				t.Fatalf("after restart %d comes %q", round+1, b.Body)
			}
		}
		b.end <- nil
		f.until("it is acked", func() bool { return f.queue.Len() == 0 })
		if s := f.Stats(); s.Sessions != 4 || s.Acked != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestADeadLetterWithoutAPlaceWaitsForOne: at-most-once, which is what the broker does
// without a word where one of three settings is missing, drops it.
func TestADeadLetterWithoutAPlaceWaitsForOne(t *testing.T) {
	for name, tt := range map[string]struct {
		queue topology.Queue
		kept  int
	}{
		"the preset":   {topology.Queue{Name: "q"}, 1},
		"at most once": {topology.Queue{Name: "q", DeadLetterStrategy: topology.AtMostOnce}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				all := topology.WithDeadLetters(tt.queue)
				without := topology.Topology{Exchanges: all.Exchanges, Queues: all.Queues[:1]}
				f := newMemoryFixture(t, consumer.Config{}, func(context.Context, *consumer.Delivery) error {
					return consumer.Reject(nil)
				}, func(_ *mqtest.Config, pool *reconnect.Config) { pool.Topology = without })
				f.enqueue("a")
				f.until("it is rejected", func() bool { return f.Status().Rejected == 1 })
				time.Sleep(time.Hour) // in the bubble
				if n := f.Stats().Deliveries; n != 1 {
					t.Errorf("it was given out %d times", n)
				}
				if err := f.pool.Declare(t.Context(), all); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour) // in the bubble
				if got := f.broker.Queue(all.Queues[1].Name).Len(); got != tt.kept {
					t.Errorf("%d dead letters, want %d", got, tt.kept)
				}
			})
		})
	}
}
