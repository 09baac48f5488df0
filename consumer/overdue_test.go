package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// overdue is what a consumer timeout did.
type overdue struct {
	*fixture
	times map[string]int           // how often each was handled
	ends  map[string]error         // of the first handlers' ctxs, when these returned
	again map[string]time.Duration // when it came a second time
	codes []any                    // with which the broker closed a channel
}

// timedOut has a broker whose deliveries may stay unsettled for a while give out "old",
// which its first handler holds for 8 units of time, and 3 units later "young", which its
// first handler holds until 6.
func timedOut(t *testing.T, rules mqtest.Rules, timeout, unit time.Duration) *overdue {
	t.Helper()
	var mu sync.Mutex
	o := &overdue{times: map[string]int{}, ends: map[string]error{}, again: map[string]time.Duration{}}
	began := time.Now()
	o.fixture = newMemoryFixture(t, consumer.Config{Workers: 4, DrainTimeout: patience}, func(ctx context.Context, d *consumer.Delivery) error {
		body := string(d.Body)
		mu.Lock()
		o.times[body]++
		first := o.times[body] == 1
		if !first {
			o.again[body] = time.Since(began)
		}
		mu.Unlock()
		if first {
			until := map[string]time.Duration{"old": 8 * unit, "young": 6 * unit}[body]
			time.Sleep(until - time.Since(began)) // in the bubble
			mu.Lock()
			o.ends[body] = context.Cause(ctx)
			mu.Unlock()
		}
		return nil
	}, func(broker *mqtest.Config, _ *reconnect.Config) {
		broker.Rules, broker.ConsumerTimeout = rules, timeout
	})
	o.broker.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point == mqtest.Sending && e.Method == "channel.close" {
			mu.Lock()
			defer mu.Unlock()
			o.codes = append(o.codes, e.Field("reply-code"))
		}
		return mqtest.Pass()
	})
	o.enqueue("old")
	time.Sleep(3 * unit) // in the bubble
	o.enqueue("young")
	time.Sleep(10 * unit) // in the bubble
	o.until("all is settled", func() bool { return o.queue.Len() == 0 })
	o.stop()
	if err := o.wait(); err != nil {
		t.Error(err)
	}
	return o
}

// TestAConsumerTimeoutHarmsNoYoungerDelivery: from 4.3 on the broker cancels the
// subscription and takes back what is overdue; the rest is settled on the old channel.
func TestAConsumerTimeoutHarmsNoYoungerDelivery(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := timedOut(t, mqtest.Rules43, 5*time.Second, time.Second)
		if o.times["old"] != 2 || o.times["young"] != 1 || o.again["old"].Round(10*time.Millisecond) != 5*time.Second {
			t.Errorf("handled %v, again at %v; want the old one again after 5s", o.times, o.again)
		}
		if o.ends["old"] != nil || o.ends["young"] != nil || len(o.codes) != 0 {
			t.Errorf("the first handlers were told %v, channels were closed with %v", o.ends, o.codes)
		}
		// Neither the young one's ack nor the void one of the old went elsewhere.
		for _, tag := range []uint64{2, 1} {
			if got, want := settled(o.nextOn(o.subscription, settlements...)), fmt.Sprintf("basic.ack(%d multiple=false requeue=false)", tag); got != want {
				t.Errorf("the old channel has %s, want %s", got, want)
			}
		}
		o.nextOn(o.subscription, "channel.close")
		if s := o.Stats(); s.Sessions != 2 || s.Redelivered != 1 || s.Stale != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestBefore43AConsumerTimeoutEndsTheChannel by a 406, for which the broker looks once a
// minute: all that it held comes again, and
// what the first handlers say is stale.
func TestBefore43AConsumerTimeoutEndsTheChannel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := timedOut(t, mqtest.Rules42, 270*time.Second, time.Minute)
		if fmt.Sprint(o.codes) != "[406]" {
			t.Fatalf("channels were closed with %v, want one 406", o.codes)
		}
		if o.times["old"] != 2 || o.times["young"] != 2 {
			t.Errorf("handled %v, want both twice", o.times)
		}
		for body, err := range o.ends {
			if !errors.Is(err, consumer.ErrStale) {
				t.Errorf("the first handler of %s was told %v", body, err)
			}
		}
		if s := o.Stats(); s.Sessions != 2 || s.Redelivered != 2 || s.Stale != 2 {
			t.Errorf("%+v", s)
		}
	})
}
