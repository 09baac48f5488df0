package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/reconnect"
)

var errNoBroker = errors.New("it needs RabbitMQ: set AMQP_URL (amqp://guest:guest@localhost:5672/), or start Docker")

// findBroker returns where the broker is, and how to remove it again: that of
// AMQP_URL, which is left alone, else a container.
func findBroker(ctx context.Context, stderr io.Writer) (cfg reconnect.Config, remove func(), err error) {
	cfg, err = reconnect.FromEnv()
	if err != nil || os.Getenv(reconnect.EnvURL) != "" {
		return cfg, func() {}, err
	}
	fmt.Fprintln(stderr, "AMQP_URL is not set: starting RabbitMQ in Docker")
	node, err := broker.Launch(ctx, broker.Options{})
	if errors.Is(err, broker.ErrUnavailable) {
		return cfg, nil, fmt.Errorf("%w (%w)", errNoBroker, err)
	}
	if err != nil {
		return cfg, nil, err
	}
	cfg.URLs = []string{node.URL()}
	return cfg, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := node.Close(ctx); err != nil {
			fmt.Fprintln(stderr, "quickstart:", err)
		}
	}, nil
}
