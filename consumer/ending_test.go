package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// givenBack reads what the broker is sent until the channel of sub is closed, and
// tests that the tags 1 to n were given back before.
func (f *fixture) givenBack(sub *mqtest.Event, n uint64) {
	f.t.Helper()
	back := map[uint64]bool{}
	for {
		m := f.nextOn(sub, "basic.ack", "basic.nack", "basic.reject", "channel.close")
		switch {
		case m.Method == "channel.close":
			for tag := range n {
				if !back[tag+1] {
					f.t.Errorf("delivery %d was unsettled when the channel was closed", tag+1)
				}
			}
			return
		case m.Method != "basic.nack" || m.Field("requeue") != true:
			f.t.Errorf("the broker was sent %s", settled(m))
		case m.Field("multiple") == true:
			for tag := range m.Tag {
				back[tag+1] = true
			}
		default:
			back[m.Tag] = true
		}
	}
}

// TestStopWhileSubscribingDrains: the deliveries of a subscription that Run no
// longer wants are given back, before its channel is closed: the broker counts
// what is unsettled then as failed.
func TestStopWhileSubscribingDrains(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{DrainTimeout: patience}, func(context.Context, *consumer.Delivery) error {
		return consumer.Release(nil)
	})
	answer := f.hold(f.subscription.Conn+1, "basic.consume-ok", "basic.deliver") // a broker sends these until it has the cancel
	f.cut(f.subscription)
	sub := f.renewed()
	f.enqueue("a", "b", "c")
	answer.await(4)
	f.stop() // before the answer
	select {
	case <-f.ended:
		t.Errorf("Run returned %v while the broker may be subscribing it", f.err)
	case <-time.After(50 * time.Millisecond):
	}
	answer.release()
	m := f.nextOn(sub, "basic.cancel", "channel.close")
	if m.Method != "basic.cancel" || m.ConsumerTag != sub.ConsumerTag {
		t.Fatalf("the broker was sent %s, want basic.cancel first", m)
	}
	f.givenBack(sub, 3)
	if err := f.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	f.contains("a", "b", "c")
}

// TestStopWhileTheBrokerDoesNotAnswerAConsumeEndsWithTheDrain: it may never.
func TestStopWhileTheBrokerDoesNotAnswerAConsumeEndsWithTheDrain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{DrainTimeout: 20 * time.Millisecond}, func(context.Context, *consumer.Delivery) error { return nil })
	lost := f.unanswered(f.subscription.Conn+1, "basic.consume")
	f.cut(f.subscription)
	f.struck(lost)
	f.stop()
	if err := f.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestStaleDeliveriesAreNotKeptBehindAStuckHandler: they would pile up with each
// lost session, for as long as it is stuck.
func TestStaleDeliveriesAreNotKeptBehindAStuckHandler(t *testing.T) {
	t.Parallel()
	const n = 50
	var mu sync.Mutex
	var once sync.Once
	var dispatched []weak.Pointer[consumer.Delivery]
	stuck, end := make(chan struct{}), make(chan struct{})
	f := newFixture(t, consumer.Config{
		Workers: 1,
		OrderBy: func(d *consumer.Delivery) string { // sees what goes to the workers
			mu.Lock()
			defer mu.Unlock()
			dispatched = append(dispatched, weak.Make(d))
			return ""
		},
	}, func(context.Context, *consumer.Delivery) error {
		once.Do(func() { close(stuck) })
		<-end
		return nil
	})
	defer close(end)
	f.enqueue(make([]string, n+1)...)
	receive(t, stuck)
	f.waiting(n)
	f.cut(f.subscription)
	f.renewed() // where all of them come again
	kept := func() (left int) {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range dispatched[1 : n+1] { // the handler has the first
			if p.Value() != nil {
				left++
			}
		}
		return left
	}
	for deadline := time.Now().Add(patience); kept() > 0; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d deliveries of the lost session are still kept", kept(), n)
		}
	}
}

// TestLaterThatNeverComesIsWaitedForNoLongerThanADrain: the channel of a
// subscription that the broker has cancelled is not held for ever.
func TestLaterThatNeverComesIsWaitedForNoLongerThanADrain(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	later := make(chan *consumer.Delivery, 1)
	second, end := make(chan struct{}), make(chan struct{})
	f := newFixture(t, consumer.Config{DrainTimeout: timeout, FlushInterval: never}, func(_ context.Context, d *consumer.Delivery) error {
		switch {
		case d.Redelivered: // in the next session
			return nil
		case string(d.Body) == "later":
			later <- d
			return consumer.Later
		}
		close(second)
		<-end
		return nil
	})
	sub := f.subscription
	f.enqueue("later", "b")
	d := receive(t, later)
	receive(t, second) // so the first handler has returned
	if s := f.Status(); s.Handling != 2 || s.Waiting != 0 {
		t.Errorf("%+v, want one that runs and one that is settled later", s)
	}
	began := time.Now()
	f.cancel()
	f.renewed()
	f.unsettled(0)
	close(end) // a handler that runs is waited for
	f.settlement("basic.ack(2 multiple=false requeue=false)")
	f.givenBack(sub, 1)
	if took := time.Since(began); took < timeout {
		t.Errorf("it was waited for only %v", took)
	}
	for d.Ack() == nil { // the session ends a moment after its channel
		runtime.Gosched()
	}
	f.until("it was handled again", func() bool { return f.Status().Acked == 2 })
	if s := f.Status(); !s.Subscribed || s.Handling != 0 {
		t.Errorf("%+v", s)
	}
	f.stop()
	if err := f.wait(); err != nil { // long before
		t.Errorf("Run: %v", err)
	}
}

// TestHandlerIsWaitedForBesideALaterThatNeverComes: only the latter has a bound.
func TestHandlerIsWaitedForBesideALaterThatNeverComes(t *testing.T) {
	t.Parallel()
	later, running := make(chan struct{}), make(chan struct{})
	f := newFixture(t, consumer.Config{DrainTimeout: 10 * time.Millisecond}, func(ctx context.Context, d *consumer.Delivery) error {
		switch {
		case d.Redelivered: // in the next session
			return nil
		case string(d.Body) == "later":
			close(later)
			return consumer.Later
		}
		close(running)
		select {
		case <-ctx.Done():
			t.Errorf("its ctx has ended: %v", context.Cause(ctx))
		case <-time.After(300 * time.Millisecond):
		}
		return nil
	})
	f.enqueue("later", "b")
	receive(t, later)
	receive(t, running)
	f.cancel()
	f.settlement("basic.ack(2 multiple=false requeue=false)")
	f.givenBack(f.subscription, 1)
}

// TestHandlerThatLostItsSessionHasNotFailed whatever it returns: it was told that
// it works for nothing, and not every library wraps the ctx's error.
func TestHandlerThatLostItsSessionHasNotFailed(t *testing.T) {
	t.Parallel()
	ends := []error{
		errors.New("store: query interrupted"),
		fmt.Errorf("store: %w", consumer.ErrStale),
		context.DeadlineExceeded,
	}
	next := make(chan struct{})
	begun := make(chan struct{}, len(ends))
	f := newFixture(t, consumer.Config{Workers: len(ends)}, func(ctx context.Context, d *consumer.Delivery) error {
		if d.Redelivered { // in the next session
			next <- struct{}{}
			<-ctx.Done()
			return nil
		}
		begun <- struct{}{}
		<-ctx.Done()
		return ends[d.Tag-1]
	})
	f.enqueue(make([]string, len(ends))...)
	for range ends {
		receive(t, begun)
	}
	f.cut(f.subscription)
	for range ends { // each worker has done with its first
		receive(t, next)
	}
	if s := f.Status(); s.Failures != 0 || s.LastFailure != nil || s.Paused != 0 {
		t.Errorf("%+v", s)
	}
	if s := f.log.String(); strings.Contains(s, "handler failed") {
		t.Errorf("the log is %s", s)
	}
}

func TestRunNeedsAHandler(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{}, g.handle)
	f.stop()
	_ = f.wait()
	c, err := consumer.New(f.pool, consumer.Config{Queue: "q"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Run(ctx, nil); err == nil || !strings.Contains(err.Error(), "needs a handler") {
		t.Errorf("Run without a handler: %v", err)
	}
	if n := len(f.received.of("basic.consume")); n != 1 {
		t.Errorf("it subscribed: %d times in all", n)
	}
}

// TestDeliveryMadeByHandIsStale: so that a handler can be tested on its own.
func TestDeliveryMadeByHandIsStale(t *testing.T) {
	t.Parallel()
	d := &consumer.Delivery{Body: []byte("x")}
	for name, settle := range map[string]func() error{"Ack": d.Ack, "Reject": d.Reject, "Requeue": d.Requeue, "Release": d.Release} {
		if err := settle(); !errors.Is(err, consumer.ErrStale) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := d.Attempt(); n != 1 {
		t.Errorf("attempt %d", n)
	}
}

// TestPoolCloseSaysWhatADrainHasLeft: a handler that was cut off is no clean end.
func TestPoolCloseSaysWhatADrainHasLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{DrainTimeout: time.Hour}, g.handle)
		f.enqueue("1")
		g.next(t)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		err := f.pool.Close(ctx)
		var left *consumer.DrainError
		if !errors.As(err, &left) || left.Released != 1 {
			t.Errorf("Close: %v", err)
		}
	})
}

// TestPoolCloseBoundsADrainThatHasBegun: the order in which a service ends, first its ctx and
// then its pool. What still runs is given back before the connection goes, or it would
// count as failed.
func TestPoolCloseBoundsADrainThatHasBegun(t *testing.T) {
	for name, tt := range map[string]struct{ later, cancelled bool }{
		"by a handler":                          {},
		"by a Later":                            {later: true},
		"by a handler of an ended subscription": {cancelled: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				begun := make(chan struct{})
				f := newMemoryFixture(t, consumer.Config{DrainTimeout: time.Hour}, func(ctx context.Context, _ *consumer.Delivery) error {
					close(begun)
					if tt.later {
						return consumer.Later
					}
					<-ctx.Done()
					return ctx.Err()
				})
				f.enqueue("a")
				<-begun
				if tt.cancelled {
					f.cancel()
					f.renewed()
				}
				f.stop()
				f.next("basic.cancel")
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				began := time.Now()
				var left *consumer.DrainError
				if err := f.pool.Close(ctx); !errors.As(err, &left) {
					t.Errorf("Close: %v", err)
				}
				if err := f.wait(); !errors.As(err, &left) || left.Released != 1 || left.Running != 0 {
					t.Errorf("Run: %v", err)
				}
				if took := time.Since(began); took < 9*time.Second || took > 10*time.Second {
					t.Errorf("it took %v", took)
				}
				f.contains("a")
			})
		})
	}
}

// TestPoolCloseWithAnEndedContextWaitsForNoHandler: the caller has no more time, with or
// without a deadline that says so.
func TestPoolCloseWithAnEndedContextWaitsForNoHandler(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		begun, end := make(chan struct{}), make(chan struct{})
		f := newMemoryFixture(t, consumer.Config{DrainTimeout: time.Hour}, func(context.Context, *consumer.Delivery) error {
			close(begun)
			<-end // does not heed its ctx
			return nil
		})
		defer close(end)
		f.enqueue("1")
		<-begun
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if err := f.pool.Close(ctx); err == nil {
			t.Error("Close says that all is well")
		}
		var left *consumer.DrainError
		if err := f.wait(); !errors.As(err, &left) || left.Running != 1 {
			t.Errorf("Run returned %v, want one that still runs", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestALoopAroundRunEndsWithThePool: while its producers are drained, a consumer that
// subscribed again would be cut off, and what it holds counted as failed.
func TestALoopAroundRunEndsWithThePool(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{}, newGate().handle)
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		draining, end := make(chan struct{}), make(chan struct{})
		if _, err := f.pool.OnClose(reconnect.Publishing, func(context.Context) error { // a producer that waits for confirms
			close(draining)
			<-end
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- f.pool.Close(context.WithoutCancel(t.Context())) }()
		if err := f.wait(); err != nil {
			t.Errorf("the Run that was drained: %v", err)
		}
		receive(t, draining)
		f.enqueue("a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := f.Run(ctx, newGate().handle); !errors.Is(err, reconnect.ErrClosed) {
			t.Errorf("the next Run: %v", err)
		}
		for _, err := range f.Messages(ctx) { // it was not left running
			if !errors.Is(err, reconnect.ErrClosed) {
				t.Errorf("Messages: %v", err)
			}
		}
		close(end)
		if err := receive(t, closed); err != nil {
			t.Errorf("Close: %v", err)
		}
		f.contains("a", "b")
	})
}
