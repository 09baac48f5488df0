package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// number is the number that is a message's body.
func number(d *consumer.Delivery) int {
	i, err := strconv.Atoi(string(d.Body))
	if err != nil {
		panic(err)
	}
	return i
}

// inOrder is quorum with a queue that keeps its order when a connection is lost as well:
// without a single active consumer a busy broker may serve the new one before it has
// noticed that the old one is gone.
func inOrder(queue, url string) reconnect.Config {
	cfg := quorum(queue, url)
	cfg.Topology.Queues[0].SingleActiveConsumer = true
	return cfg
}

// TestOneWorkerKeepsTheOrderOfAHundredThousand: strictly, without a fault; after a cut it
// goes on with one that was not acked, and what comes again says so.
func TestOneWorkerKeepsTheOrderOfAHundredThousand(t *testing.T) {
	t.Parallel()
	n := 100_000
	if raceDetector { // it takes several times as long
		n /= 5
	}
	const cuts, prefetch = 3, 100
	url, queue := sharedNode(t).URL(), uniqueName(t)
	direct, _ := open(t, inOrder(queue, url))
	publish(t, newProducer(t, direct, producer.Config{}), queue, n)
	proxy := mqtest.NewProxy(t, url)
	pool, _ := open(t, reconnect.Config{URLs: []string{proxy.URL()}, First: reconnect.Consuming})
	var mu sync.Mutex // guards what follows
	acked := map[string]int{}
	tags := map[int]string{}
	proxy.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point == mqtest.Received {
			mu.Lock()
			defer mu.Unlock()
			switch e.Method {
			case "basic.consume":
				tags[e.Conn] = e.ConsumerTag
			case "basic.ack":
				acked[tags[e.Conn]] = max(acked[tags[e.Conn]], int(e.Tag))
			}
		}
		return mqtest.Pass()
	})
	var list []*consumer.Delivery
	var handled, highest atomic.Int64 // repetitions are handled too
	c := consume(t, pool, consumer.Config{Queue: queue, Prefetch: prefetch}, func(_ context.Context, d *consumer.Delivery) error {
		d.Headers = nil // there are many
		list = append(list, d)
		handled.Add(1)
		highest.Store(max(highest.Load(), int64(number(d))))
		return nil
	})
	for i := range cuts { // all of them in the second half
		eventually(t, "it is handled so far", 3*patience, func() bool { return handled.Load() > int64(n/2+i*n/8) })
		sessions := c.Stats().Sessions
		if proxy.DropConnections() == 0 {
			t.Fatal("nothing was cut")
		}
		eventually(t, "it is subscribed again", patience, func() bool { return c.Stats().Sessions > sessions })
	}
	eventually(t, "it has come to the end", 3*patience, func() bool { return highest.Load() == int64(n)-1 && c.Status().Handling == 0 })
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	next, seen, repeated := 0, 0, 0
	first, session := 0, list[0].ConsumerTag // the first of a session
	for _, d := range list {
		i := number(d)
		switch done := first + acked[session]; {
		case d.ConsumerTag == session:
			if i != next {
				t.Fatalf("%d came in the place of %d", i, next)
			}
		case i > next:
			t.Fatalf("after a cut it goes on with %d, and %d to %d are left out", i, next, i-1)
		case i > done:
			t.Fatalf("after a cut it goes on with %d, but only those before %d were acked", i, done)
		case i < done-prefetch: // an ack can be lost on its way
			t.Fatalf("after a cut it goes on with %d, although all before %d were acked", i, done)
		}
		if d.ConsumerTag != session {
			t.Logf("a cut at %d: %d were acked, it goes on with %d", next, first+acked[session], i)
			first, session = i, d.ConsumerTag
		}
		if i < seen {
			repeated++
			if !d.Redelivered {
				t.Errorf("%d came again and does not say so", i)
			}
		}
		next, seen = i+1, max(seen, i+1)
	}
	if s := c.Stats(); next != n || s.Sessions != cuts+1 || repeated > cuts*prefetch {
		t.Errorf("it ended at %d, with %d repeated: %+v", next, repeated, s)
	}
}

// TestOrderByKeepsTheOrderOfEachKey: a hundred keys, sixteen workers, handlers that take
// any time, two cuts. One of a key is handled at a time.
func TestOrderByKeepsTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	const n, keys, workers, cuts = 10_000, 100, 16, 2
	url, queue := sharedNode(t).URL(), uniqueName(t)
	direct, _ := open(t, inOrder(queue, url))
	publish(t, newProducer(t, direct, producer.Config{}), queue, n)
	proxy := mqtest.NewProxy(t, url)
	pool, _ := open(t, reconnect.Config{URLs: []string{proxy.URL()}, First: reconnect.Consuming})
	key := func(d *consumer.Delivery) string { return strconv.Itoa(number(d) % keys) }
	var mu sync.Mutex // guards what follows
	running, last, seen := map[string]int{}, map[string]int{}, map[int]bool{}
	handled, most := 0, 0
	c := consume(t, pool, consumer.Config{Queue: queue, Workers: workers, Prefetch: 200, OrderBy: key}, func(_ context.Context, d *consumer.Delivery) error {
		i, k := number(d), key(d)
		mu.Lock()
		running[k]++
		if running[k] > 1 {
			t.Errorf("two of key %s are handled at once", k)
		}
		most = max(most, len(running))
		before, had := last[k]
		switch {
		case seen[i] && !d.Redelivered:
			t.Errorf("%d came twice", i)
		case !seen[i] && had && i < before:
			t.Errorf("%d came after %d, which has its key", i, before)
		case had && i > before+keys:
			t.Errorf("%d came after %d, and what is between did not", i, before)
		}
		last[k], seen[i] = i, true
		handled++
		mu.Unlock()
		<-time.After(rand.N(2 * time.Millisecond)) // work
		mu.Lock()
		defer mu.Unlock()
		if running[k]--; running[k] == 0 {
			delete(running, k)
		}
		return nil
	})
	for i := range cuts {
		eventually(t, "it is handled so far", patience, func() bool { mu.Lock(); defer mu.Unlock(); return handled > (i+1)*n/4 })
		sessions := c.Stats().Sessions
		if proxy.DropConnections() == 0 {
			t.Fatal("nothing was cut")
		}
		eventually(t, "it is subscribed again", patience, func() bool { return c.Stats().Sessions > sessions })
	}
	eventually(t, "all are handled", patience, func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == n })
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if s := c.Stats(); s.Sessions != cuts+1 || most < workers/2 {
		t.Errorf("at most %d keys at once, %+v", most, s)
	}
	t.Logf("%d were handled again", handled-n)
}

// TestPrioritiesComeFirst out of a classic queue that has them, and from 4.3 on out of a
// quorum queue; within one the order is that of publishing.
func TestPrioritiesComeFirst(t *testing.T) {
	t.Parallel()
	for _, kind := range []topology.QueueType{topology.Classic, topology.Quorum} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			node := sharedNode(t)
			q := topology.Queue{Name: uniqueName(t), Type: kind}
			if kind == topology.Classic {
				q.MaxPriority = 9
			} else {
				requireVersion(t, node, ">=4.3")
			}
			pool, _ := open(t, reconnect.Config{URLs: []string{node.URL()}, Topology: topology.Topology{Queues: []topology.Queue{q}}})
			p := newProducer(t, pool, producer.Config{})
			var want, got []string
			for i := range 90 { // 1 to 9, mixed
				m := producer.Text(fmt.Sprintf("%d.%02d", i*7%9+1, i)).ToQueue(q.Name)
				m.Priority = uint8(i*7%9 + 1)
				mustBe(t, p.Publish(t.Context(), m), producer.Confirmed)
				want = append(want, string(m.Body))
			}
			slices.SortStableFunc(want, func(a, b string) int { return int(b[0]) - int(a[0]) })
			c := consume(t, pool, consumer.Config{Queue: q.Name, Prefetch: 1}, func(_ context.Context, d *consumer.Delivery) error {
				got = append(got, string(d.Body))
				if fmt.Sprint(d.Priority) != strings.Split(string(d.Body), ".")[0] {
					t.Errorf("%s has priority %d", d.Body, d.Priority)
				}
				return nil
			})
			eventually(t, "all are acked", patience, func() bool { return c.Stats().Acked == uint64(len(want)) })
			if err := c.stop(); err != nil {
				t.Error(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("they came as %v", got)
			}
		})
	}
}
