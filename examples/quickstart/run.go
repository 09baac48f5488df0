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

// job is what is to be done.
type job struct {
	orders int
	rate   int // a second; 0 is as fast as it goes

	// silence is how long a subscribed consumer waits for a missing message
	// before it counts as lost.
	silence time.Duration
}

// drainTime is how long the last messages may take after Ctrl-C.
const drainTime = 10 * time.Second

// run does it all and prints the ledger to stdout. The error says what is wrong
// with it.
func run(ctx context.Context, job job, stdout, stderr io.Writer) error {
	talk := newTalk(stderr)
	brokers, err := findBrokers(ctx, talk)
	if err != nil {
		return err
	}
	defer brokers.close()

	queue := "quickstart." + rand.Text()[:8]
	cfg := brokers.cfg
	cfg.OnStateChange = talk.stateChange
	cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: queue, Expires: time.Hour}}}
	opening, cancel := context.WithTimeout(ctx, openTime)
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
	books := &ledger{seen: make([]int, job.orders)}
	cuts := planCuts(brokers.proxies, job.orders, books, talk)
	meter := &meter{pool: pool, producer: p, books: books, orders: job.orders, at: time.Now()}
	stopProgress := talk.progress(meter.String)
	interrupted := ctx
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	consuming, stopConsuming := context.WithCancel(ending)
	consumed := make(chan error, 1)
	go func() {
		defer giveUp() // without a consumer there is nothing to wait for
		consumed <- c.Run(consuming, consumer.JSON(books.consume))
	}()

	sent, publishErr := publish(ctx, p, queue, job)
	verdicts, endErr := settle(ctx, p, queue, sent)
	books.confirm(verdicts, p.Stats().Republished)
	awaitRest(ctx, books, c, job.silence, func() bool {
		books.connections(cuts.faults(pool, interrupted.Err() != nil))
		return books.complete(endErr == nil)
	})
	stopConsuming()
	consumeErr := <-consumed
	stopProgress()
	fmt.Fprint(stdout, books)
	return errors.Join(publishErr, consumeErr, books.check(), deleteQueue(ending, pool))
}

// publish sends the orders, none of them waiting for its verdict.
func publish(ctx context.Context, p *producer.Producer, queue string, job job) ([]*producer.Confirmation, error) {
	var sent []*producer.Confirmation
	begin := time.Now()
	for id := range job.orders {
		if job.rate > 0 {
			due := begin.Add(time.Duration(id) * time.Second / time.Duration(job.rate))
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

// settle returns the verdicts, when all are there, and publishes the end behind
// them; after Ctrl-C it does not wait for ever.
func settle(ctx context.Context, p *producer.Producer, queue string, sent []*producer.Confirmation) (verdicts []error, endErr error) {
	_ = p.Flush(ctx) // each message's own Confirmation says more
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	m, endErr := producer.JSON(order{ID: endID})
	if endErr == nil {
		endErr = p.Publish(closing, m.ToQueue(queue))
	}
	_ = p.Close(closing)
	for _, c := range sent {
		verdicts = append(verdicts, c.Err())
	}
	return verdicts, endErr
}

// awaitRest waits until the books are complete, or nothing comes any more.
func awaitRest(ctx context.Context, books *ledger, c *consumer.Consumer, silence time.Duration, complete func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := silence
	last, since := -1, time.Now()
	for !complete() {
		if ctx.Err() != nil {
			limit = min(silence, drainTime)
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
