package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/topology"
)

// load reads and checks the file of --topology. Errors are usage errors.
func (o *options) load() (topology.Topology, error) {
	if o.topology == "" {
		return topology.Topology{}, nil
	}
	var opts topology.LoadOptions
	if o.vhostGiven {
		opts.VHost = o.vhost
	}
	t, err := topology.LoadFile(o.topology, opts)
	if err == nil {
		err = t.Validate()
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		err = file
	}
	if err != nil { // the library speaks to programmers
		return topology.Topology{}, cli.Usagef("--topology: %s", strings.Replace(err.Error(), "in LoadOptions.VHost", "with --vhost", 1))
	}
	for _, q := range t.Queues {
		if q.Exclusive {
			return topology.Topology{}, cli.Usagef("--topology: queue %q is exclusive: it would end with the connection that declares it, so leave it to its client", q.Name)
		}
	}
	return t, nil
}

// declare declares a topology as any client does.
func declare(ctx context.Context, b *mqtest.Broker, vhost, name, password string, t topology.Topology) error {
	if len(t.Exchanges)+len(t.Queues)+len(t.Bindings) == 0 {
		return nil
	}
	conn, err := amqp.DialConfig("amqp://mqbroker", amqp.Config{
		Dial: b.Dial, Vhost: vhost,
		SASL: []amqp.Authentication{&amqp.PlainAuth{Username: name, Password: password}},
	})
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing depends on how it ends
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	return topology.Declare(ctx, ch, t)
}
