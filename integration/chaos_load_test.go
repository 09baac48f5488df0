package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/ledger"
	"github.com/mqkit/mqkit/producer"
)

// What a round publishes and consumes, and the books of it.

// passes notes the moment of a confirm.
func (r *round) passes(o producer.Outcome) {
	r.told.Add(1)
	if o.Verdict != producer.Confirmed {
		return
	}
	r.clock.Lock()
	defer r.clock.Unlock()
	now := time.Now()
	r.longest = max(r.longest, now.Sub(r.at))
	r.at = now
}

// waits notes that nothing is confirmed because nothing is published: the consumers are behind.
func (r *round) waits() {
	if r.sent.Load() > r.told.Load() {
		return
	}
	r.clock.Lock()
	defer r.clock.Unlock()
	r.at = time.Now()
}

// gap is the longest time without a confirm since it was asked for last.
func (r *round) gap() time.Duration {
	r.clock.Lock()
	defer r.clock.Unlock()
	longest := r.longest
	r.longest = 0
	return longest
}

// consume consumes a queue by mqkit.
func (r *round) consume(queue string, h consumer.Handler) {
	r.t.Helper()
	r.watched = append(r.watched, consume(r.t, r.pool, r.consumes(consumer.Config{Queue: queue, Workers: 4, Prefetch: 200}), h))
}

// handler acks most.
func (r *round) handler() consumer.Handler {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(r.r.Uint64(), 7))
	return func(context.Context, *consumer.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		switch n := dice.IntN(1000); {
		case n == 0:
			return consumer.Release(errors.New("on purpose"))
		case n == 1:
			return consumer.Requeue(errors.New("on purpose"))
		case n < 12 && r.manner.deadLetters:
			return consumer.Reject(errors.New("on purpose"))
		default:
			return nil
		}
	}
}

// get gets messages one by one on the bare driver until ctx ends, from the next address
// whenever it loses one.
func (r *round) get(ctx context.Context) {
	for session := 0; ctx.Err() == nil; session++ {
		r.getOn(ctx, r.urls[session%len(r.urls)], fmt.Sprintf("get-%d", session))
		pause(ctx, 50*time.Millisecond)
	}
}

func (r *round) getOn(ctx context.Context, url, session string) {
	conn, err := amqp.DialConfig(url, amqp.Config{Heartbeat: 2 * time.Second, Dial: amqp.DefaultDial(2 * time.Second)})
	if err != nil {
		return
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		d, ok, err := ch.Get(r.queue, false)
		if err != nil {
			return
		}
		if !ok {
			pause(ctx, 5*time.Millisecond)
			continue
		}
		r.books.Received(ledger.Receipt{ID: d.MessageId, Queue: r.queue, Session: session, Tag: d.DeliveryTag, Redelivered: d.Redelivered})
		done, settle := "ack", func() error { return d.Ack(false) }
		if r.manner.deadLetters && d.DeliveryTag%100 == 0 {
			done, settle = "reject", func() error { return d.Reject(false) }
		}
		r.settled(ledger.Settlement{ID: d.MessageId, Session: session, Tag: d.DeliveryTag, Done: done})
		if err := settle(); err != nil {
			return // it may be given out again
		}
	}
}

// pause waits, not beyond ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// publish publishes until ctx ends, not too far ahead of the consumer.
func (r *round) publish(ctx context.Context, publisher int) {
	for i := 0; ctx.Err() == nil; i++ {
		for r.confirmed.Load()-r.handled.Load() > backlog && ctx.Err() == nil {
			r.waits()
			pause(ctx, time.Millisecond)
		}
		m := producer.Text("0123456789abcdef").ToQueue(r.queue)
		if publisher%2 == 1 {
			m = producer.Text("0123456789abcdef").To(r.exchange, "")
		}
		m.MessageID = fmt.Sprintf("%d-%d", publisher, i)
		r.sent.Add(1)
		// Not ctx: the end of the load must not give a message up.
		c, err := r.producer.PublishAsync(context.WithoutCancel(ctx), m)
		if err != nil {
			r.t.Errorf("publish %s: %v", m.MessageID, err)
			return
		}
		if r.manner.sync {
			r.answered(m.MessageID, c.Wait(context.WithoutCancel(ctx)))
		}
		if *chaosPause > 0 {
			pause(ctx, *chaosPause)
		}
	}
}
