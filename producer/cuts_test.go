package producer_test

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
)

// TestAThousandPublishersThroughTwentyCuts: each gets its verdict, what is confirmed is
// stored, and no copy is without an attempt of its own.
func TestAThousandPublishersThroughTwentyCuts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const publishers, messages, cuts = 1000, 4, 20
		var mu sync.Mutex // guards attempts
		attempts := map[string]int{}
		f := newMemoryFixture(t, producer.Config{OnAttempt: func(a producer.Attempt) {
			mu.Lock()
			defer mu.Unlock()
			attempts[a.MessageID]++
		}}, backoffOf(time.Second))
		synctest.Wait() // its session is set up
		var wg sync.WaitGroup
		var confirmed atomic.Int64
		for g := range publishers {
			wg.Go(func() {
				for i := range messages {
					id := fmt.Sprintf("%d/%d", g, i)
					m := producer.Text(id).ToQueue("q")
					m.MessageID = id
					if err := f.Publish(t.Context(), m); err != nil {
						t.Errorf("%s: %v", id, err)
						continue
					}
					confirmed.Add(1)
				}
			})
		}
		for cut := range cuts {
			f.struck(f.broker.Inject(cutNumber(cut)))
			f.await(reconnect.Waiting, cut+1)
		}
		wg.Wait()
		if err := f.Close(t.Context()); err != nil {
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
		s := f.Stats()
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
