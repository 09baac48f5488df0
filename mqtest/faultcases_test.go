package mqtest_test

import (
	"testing"

	"github.com/mqkit/mqkit/internal/faultcases"
	"github.com/mqkit/mqkit/mqtest"
)

// The table of faults, as the driver sees it. It runs on RabbitMQ too.
func TestFaultCases(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) faultcases.Stand{
		"broker": func(t *testing.T) faultcases.Stand {
			b := mqtest.New(t)
			return faultcases.Stand{Stage: b.Stage, Direct: b.URL()}
		},
		"proxy": func(t *testing.T) faultcases.Stand {
			b := mqtest.New(t)
			return faultcases.Stand{Stage: mqtest.NewProxy(t, b.URL()).Stage, Direct: b.URL()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faultcases.Run(t, open)
		})
	}
}
