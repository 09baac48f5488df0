package consumer_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
)

// TestASettlementWhileTheDriverClosesHidesNotWhy: it closes the channels of a connection one
// after the other, and takes nothing on any of them meanwhile. With many of them some
// settlement comes in between.
func TestASettlementWhileTheDriverClosesHidesNotWhy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const consumers = 50
		done := func(context.Context, *consumer.Delivery) error { return nil }
		f := newMemoryFixture(t, consumer.Config{}, done)
		var n atomic.Int64
		forced := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "basic.ack", Count: 5, If: func(*mqtest.Event) bool { return n.Add(1)%200 == 0 },
			Do: mqtest.CloseConnection(320, "CONNECTION_FORCED - test"),
		})
		var wg sync.WaitGroup
		for range consumers {
			c, err := consumer.New(f.pool, consumer.Config{Queue: "q", Prefetch: 1, Logger: slog.New(slog.NewTextHandler(f.log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { _ = c.Run(t.Context(), done) })
		}
		f.until("all subscribe", func() bool { return f.queue.Info().Consumers > consumers })
		for range 3000 {
			f.enqueue("x")
		}
		if err := forced.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := f.log.String()
		if n := strings.Count(all, amqp.ErrClosed.Reason); n > 0 || !strings.Contains(all, "CONNECTION_FORCED") {
			t.Errorf("%d sessions ended without the broker's word", n)
		}
		f.pool.CloseNow()
		wg.Wait()
	})
}
