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

// stubborn is a producer whose messages the broker never confirms by itself.
func (f *fixture) stubborn(t *testing.T, timeout time.Duration) *producer.Producer {
	t.Helper()
	cfg := f.config()
	cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: "q"}}}
	p, err := producer.New(open(t, cfg), producer.Config{ConfirmTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Do: mqtest.Drop()})
	return p
}

func (f *fixture) publish(t *testing.T, p *producer.Producer) *producer.Confirmation {
	t.Helper()
	c, err := p.PublishAsync(t.Context(), producer.Text("x").ToQueue("q"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait() // it was handed over, and the broker has it
	return c
}

// confirm has the broker confirm what it received last but n.
func (f *fixture) confirm(n int) {
	all := f.methods("basic.publish")
	m := all[len(all)-1-n]
	f.conn().DoOn(m.Channel, mqtest.Answer(mqtest.Method{Name: "basic.ack", Fields: map[string]any{"delivery-tag": m.Number}}))
	synctest.Wait()
}

func TestWithoutAConfirmTimeoutNothingIsOverdue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := f.stubborn(t, -1)
		c := f.publish(t, p)
		time.Sleep(3 * time.Hour) // in the bubble
		if n := p.Stats().Republished; n != 0 {
			t.Errorf("it was sent again %d times", n)
		}
		f.confirm(0)
		if c.Verdict() != producer.Confirmed {
			t.Error(c.Err())
		}
	})
}

// TestNoConfirmIsOverdueWhileEachComesInTime: there is always one that is waited for, but
// never one for long.
func TestNoConfirmIsOverdueWhileEachComesInTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		const timeout = 10 * time.Second
		p := f.stubborn(t, timeout)
		before := f.publish(t, p)
		for range 20 {
			time.Sleep(timeout * 3 / 5) // in the bubble
			next := f.publish(t, p)
			f.confirm(1)
			if before.Verdict() != producer.Confirmed {
				t.Fatal(before.Err())
			}
			before = next
		}
		if n := p.Stats().Republished; n != 0 {
			t.Errorf("%d messages were sent again", n)
		}
		f.confirm(0)
	})
}

// TestOnlyOverdueMessagesAreWaitedForLonger: one whose connections were cut is not to blame.
func TestOnlyOverdueMessagesAreWaitedForLonger(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		const timeout = 10 * time.Second
		p := f.stubborn(t, timeout)
		c := f.publish(t, p)
		again := func(want uint64, within time.Duration) {
			t.Helper()
			time.Sleep(within) // in the bubble
			synctest.Wait()
			if n := p.Stats().Republished; n != want {
				t.Fatalf("it was sent again %d times, want %d", n, want)
			}
		}
		for i := range uint64(3) {
			f.cut(1)
			again(i+1, 2*pause)
		}
		again(4, timeout*5/4)   // as long as the first time
		again(4, timeout*5/4)   // and now twice as long
		again(5, timeout*5/4+1) // it is looked at four times in a timeout
		f.confirm(0)
		if c.Verdict() != producer.Confirmed {
			t.Error(c.Err())
		}
	})
}
