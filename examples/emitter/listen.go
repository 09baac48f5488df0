package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// service is the first half of the queues' names.
const service = "emitter"

// listener handles the events whose name matches its pattern.
type listener struct {
	name    string
	pattern string // a topic pattern: * is one word, # is any number
	handle  consumer.Handler
}

func (l listener) queue() string { return service + "." + l.name }

// listeners are the two of the classic program, which write to out.
func listeners(out io.Writer) []listener {
	return []listener{
		{"received", "event1", func(_ context.Context, d *consumer.Delivery) error {
			_, err := fmt.Fprintf(out, "Event received: %s\n", d.Body)
			return err
		}},
		{"handling", "event1", func(_ context.Context, d *consumer.Delivery) error {
			_, err := fmt.Fprintf(out, "Handling event: %s, data: %s\n", d.RoutingKey, d.Body)
			return err
		}},
	}
}

// choose returns those of all that are named, or all, with one that panics.
func choose(all []listener, names []string, panicking string) ([]listener, error) {
	var chosen []listener
	for _, l := range all {
		if len(names) == 0 || slices.Contains(names, l.name) {
			if l.name == panicking {
				l.handle = panicFirst(l.handle)
				panicking = ""
			}
			chosen = append(chosen, l)
		}
	}
	if len(names) > len(chosen) || panicking != "" {
		return nil, errUsage
	}
	return chosen, nil
}

// panicFirst panics at the first try of each event. The consumer recovers, logs
// the stack and gives the event to the same listener again after a pause.
func panicFirst(h consumer.Handler) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		if !d.Redelivered {
			panic("at the first try of " + d.RoutingKey)
		}
		return h(ctx, d)
	}
}

// listen runs the listeners until ctx ends, then drains them.
func listen(ctx context.Context, ls []listener, stderr io.Writer) error {
	cfg, err := reconnect.FromEnv()
	if err != nil {
		return err
	}
	var routes []topology.Route
	for _, l := range ls {
		routes = append(routes, topology.To(l.queue(), l.pattern))
	}
	cfg.Logger = slog.Default()
	cfg.First = reconnect.Consuming
	cfg.Topology = topology.Topic(exchange, routes...)
	pool, err := reconnect.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close(context.WithoutCancel(ctx))

	consumers := make([]*consumer.Consumer, len(ls))
	for i, l := range ls {
		consumers[i], err = consumer.New(pool, consumer.Config{Queue: l.queue()})
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(ls))
	var wg sync.WaitGroup
	for i, l := range ls {
		fmt.Fprintf(stderr, "%s listens to %s\n", l.name, l.pattern)
		wg.Go(func() {
			defer cancel() // one that gives up ends the others
			errs[i] = consumers[i].Run(ctx, l.handle)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
