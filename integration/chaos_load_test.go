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

// What is known of a message in round.open.
const wasConfirmed, wasHandled = 1, 2

// meets notes that a message was confirmed, or that a handler is done with it. It is done
// when both are.
func (r *round) meets(id string, confirmed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, now := r.open[id], wasHandled
	if confirmed {
		now = wasConfirmed
	}
	if before|now == wasConfirmed|wasHandled {
		delete(r.open, id)
	} else {
		r.open[id] = now
	}
}

// missing are those that were confirmed and are not handled yet.
func (r *round) missing() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, state := range r.open {
		if state == wasConfirmed {
			ids = append(ids, id)
		}
	}
	return ids
}

// tellMissing names some of what is missing, if the test has failed.
func (r *round) tellMissing() {
	if ids := r.missing(); r.t.Failed() {
		r.t.Logf("%d messages were confirmed and are not handled, such as %v", len(ids), ids[:min(10, len(ids))])
	}
}

func (r *round) attempted(a producer.Attempt) {
	r.sessions.Store(a.Session)
	r.books.Attempted(ledger.Attempt{ID: a.MessageID, Attempt: a.Number, Session: a.Session, Number: a.Tag})
}

func (r *round) told(o producer.Outcome) {
	r.books.Told(ledger.Verdict{ID: o.MessageID, Verdict: o.Verdict.String()})
	if o.Verdict == producer.Confirmed {
		r.confirmed.Add(1)
		r.meets(o.MessageID, true)
		r.passes(time.Now())
	}
}

// passes notes the moment of a confirm.
func (r *round) passes(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.longest = max(r.longest, now.Sub(r.at))
	r.at = now
}

// gap is the longest time without a confirm since it was asked for last.
func (r *round) gap() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	longest := r.longest
	r.longest = 0
	return longest
}

// isDone reports whether a settlement is the end of a message.
func (r *round) isDone(verdict string) bool {
	return verdict == "ack" || verdict == "reject" && !r.manner.deadLetters
}

// consume consumes a queue by mqkit.
func (r *round) consume(queue string, h consumer.Handler) {
	r.t.Helper()
	r.watched = append(r.watched, consume(r.t, r.pool, consumer.Config{
		Queue: queue, Workers: 4, Prefetch: 200,
		OnDelivery: func(d consumer.Receipt) {
			r.mu.Lock()
			r.last[d.Queue] = d.ConsumerTag
			r.mu.Unlock()
			r.books.Received(ledger.Receipt{ID: d.MessageID, Queue: d.Queue, Session: d.ConsumerTag, Tag: d.Tag, Redelivered: d.Redelivered, Failures: d.Attempt - 1})
		},
		OnSettlement: func(s consumer.Settlement) {
			r.books.Settled(ledger.Settlement{ID: s.MessageID, Session: s.ConsumerTag, Tag: s.Tag, Done: s.Verdict})
			if r.isDone(s.Verdict) {
				r.meets(s.MessageID, false)
			}
		},
	}, h))
}

// handler acks most.
func (r *round) handler() consumer.Handler {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(r.r.Uint64(), 7))
	return func(context.Context, *consumer.Delivery) error {
		r.handled.Add(1)
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
		r.books.Settled(ledger.Settlement{ID: d.MessageId, Session: session, Tag: d.DeliveryTag, Done: done})
		if err := settle(); err != nil {
			return // it may be given out again
		}
		r.handled.Add(1)
		if r.isDone(done) {
			r.meets(d.MessageId, false)
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
			pause(ctx, time.Millisecond)
		}
		m := producer.Text("0123456789abcdef").ToQueue(r.queue)
		if publisher%2 == 1 {
			m = producer.Text("0123456789abcdef").To(r.exchange, "")
		}
		m.MessageID = fmt.Sprintf("%d-%d", publisher, i)
		// Not ctx: the end of the load must not give a message up.
		c, err := r.producer.PublishAsync(context.WithoutCancel(ctx), m)
		if err != nil {
			r.t.Errorf("publish %s: %v", m.MessageID, err)
			return
		}
		if r.manner.sync {
			err := c.Wait(context.WithoutCancel(ctx))
			r.books.Answered(ledger.Verdict{ID: m.MessageID, Verdict: producer.VerdictOf(err).String()})
		}
		if *chaosPause > 0 {
			pause(ctx, *chaosPause)
		}
	}
}
