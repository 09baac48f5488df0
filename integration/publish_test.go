package integration_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// lateness is how long after a bystander that waits for ctx alone f returned; 0 if
// it came first. On a busy machine the bystander is late as well.
func lateness(ctx context.Context, f func()) time.Duration {
	const n = 8 // of which one has as bad luck with its processor as f
	bystanders := make(chan time.Time, n)
	for range n {
		go func() {
			<-ctx.Done()
			bystanders <- time.Now()
		}()
	}
	f()
	returned := time.Now()
	if ctx.Err() == nil {
		return 0
	}
	late := returned.Sub(<-bystanders)
	for range n - 1 {
		late = min(late, returned.Sub(<-bystanders))
	}
	return max(0, late)
}

func TestAlarmHoldsPublishersWithinTheirContexts(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	queue := uniqueName(t)
	pool, states := open(t, quorum(queue, node.URL()))
	p := newProducer(t, pool, producer.Config{})
	second := newProducer(t, pool, producer.Config{})
	mustBe(t, p.Publish(t.Context(), producer.Text("before").ToQueue(queue)), producer.Confirmed)

	must(t, node.Block(t.Context()))
	// Sixteen publish until the alarm holds them, and then each within a deadline.
	const goroutines, timeout, slack = 16, 300 * time.Millisecond, 200 * time.Millisecond
	var held, confirmed atomic.Int64
	var worst atomic.Int64 // lateness
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range 5 {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				var err error
				late := lateness(ctx, func() { err = p.Publish(ctx, producer.Text("during").ToQueue(queue)) })
				cancel()
				for {
					w := worst.Load()
					if int64(late) <= w || worst.CompareAndSwap(w, int64(late)) {
						break
					}
				}
				switch v := producer.VerdictOf(err); {
				case v == producer.Confirmed:
					confirmed.Add(1)
				case (v == producer.NotSent || v == producer.Unknown) && isDeadline(err):
					held.Add(1)
				default:
					t.Errorf("verdict %s: %v", v, err)
				}
			}
		})
	}
	wg.Wait()
	states.await(t, reconnect.Publishing, reconnect.Blocked, 1) // the alarm happened
	if held.Load() == 0 {
		t.Fatal("the alarm held nobody")
	}
	if d := time.Duration(worst.Load()); d > slack {
		t.Errorf("a publish returned %v after the end of its ctx", d)
	}
	t.Logf("held %d, confirmed %d, at most %v after the end of the ctx", held.Load(), confirmed.Load(), time.Duration(worst.Load()))

	// A producer with work on its hands closes within its ctx.
	stuck, err := second.PublishAsync(t.Context(), producer.Text("stuck").ToQueue(queue))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	late := lateness(ctx, func() { err = second.Close(ctx) })
	cancel()
	if late > slack {
		t.Errorf("Close returned %v after the end of its ctx", late)
	}
	var left *producer.UnresolvedError
	if !errors.As(err, &left) || left.NotSent+left.Unknown != 1 {
		t.Errorf("Close returned %v, want one message left", err)
	}
	mustBe(t, stuck.Err(), producer.NotSent)

	must(t, node.Unblock(t.Context()))
	states.await(t, reconnect.Publishing, reconnect.Connected, 2)
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	mustBe(t, p.Publish(ctx, producer.Text("after").ToQueue(queue)), producer.Confirmed)
	if n := states.count(reconnect.Publishing, reconnect.Waiting); n != 0 {
		t.Errorf("the connection was lost %d times, the alarm alone must not cost it", n)
	}
}

// TestPoolClosesWithinItsContextDuringAnAlarm: no answer comes from a broker that
// does not read.
func TestPoolClosesWithinItsContextDuringAnAlarm(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	queue := uniqueName(t)
	pool, states := open(t, quorum(queue, node.URL()))
	p := newProducer(t, pool, producer.Config{})
	must(t, node.Block(t.Context()))
	var last *producer.Confirmation
	for began := time.Now(); states.count(reconnect.Publishing, reconnect.Blocked) == 0; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		c, err := p.PublishAsync(ctx, producer.Text("x").ToQueue(queue))
		cancel()
		switch {
		case err == nil:
			last = c
		case isDeadline(err) && time.Since(began) < patience: // the window is full, as it gets when nothing is confirmed
		default:
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var err error
	if late := lateness(ctx, func() { err = pool.Close(ctx) }); late > 500*time.Millisecond {
		t.Errorf("Close returned %v after the end of its ctx", late)
	}
	t.Logf("close: %v; last message: %v", err, last.Err())
	if !isDone(last.Done()) {
		t.Error("a message has no verdict after Close")
	}
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestExactlyTheUnroutableAreReturned(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	pool, _ := open(t, quorum(queue, sharedNode(t).URL()))
	p := newProducer(t, pool, producer.Config{MaxInFlight: 500})
	const n = 5000
	cs := make([]*producer.Confirmation, n)
	for i := range cs {
		m := producer.Text("x").ToQueue(queue)
		if i%7 == 3 {
			m = m.ToQueue(queue + ".nosuch")
		}
		if i%5 == 0 {
			m.MessageID = "the same" // returns carry no number: the id alone does not tell
		}
		c, err := p.PublishAsync(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		cs[i] = c
	}
	for i, c := range cs {
		err := c.Wait(t.Context())
		want := producer.Confirmed
		if i%7 == 3 {
			want = producer.Returned
		}
		if got := producer.VerdictOf(err); got != want {
			t.Fatalf("message %d: %s (%v), want %s", i, got, err, want)
		}
		var returned *producer.ReturnedError
		if want == producer.Returned && (!errors.As(err, &returned) || returned.Code != 312 || returned.RoutingKey != queue+".nosuch") {
			t.Fatalf("message %d: %#v", i, err)
		}
	}
	m := producer.Text("x").ToQueue(queue + ".nosuch")
	m.AllowUnroutable = true
	mustBe(t, p.Publish(t.Context(), m), producer.Confirmed)
}

func TestExactlyTheRejectedAreNacked(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	const room = 10
	pool, _ := open(t, reconnect.Config{URLs: []string{sharedNode(t).URL()}, Topology: topology.Topology{Queues: []topology.Queue{
		{Name: queue, Type: topology.Classic, MaxLength: room, Overflow: topology.RejectPublish},
	}}})
	p := newProducer(t, pool, producer.Config{})
	const n = 200
	var cs []*producer.Confirmation
	for range n {
		c, err := p.PublishAsync(t.Context(), producer.Text("x").ToQueue(queue))
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	var confirmed, nacked int
	for _, c := range cs {
		switch err := c.Wait(t.Context()); {
		case err == nil:
			confirmed++
		case errors.Is(err, producer.ErrNacked) && producer.VerdictOf(err) == producer.Nacked && !producer.SafeToRetry(err):
			nacked++
		default:
			t.Fatal(err)
		}
	}
	if confirmed+nacked != n || nacked == 0 {
		t.Fatalf("confirmed %d, nacked %d of %d", confirmed, nacked, n)
	}
	// What is in the queue is what was confirmed.
	var got atomic.Int64
	c := consume(t, pool, consumer.Config{Queue: queue}, func(context.Context, *consumer.Delivery) error {
		got.Add(1)
		return nil
	})
	eventually(t, "the confirmed are consumed", patience, func() bool { return got.Load() == int64(confirmed) })
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	if got.Load() != int64(confirmed) {
		t.Errorf("consumed %d, confirmed %d", got.Load(), confirmed)
	}
	t.Logf("confirmed %d, nacked %d", confirmed, nacked)
}

func TestPoisonIsRefusedAndItsNeighboursGoOn(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	pool, _ := open(t, quorum(queue, sharedNode(t).URL()))
	for _, poison := range []struct {
		name   string
		spoil  func(*producer.Message)
		code   int
		silent bool // known locally: no session is lost
	}{
		{name: "missing exchange", spoil: func(m *producer.Message) { m.Exchange = queue + ".nosuch" }, code: 404},
		{name: "foreign user", spoil: func(m *producer.Message) { m.UserID = "other" }, code: 406},
		{name: "internal exchange", spoil: func(m *producer.Message) { m.Exchange = "amq.rabbitmq.trace" }, code: 403},
	} {
		t.Run(poison.name, func(t *testing.T) {
			p := newProducer(t, pool, producer.Config{})
			const n = 500
			culprits := map[int]bool{0: true, 250: true, 251: true, n - 1: true}
			var cs []*producer.Confirmation
			for i := range n {
				m := producer.Text(fmt.Sprint(i)).ToQueue(queue)
				if culprits[i] {
					poison.spoil(&m)
				}
				c, err := p.PublishAsync(t.Context(), m)
				if err != nil {
					t.Fatal(err)
				}
				cs = append(cs, c)
			}
			for i, c := range cs {
				err := c.Wait(t.Context())
				if !culprits[i] {
					if err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
					continue
				}
				mustBe(t, err, producer.Refused)
				var told *reconnect.BrokerError
				if !errors.As(err, &told) || told.Code != poison.code {
					t.Fatalf("message %d: %v, want the broker's %d", i, err, poison.code)
				}
			}
			if p.Stats().Republished == 0 {
				t.Error("nothing was sent again: did the channel close?")
			}
			t.Logf("%+v", p.Stats())
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPublishGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	queue := uniqueName(t)
	pool, states := open(t, quorum(queue, node.URL()))
	p := newProducer(t, pool, producer.Config{MaxInFlight: 1})
	mustBe(t, p.Publish(t.Context(), producer.Text("1").ToQueue(queue)), producer.Confirmed)
	settled(t, node)
	if err := node.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	states.await(t, reconnect.Publishing, reconnect.Waiting, 1)
	for range 2 { // the second finds no place in the bound held by the first
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := p.Publish(ctx, producer.Text("2").ToQueue(queue))
		cancel()
		mustBe(t, err, producer.NotSent)
		if !producer.SafeToRetry(err) || !isDeadline(err) {
			t.Fatal(err)
		}
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	mustBe(t, p.Publish(ctx, producer.Text("3").ToQueue(queue)), producer.Confirmed)
	var bodies []string
	var mu sync.Mutex
	consume(t, pool, consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		bodies = append(bodies, string(d.Body))
		return nil
	})
	eventually(t, "what was confirmed is consumed", patience, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(bodies) >= 2
	})
	if fmt.Sprint(bodies) != "[1 3]" {
		t.Errorf("consumed %v, want what was not sent not to be there", bodies)
	}
}
