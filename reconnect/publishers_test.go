package reconnect_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestAThousandPublishersThroughTwentyCuts: each gets its verdict, what is confirmed is
// stored, and no copy is without an attempt of its own.
func TestAThousandPublishersThroughTwentyCuts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const publishers, messages, cuts = 1000, 4, 20
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: "q"}}}
		var mu sync.Mutex // guards attempts
		attempts := map[string]int{}
		p, err := producer.New(open(t, cfg), producer.Config{OnAttempt: func(a producer.Attempt) {
			mu.Lock()
			defer mu.Unlock()
			attempts[a.MessageID]++
		}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // its session is set up
		var wg sync.WaitGroup
		var confirmed atomic.Int64
		for g := range publishers {
			wg.Go(func() {
				for i := range messages {
					id := fmt.Sprintf("%d/%d", g, i)
					m := producer.Text(id).ToQueue("q")
					m.MessageID = id
					if err := p.Publish(t.Context(), m); err != nil {
						t.Errorf("%s: %v", id, err)
						continue
					}
					confirmed.Add(1)
				}
			})
		}
		for cut := range cuts {
			f.struck(f.broker.Inject(cutNumber(cut)))
			f.await(t, reconnect.Waiting)
		}
		wg.Wait()
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		stored, again, copies := map[string]int{}, 0, 0
		for _, body := range f.broker.Queue("q").Bodies() {
			stored[body]++
		}
		mu.Lock()
		defer mu.Unlock()
		for id, n := range attempts {
			if stored[id] == 0 || stored[id] > n {
				t.Errorf("%s is confirmed, was handed over %d times and is stored %d times", id, n, stored[id])
			}
			again += n - 1
			copies += stored[id] - 1
		}
		s := p.Stats()
		if len(attempts) != publishers*messages || len(stored) != len(attempts) || confirmed.Load() != publishers*messages || s.Confirmed != publishers*messages {
			t.Errorf("%d were handed over, %d are stored, %d confirmed: %+v", len(attempts), len(stored), confirmed.Load(), s)
		}
		if int(s.Republished) != again || again == 0 || copies == 0 {
			t.Errorf("handed over again %d, copies %d: %+v", again, copies, s)
		}
		t.Logf("%d messages, %d sent again, %d copies", len(attempts), again, copies)
	})
}

// cutNumber is each cut in another place: behind a message that the broker has, inside one,
// and before one.
func cutNumber(n int) mqtest.Fault {
	f := mqtest.Fault{Method: "basic.publish", Skip: 7 * n, Count: 1}
	switch n % 3 {
	case 0:
		f.Point, f.Do = mqtest.Applied, mqtest.Cut()
	case 1:
		f.Point, f.Do = mqtest.Received, mqtest.CutInside(3*n)
	default:
		f.Point, f.Do = mqtest.Received, mqtest.Reset()
	}
	return f
}

// TestTheSearchForACulpritDoesNotWait: each session gets something done, if only that the
// next one knows how to go on.
func TestTheSearchForACulpritDoesNotWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Backoff = longWait
		cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: "q"}}}
		p, err := producer.New(open(t, cfg), producer.Config{})
		if err != nil {
			t.Fatal(err)
		}
		held := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Count: 1, Do: mqtest.Hold()})
		closes := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close"})
		began := time.Now()
		var cs []*producer.Confirmation
		for i := range 10 {
			m := producer.Text("x").ToQueue("q")
			if i == 0 || i == 9 { // the first has nobody's verdict before it
				m.Exchange = "missing"
			}
			c, err := p.PublishAsync(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			cs = append(cs, c)
		}
		f.struck(held)
		held.Release()
		for i, c := range cs {
			want := producer.Confirmed
			if i == 0 || i == 9 {
				want = producer.Refused
			}
			if err := c.Wait(t.Context()); producer.VerdictOf(err) != want {
				t.Errorf("message %d: %v, want %s", i, err, want)
			}
		}
		if n := hits(closes); n != 3 {
			t.Errorf("%d channels were closed, want 3", n)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
