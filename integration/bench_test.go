package integration_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// The benchmarks pair mqkit with the bare driver used the usual way, in turn, on
// the same broker, queue type and payload, and mqtest with RabbitMQ under the same
// program of the bare driver. They report the median of the ratios: these machines
// are noisy, so a time alone says little.

const (
	benchMessages = 20000
	benchWindow   = 1000
	benchBody     = 256
	benchPrefetch = 200
)

// benchNode is a node for one benchmark, or the broker of AMQP_URL.
func benchNode(b *testing.B) *broker.Node {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), launchTimeout)
	defer cancel()
	node, err := broker.Find(ctx, broker.Options{})
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { _ = node.Close(context.Background()) })
	return node
}

// pair runs ours and the other in turn, once for each iteration, and reports
// messages per second of both and the median of the ratios.
func pair(b *testing.B, name string, ours func() time.Duration, other string, bare func() time.Duration) {
	var ratios, mine, theirs []float64
	for b.Loop() {
		o, d := ours(), bare()
		mine = append(mine, benchMessages/o.Seconds())
		theirs = append(theirs, benchMessages/d.Seconds())
		ratios = append(ratios, d.Seconds()/o.Seconds())
	}
	median := func(v []float64) float64 {
		slices.Sort(v)
		return v[len(v)/2]
	}
	b.ReportMetric(median(mine), name+"-msg/s")
	b.ReportMetric(median(theirs), other+"-msg/s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(0, "ns/op")
}

func bareChannel(b *testing.B, url string) *amqp.Channel {
	b.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	return ch
}

func benchPool(b *testing.B, url string, queues ...string) *reconnect.Pool {
	b.Helper()
	var t topology.Topology
	for _, q := range queues {
		t.Queues = append(t.Queues, topology.Queue{Name: q, DeliveryLimit: topology.Unlimited})
	}
	pool, err := reconnect.Open(b.Context(), reconnect.Config{URLs: []string{url}, Topology: t})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = pool.Close(context.Background()) })
	return pool
}

// publishBare publishes n messages with deferred confirms, a window of them
// unconfirmed.
func publishBare(b *testing.B, ch *amqp.Channel, queue string, n int) {
	b.Helper()
	body := make([]byte, benchBody)
	window := make(chan *amqp.DeferredConfirmation, benchWindow)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c := range window {
			if !c.Wait() {
				b.Error("not confirmed")
			}
		}
	}()
	for i := range n {
		c, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
			Body: body, DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint(i),
		})
		if err != nil {
			b.Fatal(err)
		}
		window <- c
	}
	close(window)
	<-done
}

func publishOurs(b *testing.B, p *producer.Producer, queue string, n int) {
	b.Helper()
	m := producer.Bytes(make([]byte, benchBody)).ToQueue(queue)
	for range n {
		if _, err := p.PublishAsync(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkConfirmedPublish(b *testing.B) {
	node := benchNode(b)
	queue := fmt.Sprintf("bench.%d", os.Getpid())
	pool := benchPool(b, node.URL(), queue)
	p, err := producer.New(pool, producer.Config{MaxInFlight: benchWindow})
	if err != nil {
		b.Fatal(err)
	}
	ch := bareChannel(b, node.URL())
	if err := ch.Confirm(false); err != nil {
		b.Fatal(err)
	}
	purge := bareChannel(b, node.URL())
	timed := func(f func()) time.Duration {
		begin := time.Now()
		f()
		took := time.Since(begin)
		if _, err := purge.QueuePurge(queue, false); err != nil {
			b.Fatal(err)
		}
		return took
	}
	pair(b,
		"mqkit", func() time.Duration { return timed(func() { publishOurs(b, p, queue, benchMessages) }) },
		"bare", func() time.Duration { return timed(func() { publishBare(b, ch, queue, benchMessages) }) },
	)
	if s := p.Stats(); s.Confirmed != s.Accepted {
		b.Errorf("%+v", s)
	}
}

func BenchmarkConsumeAndAck(b *testing.B) {
	node := benchNode(b)
	queue := fmt.Sprintf("bench.%d", os.Getpid())
	pool := benchPool(b, node.URL(), queue)
	p, err := producer.New(pool, producer.Config{MaxInFlight: benchWindow})
	if err != nil {
		b.Fatal(err)
	}
	c, err := consumer.New(pool, consumer.Config{Queue: queue, Prefetch: benchPrefetch})
	if err != nil {
		b.Fatal(err)
	}
	ours := func() time.Duration {
		publishOurs(b, p, queue, benchMessages)
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		var n atomic.Int64
		var took time.Duration
		begin := time.Now()
		err := c.Run(ctx, func(context.Context, *consumer.Delivery) error {
			if n.Add(1) == benchMessages {
				took = time.Since(begin)
				cancel()
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		return took
	}
	bare := func() time.Duration {
		publishOurs(b, p, queue, benchMessages)
		ch := bareChannel(b, node.URL())
		defer func() { _ = ch.Close() }()
		return consumeBare(b, ch, queue, benchMessages)
	}
	pair(b, "mqkit", ours, "bare", bare)
}

// consumeBare consumes n messages that are there, and acks each.
func consumeBare(b *testing.B, ch *amqp.Channel, queue string, n int) time.Duration {
	b.Helper()
	begin := time.Now()
	if err := ch.Qos(benchPrefetch, 0, false); err != nil {
		b.Fatal(err)
	}
	in, err := ch.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	for range n {
		d, open := <-in
		if !open {
			b.Fatal("the channel was closed")
		}
		if err := d.Ack(false); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin)
}

// bareProgram is the same program for any broker: messages are published with
// confirms, then consumed and acked.
type bareProgram struct {
	b       *testing.B
	publish *amqp.Channel
	consume func() *amqp.Channel
	queue   string
}

func newBareProgram(b *testing.B, url string) *bareProgram {
	b.Helper()
	p := &bareProgram{b: b, publish: bareChannel(b, url), queue: fmt.Sprintf("bench.%d", os.Getpid())}
	p.consume = func() *amqp.Channel { return bareChannel(b, url) }
	if err := p.publish.Confirm(false); err != nil {
		b.Fatal(err)
	}
	if _, err := p.publish.QueueDeclare(p.queue, true, false, false, false, nil); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = p.publish.QueueDelete(p.queue, false, false, false) })
	return p
}

// run returns how long each half has taken.
func (p *bareProgram) run() (published, consumed time.Duration) {
	begin := time.Now()
	publishBare(p.b, p.publish, p.queue, benchMessages)
	published = time.Since(begin)
	ch := p.consume()
	defer func() { _ = ch.Close() }()
	return published, consumeBare(p.b, ch, p.queue, benchMessages)
}

// BenchmarkMqtest is mqtest beside RabbitMQ.
func BenchmarkMqtest(b *testing.B) {
	for _, x := range []struct {
		name string
		half func(published, consumed time.Duration) time.Duration
	}{
		{"ConfirmedPublish", func(published, _ time.Duration) time.Duration { return published }},
		{"ConsumeAndAck", func(_, consumed time.Duration) time.Duration { return consumed }},
	} {
		b.Run(x.name, func(b *testing.B) {
			ours, theirs := newBareProgram(b, mqtest.New(b).URL()), newBareProgram(b, benchNode(b).URL())
			pair(b,
				"mqtest", func() time.Duration { return x.half(ours.run()) },
				"rabbitmq", func() time.Duration { return x.half(theirs.run()) },
			)
		})
	}
}
