package consumer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// loops is a consumer whose messages a test loops over.
func loops(t *testing.T, cfg consumer.Config, bodies ...string) (*consumer.Consumer, *mqtest.Queue) {
	t.Helper()
	return loopsOn(t, mqtest.New(t), cfg, bodies...)
}

func loopsOn(t *testing.T, b *mqtest.Broker, cfg consumer.Config, bodies ...string) (*consumer.Consumer, *mqtest.Queue) {
	t.Helper()
	queue := topology.Queue{Name: "q"}
	if cfg.Offset != (consumer.Offset{}) {
		queue.Type = topology.Stream
	}
	pool, err := reconnect.Open(t.Context(), reconnect.Config{
		URLs: []string{b.URL()}, Topology: topology.Topology{Queues: []topology.Queue{queue}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.CloseNow)
	cfg.Queue = cmp.Or(cfg.Queue, "q")
	c, err := consumer.New(pool, cfg)
	if err != nil {
		t.Fatal(err)
	}
	q := b.Queue("q")
	for _, body := range bodies {
		q.Enqueue(mqtest.Message{Body: []byte(body)})
	}
	return c, q
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// left are the bodies in the queue, none of which may be with anybody or have failed.
func left(t *testing.T, q *mqtest.Queue) (bodies []string) {
	t.Helper()
	for _, m := range q.Messages() {
		if m.Unacked || m.DeliveryCount != 0 {
			t.Errorf("%q is unacked=%v, and failed %d times", m.Body, m.Unacked, m.DeliveryCount)
		}
		bodies = append(bodies, string(m.Body))
	}
	slices.Sort(bodies)
	return bodies
}

func TestBreakingOutOfMessagesReleasesThePresentOne(t *testing.T) {
	t.Parallel()
	c, q := loops(t, consumer.Config{Workers: 4, DrainTimeout: 2 * patience}, numbered(1, 6)...)
	var seen []string
	var broke time.Time
	for d, err := range c.Messages(bounded(t)) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, string(d.Body))
		if len(seen) == 3 {
			eventually(t, func() bool { return c.Status().Waiting == 3 })
			broke = time.Now()
			break
		}
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(broke); took > patience {
		t.Errorf("the break took %v: as long as a drain may take", took)
	}
	if len(seen) != 3 {
		t.Fatalf("the loop had %v", seen)
	}
	want := slices.DeleteFunc(numbered(1, 6), func(s string) bool { return slices.Contains(seen[:2], s) })
	if got := left(t, q); !slices.Equal(got, want) {
		t.Errorf("the queue has %v, want %v", got, want)
	}
	if s := c.Stats(); s.Acked != 2 || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBreakingOutOfMessagesKeepsWhatIsSettled(t *testing.T) {
	t.Parallel()
	c, q := loops(t, consumer.Config{}, "1", "2")
	for d, err := range c.Messages(bounded(t)) {
		if err != nil || d.Ack() != nil {
			t.Fatal(err)
		}
		break
	}
	if got := left(t, q); !slices.Equal(got, []string{"2"}) {
		t.Errorf("the queue has %v", got)
	}
}

// TestBreakingOutOfMessagesOfAStreamIsNoFailure, whether the present one is acked or not: no
// stream takes anything back.
func TestBreakingOutOfMessagesOfAStreamIsNoFailure(t *testing.T) {
	t.Parallel()
	for name, ack := range map[string]bool{"acked": true, "not acked": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := loops(t, consumer.Config{Offset: consumer.OffsetFirst}, "1", "2")
			for d, err := range c.Messages(bounded(t)) {
				if err != nil {
					t.Fatal(err)
				}
				if ack {
					if err := d.Ack(); err != nil {
						t.Error(err)
					}
				}
				break
			}
			want := uint64(0)
			if ack {
				want = 1
			}
			if s := c.Stats(); s.Failures != 0 || s.Acked != want || s.Deliveries == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestLeavingMessagesLogsWhatTheDrainSays: nobody takes an error any more.
func TestLeavingMessagesLogsWhatTheDrainSays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{}, newGate().handle)
		f.stop()
		if err := f.wait(); err != nil {
			t.Fatal(err)
		}
		f.enqueue("a")
		silent := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close-ok", Count: 1, Do: mqtest.Drop()})
		for _, err := range f.Messages(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if log := f.log.String(); silent.Hits() != 1 || !strings.Contains(log, "level=WARN msg=\"the drain after a loop") || !strings.Contains(log, "close channel") {
			t.Errorf("after %d closes without an answer the log is\n%s", silent.Hits(), log)
		}
	})
}

// TestAPanicInALoopOverMessagesReleasesThePresentOne: and the consumer is drained before
// it goes on.
func TestAPanicInALoopOverMessagesReleasesThePresentOne(t *testing.T) {
	t.Parallel()
	c, q := loops(t, consumer.Config{}, "1", "2")
	func() {
		defer func() {
			if recover() != "at 1" {
				t.Error("the panic is lost")
			}
		}()
		for d := range c.Messages(bounded(t)) {
			panic("at " + string(d.Body))
		}
	}()
	if got := left(t, q); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("the queue has %v", got)
	}
	if s := c.Status(); s.Subscribed || s.Handling != 0 {
		t.Errorf("%+v", s)
	}
}

// TestALoopThatDoesNotSettleGetsItAgain: it counts as failed, and comes after a pause.
func TestALoopThatDoesNotSettleGetsItAgain(t *testing.T) {
	t.Parallel()
	c, _ := loops(t, consumer.Config{Prefetch: 1}, "1")
	ctx, stop := context.WithCancel(bounded(t))
	defer stop()
	times := 0
	began := time.Now()
	for d, err := range c.Messages(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if times++; times == 2 {
			if took := time.Since(began); took < 100*time.Millisecond {
				t.Errorf("it came again after %v", took)
			}
			_ = d.Ack()
			stop() // ends the loop, without an error
		}
	}
	if s := c.Stats(); times != 2 || s.Acked != 1 || s.Released != 1 || s.Failures != 1 {
		t.Errorf("%d times, %+v", times, s)
	}
}

// TestALoopOverMessagesGetsNothingOfALostSession but what it has already: the rest comes
// again.
func TestALoopOverMessagesGetsNothingOfALostSession(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	c, q := loopsOn(t, b, consumer.Config{Workers: 2}, "1", "2")
	ctx, stop := context.WithCancel(bounded(t))
	defer stop()
	var acks []error
	for d, err := range c.Messages(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if len(acks) == 0 {
			eventually(t, func() bool { return c.Status().Waiting == 1 })
			b.DropConnections()
			eventually(t, func() bool { s := c.Status(); return s.Sessions == 2 && s.Waiting == 2 })
		}
		acks = append(acks, d.Ack())
		if len(acks) == 3 {
			stop()
		}
	}
	if len(acks) != 3 || !errors.Is(acks[0], consumer.ErrStale) || acks[1] != nil || acks[2] != nil {
		t.Errorf("the acks are %v", acks)
	}
	if got := left(t, q); len(got) != 0 {
		t.Errorf("the queue has %v", got)
	}
	if s := c.Stats(); s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// eventually waits for what no event tells of.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}

func TestALoopOverMessagesEndsWithTheErrorOfRun(t *testing.T) {
	t.Parallel()
	c, _ := loops(t, consumer.Config{Queue: "missing"})
	n := 0
	for d, err := range c.Messages(bounded(t)) {
		n++
		if d != nil || !reconnect.IsFatal(err) {
			t.Errorf("%v, %v", d, err)
		}
	}
	if n != 1 {
		t.Errorf("the loop ran %d times", n)
	}
}

func numbered(from, to int) (list []string) {
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

// TestALoopTakesOneDeliveryAtATime whatever Workers says: in the queue's order, and what waits
// for its turn is not being handled.
func TestALoopTakesOneDeliveryAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{Workers: 4, HandlerTimeout: time.Minute}, newGate().handle)
		f.stop()
		if err := f.wait(); err != nil {
			t.Fatal(err)
		}
		f.enqueue(numbered(1, 8)...)
		var bodies []string
		for d, err := range f.Messages(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(40 * time.Second) // in the bubble
			if bodies = append(bodies, string(d.Body)); d.Ack() != nil || len(bodies) == 8 {
				break
			}
		}
		if want := numbered(1, 8); !slices.Equal(bodies, want) {
			t.Errorf("it got %q, want %q", bodies, want)
		}
		if s := f.Status(); s.Failures != 0 {
			t.Errorf("%d of them failed: %v", s.Failures, s.LastFailure)
		}
	})
}

// TestBreakingOutOfMessagesBefore43 hands what waits to nobody: a drain works through it.
func TestBreakingOutOfMessagesBefore43(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{DrainTimeout: time.Hour}, newGate().handle, rules42)
		f.stop()
		if err := f.wait(); err != nil {
			t.Fatal(err)
		}
		f.enqueue(numbered(1, 3)...)
		var broke time.Time
		for _, err := range f.Messages(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			f.waiting(2)
			broke = time.Now()
			break
		}
		if took := time.Since(broke); took > time.Minute {
			t.Errorf("the break took %v", took)
		}
		if got := f.queue.Bodies(); !slices.Equal(got, numbered(1, 3)) {
			t.Errorf("the queue has %q", got)
		}
	})
}
