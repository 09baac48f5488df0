package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestDrainCancelsFirstAndWritesNothingBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{DrainTimeout: patience}, g.handle)
	conn := f.subscription.Conn
	f.enqueue("a", "b")
	a := g.next(t)
	f.waiting(1)
	delivery, answer := f.hold(conn, "basic.deliver"), f.hold(conn, "basic.cancel-ok")
	f.enqueue("c")
	delivery.await(1)
	f.stop()
	cancel := f.next("basic.cancel")
	if cancel.ConsumerTag != f.subscription.ConsumerTag {
		t.Errorf("it cancels %s", cancel.ConsumerTag)
	}
	answer.await(1)
	a.end <- nil
	delivery.release() // was on its way
	select {
	case c := <-g.begun:
		t.Errorf("delivery %d was begun while draining", c.Tag)
	case <-time.After(20 * time.Millisecond): // it had time to write
	}
	f.unsettled(0)
	if s := f.Status(); s.Subscribed || s.Cause == nil || !strings.Contains(s.Cause.Error(), "draining") {
		t.Errorf("while it drains: %+v", s)
	}
	answer.release()
	if m := settled(f.next("basic.ack", "basic.nack", "basic.reject", "channel.close")); m != "basic.ack(1 multiple=false requeue=false)" {
		t.Errorf("%s: want the ack of delivery 1", m)
	}
	switch m := settled(f.next("basic.nack", "channel.close")); m {
	case "basic.nack(3 multiple=true requeue=true)": // both at once
	case "basic.nack(2 multiple=false requeue=true)":
		if m := settled(f.next("basic.nack", "channel.close")); m != "basic.nack(3 multiple=false requeue=true)" {
			t.Errorf("%s: want the release of delivery 3", m)
		}
	default:
		t.Errorf("%s: want the release of deliveries 2 and 3", m)
	}
	f.next("channel.close")
	if err := f.wait(); err != nil {
		t.Errorf("a clean drain: %v", err)
	}
	if s := f.Status(); s.Acked != 1 || s.Released != 2 || s.Subscribed {
		t.Errorf("%+v", s)
	}
	if n := len(g.begun); n != 0 {
		t.Errorf("%d deliveries were begun while draining", n)
	}
	f.contains("b", "c")
}

// TestDrainBefore43WorksThroughWhatWaits: a release counts as a failure there.
func TestDrainBefore43WorksThroughWhatWaits(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{DrainTimeout: patience}, g.handle, rules42)
	f.enqueue("a", "b", "c")
	a := g.next(t)
	f.waiting(2)
	f.stop()
	f.next("basic.cancel")
	a.end <- nil
	g.next(t).end <- nil
	g.next(t).end <- nil
	if err := f.wait(); err != nil {
		t.Error(err)
	}
	if s := f.Status(); s.Acked != 3 || s.Released != 0 {
		t.Errorf("%+v", s)
	}
	f.contains()
}

// TestTenDrainsInARowLoseNothing: a quorum queue with a delivery limit of 2 and no
// dead-letter exchange drops what has failed three times, and nothing has. With any prefetch
// from 4.3 on, before with as many as there are workers.
func TestTenDrainsInARowLoseNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules    mqtest.Rules
		prefetch int
	}{{mqtest.Rules43, 100}, {mqtest.Rules43, 1}, {mqtest.Rules42, 1}} {
		t.Run(fmt.Sprintf("%s with %d prefetched", c.rules, c.prefetch), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const n, rounds = 200, 10
				g := newGate()
				f := newMemoryFixture(t, consumer.Config{Prefetch: c.prefetch, DrainTimeout: patience}, g.handle,
					func(broker *mqtest.Config, _ *reconnect.Config) { broker.Rules = c.rules },
					queues(topology.Queue{Name: "q", DeliveryLimit: 2}))
				f.enqueue(numbered(1, n)...)
				handled := map[string]bool{}
				done := func(c *call) {
					handled[string(c.Body)] = true
					c.end <- nil
				}
				released := uint64(0)
				for round := range rounds {
					if round > 0 {
						f.run(g.handle)
					}
					slow := g.next(t)
					f.waiting(c.prefetch - 1)
					f.stop()
					f.nextOn(f.subscription, "basic.cancel")
					f.waiting(0) // all that waited was given back while the slow one runs
					done(slow)
					if err := f.wait(); err != nil {
						t.Fatal(err)
					}
					released += uint64(c.prefetch - 1)
					if c.prefetch > 32 {
						released++ // what came while the broker was asked whether it has all
					}
					if s := f.Stats(); s.Released != released || s.Acked != uint64(round)+1 {
						t.Errorf("after round %d: %+v, want %d released", round, s, released)
					}
				}
				f.run(g.handle)
				for len(handled) < n {
					c := g.next(t)
					if handled[string(c.Body)] {
						t.Errorf("%s came again although it was handled", c.Body)
					}
					if a := c.Attempt(); a > 2 {
						t.Errorf("%s has attempt %d", c.Body, a)
					}
					done(c)
				}
				f.until("the queue is empty", func() bool { return f.queue.Len() == 0 })
			})
		})
	}
}

// TestHandlerMayEndWhileItsDrainCloses: after the deadline, however it ends and
// whatever it says.
func TestHandlerMayEndWhileItsDrainCloses(t *testing.T) {
	for name, verdict := range map[string]error{"error": errors.New("too late"), "ack": nil, "later": consumer.Later, "reject": consumer.Reject(nil)} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				begun, end := make(chan *consumer.Delivery, 2), make(chan struct{})
				f := newMemoryFixture(t, consumer.Config{Workers: 2, DrainTimeout: 20 * time.Millisecond}, func(ctx context.Context, d *consumer.Delivery) error {
					begun <- d
					<-end // does not heed its ctx
					return verdict
				})
				closing := f.hold(f.subscription.Conn, "channel.close-ok")
				f.enqueue("a", "b")
				a := receive(t, begun)
				receive(t, begun)
				f.stop()
				f.settlement("basic.nack(2 multiple=true requeue=true)")
				f.next("channel.close")
				closing.await(1)
				close(end) // the session is not over yet
				if err := a.Ack(); err == nil {
					t.Error("a delivery that was given back was acked")
				}
				f.until("no handler runs", func() bool { return f.Status().Handling == 0 })
				select {
				case <-f.ended:
					t.Errorf("Run returned %v before the answer", f.err)
				default:
					closing.release()
				}
				var left *consumer.DrainError
				if err := f.wait(); !errors.As(err, &left) || left.Released != 2 || left.Running != 0 {
					t.Errorf("Run returned %v, want two given back", err)
				}
				f.unsettled(1)
				f.contains("a", "b")
			})
		})
	}
}

// TestDrainGivesBackWhatIsPaused: it need not wait any longer, and nobody works
// on it.
func TestDrainGivesBackWhatIsPaused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{}, func(context.Context, *consumer.Delivery) error { return errors.New("no database") })
	f.enqueue("a", "b", "c", "d", "e", "f", "g", "h")
	f.until("the pauses are long", func() bool { s := f.Status(); return s.Failures >= 8 && s.Paused > 0 })
	f.stop()
	if err := f.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	f.contains("a", "b", "c", "d", "e", "f", "g", "h")
}

func TestPoolCloseDrainsTheConsumer(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{DrainTimeout: patience}, g.handle)
	f.enqueue("a")
	a := g.next(t)
	closed := make(chan error, 1)
	go func() { closed <- f.pool.Close(t.Context()) }()
	f.next("basic.cancel")
	a.end <- nil
	f.settlement("basic.ack(1 multiple=false requeue=false)")
	if err := receive(t, closed); err != nil {
		t.Error(err)
	}
	if err := f.wait(); err != nil {
		t.Error(err)
	}
	f.contains()
}

// TestADrainWaitsForProof: a quorum queue takes 32 settlements of a channel at a time, and
// forgets what is behind them when that is closed. After nearly as many it subscribes once
// more, and gives back what that brings, before it closes; after fewer it just closes.
func TestADrainWaitsForProof(t *testing.T) {
	const workers = 2
	for name, tt := range map[string]struct {
		waiting int
		want    []string // behind the settlements
	}{
		"29 settlements": {29 - workers, []string{"channel.close"}},
		"30 settlements": {30 - workers, []string{"basic.qos", "basic.consume", "basic.cancel", "basic.nack", "channel.close"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				end := make(chan struct{})
				f := newMemoryFixture(t, consumer.Config{Prefetch: 100, Workers: workers, DrainTimeout: patience}, func(_ context.Context, d *consumer.Delivery) error {
					<-end
					time.Sleep(time.Duration(d.Tag%2) * time.Second) // in the bubble: each has an ack of its own
					return nil
				})
				f.enqueue(numbered(1, tt.waiting+workers)...)
				f.waiting(tt.waiting)
				f.stop()
				f.next("basic.cancel")
				for tag := workers + 1; tag <= tt.waiting+workers; tag++ {
					f.settlement(fmt.Sprintf("basic.nack(%d multiple=false requeue=true)", tag))
				}
				close(end)
				f.settlement("basic.ack(2 multiple=false requeue=false)")
				last := 0 // the ack of 1 may be written while the proof begins
				for _, want := range tt.want {
					e := f.next("basic.qos", "basic.consume", "basic.cancel", "basic.nack", "basic.ack", "channel.close")
					if settled(e) == "basic.ack(1 multiple=false requeue=false)" {
						last++
						e = f.next("basic.qos", "basic.consume", "basic.cancel", "basic.nack", "basic.ack", "channel.close")
					}
					if e.Method != want {
						t.Fatalf("the broker was sent %s, want %s of %v", e.Method, want, tt.want)
					}
					if args, _ := e.Field("arguments").(map[string]any); want == "basic.consume" && args["x-priority"] != int64(-1000) {
						t.Errorf("it subscribed with %v", args)
					}
					if want == "basic.qos" && e.Field("prefetch-count") != uint16(1) {
						t.Errorf("it asked for %v deliveries", e.Field("prefetch-count"))
					}
				}
				if last != 1 {
					t.Errorf("1 was acked %d times", last)
				}
				if err := f.wait(); err != nil {
					t.Error(err)
				}
				want := numbered(workers+1, tt.waiting+workers)
				slices.Sort(want)
				f.contains(want...)
			})
		})
	}
}

// TestAProofComesBehindWhatIsSettled, however long the settler takes to write it: a quorum queue
// forgets what comes behind the proof, if that is more than it takes.
func TestAProofComesBehindWhatIsSettled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const workers = 10_000 // whose rejects do not fit into the connection's buffers
		end := make(chan struct{})
		f := newMemoryFixture(t, consumer.Config{Workers: workers, Prefetch: workers, DrainTimeout: patience}, func(context.Context, *consumer.Delivery) error {
			<-end
			return consumer.Reject(nil)
		})
		slow := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.reject", Count: 1, Do: mqtest.Delay(time.Second)})
		f.enqueue(numbered(1, workers)...)
		f.until("all workers are busy", func() bool { return f.Status().Handling == workers })
		answer := f.hold(f.subscription.Conn, "basic.cancel-ok")
		f.stop()
		answer.await(1)
		close(end)
		f.until("all have finished", func() bool { return f.Status().Handling == 0 })
		f.unsettled(0)
		answer.release()
		if err := f.wait(); err != nil {
			t.Error(err)
		}
		f.struck(slow)
		behind, proofs := 0, 0
		for _, e := range f.received.of("basic.reject", "basic.cancel") {
			if e.Method == "basic.cancel" {
				behind, proofs = 0, proofs+1
				continue
			}
			behind++
		}
		if rejects := f.received.of("basic.reject"); len(rejects) != workers || proofs < 2 || behind > 29 {
			t.Errorf("%d rejects, %d of them behind the last of %d cancels; want %d, 29 at most, two or more", len(rejects), behind, proofs, workers)
		}
	})
}

// TestADrainHasItsLastVerdictsProven where the queue may be a classic one of another node, by a
// look at the queue, which brings no message.
func TestADrainHasItsLastVerdictsProven(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		typ     topology.QueueType
		foreign bool // the pool does not declare it
		n       int  // messages
		proofs  int
	}{
		"quorum":          {topology.Quorum, false, 20, 0},
		"foreign":         {topology.Quorum, true, 20, 1},
		"passive":         {topology.Quorum, true, 20, 1},
		"much of foreign": {topology.Quorum, true, 50, 0}, // it may be in need of the other one, which proves all
		"classic":         {topology.Classic, false, 20, 1},
		"much of classic": {topology.Classic, false, 50, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGate()
				cfg := consumer.Config{Prefetch: 60, DrainTimeout: patience}
				f := newMemoryFixture(t, cfg, g.handle, queues(topology.Queue{Name: "q", Type: tt.typ}))
				if tt.foreign {
					f.stop()
					if err := f.wait(); err != nil {
						t.Fatal(err)
					}
					var err error
					other := reconnect.Config{URLs: []string{f.broker.URL()}, Dial: f.broker.DialContext}
					if name == "passive" {
						other.Topology.Queues = []topology.Queue{{Name: "q", Passive: true}}
					}
					if f.pool, err = reconnect.Open(t.Context(), other); err != nil {
						t.Fatal(err)
					}
					defer f.pool.CloseNow()
					cfg.Queue = "q"
					if f.Consumer, err = consumer.New(f.pool, cfg); err != nil {
						t.Fatal(err)
					}
					f.run(g.handle)
				}
				f.enqueue(numbered(1, tt.n)...)
				running := g.next(t)
				f.waiting(tt.n - 1)
				f.stop()
				f.next("basic.cancel")
				running.end <- nil
				if err := f.wait(); err != nil {
					t.Error(err)
				}
				proofs := 0
				for _, e := range f.received.of("queue.declare") {
					if e.Field("passive") == true && e.Conn == f.subscription.Conn && e.Channel == f.subscription.Channel {
						proofs++
					}
				}
				subscriptions := 1
				if tt.foreign {
					subscriptions++
				}
				if tt.proofs == 0 && tt.n > 29 {
					subscriptions++
				}
				if n := len(f.received.of("basic.consume")); proofs != tt.proofs || n != subscriptions {
					t.Errorf("%d proofs, want %d; %d subscriptions, want %d", proofs, tt.proofs, n, subscriptions)
				}
				f.contains(slices.Sorted(slices.Values(numbered(2, tt.n)))...)
			})
		})
	}
}

// TestADrainLooksAtTheQueueBehindWhatIsFinal, an ack or a reject: what was to come again does so
// without it.
func TestADrainLooksAtTheQueueBehindWhatIsFinal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		early   bool // before the end
		verdict error
		looks   int
	}{
		"acked": {false, nil, 1}, "rejected": {false, consumer.Reject(nil), 1}, "requeued": {false, consumer.Requeue(nil), 0},
		"acked before": {true, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGate()
				f := newMemoryFixture(t, consumer.Config{Workers: 2, DrainTimeout: patience}, g.handle, queues(topology.Queue{Name: "q", Type: topology.Classic}))
				f.enqueue("a", "b")
				a, b := g.next(t), g.next(t)
				if tt.early {
					a.end <- tt.verdict
					time.Sleep(time.Second) // in the bubble
				}
				f.stop()
				f.next("basic.cancel")
				time.Sleep(time.Second) // in the bubble
				a.end <- tt.verdict
				time.Sleep(time.Second) // in the bubble: it is written
				b.end <- consumer.Requeue(nil)
				if err := f.wait(); err != nil {
					t.Error(err)
				}
				looks := 0
				for _, e := range f.received.of("queue.declare") {
					if e.Field("passive") == true {
						looks++
					}
				}
				if looks != tt.looks {
					t.Errorf("it looked %d times, want %d", looks, tt.looks)
				}
			})
		})
	}
}

// TestHandlersThatSettleLateDoNotProlongADrain: each of their verdicts would have another proof.
func TestHandlersThatSettleLateDoNotProlongADrain(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]setup{"4.3": func(*mqtest.Config, *reconnect.Config) {}, "before": rules42} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const n, timeout = 100, time.Second
				var told atomic.Int64 // handlers whose ctx ended in time
				f := newMemoryFixture(t, consumer.Config{Workers: n, Prefetch: n, DrainTimeout: timeout}, func(ctx context.Context, d *consumer.Delivery) error {
					end := time.After(time.Duration(d.Tag) * 100 * time.Millisecond)
					select {
					case <-ctx.Done():
						told.Add(1)
						<-end // does not heed it
					case <-end:
					}
					return nil
				}, change, queues(topology.Queue{Name: "q", Type: topology.Classic}))
				slow := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "queue.declare-ok", Do: mqtest.Delay(110 * time.Millisecond)})
				f.enqueue(numbered(1, n)...)
				f.until("all run", func() bool { return f.Status().Handling == n })
				stopped := time.Now()
				f.stop()
				err := f.wait()
				var left *consumer.DrainError
				if took := time.Since(stopped); !errors.As(err, &left) || took > timeout+500*time.Millisecond {
					t.Errorf("after %v: %v", took, err)
				}
				if slow.Hits() == 0 || told.Load() < n/2 {
					t.Errorf("%d looks, %d handlers were told", slow.Hits(), told.Load())
				}
				time.Sleep(time.Minute) // in the bubble: they end
			})
		})
	}
}

// TestAProofBefore43CostsNoMessageAFailure: what it brings is handled there, as all that
// waits is.
func TestAProofBefore43CostsNoMessageAFailure(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const workers = 40
		end := make(chan struct{})
		var handled atomic.Int64
		f := newMemoryFixture(t, consumer.Config{Workers: workers, Prefetch: workers, DrainTimeout: patience}, func(_ context.Context, d *consumer.Delivery) error {
			<-end
			time.Sleep(time.Duration(d.Tag%2) * time.Second)            // in the bubble: many have an ack of their own
			time.Sleep(time.Duration(workers-d.Tag) * time.Millisecond) // in the bubble: the last one first
			handled.Add(1)
			return nil
		}, rules42, queues(topology.Queue{Name: "q", DeliveryLimit: 1}))
		f.enqueue(numbered(1, workers+2)...)
		f.until("all workers are busy", func() bool { return f.Status().Handling == workers })
		f.stop()
		f.next("basic.cancel")
		close(end)
		if err := f.wait(); err != nil {
			t.Error(err)
		}
		if proofs := f.received.of("basic.consume"); len(proofs) != 2 || handled.Load() != workers+1 {
			t.Errorf("%d subscriptions, %d handled; want two, and one more than at once", len(proofs), handled.Load())
		}
		f.contains(fmt.Sprint(workers + 2))
	})
}

// TestARefusedProofIsToldUnlessTheQueueIsGone: what was settled may be forgotten.
func TestARefusedProofIsToldUnlessTheQueueIsGone(t *testing.T) {
	for name, tt := range map[string]struct {
		code int
		text string
		want string // of Run's error
	}{
		"not permitted":             {403, "ACCESS_REFUSED - test", "wait for the settlements to be written"},
		"the queue is gone":         {404, "NOT_FOUND - no queue 'q' in vhost '/'", ""},
		"the queue does not answer": {404, "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout", "due to timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGate()
				f := newMemoryFixture(t, consumer.Config{Prefetch: 100, DrainTimeout: patience}, g.handle)
				f.enqueue(numbered(1, 50)...)
				first := g.next(t)
				f.waiting(49)
				refused := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.consume", Do: mqtest.CloseChannel(tt.code, tt.text)})
				f.stop()
				f.waiting(0)
				first.end <- nil
				err := f.wait()
				if got := fmt.Sprint(err); (err != nil) != (tt.want != "") || !strings.Contains(got, tt.want) || brokersCode(err) != tt.code && err != nil {
					t.Errorf("Run returned %v", err)
				}
				if refused.Hits() != 1 {
					t.Errorf("%d were refused", refused.Hits())
				}
			})
		})
	}
}

// TestADrainTellsWhatItHasLeftAndWhatIsNotProven together.
func TestADrainTellsWhatItHasLeftAndWhatIsNotProven(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{Prefetch: 100, DrainTimeout: time.Second}, g.handle)
		f.enqueue(numbered(1, 50)...)
		g.next(t)
		f.waiting(49)
		f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.consume", Do: mqtest.Drop()})
		f.stop()
		var left *consumer.DrainError
		if err := f.wait(); !errors.As(err, &left) || left.Released != 1 || !strings.Contains(err.Error(), "wait for the settlements to be written") {
			t.Errorf("Run returned %v", err)
		}
	})
}

// TestADrainThatCannotEndItsSubscriptionSaysSo: more may have come, and counted as failed.
func TestADrainThatCannotEndItsSubscriptionSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{DrainTimeout: time.Second}, func(context.Context, *consumer.Delivery) error { return nil })
		silent := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.cancel", Do: mqtest.Drop()})
		f.stop()
		if err := f.wait(); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "drain: cancel the subscription: ") || silent.Hits() != 1 {
			t.Errorf("Run returned %v", err)
		}
	})
}

// TestADrainWithoutProofClosesAnyway, in its time, and says so.
func TestADrainWithoutProofClosesAnyway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{Prefetch: 100, DrainTimeout: patience}, g.handle)
		f.enqueue(numbered(1, 50)...)
		first := g.next(t)
		f.waiting(49)
		silent := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.consume", Do: mqtest.Drop()})
		f.stop()
		f.waiting(0)
		first.end <- nil
		began := time.Now()
		if err := f.wait(); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for the settlements to be written") {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(began); took != 5*time.Second || silent.Hits() != 1 {
			t.Errorf("it took %v, and asked %d times", took, silent.Hits())
		}
	})
}

// TestADrainWhoseConnectionIsLostHasNothingLeftToGiveBack: the broker does that.
func TestADrainWhoseConnectionIsLostHasNothingLeftToGiveBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{DrainTimeout: patience}, g.handle)
		f.enqueue("a")
		a := g.next(t)
		f.stop()
		f.next("basic.cancel")
		f.cut(f.subscription)
		if err := a.cause(t); !errors.Is(err, reconnect.ErrLost) {
			t.Errorf("the handler's ctx ended with %v", err)
		}
		if err := f.wait(); err != nil {
			t.Errorf("Run returned %v", err)
		}
		f.unsettled(0)
		if n := len(f.received.of("connection.open")); n != 1 {
			t.Errorf("there were %d connections", n)
		}
	})
}

// TestADrainWaitsForWhatIsSettledLater as long as for a handler.
func TestADrainWaitsForWhatIsSettledLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		later := make(chan *consumer.Delivery, 1)
		f := newMemoryFixture(t, consumer.Config{DrainTimeout: patience}, func(_ context.Context, d *consumer.Delivery) error {
			later <- d
			return consumer.Later
		})
		f.enqueue("a")
		d := receive(t, later)
		f.stop()
		time.Sleep(patience / 2) // in the bubble
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
		if err := f.wait(); err != nil {
			t.Error(err)
		}
		f.contains()
	})
}

// TestADrainHasOneDeadline, also for a handler of which nothing is left to settle: what a
// process has before it is killed is counted from the end of Run's ctx.
func TestADrainHasOneDeadline(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg    consumer.Config
		setups []setup
		settle func(*consumer.Delivery) error
	}{
		"it has acked": {settle: (*consumer.Delivery).Ack},
		"a stream":     {consumer.Config{Offset: consumer.OffsetFirst}, []setup{aStream()}, func(*consumer.Delivery) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				begun, let := make(chan struct{}), make(chan struct{})
				tt.cfg.DrainTimeout = 20 * time.Second
				f := newMemoryFixture(t, tt.cfg, func(_ context.Context, d *consumer.Delivery) error {
					err := tt.settle(d)
					close(begun)
					<-let // it does not heed its ctx
					return err
				}, tt.setups...)
				f.enqueue("a")
				receive(t, begun)
				began := time.Now()
				f.stop()
				err := f.wait()
				var left *consumer.DrainError
				if !errors.As(err, &left) || left.Running != 1 || left.Released != 0 {
					t.Errorf("Run returned %v", err)
				}
				if took := time.Since(began); took < 20*time.Second || took > 21*time.Second {
					t.Errorf("it took %v", took)
				}
				close(let)
			})
		})
	}
}
