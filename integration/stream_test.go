package integration_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// aStream declares a stream and publishes n numbered messages into it.
func aStream(t *testing.T, n int) (url, queue string, p *producer.Producer) {
	t.Helper()
	url, queue = sharedNode(t).URL(), uniqueName(t)
	pool, _ := open(t, reconnect.Config{
		URLs:     []string{url},
		Topology: topology.Topology{Queues: []topology.Queue{{Name: queue, Type: topology.Stream}}},
	})
	p = newProducer(t, pool, producer.Config{})
	publish(t, p, queue, n)
	return url, queue, p
}

// offsets are those that a consumer of a stream was given, in order.
type offsets struct {
	mu   sync.Mutex
	list []uint64
}

func (o *offsets) handle(_ context.Context, d *consumer.Delivery) error {
	n, ok := d.StreamOffset()
	if !ok || fmt.Sprint(n) != string(d.Body) {
		return fmt.Errorf("offset %d, %v, of message %q", n, ok, d.Body)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, n)
	return nil
}

func (o *offsets) seen() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]uint64(nil), o.list...)
}

func TestAStreamIsConsumedFromEachKindOfOffset(t *testing.T) {
	t.Parallel()
	const n = 100
	began := time.Now()
	url, queue, p := aStream(t, n)
	for _, tt := range []struct {
		offset      consumer.Offset
		least, most uint64 // the first delivery
	}{
		{consumer.OffsetFirst, 0, 0},
		{consumer.OffsetNumber(70), 70, 70},
		{consumer.OffsetLast, 0, n - 1},
		{consumer.OffsetTime(began.Add(-time.Minute)), 0, 0},
		{consumer.OffsetInterval(time.Since(began) + time.Minute), 0, 0},
		{consumer.OffsetNext, n, n},
		{consumer.Offset{}, n + 1, n + 1}, // as next
	} {
		pool, _ := open(t, reconnect.Config{
			URLs: []string{url}, First: reconnect.Consuming,
			Topology: topology.Topology{Queues: []topology.Queue{{Name: queue, Type: topology.Stream}}},
		})
		var got offsets
		c := consume(t, pool, consumer.Config{Queue: queue, Offset: tt.offset}, got.handle)
		c.awaitSubscribed(t)
		if tt.most >= n { // what is published from now on
			if err := p.Publish(t.Context(), producer.Text(fmt.Sprint(tt.least)).ToQueue(queue)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, fmt.Sprintf("something comes from offset %s", tt.offset), patience, func() bool { return len(got.seen()) > 0 })
		if first := got.seen()[0]; first < tt.least || first > tt.most {
			t.Errorf("offset %s begins at %d, want %d to %d", tt.offset, first, tt.least, tt.most)
		}
		if err := c.stop(); err != nil {
			t.Errorf("offset %s: %v", tt.offset, err)
		}
		if s := c.Stats(); s.Failures != 0 {
			t.Errorf("offset %s: %+v, %v", tt.offset, s, c.Status().LastFailure)
		}
	}
}

// TestAStreamGoesOnWithWhatCameDuringAnOutage, although it was asked for what is next, and
// nothing had come before.
func TestAStreamGoesOnWithWhatCameDuringAnOutage(t *testing.T) {
	t.Parallel()
	const n = 100
	url, queue, p := aStream(t, n)
	proxy := mqtest.NewProxy(t, url)
	pool, states := open(t, reconnect.Config{
		URLs: []string{proxy.URL()}, First: reconnect.Consuming,
		Topology: topology.Topology{Queues: []topology.Queue{{Name: queue, Type: topology.Stream}}},
	})
	pause(t.Context(), 2*time.Second) // AMQP's times are in seconds
	var got offsets
	c := consume(t, pool, consumer.Config{Queue: queue, Offset: consumer.OffsetNext}, got.handle)
	c.awaitSubscribed(t)
	pause(t.Context(), 2*time.Second)
	proxy.RefuseConnections()
	if proxy.DropConnections() == 0 {
		t.Fatal("nothing was cut")
	}
	states.await(t, reconnect.Consuming, reconnect.Waiting, 1)
	for i := range 3 {
		mustBe(t, p.Publish(t.Context(), producer.Text(fmt.Sprint(n+i)).ToQueue(queue)), producer.Confirmed)
	}
	must(t, proxy.AcceptConnections())
	eventually(t, "what came during the outage is consumed", patience, func() bool { s := got.seen(); return len(s) >= 3 && s[len(s)-1] == n+2 })
	if s := got.seen(); s[len(s)-3] != n { // older ones may come first: the session was a short one
		t.Errorf("it went on with %v", s)
	}
}

// TestAStreamGoesOnAfterACut: nothing is left out, and what comes twice was not acked.
func TestAStreamGoesOnAfterACut(t *testing.T) {
	t.Parallel()
	const n = 5000
	url, queue, _ := aStream(t, n)
	proxy := mqtest.NewProxy(t, url)
	pool, _ := open(t, reconnect.Config{
		URLs: []string{proxy.URL()}, First: reconnect.Consuming,
		Topology: topology.Topology{Queues: []topology.Queue{{Name: queue, Type: topology.Stream}}},
	})
	var got offsets
	c := consume(t, pool, consumer.Config{Queue: queue, Offset: consumer.OffsetFirst, Prefetch: 50, Workers: 4}, got.handle)
	for i := range 3 {
		eventually(t, "some are consumed", patience, func() bool { return len(got.seen()) > (i+1)*n/5 })
		if len(got.seen()) >= n {
			t.Fatal("all are consumed before the cut")
		}
		if proxy.DropConnections() == 0 {
			t.Fatal("nothing was cut")
		}
		eventually(t, "it is subscribed again", patience, func() bool { return c.Stats().Sessions == uint64(i)+2 })
	}
	times := map[uint64]int{}
	eventually(t, "all are consumed", patience, func() bool {
		clear(times)
		for _, o := range got.seen() {
			times[o]++
		}
		return len(times) == n
	})
	twice := 0
	for o, k := range times {
		if k > 1 {
			twice++
		}
		if k > 4 {
			t.Errorf("offset %d came %d times", o, k)
		}
	}
	t.Logf("%d of %d came more than once, over 3 cuts with 50 prefetched", twice, n)
	if twice > 3*50 {
		t.Errorf("%d came more than once: more than what was prefetched at the cuts", twice)
	}
}

// TestAMessageThatNoDriverReadsCostsNoOther: it ends the connection each time that it is
// given out, and the broker counts that as a failed delivery of all that was prefetched.
func TestAMessageThatNoDriverReadsCostsNoOther(t *testing.T) {
	t.Parallel()
	const limit, good = 3, 40
	url, queue := sharedNode(t).URL(), uniqueName(t)
	pool, _ := open(t, reconnect.Config{
		URLs: []string{url}, First: reconnect.Consuming,
		Topology: topology.Topology{Queues: []topology.Queue{
			{Name: queue, DeliveryLimit: limit, DeadLetterQueue: queue + ".dead"}, {Name: queue + ".dead"},
		}},
	})
	own := admin(t, url)
	headers := amqp.Table{"flags": make([]any, 9000)} // the driver writes it, and reads 8192
	for i := range headers["flags"].([]any) {
		headers["flags"].([]any)[i] = true
	}
	put := func(m amqp.Publishing) {
		t.Helper()
		m.DeliveryMode = amqp.Persistent
		if err := own.Publish("", queue, false, false, m); err != nil {
			t.Fatal(err)
		}
	}
	put(amqp.Publishing{Headers: headers, Body: []byte("poison")})
	for i := range good {
		put(amqp.Publishing{Body: []byte(fmt.Sprint(i))})
	}
	eventually(t, "all are in the queue", patience, func() bool { return ready(t, own, queue) == good+1 })
	var mu sync.Mutex
	handled, most := map[string]bool{}, 0
	c := consume(t, pool, consumer.Config{Queue: queue, Prefetch: 100}, func(_ context.Context, d *consumer.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		handled[string(d.Body)] = true
		most = max(most, d.Attempt()-1)
		return nil
	})
	eventually(t, "all others are handled", patience, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(handled) == good
	})
	eventually(t, "it is dead-lettered", patience, func() bool { return ready(t, own, queue+".dead") == 1 })
	if s := c.Stats(); s.Sessions < limit+1 {
		t.Errorf("%+v: did it end any connection?", s)
	}
	if most > 1 {
		t.Errorf("a good message was counted as failed %d times", most)
	}
}
