package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// exchange is where all events go, with their name as the routing key.
const exchange = "events"

// emit publishes the event and reports, as the classic emitter does, whether
// anybody has subscribed to it. It is in the queue of each of them then.
func emit(ctx context.Context, p *producer.Producer, event, data string) (heard bool, err error) {
	err = p.Publish(ctx, producer.Text(data).To(exchange, event))
	var returned *producer.ReturnedError
	if errors.As(err, &returned) {
		return false, nil
	}
	return err == nil, err
}

func emitOne(ctx context.Context, event, data string, stderr io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cfg, err := reconnect.FromEnv()
	if err != nil {
		return err
	}
	cfg.Topology = topology.Topic(exchange)
	pool, err := reconnect.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close(ctx)

	p, err := producer.New(pool, producer.Config{})
	if err != nil {
		return err
	}
	heard, err := emit(ctx, p, event, data)
	if err == nil && !heard {
		fmt.Fprintf(stderr, "nobody has subscribed to %s yet: the event is gone\n", event)
	}
	return err
}
