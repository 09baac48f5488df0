package mqtest_test

import (
	"context"
	"testing"

	"github.com/mqkit/mqkit/internal/conformance"
	"github.com/mqkit/mqkit/mqtest"
)

// known are the cases that differ from RabbitMQ, each with its reason; README.md
// lists them. There is none left.
var known = map[string]string{}

func TestConformance(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	conformance.Run(t, b.URL(), "4.3", known)
}

func TestConformanceWithAHandOnTheBroker(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	conformance.RunWithHand(t, b.URL(), "4.3", hand{b}, known)
}

// hand does what rabbitmqctl does to a RabbitMQ.
type hand struct{ b *mqtest.Broker }

func (h hand) Block(context.Context) error {
	h.b.Block("low on memory")
	return nil
}

func (h hand) Unblock(context.Context) error {
	h.b.Unblock()
	return nil
}

func (h hand) AddVhost(_ context.Context, name string) error {
	h.b.AddVhost(name, "")
	return nil
}

func (h hand) DeleteVhost(_ context.Context, name string) error {
	h.b.DeleteVhost(name)
	return nil
}

func (h hand) CloseConnections(_ context.Context, reason string) error {
	for _, c := range h.b.Connections() {
		c.Do(mqtest.CloseConnection(320, "CONNECTION_FORCED - "+reason))
	}
	return nil
}
