package publishcases

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// orderAfterACut: what has lost its verdict comes first, in its order.
func orderAfterACut(s *stand) {
	s.open(producer.Config{})
	var mu sync.Mutex // guards wire
	wire := map[int][]string{}
	s.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point == mqtest.Received && e.Method == "basic.publish" {
			mu.Lock()
			defer mu.Unlock()
			wire[e.Conn] = append(wire[e.Conn], e.MessageID)
		}
		return mqtest.Pass()
	})
	const n, newer = 300, 20
	ids := append(numbered("old ", n), numbered("new ", newer)...)
	unresolved := func(i int) bool { return i%3 == 2 }
	lost := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Count: n / 3, Do: mqtest.Drop(), If: func(e *mqtest.Event) bool {
		var i int
		_, err := fmt.Sscanf(e.MessageID, "old %d", &i)
		return err == nil && unresolved(i)
	}})
	cs := s.publish(ids[:n]...)
	s.struck(lost)
	var want []string
	for i, c := range cs {
		if unresolved(i) {
			s.pending(c)
			want = append(want, ids[i])
			continue
		}
		s.verdict(c, producer.Confirmed)
	}
	s.goDown()
	cs = append(cs, s.publish(ids[n:]...)...)
	want = append(want, ids[n:]...)
	s.comeBack()
	for _, c := range cs {
		s.verdict(c, producer.Confirmed)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(wire) != 2 {
		s.t.Fatalf("messages came on %d connections, want 2", len(wire))
	}
	last := 0
	for conn := range wire {
		last = max(last, conn)
	}
	if got := wire[last]; fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("sent after the cut: %v\nwant: %v", got, want)
	}
	stored := s.stored()
	for i, id := range ids {
		times := 1
		if i < n && unresolved(i) {
			times = 2
		}
		if stored[id] != times {
			s.t.Errorf("%q is stored %d times, want %d", id, stored[id], times)
		}
	}
}

// manyCuts: each verdict is a true one, and nobody is left without.
func manyCuts(s *stand) {
	s.open(producer.Config{})
	const publishers, cuts = 1000, 20
	var (
		wg        sync.WaitGroup
		stop      atomic.Bool
		confirmed atomic.Int64
		failed    atomic.Int64
		published [publishers]int
	)
	ctx, cancel := s.bounded()
	defer cancel()
	for g := range publishers {
		wg.Go(func() {
			for i := 0; i == 0 || !stop.Load(); i++ {
				published[g]++
				if err := s.Publish(ctx, s.text(fmt.Sprintf("%d/%d", g, i))); err != nil {
					if failed.Add(1) == 1 { // a thousand would say the same
						s.t.Errorf("message %d of publisher %d: %v", i, g, err)
					}
					return
				}
				confirmed.Add(1)
			}
		})
	}
	for cut := range cuts {
		s.await(reconnect.Connected, cut+1) // what is counted below may be of the one before
		s.more(&confirmed, 50)
		how := mqtest.Cut()
		if cut%2 == 1 {
			how = mqtest.Reset()
		}
		for _, c := range s.Connections() { // of the ones before, some may still be on their way out
			c.Do(how)
		}
		s.await(reconnect.Waiting, cut+1)
	}
	s.more(&confirmed, 50)
	stop.Store(true)
	wg.Wait()
	s.closes()
	stored := s.stored()
	total, copies, again := 0, 0, 0
	for g, n := range published {
		for i := range n {
			id := fmt.Sprintf("%d/%d", g, i)
			total++
			times, handed := stored[id], s.timesHanded(id)
			if times == 0 || times > handed {
				s.t.Errorf("message %s is confirmed, was handed over %d times and is stored %d times", id, handed, times)
			}
			copies += times - 1
			again += handed - 1
			delete(stored, id)
		}
	}
	if len(stored) > 0 {
		s.t.Errorf("stored, and never published: %v", differences(stored, nil))
	}
	got := s.Stats()
	if got.Confirmed != uint64(total) || got.Accepted != got.Confirmed || got.Republished != uint64(again) || again == 0 {
		s.t.Errorf("published %d, handed over again %d: %+v", total, again, got)
	}
	s.t.Logf("%d messages, %d sent again, %d of them stored twice", total, again, copies)
}

// more waits until n more are confirmed.
func (s *stand) more(confirmed *atomic.Int64, n int64) {
	s.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ctx, cancel := s.bounded()
	defer cancel()
	for want := confirmed.Load() + n; confirmed.Load() < want; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("%d are confirmed, want %d", confirmed.Load(), want)
		}
	}
}

// restart: persistent messages are still there, and no others.
func restart(s *stand) {
	s.open(producer.Config{}, topology.Classic)
	const n = 50
	var cs []*producer.Confirmation
	for i := range n {
		m := s.text(fmt.Sprint("transient ", i))
		m.Transient = true
		cs = append(cs, s.message(m))
		cs = append(cs, s.publish(fmt.Sprint("persistent ", i))...)
	}
	for _, c := range cs {
		s.verdict(c, producer.Confirmed)
	}
	if q, err := s.admin().QueueDeclarePassive(s.queue, true, false, false, false, nil); err != nil || q.Messages != 2*n {
		s.t.Fatalf("the queue has %d messages (%v), want %d", q.Messages, err, 2*n)
	}
	s.Restart(s.t)
	s.await(reconnect.Waiting, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 3*within)
	defer cancel()
	s.must(s.Publish(ctx, s.text("after")))
	s.holds(append(numbered("persistent ", n), "after")...)
}
