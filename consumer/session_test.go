package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestFinishedDeliveriesShareOneAckWhenIdle(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{FlushInterval: never}, g.handle)
	f.enqueue("a", "b", "c")
	first := g.next(t) // one is handled, so the two that wait are all the others
	f.waiting(2)
	first.end <- nil
	g.next(t).end <- nil
	last := g.next(t)
	f.unsettled(0)
	last.end <- nil
	f.settlement("basic.ack(3 multiple=true requeue=false)")
	f.until("the queue is empty", func() bool { return f.queue.Len() == 0 })
}

func TestFinishedDeliveriesWaitNoLongerThanTheFlushInterval(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{FlushInterval: 5 * time.Millisecond, Workers: 2}, g.handle)
	f.enqueue("slow", "b", "c", "d", "e")
	f.waiting(3)
	slow, other := g.next(t), g.next(t)
	if string(slow.Body) != "slow" {
		slow, other = other, slow
	}
	other.end <- nil
	f.settlement("basic.ack(2 multiple=false requeue=false)") // beyond the gap, on its own
	g.next(t).end <- nil
	f.settlement("basic.ack(3 multiple=false requeue=false)")
	slow.end <- nil
	g.next(t)
	f.settlement("basic.ack(1 multiple=false requeue=false)")
	g.next(t).end <- nil
}

func TestHalfThePrefetchFinishedIsAckedAtOnce(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{FlushInterval: never, Prefetch: 4}, g.handle)
	f.enqueue("a", "b", "c", "d", "e", "f")
	f.waiting(3) // the broker keeps the rest back
	g.next(t).end <- nil
	second := g.next(t)
	f.unsettled(0)
	f.waiting(2)
	second.end <- nil
	f.settlement("basic.ack(2 multiple=true requeue=false)")
	f.waiting(3) // and two more come for it, while one is handled
}

func TestVerdictsOfHandlersAreWritten(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{}, g.handle, withDeadLetters())
	f.enqueue("a", "b", "c", "d", "e")
	f.waiting(4)
	for _, c := range []struct {
		err  error
		want string
	}{
		{consumer.Reject(nil), "basic.reject(1 multiple=false requeue=false)"},
		{consumer.Requeue(nil), "basic.reject(2 multiple=false requeue=true)"},
		{consumer.Release(nil), "basic.nack(3 multiple=false requeue=true)"},
		{nil, "basic.ack(4 multiple=false requeue=false)"},
	} {
		g.next(t).end <- c.err
		f.settlement(c.want)
	}
	// What the handler has done itself stands.
	own := g.next(t)
	if err := own.Reject(); err != nil {
		t.Error(err)
	}
	if err := own.Ack(); !errors.Is(err, consumer.ErrSettled) {
		t.Errorf("the second verdict: %v", err)
	}
	own.end <- errors.New("and an error")
	f.settlement("basic.reject(5 multiple=false requeue=false)")
	// Both come again, and only the requeued one counts as failed.
	for i, want := range []struct {
		body   string
		failed any
	}{{"b", int64(1)}, {"c", nil}} {
		c := g.next(t)
		if n := f.Status().Paused; n != 0 {
			t.Errorf("%d are held back although they are settled", n)
		}
		if failed := c.Headers["x-delivery-count"]; string(c.Body) != want.body || failed != want.failed || !c.Redelivered {
			t.Errorf("%q failed %v times, redelivered %v; want %v", c.Body, failed, c.Redelivered, want)
		}
		c.end <- nil
		f.settlement(fmt.Sprintf("basic.ack(%d multiple=false requeue=false)", 6+i))
	}
	f.until("all are counted", func() bool { return f.Status().Acked == 3 })
	if s := f.Status(); s.Rejected != 2 || s.Requeued != 1 || s.Released != 1 || s.Failures != 1 {
		t.Errorf("%+v", s)
	}
	f.until("the queue is empty", func() bool { return f.queue.Len() == 0 })
	if dead := f.broker.Queue("dead").Bodies(); !slices.Equal(dead, []string{"a", "e"}) {
		t.Errorf("dead letters %q, want the rejected ones", dead)
	}
}

func TestFailedDeliveryIsReleasedAfterAPause(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{}, g.handle)
	f.enqueue("a", "b")
	f.waiting(1)
	failed := g.next(t)
	began := time.Now()
	failed.end <- errors.New("no database")
	g.next(t).end <- nil // the worker goes on meanwhile
	f.settlement("basic.ack(2 multiple=false requeue=false)")
	f.settlement("basic.nack(1 multiple=false requeue=true)")
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("it was released after %v", took)
	}
	if !strings.Contains(f.log.String(), "no database") {
		t.Errorf("the log is %s", f.log)
	}
	if again := g.next(t); string(again.Body) != "a" || again.Headers["x-delivery-count"] != nil {
		t.Errorf("then comes %q, with %v", again.Body, again.Headers)
	}
}

func TestPanicIsLoggedWithItsStack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
		if !d.Redelivered {
			explode()
		}
		return nil
	})
	f.enqueue("a")
	f.settlement("basic.nack(1 multiple=false requeue=true)")
	if s := f.log.String(); !strings.Contains(s, "consumer_test.explode") || !strings.Contains(s, "panic: boom") {
		t.Errorf("the log is %s", s)
	}
	f.settlement("basic.ack(2 multiple=false requeue=false)")
	if s := f.Status(); s.Failures != 1 || s.LastFailure == nil || s.Handling != 0 {
		t.Errorf("%+v", s)
	}
	if s := f.Stats(); s.Failures != 1 || s.Panics != 1 {
		t.Errorf("%+v", s)
	}
}

//go:noinline
func explode() { panic("boom") }

func TestHandlerThatEndsItsGoroutineCostsNoWorker(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
		if d.Tag == 1 {
			runtime.Goexit() // as t.FailNow does
		}
		return nil
	})
	f.enqueue("a", "b")
	f.settlement("basic.ack(2 multiple=false requeue=false)")
	f.settlement("basic.nack(1 multiple=false requeue=true)")
	f.settlement("basic.ack(3 multiple=false requeue=false)") // it comes again
}

func TestUndecodableIsRejectedOnlyIntoADeadLetterExchange(t *testing.T) {
	t.Parallel()
	plain := queues(topology.Queue{Name: "q"}, topology.Queue{Name: "dead"})
	for _, c := range []struct {
		known    string
		cfg      consumer.Config
		topology setup
		rejected bool
		dead     int
	}{
		{known: "by nobody", topology: plain},
		{known: "by Config.DeadLetters alone", cfg: consumer.Config{DeadLetters: true}, topology: plain, rejected: true},
		{known: "by the pool's topology", topology: withDeadLetters(), rejected: true, dead: 1},
		{
			known:    "by Declare",
			cfg:      consumer.Config{Declare: &topology.Queue{Name: "own", Exclusive: true, DeadLetterQueue: "dead"}},
			topology: plain, rejected: true, dead: 1,
		},
	} {
		t.Run(c.known, func(t *testing.T) {
			t.Parallel()
			h := consumer.JSON(func(context.Context, int, *consumer.Delivery) error { return nil })
			c.cfg.DrainTimeout = patience // on a busy machine the answer to a cancel can take longer than the fixture's
			f := newFixture(t, c.cfg, h, c.topology)
			if c.cfg.Declare != nil {
				f.queue = f.broker.Queue(c.cfg.Declare.Name)
			}
			f.enqueue("nope")
			if !c.rejected {
				f.settlement("basic.nack(1 multiple=false requeue=true)")
				f.stop()
				if err := f.wait(); err != nil {
					t.Error(err)
				}
				f.contains("nope")
				return
			}
			f.settlement("basic.reject(1 multiple=false requeue=false)")
			f.until("it is out of the queue", func() bool { return f.queue.Len() == 0 })
			if n := f.broker.Queue("dead").Len(); n != c.dead {
				t.Errorf("%d dead letters, want %d", n, c.dead)
			}
		})
	}
}

// TestWhatOrderBySettlesIsNotHandled: it sees a delivery first, and may know enough.
func TestWhatOrderBySettlesIsNotHandled(t *testing.T) {
	t.Parallel()
	handled := make(chan string, 10)
	f := newFixture(t, consumer.Config{OrderBy: func(d *consumer.Delivery) string {
		if string(d.Body) == "old" {
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
		}
		return ""
	}}, func(_ context.Context, d *consumer.Delivery) error {
		handled <- string(d.Body)
		return nil
	})
	f.enqueue("old", "a", "old", "b")
	for _, want := range []string{"a", "b"} {
		if got := receive(t, handled); got != want {
			t.Errorf("%q is handled, want %q", got, want)
		}
	}
	f.until("all are acked", func() bool { return f.Status().Acked == 4 })
}

func TestLaterSettlesFromElsewhere(t *testing.T) {
	t.Parallel()
	later := make(chan *consumer.Delivery, 3)
	f := newFixture(t, consumer.Config{FlushInterval: never, DrainTimeout: patience}, func(_ context.Context, d *consumer.Delivery) error {
		later <- d
		return consumer.Later
	})
	f.enqueue("a", "b", "c") // one worker: none is held
	a, b, c := receive(t, later), receive(t, later), receive(t, later)
	for _, d := range []*consumer.Delivery{c, a} {
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
	}
	f.unsettled(0)
	f.stop() // a drain waits for what is to come later
	f.next("basic.cancel")
	f.settlement("basic.ack(1 multiple=false requeue=false)")
	f.settlement("basic.ack(3 multiple=false requeue=false)")
	if err := b.Reject(); err != nil {
		t.Error(err)
	}
	if err := b.Ack(); err == nil {
		t.Error("a second verdict was taken")
	}
	f.settlement("basic.reject(2 multiple=false requeue=false)")
	f.next("channel.close")
	if err := f.wait(); err != nil {
		t.Error(err)
	}
	f.contains()
}

// TestVerdictAfterACutIsStale: its tag names another delivery by then.
func TestVerdictAfterACutIsStale(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{Workers: 3}, g.handle)
	f.enqueue("a", "b")
	a, b := g.next(t), g.next(t)
	f.cut(f.subscription)
	if err := a.cause(t); !errors.Is(err, consumer.ErrStale) || !errors.Is(err, reconnect.ErrLost) {
		t.Errorf("the handler's ctx ended with %v", err)
	}
	again, other := g.next(t), g.next(t) // the broker gives both out again, with the same tags
	if again.Tag+other.Tag != a.Tag+b.Tag || !again.Redelivered {
		t.Fatalf("tags %d and %d, redelivered %v", again.Tag, other.Tag, again.Redelivered)
	}
	for _, c := range []*call{a, b} {
		if err := c.Ack(); !errors.Is(err, consumer.ErrStale) {
			t.Errorf("late ack: %v", err)
		}
		if err := c.Release(); !errors.Is(err, consumer.ErrStale) {
			t.Errorf("late release: %v", err)
		}
	}
	f.unsettled(0)
	again.end <- consumer.Reject(nil) // the first that is written is that of its own handler
	f.settlement(fmt.Sprintf("basic.reject(%d multiple=false requeue=false)", again.Tag))
	f.until("the broker has taken it", func() bool { return f.queue.Len() == 1 })
	if left := f.queue.Messages()[0]; string(left.Body) != string(other.Body) || !left.Unacked {
		t.Errorf("%q is left, unacked=%v; want %q, with its handler", left.Body, left.Unacked, other.Body)
	}
	if s := f.Status(); s.Sessions != 2 || s.Acked != 0 {
		t.Errorf("%+v", s)
	}
	if s := f.Stats(); s.Stale != 4 { // two acks and two releases
		t.Errorf("%+v", s)
	}
}

func TestSecondRunIsRefusedWhileTheFirstGoesOn(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{}, g.handle)
	second, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.Run(second, g.handle); !errors.Is(err, consumer.ErrRunning) {
		t.Errorf("the second Run: %v", err)
	}
	f.stop()
	if err := f.wait(); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Run(ended, g.handle); err != nil {
		t.Errorf("after the first it may run again: %v", err)
	}
}
