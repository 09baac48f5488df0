// Command worker takes tasks from the work queue. Start several: each gets as
// many as it can handle, and those of a worker that dies go to the others.
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

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/examples/workqueue"
	"github.com/mqkit/mqkit/reconnect"
)

type worker struct {
	name  string
	delay time.Duration
	done  int
}

// handle does one task. Run calls it from one goroutine, since Config.Workers
// is 1.
func (w *worker) handle(ctx context.Context, task workqueue.Task, d *consumer.Delivery) error {
	select {
	case <-time.After(w.delay): // the work
	case <-ctx.Done():
		return context.Cause(ctx) // it can no longer be acked: another worker gets it
	}
	w.done++
	fmt.Printf("%s: task %d done, attempt %d\n", w.name, task.ID, d.Attempt())
	return nil
}

func main() {
	w := &worker{}
	flag.StringVar(&w.name, "name", "worker", "shown with each task")
	flag.DurationVar(&w.delay, "delay", 100*time.Millisecond, "how long a task takes")
	prefetch := flag.Int("prefetch", 1, "how many tasks to be given at a time; 1 shares them most fairly")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once
	err := run(ctx, w, *prefetch)
	stop()
	fmt.Printf("%s: did %d tasks\n", w.name, w.done)
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w *worker, prefetch int) error {
	cfg, err := reconnect.FromEnv()
	if err != nil {
		return err
	}
	cfg.Logger = slog.Default()
	cfg.First = reconnect.Consuming
	cfg.Topology = workqueue.Topology()
	pool, err := reconnect.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close(context.WithoutCancel(ctx))

	c, err := consumer.New(pool, consumer.Config{Queue: workqueue.Queue, Prefetch: prefetch})
	if err != nil {
		return err
	}
	return c.Run(ctx, consumer.JSON(w.handle)) // what is no Task is rejected: to tasks.dead
}
