package engine_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// settling is a Sink that notes tags for the goroutine that settles them.
type settling struct {
	nothing
	tags chan uint64
}

func (s *settling) Deliver(_ string, tag uint64, _ bool, _ *engine.Delivery) { s.tags <- tag }
func (s *settling) Ready() bool                                              { return len(s.tags) < cap(s.tags) }

// TestNothingIsLostOrDoubled has clients publish, settle as they like and go away
// without a word, all at once: in the end what was published was acked or is in
// the queue.
func TestNothingIsLostOrDoubled(t *testing.T) {
	t.Parallel()
	for kind, args := range map[string][]any{
		"classic": nil,
		"quorum":  {"x-queue-type", "quorum", "x-delivery-limit", int32(-1)},
	} {
		b, c := start(t, engine.Options{})
		c.queue("q", args...)
		var published, acked atomic.Int64
		var clients sync.WaitGroup
		for i := range 4 {
			clients.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), 1))
				for range 20 {
					hammer(b, random, &published, &acked)
				}
			})
		}
		clients.Wait()
		q, _ := b.Queue("/", "q")
		if got := acked.Load() + int64(q.Ready); got != published.Load() || q.Unacked != 0 {
			t.Errorf("%s: published %d, acked %d, ready %d, unacked %d", kind, published.Load(), acked.Load(), q.Ready, q.Unacked)
		}
		if got := len(b.Messages("/", "q")); got != q.Ready {
			t.Errorf("%s: %d messages listed, %d counted", kind, got, q.Ready)
		}
	}
}

func hammer(b *engine.Broker, random *rand.Rand, published, acked *atomic.Int64) {
	conn, e := b.Connect(engine.ConnInfo{Vhost: "/"})
	if e != nil {
		panic(e)
	}
	defer conn.Close()
	sink := &settling{tags: make(chan uint64, 50)}
	ch := conn.Channel(1, sink)
	must := func(e *engine.Exception) {
		if e != nil {
			panic(e)
		}
	}
	must(ch.Qos(&wire.BasicQos{PrefetchCount: uint16(random.IntN(20))}))
	must(ch.Consume(&wire.BasicConsume{Queue: "q"}, func(string) {}))
	held := map[uint64]bool{}
	for range 200 {
		switch random.IntN(4) {
		case 0, 1:
			must(ch.Publish(&wire.BasicPublish{RoutingKey: "q"}, raw(), fmt.Append(nil, random.Int())))
			published.Add(1)
		case 2:
			for len(sink.tags) > 0 {
				held[<-sink.tags] = true
			}
			ch.Resume()
		default:
			for tag := range held {
				delete(held, tag)
				switch random.IntN(4) {
				case 0:
					must(ch.Nack(&wire.BasicNack{DeliveryTag: tag, Requeue: true}))
				case 1:
					must(ch.Reject(&wire.BasicReject{DeliveryTag: tag, Requeue: true}))
				default:
					must(ch.Ack(&wire.BasicAck{DeliveryTag: tag}))
					acked.Add(1)
				}
				if random.IntN(3) == 0 {
					break
				}
			}
		}
	}
}
