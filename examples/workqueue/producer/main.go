// Command producer puts tasks into the work queue and exits 0 once the broker has
// confirmed all of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mqkit/mqkit/examples/workqueue"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

func main() {
	n := flag.Int("n", 100, "how many tasks")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once
	err := run(ctx, *n)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "producer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, n int) error {
	cfg, err := reconnect.FromEnv()
	if err != nil {
		return err
	}
	cfg.Logger = slog.Default()
	cfg.Topology = workqueue.Topology()
	pool, err := reconnect.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close(ctx)

	p, err := producer.New(pool, producer.Config{})
	if err != nil {
		return err
	}
	sent, err := send(ctx, p, n)

	// Wait for the verdicts; after Ctrl-C a little longer for those on their way.
	_ = p.Flush(ctx)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = p.Close(closing)
	confirmed := 0
	for _, c := range sent {
		if c.Err() == nil {
			confirmed++
		} else if err == nil {
			err = c.Err()
		}
	}
	fmt.Printf("confirmed %d of %d tasks\n", confirmed, n)
	return err
}

// send sends n tasks, waiting for none of their verdicts.
func send(ctx context.Context, p *producer.Producer, n int) ([]*producer.Confirmation, error) {
	var sent []*producer.Confirmation
	for id := range n {
		m, err := producer.JSON(workqueue.Task{ID: id + 1})
		if err != nil {
			return sent, err
		}
		c, err := p.PublishAsync(ctx, m.ToQueue(workqueue.Queue))
		if err != nil {
			return sent, err
		}
		sent = append(sent, c)
	}
	return sent, nil
}
