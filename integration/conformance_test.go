package integration_test

import (
	"context"
	"testing"

	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/internal/conformance"
)

// What mqtest is held to is what RabbitMQ does, and still does.
func TestConformance(t *testing.T) {
	node := sharedNode(t)
	conformance.Run(t, node.URL(), conformance.Series(node.Version()))
}

// hand is one that needs no rabbitmqctl for an alarm.
type hand struct {
	conformance.Hand
	node *broker.Node
}

func (h hand) Block(ctx context.Context) error   { return h.node.MemoryAlarm(ctx, true) }
func (h hand) Unblock(ctx context.Context) error { return h.node.MemoryAlarm(ctx, false) }

func TestConformanceWithAHandOnTheBroker(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	ctl := conformance.Rabbitmqctl(func(ctx context.Context, args ...string) error {
		_, err := node.Ctl(ctx, args...)
		return err
	})
	conformance.RunWithHand(t, node.URL(), conformance.Series(node.Version()), hand{ctl, node})
}
