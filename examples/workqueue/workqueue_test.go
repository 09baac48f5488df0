package workqueue_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/examples/workqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTopologyKeepsWhatNoWorkerCanHandle(t *testing.T) {
	top := workqueue.Topology()
	if err := top.Validate(); err != nil {
		t.Error(err)
	}
	for _, warning := range top.Lint() {
		t.Error(warning)
	}
	if q, ok := top.Queue(workqueue.Queue); !ok || !q.DeadLetters() {
		t.Errorf("queue %q has no dead-letter exchange", workqueue.Queue)
	}
}
