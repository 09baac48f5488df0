package consumer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/topology"
)

// TestOneWorkerKeepsTheOrderOfAHundredThousand: strictly; and after each cut it goes on
// exactly behind the last one whose ack the broker has got.
func TestOneWorkerKeepsTheOrderOfAHundredThousand(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := 100_000
		if raceDetector { // it takes ten times as long
			n /= 10
		}
		cuts := []int{n / 3, n/2 + 1, n - 7}
		cut := make(chan int)
		var list []*consumer.Delivery
		begun := 0 // cuts
		f := newMemoryFixture(t, consumer.Config{}, func(ctx context.Context, d *consumer.Delivery) error {
			list = append(list, d)
			if i := number(d); begun < len(cuts) && i == cuts[begun] {
				begun++
				cut <- i
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		var mu sync.Mutex
		acked := map[int]uint64{} // tags, by connection
		f.broker.Intercept(func(e *mqtest.Event) mqtest.Action {
			if e.Point == mqtest.Received && e.Method == "basic.ack" {
				mu.Lock()
				defer mu.Unlock()
				acked[e.Conn] = max(acked[e.Conn], e.Tag)
			}
			return mqtest.Pass()
		})
		f.enqueue(numbered(0, n-1)...)
		sub := f.subscription
		first := 0           // of the present session
		explained := []int{} // where the sessions begin, by what the broker has got
		for i := range cuts {
			at := receive(t, cut)
			time.Sleep(time.Second) // in the bubble: what is finished is written
			mu.Lock()
			first += int(acked[sub.Conn])
			mu.Unlock()
			if first > at {
				t.Fatalf("%d are acked, and %d is not finished", first, at)
			}
			explained = append(explained, first)
			f.cut(sub)
			_, sub = f.received.await(t, 0, i+2, "basic.consume")
		}
		f.until("all are settled", func() bool { return f.queue.Len() == 0 })
		f.stop()
		if err := f.wait(); err != nil {
			t.Error(err)
		}
		next, repeated := 0, 0
		for _, d := range list {
			i := number(d)
			if i != next {
				if len(explained) == 0 || i != explained[0] {
					t.Fatalf("%d came in the place of %d; sessions begin at %v", i, next, explained)
				}
				explained = explained[1:]
			}
			if i < next {
				repeated++
			}
			if i < next && !d.Redelivered {
				t.Errorf("%d came again and does not say so", i)
			}
			next = i + 1
		}
		if next != n || len(explained) != 0 || repeated != len(cuts) {
			t.Errorf("it ended at %d, with %d repeated; sessions that began elsewhere: %v", next, repeated, explained)
		}
	})
}

// number is the number that is a message's body.
func number(d *consumer.Delivery) int {
	i, err := strconv.Atoi(string(d.Body))
	if err != nil {
		panic(err)
	}
	return i
}

// TestOrderByKeepsTheOrderOfEachKey: a hundred keys, sixteen workers, handlers that take
// any time. One of a key is handled at a time, in every session; after a cut come again,
// in order, those that are not acked.
func TestOrderByKeepsTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	for _, cuts := range []int{0, 4} {
		t.Run(fmt.Sprintf("%d cuts", cuts), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const n, keys, workers = 20_000, 100, 16
				key := func(d *consumer.Delivery) string { return strconv.Itoa(number(d) % keys) }
				var mu sync.Mutex // guards what follows
				rnd := rand.New(rand.NewPCG(5, 5))
				running, last, seen := map[string]int{}, map[string]int{}, map[int]bool{}
				handled, most := 0, 0
				f := newMemoryFixture(t, consumer.Config{Workers: workers, Prefetch: 200, OrderBy: key},
					func(ctx context.Context, d *consumer.Delivery) error {
						i, k := number(d), key(d)
						mu.Lock()
						running[k]++
						if running[k] > 1 {
							t.Errorf("two of key %s are handled at once", k)
						}
						most = max(most, len(running))
						switch before, had := last[k]; {
						case seen[i] && !d.Redelivered:
							t.Errorf("%d came twice", i)
						case !seen[i] && had && i < before:
							t.Errorf("%d came after %d, which has its key", i, before)
						case had && i > before+keys:
							t.Errorf("%d came after %d, and what is between did not", i, before)
						}
						last[k], seen[i] = i, true
						handled++
						wait := time.Duration(rnd.IntN(2000)) * time.Microsecond
						mu.Unlock()
						time.Sleep(wait) // in the bubble
						mu.Lock()
						defer mu.Unlock()
						if running[k]--; running[k] == 0 {
							delete(running, k)
						}
						return nil
					})
				f.enqueue(numbered(0, n-1)...)
				sub := f.subscription
				for i := range cuts {
					time.Sleep(200 * time.Millisecond) // in the bubble
					f.cut(sub)
					_, sub = f.received.await(t, 0, i+2, "basic.consume")
				}
				f.until("all are settled", func() bool { return f.queue.Len() == 0 })
				mu.Lock()
				defer mu.Unlock()
				if len(seen) != n || most < workers/2 {
					t.Errorf("%d of %d were handled, at most %d keys at once", len(seen), n, most)
				}
				if repeated := handled - n; (repeated > 0) != (cuts > 0) {
					t.Errorf("%d were repeated, with %d cuts", repeated, cuts)
				}
				if s := f.Stats(); s.Sessions != uint64(cuts)+1 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestPrioritiesComeFirst out of a classic queue that has them, and a quorum queue of 4.3;
// within one the order is that of publishing.
func TestPrioritiesComeFirst(t *testing.T) {
	t.Parallel()
	for _, q := range []topology.Queue{{Name: "q", Type: topology.Classic, MaxPriority: 9}, {Name: "q"}} {
		t.Run(fmt.Sprint(q.Type), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				goOn := make(chan struct{})
				var got []string
				f := newMemoryFixture(t, consumer.Config{Prefetch: 1}, func(_ context.Context, d *consumer.Delivery) error {
					if string(d.Body) == "first" {
						<-goOn
						return nil
					}
					got = append(got, string(d.Body))
					if fmt.Sprint(d.Priority) != strings.Split(string(d.Body), ".")[0] {
						t.Errorf("%s has priority %d", d.Body, d.Priority)
					}
					return nil
				}, queues(q))
				f.enqueue("first")
				f.until("it is handled", func() bool { return f.Status().Handling == 1 })
				var want []string
				for i := range 90 { // 1 to 9, mixed
					p := uint8(i*7%9 + 1)
					want = append(want, fmt.Sprintf("%d.%02d", p, i))
					f.queue.Enqueue(mqtest.Message{Priority: p, Body: []byte(want[i])})
				}
				slices.SortStableFunc(want, func(a, b string) int { return int(b[0]) - int(a[0]) })
				close(goOn)
				f.until("all are settled", func() bool { return f.queue.Len() == 0 })
				f.stop()
				if err := f.wait(); err != nil {
					t.Error(err)
				}
				if !slices.Equal(got, want) {
					t.Errorf("they came as %v", got)
				}
			})
		})
	}
}

// TestAPanicOfOrderByCostsNoMessage: it is handled, in the order of those without a key.
func TestAPanicOfOrderByCostsNoMessage(t *testing.T) {
	t.Parallel()
	handled := make(chan string, 10)
	f := newFixture(t, consumer.Config{Workers: 4, OrderBy: func(d *consumer.Delivery) string {
		if string(d.Body) == "a" {
			panic("no key")
		}
		return "key"
	}}, func(_ context.Context, d *consumer.Delivery) error {
		handled <- string(d.Body)
		return nil
	})
	f.enqueue("a", "b")
	got := []string{receive(t, handled), receive(t, handled)}
	if slices.Sort(got); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("handled %q", got)
	}
	if s := f.log.String(); !strings.Contains(s, "OrderBy panicked") || !strings.Contains(s, "no key") {
		t.Errorf("the log is %s", s)
	}
}
