package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
)

// TestHandlerTimeoutEndsTheHandlersCtx: what the handler then returns counts; it has
// failed, or it has not.
func TestHandlerTimeoutEndsTheHandlersCtx(t *testing.T) {
	t.Parallel()
	causes := make(chan error, 10)
	times := 0
	f := newFixture(t, consumer.Config{HandlerTimeout: 20 * time.Millisecond}, func(ctx context.Context, _ *consumer.Delivery) error {
		times++
		<-ctx.Done()
		causes <- context.Cause(ctx)
		if times == 1 {
			return ctx.Err()
		}
		return nil
	})
	f.enqueue("1")
	for range 2 {
		if err := receive(t, causes); !errors.Is(err, consumer.ErrHandlerTimeout) {
			t.Errorf("the ctx ended because %v", err)
		}
	}
	f.settlement("basic.nack(1 multiple=false requeue=true)")
	f.settlement("basic.ack(2 multiple=false requeue=false)")
	if s := f.Status(); s.Failures != 1 || !errors.Is(s.LastFailure, context.DeadlineExceeded) {
		t.Errorf("%+v", s)
	}
	f.until("none is overdue", func() bool { return f.Status().Overdue == 0 })
}

// TestAHandlerThatDoesNotHeedItsTimeoutHoldsOnlyItsWorker: Status shows it, the others
// go on.
func TestAHandlerThatDoesNotHeedItsTimeoutHoldsOnlyItsWorker(t *testing.T) {
	t.Parallel()
	let := make(chan struct{})
	handled := make(chan string, 10)
	f := newFixture(t, consumer.Config{Workers: 2, HandlerTimeout: 20 * time.Millisecond}, func(_ context.Context, d *consumer.Delivery) error {
		if string(d.Body) == "stuck" {
			<-let
		}
		handled <- string(d.Body)
		return nil
	})
	f.enqueue("stuck", "1", "2")
	for _, want := range []string{"1", "2"} {
		if got := receive(t, handled); got != want {
			t.Errorf("handled %s, want %s", got, want)
		}
	}
	f.until("it is overdue", func() bool { return f.Status().Overdue == 1 })
	close(let)
	receive(t, handled)
	f.until("it is not overdue any more", func() bool { s := f.Status(); return s.Overdue == 0 && s.Acked == 3 })
}

func TestWithoutAHandlerTimeoutTheCtxHasNoDeadline(t *testing.T) {
	t.Parallel()
	deadlines := make(chan bool, 1)
	handler := func(ctx context.Context, _ *consumer.Delivery) error {
		_, has := ctx.Deadline()
		deadlines <- has
		return nil
	}
	for timeout, want := range map[time.Duration]bool{0: true, -1: false} {
		f := newFixture(t, consumer.Config{HandlerTimeout: timeout}, handler)
		f.enqueue("1")
		if got := receive(t, deadlines); got != want {
			t.Errorf("with HandlerTimeout %v there is a deadline: %v", timeout, got)
		}
	}
}

func TestObserversAreToldOfEachDeliveryAndItsSettlement(t *testing.T) {
	t.Parallel()
	told, tags := make(chan string, 100), make(chan string, 100)
	g := newGate()
	f := newFixture(t, consumer.Config{
		Prefetch: 2,
		OnDelivery: func(r consumer.Receipt) {
			tags <- r.ConsumerTag
			told <- fmt.Sprintf("%s came %d of %s to %q/%s, %d bytes, redelivered=%v, attempt %d, %v", r.MessageID, r.Tag, r.Queue, r.Exchange, r.RoutingKey, r.Bytes, r.Redelivered, r.Attempt, r.At.IsZero())
		},
		OnSettlement: func(s consumer.Settlement) {
			tags <- s.ConsumerTag
			told <- fmt.Sprintf("%s %s %d of %s, %v, %v", s.MessageID, s.Verdict, s.Tag, s.Queue, s.Err, s.Took > 0)
		},
	}, g.handle)
	f.broker.Queue("q").Enqueue(
		mqtest.Message{MessageID: "a", Body: []byte("one")}, mqtest.Message{MessageID: "b", Body: []byte("three")},
	)
	first := g.next(t)
	f.waiting(1)
	first.end <- consumer.Reject(errors.New("bad"))
	f.settlement("basic.reject(1 multiple=false requeue=false)")
	second := g.next(t)
	f.cut(f.subscription)
	second.cause(t)
	g.next(t).end <- nil
	var got []string
	for range 6 {
		got = append(got, receive(t, told))
	}
	// The stale one is told when its handler has returned, which may be after it came again.
	stale := `b stale 2 of q, context canceled, true`
	if !slices.Contains(got, stale) {
		t.Errorf("told %q, want %q among it", got, stale)
	}
	got = slices.DeleteFunc(got, func(s string) bool { return s == stale })
	want := []string{
		`a came 1 of q to ""/q, 3 bytes, redelivered=false, attempt 1, false`,
		`b came 2 of q to ""/q, 5 bytes, redelivered=false, attempt 1, false`,
		`a reject 1 of q, reject: bad, true`,
		`b came 1 of q to ""/q, 5 bytes, redelivered=true, attempt 2, false`,
		`b ack 1 of q, <nil>, true`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("told\n%q\nwant\n%q", got, want)
	}
	sessions := map[string]int{}
	for range 6 {
		sessions[receive(t, tags)]++
	}
	for tag, n := range sessions {
		if len(sessions) != 2 || tag == "" || n != 2 && n != 4 {
			t.Errorf("consumer tags %v, want two: of four and of two", sessions)
		}
	}
	if s := f.Stats(); s.Sessions != 2 || s.Deliveries != 3 || s.Redelivered != 1 {
		t.Errorf("%+v", s)
	}
}

func TestWhatACancelledSessionGivesBackIsToldToObservers(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	settled := map[string][]string{} // by consumer tag
	g := newGate()
	f := newFixture(t, consumer.Config{
		Prefetch: 100,
		OnSettlement: func(s consumer.Settlement) {
			mu.Lock()
			defer mu.Unlock()
			settled[s.ConsumerTag] = append(settled[s.ConsumerTag], s.Verdict)
		},
	}, g.handle)
	const n = 100 // more than is given back at once
	f.enqueue(slices.Repeat([]string{"a"}, n)...)
	first := g.next(t)
	f.waiting(n - 1)
	f.cancel()
	f.until("it is subscribed again", func() bool { return f.Status().Sessions == 2 && f.Status().Subscribed })
	first.end <- nil
	f.until("all is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(settled[first.ConsumerTag]) == n
	})
	mu.Lock()
	defer mu.Unlock()
	got := map[string]int{}
	for _, verdict := range settled[first.ConsumerTag] {
		got[verdict]++
	}
	if got["ack"] != 1 || got["release"] != n-1 {
		t.Errorf("told %v, want an ack and %d releases", got, n-1)
	}
}

// TestObserversAreToldOnceOfADelivery however often it is settled after its end.
func TestObserversAreToldOnceOfADelivery(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var told []string
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{OnSettlement: func(s consumer.Settlement) { told = append(told, s.Verdict) }}, g.handle)
		f.enqueue("a")
		first := g.next(t)
		f.cut(f.subscription)
		second := g.next(t)
		for range 3 {
			if err := first.Ack(); !errors.Is(err, consumer.ErrStale) {
				t.Errorf("an ack after the end: %v", err)
			}
		}
		second.end <- nil
		f.until("it is acked", func() bool { return f.Status().Acked == 1 })
		time.Sleep(time.Second) // in the bubble
		synctest.Wait()
		if want := []string{"stale", "ack"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}
