package integration_test

import (
	"testing"

	"github.com/mqkit/mqkit/internal/faultcases"
	"github.com/mqkit/mqkit/mqtest"
)

// The faults that mqtest has, in front of a real broker: where it was not applied
// and where it was, with the answer lost, RabbitMQ's own queue tells apart.
func TestFaultCasesThroughTheProxy(t *testing.T) {
	url := sharedNode(t).URL()
	t.Parallel()
	faultcases.Run(t, func(t *testing.T) faultcases.Stand {
		return faultcases.Stand{Stage: mqtest.NewProxy(t, url).Stage, Direct: url, Patient: true}
	})
}
