package integration_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// ackTimeout is how long the deliveries of these tests may stay unsettled.
const ackTimeout = 5 * time.Second

// overdue is what a consumer timeout did.
type overdue struct {
	*consuming
	closed, cancelled *mqtest.Injected

	mu    sync.Mutex // guards what follows
	times map[string]int
	ends  map[string]error // of the first handlers' ctxs, when these returned
}

// timedOut consumes "old", whose first handler holds it until it has come again, and, 3 s
// later, "young", whose first handler holds it until then too.
func timedOut(t *testing.T, url string, q topology.Queue) *overdue {
	t.Helper()
	proxy := mqtest.NewProxy(t, url)
	o := &overdue{
		closed:    proxy.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close"}),
		cancelled: proxy.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.cancel"}),
		times:     map[string]int{}, ends: map[string]error{},
	}
	pool, _ := open(t, reconnect.Config{URLs: []string{proxy.URL()}, Topology: topology.Topology{Queues: []topology.Queue{q}}})
	p := newProducer(t, pool, producer.Config{})
	mustBe(t, p.Publish(t.Context(), producer.Text("old").ToQueue(q.Name)), producer.Confirmed)
	begun, again := make(chan struct{}), make(chan struct{})
	o.consuming = consume(t, pool, consumer.Config{Queue: q.Name, Workers: 4}, func(ctx context.Context, d *consumer.Delivery) error {
		body := string(d.Body)
		o.mu.Lock()
		o.times[body]++
		first := o.times[body] == 1
		o.mu.Unlock()
		switch {
		case first && body == "old":
			close(begun)
		case !first && body == "old":
			close(again)
		}
		if first {
			<-again
			o.mu.Lock()
			o.ends[body] = context.Cause(ctx)
			o.mu.Unlock()
		}
		return nil
	})
	<-begun
	<-time.After(ackTimeout * 3 / 5)
	mustBe(t, p.Publish(t.Context(), producer.Text("young").ToQueue(q.Name)), producer.Confirmed)
	<-again
	if err := o.stop(); err != nil {
		t.Error(err)
	}
	own := admin(t, url)
	eventually(t, "the queue is empty", patience, func() bool { return ready(t, own, q.Name) == 0 })
	return o
}

// TestAConsumerTimeoutHarmsNoYoungerDelivery: from 4.3 on a quorum queue takes back what is
// overdue and cancels the subscription; the rest is settled on the old channel.
func TestAConsumerTimeoutHarmsNoYoungerDelivery(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	requireVersion(t, node, ">=4.3")
	o := timedOut(t, node.URL(), topology.Queue{Name: uniqueName(t), ConsumerTimeout: ackTimeout})
	if o.cancelled.Hits() != 1 || o.closed.Hits() != 0 {
		t.Errorf("the broker cancelled %d consumers and closed %d channels, want one cancelled", o.cancelled.Hits(), o.closed.Hits())
	}
	if o.times["old"] != 2 || o.times["young"] != 1 {
		t.Errorf("handled %v, want the old one twice", o.times)
	}
	if o.ends["old"] != nil || o.ends["young"] != nil {
		t.Errorf("the first handlers were told %v", o.ends)
	}
	if s := o.Stats(); s.Sessions != 2 || s.Redelivered != 1 || s.Acked != 3 || s.Stale != 0 {
		t.Errorf("%+v", s)
	}
}

// TestBefore43AConsumerTimeoutEndsTheChannel by a 406: all that it held comes again, and
// what the first handlers say is stale.
func TestBefore43AConsumerTimeoutEndsTheChannel(t *testing.T) {
	t.Parallel()
	requireVersion(t, sharedNode(t), "<4.3")
	// It looks for what is overdue once in a channel_tick_interval, a minute by default.
	node := ownNode(t, broker.Options{Conf: []string{"consumer_timeout = 5000"}})
	evaluate(t, node, "application:set_env(rabbit, channel_tick_interval, 1000).")
	o := timedOut(t, node.URL(), topology.Queue{Name: uniqueName(t)})
	if o.closed.Hits() != 1 || o.cancelled.Hits() != 0 {
		t.Errorf("the broker closed %d channels and cancelled %d consumers, want one closed", o.closed.Hits(), o.cancelled.Hits())
	}
	if o.times["old"] != 2 || o.times["young"] != 2 {
		t.Errorf("handled %v, want both twice", o.times)
	}
	for _, body := range []string{"old", "young"} {
		if err := o.ends[body]; !errors.Is(err, consumer.ErrStale) {
			t.Errorf("the first handler of %s was told %v", body, err)
		}
	}
	if s := o.Stats(); s.Sessions != 2 || s.Redelivered != 2 || s.Stale != 2 {
		t.Errorf("%+v", s)
	}
}
