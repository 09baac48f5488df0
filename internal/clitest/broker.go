package clitest

import (
	"context"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// Broker starts a broker for a test, with a topology declared in it.
func Broker(tb mqtest.TB, cfg mqtest.Config, t topology.Topology) *mqtest.Broker {
	tb.Helper()
	b := mqtest.New(tb, cfg)
	if err := declare(b, t); err != nil {
		tb.Fatalf("cannot declare the topology: %v", err)
	}
	return b
}

// declareTimeout is far more than a broker in the same process takes.
const declareTimeout = 20 * time.Second

// declare declares a topology as any client does.
func declare(b *mqtest.Broker, t topology.Topology) error {
	ctx, cancel := context.WithTimeout(context.Background(), declareTimeout)
	defer cancel()
	pool, err := reconnect.Open(ctx, reconnect.Config{URLs: []string{b.URL()}, Topology: t})
	if err != nil {
		return err
	}
	return pool.Close(ctx)
}
