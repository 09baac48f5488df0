package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// order is the payload.
type order struct {
	ID    int    `json:"id"`
	Item  string `json:"item"`
	Cents int    `json:"cents"`
}

const (
	// drainTime is how long the last messages may take after Ctrl-C.
	drainTime = 10 * time.Second

	// silence is how long a subscribed consumer waits for a missing message
	// before it counts as lost.
	silence = 20 * time.Second
)

// run does it all and prints the ledger to stdout. The error says what is wrong
// with it.
func run(ctx context.Context, n, rate int, stdout, stderr io.Writer) error {
	cfg, remove, err := findBroker(ctx, stderr)
	if err != nil {
		return err
	}
	defer remove()

	queue := "quickstart." + rand.Text()[:8]
	talk := newTalk(stderr)
	cfg.OnStateChange = talk.stateChange
	cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: queue, Expires: time.Hour}}}
	opening, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	pool, err := reconnect.Open(opening, cfg)
	if err != nil {
		return err
	}
	// What is cleaned up at the end is cleaned up after Ctrl-C too.
	ending := context.WithoutCancel(ctx)
	defer pool.Close(ending)

	c, err := consumer.New(pool, consumer.Config{Queue: queue, Prefetch: 500})
	if err != nil {
		return err
	}
	p, err := producer.New(pool, producer.Config{})
	if err != nil {
		return err
	}
	books := &ledger{seen: make([]int, n)}
	meter := &meter{pool: pool, producer: p, books: books, orders: n, at: time.Now()}
	stopProgress := talk.progress(meter.String)
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	consuming, stopConsuming := context.WithCancel(ending)
	consumed := make(chan error, 1)
	go func() {
		defer giveUp() // without a consumer there is nothing to wait for
		consumed <- c.Run(consuming, consumer.JSON(books.consume))
	}()

	sent, publishErr := publish(ctx, p, queue, n, rate)
	books.confirm(settle(ctx, p, sent), p.Stats().Republished)
	awaitRest(ctx, books, c)
	stopConsuming()
	consumeErr := <-consumed
	stopProgress()
	fmt.Fprint(stdout, books)
	return errors.Join(publishErr, consumeErr, books.check(), deleteQueue(ending, pool))
}

// publish sends n orders, none of them waiting for its verdict.
func publish(ctx context.Context, p *producer.Producer, queue string, n, rate int) ([]*producer.Confirmation, error) {
	var sent []*producer.Confirmation
	begin := time.Now()
	for id := range n {
		if rate > 0 {
			due := begin.Add(time.Duration(id) * time.Second / time.Duration(rate))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
			}
		}
		m, err := producer.JSON(order{ID: id, Item: "tea", Cents: 450})
		if err != nil {
			return sent, err
		}
		c, err := p.PublishAsync(ctx, m.ToQueue(queue))
		if ctx.Err() != nil {
			return sent, nil // Ctrl-C: this is how many it will be
		}
		if err != nil {
			return sent, err
		}
		sent = append(sent, c)
	}
	return sent, nil
}

// settle returns the verdicts, when all are there; after Ctrl-C it does not wait
// for ever.
func settle(ctx context.Context, p *producer.Producer, sent []*producer.Confirmation) []error {
	_ = p.Flush(ctx) // each message's own Confirmation says more
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	_ = p.Close(closing)
	verdicts := make([]error, len(sent))
	for id, c := range sent {
		verdicts[id] = c.Err()
	}
	return verdicts
}

// awaitRest waits until every confirmed order was consumed, or none comes any
// more.
func awaitRest(ctx context.Context, books *ledger, c *consumer.Consumer) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := silence
	last, since := -1, time.Now()
	for books.missing() > 0 {
		if ctx.Err() != nil {
			limit = drainTime
		}
		if _, n := books.consumed(); n != last || ctx.Err() == nil && !c.Status().Subscribed {
			last, since = n, time.Now()
		}
		if time.Since(since) > limit {
			if ctx.Err() != nil {
				books.cut()
			}
			return
		}
		<-tick.C
	}
}

func deleteQueue(ctx context.Context, pool *reconnect.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	err := pool.Delete(ctx, pool.Topology(), topology.DeleteOptions{DiscardMessages: true, InUse: true})
	if err != nil {
		return fmt.Errorf("delete the queue: %w", err)
	}
	return nil
}
