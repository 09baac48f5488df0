package engine_test

import (
	"runtime"
	"testing"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// nothing is a Sink that settles in its place: it remembers the last tag.
type nothing struct {
	delivered uint64
	confirmed uint64
}

func (n *nothing) Deliver(_ string, tag uint64, _ bool, _ *engine.Delivery) { n.delivered = tag }
func (n *nothing) Return(uint16, string, string, string, []byte, []byte)    {}
func (n *nothing) Confirm(tag uint64, _, _ bool)                            { n.confirmed = tag }
func (n *nothing) Cancel(string)                                            {}
func (n *nothing) Close(*engine.Exception)                                  {}
func (n *nothing) Ready() bool                                              { return true }

func bench(b *testing.B, kind string) (*engine.Channel, *nothing) {
	conn, e := engine.New(engine.Options{}).Connect(engine.ConnInfo{Vhost: "/", User: "guest"})
	if e != nil {
		b.Fatal(e)
	}
	b.Cleanup(conn.Close)
	sink := &nothing{}
	ch := conn.Channel(1, sink)
	args := wire.Table{{Key: "x-queue-type", Value: kind}}
	if _, e := ch.QueueDeclare(&wire.QueueDeclare{Queue: "q", Durable: true, Arguments: args}); e != nil {
		b.Fatal(e)
	}
	if e := ch.ConfirmSelect(&wire.ConfirmSelect{}); e != nil {
		b.Fatal(e)
	}
	return ch, sink
}

// BenchmarkPublishDeliverAck is a message's whole life: published, confirmed,
// delivered and acked by itself.
func BenchmarkPublishDeliverAck(b *testing.B) {
	for _, kind := range []string{"classic", "quorum"} {
		b.Run(kind, func(b *testing.B) {
			ch, sink := bench(b, kind)
			if e := ch.Qos(&wire.BasicQos{PrefetchCount: 1000}); e != nil {
				b.Fatal(e)
			}
			if e := ch.Consume(&wire.BasicConsume{Queue: "q"}, func(string) {}); e != nil {
				b.Fatal(e)
			}
			properties := raw(wire.Properties{ContentType: "text/plain", DeliveryMode: 2, MessageID: "0123456789"})
			body := make([]byte, 256)
			publish, ack := &wire.BasicPublish{RoutingKey: "q"}, &wire.BasicAck{}
			b.ReportAllocs()
			for b.Loop() {
				if e := ch.Publish(publish, properties, body); e != nil {
					b.Fatal(e)
				}
				ack.DeliveryTag = sink.delivered
				if e := ch.Ack(ack); e != nil {
					b.Fatal(e)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

func TestMillionMessagesTakeLittle(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("a million messages")
	}
	const n, limit = 1_000_000, 600
	for _, kind := range []string{"classic", "quorum"} {
		b, c := start(t, engine.Options{})
		c.queue("q", "x-queue-type", kind)
		properties := raw(wire.Properties{ContentType: "text/plain", DeliveryMode: 2, MessageID: "0123456789abcdef0123456789abcdef"})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range n {
			// Each publish has slices of its own, as it has from the wire.
			p, body := append([]byte(nil), properties...), make([]byte, 16)
			c.ok(c.Publish(&wire.BasicPublish{RoutingKey: string([]byte("q"))}, p, body))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := int64(after.HeapAlloc-before.HeapAlloc)/n - 16
		t.Logf("%s: %d bytes each", kind, each)
		if each > limit {
			t.Errorf("%s: a message takes %d bytes beyond its body, more than %d", kind, each, limit)
		}
		if got := b.Purge("/", "q"); got != n {
			t.Errorf("%d messages", got)
		}
	}
}
