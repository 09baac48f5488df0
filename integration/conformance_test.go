package integration_test

import (
	"testing"

	"github.com/mqkit/mqkit/internal/conformance"
)

// What mqtest is held to is what RabbitMQ does, and still does.
func TestConformance(t *testing.T) {
	node := sharedNode(t)
	conformance.Run(t, node.URL(), conformance.Series(node.Version()))
}

func TestConformanceWithAHandOnTheBroker(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	conformance.RunWithHand(t, node.URL(), conformance.Series(node.Version()), node)
}
