// Command producer is the hello-world producer of pika, Python's AMQP library,
// in Go. It exits 0 once the broker has confirmed its message.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

const queueName = "example_queue"

// createQueue declares the queue: durable and replicated (a quorum queue).
func createQueue(ctx context.Context, pool *reconnect.Pool) error {
	return pool.Declare(ctx, topology.Topology{Queues: []topology.Queue{{Name: queueName}}})
}

// sendMessage publishes message as a persistent one. Nil means: the broker has
// confirmed it, and the queue has it.
func sendMessage(ctx context.Context, p *producer.Producer, message string) error {
	return p.Publish(ctx, producer.Text(message).ToQueue(queueName))
}

func run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // for all of it, finding the broker included
	defer cancel()
	cfg, err := reconnect.FromEnv() // AMQP_URL, or amqp://guest:guest@localhost:5672/
	if err != nil {
		return err
	}
	pool, err := reconnect.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close(ctx)

	if err := createQueue(ctx, pool); err != nil {
		return err
	}
	p, err := producer.New(pool, producer.Config{})
	if err != nil {
		return err
	}
	return sendMessage(ctx, p, "Hello, World!")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "producer:", err)
		os.Exit(1)
	}
}
