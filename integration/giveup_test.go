package integration_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestNoTornBodyIsStored: with its verdict the body belongs to whoever publishes
// again, and is filled with the next message at once.
func TestNoTornBodyIsStored(t *testing.T) {
	t.Parallel()
	queue := uniqueName(t)
	url := sharedNode(t).URL()
	pool, _ := open(t, reconnect.Config{URLs: []string{url}, Topology: topology.Topology{Queues: []topology.Queue{{Name: queue, Type: topology.Classic}}}})
	p := newProducer(t, pool, producer.Config{MaxInFlight: 4})
	const rounds = 30
	body := make([]byte, 2<<20)
	verdicts := map[producer.Verdict]int{}
	// The ctx ends earlier or later, while the message waits, is handed over, or
	// is on its way. All of that takes as long as the quickest one took.
	full := patience
	for i := range rounds {
		copy(body, bytes.Repeat([]byte{byte(i)}, len(body)))
		limit := full
		if i > 0 {
			limit = full * time.Duration(i) / rounds
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		began := time.Now()
		err := p.Publish(ctx, producer.Bytes(body).ToQueue(queue))
		cancel()
		v := producer.VerdictOf(err)
		verdicts[v]++
		if v == producer.Confirmed {
			full = min(full, time.Since(began))
		} else if i == 0 {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Close(ctx); err != nil { // the broker has all that was written
		t.Fatal(err)
	}
	if verdicts[producer.Unknown] == 0 {
		t.Errorf("no message was given up on its way: %v", verdicts)
	}
	own := admin(t, url)
	stored, torn := 0, 0
	for {
		d, ok, err := own.Get(queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		stored++
		if bytes.Count(d.Body, d.Body[:1]) != len(d.Body) {
			torn++
		}
	}
	t.Logf("verdicts %v, stored %d", verdicts, stored)
	if torn > 0 || stored < verdicts[producer.Confirmed] {
		t.Errorf("of %d stored bodies %d are torn", stored, torn)
	}
}

// TestShortRunsCountNothing: each ends while it subscribes or right after it, and
// gives back what it was sent; none of that is a failed delivery.
func TestShortRunsCountNothing(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	requireVersion(t, node, ">=4.3") // before, a release is counted
	queue := uniqueName(t)
	pool, _ := open(t, reconnect.Config{URLs: []string{node.URL()}, Topology: topology.Topology{Queues: []topology.Queue{{Name: queue, DeliveryLimit: topology.Unlimited}}}})
	p := newProducer(t, pool, producer.Config{})
	const n, rounds = 50, 30
	publish(t, p, queue, n)
	// run runs a consumer for so long, and returns how many subscriptions it had.
	run := func(limit time.Duration, first func()) int {
		c, err := consumer.New(pool, consumer.Config{Queue: queue})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		err = c.Run(ctx, func(context.Context, *consumer.Delivery) error {
			if first != nil {
				first()
				cancel()
			}
			<-ctx.Done()
			return consumer.Release(nil)
		})
		if err != nil {
			t.Errorf("Run: %v", err)
		}
		return c.Status().Sessions
	}
	var full time.Duration // from the beginning to the first delivery
	for range 2 {          // the first one also connects
		began := time.Now()
		run(patience, func() { full = time.Since(began) })
	}
	subscribed := 0
	for scale := time.Duration(2); subscribed == 0; scale *= 2 { // a busy machine may get slower
		if scale > 64 {
			t.Fatal("no Run came as far as to subscribe")
		}
		for i := range rounds {
			subscribed += run(scale*full*time.Duration(i)/rounds, nil)
		}
	}
	t.Logf("%d runs subscribed", subscribed)
	var mu sync.Mutex
	attempts := map[string]int{} // by body
	highest := func() (seen, most int) {
		mu.Lock()
		defer mu.Unlock()
		for _, a := range attempts {
			most = max(most, a)
		}
		return len(attempts), most
	}
	consume(t, pool, consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		attempts[string(d.Body)] = max(attempts[string(d.Body)], counted(d))
		return nil
	})
	eventually(t, "every message is still there", patience, func() bool { seen, _ := highest(); return seen == n })
	if _, most := highest(); most > 0 {
		t.Errorf("a delivery count of up to %d after runs that only gave back, by message: %v", most, attempts)
	}
}

// counted is the broker's count of failed deliveries.
func counted(d *consumer.Delivery) int {
	n, _ := d.Headers["x-delivery-count"].(int64)
	return int(n)
}
