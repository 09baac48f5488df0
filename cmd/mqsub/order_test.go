package main

import (
	"context"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// ordered is a context that tells of its end when the test says so: those who asked
// by AfterFunc, and what is derived from it, in the order in which they asked.
type ordered struct {
	context.Context // knows whether it has ended, and why
	cancel          context.CancelCauseFunc
	done            chan struct{} // not Context's, or package context would tell them
	once            sync.Once
	ended           func(tell []func()) // has to call them

	mu   sync.Mutex // guards what follows
	tell []*func()
}

func newOrdered(ctx context.Context, ended func([]func())) *ordered {
	o := &ordered{done: make(chan struct{}), ended: ended}
	o.Context, o.cancel = context.WithCancelCause(ctx)
	return o
}

func (o *ordered) Done() <-chan struct{} { return o.done }

// AfterFunc is what package context looks for.
func (o *ordered) AfterFunc(f func()) (stop func() bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tell = append(o.tell, &f)
	return func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		i := slices.Index(o.tell, &f)
		if i < 0 {
			return false
		}
		o.tell = slices.Delete(o.tell, i, i+1)
		return true
	}
}

func (o *ordered) stop(cause error) {
	o.once.Do(func() {
		o.cancel(cause)
		close(o.done)
		o.mu.Lock()
		var tell []func()
		for _, f := range o.tell {
			tell = append(tell, *f)
		}
		o.tell = nil
		o.mu.Unlock()
		o.ended(tell)
	})
}

// Those who hear of the end, the holder and the subscription among them, hear of it
// in any order.
func TestNothingIsAckedBeforeTheSubscriptionEndsWhoeverHearsOfItFirst(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"the holder": true, "the handler": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := stand(t, mqtest.Rules43, 6)
			spoken := r.broker.Inject(mqtest.Fault{Point: mqtest.Received, Count: 1, If: func(e *mqtest.Event) bool {
				return e.Method == "basic.cancel" || e.Method == "basic.ack"
			}})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var told sync.WaitGroup
			defer told.Wait()
			work := newOrdered(ctx, func(tell []func()) {
				if first { // and the others when something has come of it
					for _, f := range tell {
						f()
						_ = spoken.Wait(ctx)
					}
					return
				}
				told.Go(func() {
					_ = spoken.Wait(ctx)
					for _, f := range tell {
						f()
					}
				})
			})
			j := r.job(ctx, work, &options{queue: "q", count: 3, output: outputText, shutdownTimeout: patience})
			j.holder.ack = func(d *consumer.Delivery) {
				j.ack(d)
				_ = spoken.Wait(ctx) // whatever is still to be done comes late
			}
			if code := j.all(); code != 0 {
				t.Errorf("exit %d", code)
			}
			if es := r.received("basic.cancel", "basic.ack"); len(es) < 2 || es[0].Method != "basic.cancel" {
				t.Errorf("the broker received %v", es)
			}
			r.holds(0, "4", "5", "6")
		})
	}
}

// job is what consume makes, with a context of the test's for its work.
func (r *running) job(ctx context.Context, work *ordered, o *options) *job {
	r.t.Helper()
	talk := cli.NewTalk(io.Discard, "mqsub", true, false)
	outage := cli.NewOutage(talk, cli.Retry{}, work.stop)
	pool, err := reconnect.Open(ctx, reconnect.Config{URLs: []string{r.broker.URL()}, First: reconnect.Consuming, OnStateChange: outage.Observe})
	if err != nil {
		r.t.Fatal(err)
	}
	s := newFile(io.Discard)
	cfg := o.consumerConfig(talk, s)
	c, err := consumer.New(pool, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	j := &job{
		options: o, talk: talk, pool: pool, consumer: c, outage: outage, sink: s, begun: time.Now(),
		work: work, hard: ctx, stop: work.stop, prefetch: uint64(cfg.Prefetch),
	}
	j.holder.ack, j.holder.busy = j.ack, j.busy
	return j
}
