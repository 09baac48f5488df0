package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/examples/workqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTaskTakesItsDelayAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{name: "w", delay: time.Minute}
		begin := time.Now()
		if err := w.handle(t.Context(), workqueue.Task{ID: 1}, &consumer.Delivery{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != time.Minute || w.done != 1 {
			t.Errorf("took %v and counts %d, want 1m0s and 1", took, w.done)
		}
	})
}

func TestTaskThatCanNoLongerBeAckedIsNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stale := errors.New("stale")
		ctx, cancel := context.WithCancelCause(t.Context())
		w := &worker{name: "w", delay: time.Minute}
		time.AfterFunc(time.Second, func() { cancel(stale) })
		if err := w.handle(ctx, workqueue.Task{ID: 1}, &consumer.Delivery{}); !errors.Is(err, stale) || w.done != 0 {
			t.Errorf("error %v, %d done; want that it is stale, 0", err, w.done)
		}
	})
}
