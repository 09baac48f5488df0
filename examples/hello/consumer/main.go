// Command consumer is the hello-world consumer of pika, Python's AMQP library,
// in Go. It prints messages until Ctrl-C, and acks each after it was printed.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

const queueName = "example_queue"

// onMessageReceived prints one message. Nil acks it; an error would give it
// back to the queue.
func onMessageReceived(_ context.Context, d *consumer.Delivery) error {
	_, err := fmt.Printf("Received message: %s\n", d.Body)
	return err
}

// consumeMessages consumes until ctx ends, then drains.
func consumeMessages(ctx context.Context, pool *reconnect.Pool, queueName string) error {
	c, err := consumer.New(pool, consumer.Config{Queue: queueName})
	if err != nil {
		return err
	}
	return c.Run(ctx, onMessageReceived)
}

func run(ctx context.Context) error {
	cfg, err := reconnect.FromEnv() // AMQP_URL, or amqp://guest:guest@localhost:5672/
	if err != nil {
		return err
	}
	cfg.Logger = slog.Default()
	cfg.First = reconnect.Consuming // the only connection that it needs
	// Declared on each new connection, so that the consumer may come first.
	cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: queueName}}}
	pool, err := reconnect.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close(context.WithoutCancel(ctx)) // also after Ctrl-C in order

	return consumeMessages(ctx, pool, queueName)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}
