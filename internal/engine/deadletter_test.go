package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// noAck consumes without acks.
func (c *client) noAck(queue, tag string) {
	c.t.Helper()
	c.ok(c.Consume(&wire.BasicConsume{Queue: queue, ConsumerTag: tag, NoAck: true}, func(string) {}))
}

// bodies are those of a queue, in order.
func bodies(b *engine.Broker, queue string) string {
	got := ""
	for _, m := range b.Messages("/", queue) {
		got += string(m.Body) + " "
	}
	return got
}

// TestDeadLettersOfOneStepAreTakenSingly: what the consumer of a queue takes at once
// neither fills the queue nor waits in it.
func TestDeadLettersOfOneStepAreTakenSingly(t *testing.T) {
	t.Parallel()
	targets := map[string][]any{
		"one that rejects": {"x-max-length", int32(1), "x-overflow", "reject-publish"},
		"one that drops":   {"x-max-length", int32(0)},
		"one of TTL 0":     {"x-message-ttl", int32(0)},
	}
	steps := map[string]struct {
		args []any
		bury func(c *client)
	}{
		"nack of many": {nil, func(c *client) {
			other := on(c.t, c.conn)
			for range 3 {
				other.get("q")
			}
			c.ok(other.Nack(&wire.BasicNack{DeliveryTag: 3, Multiple: true}))
		}},
		"expiry": {[]any{"x-message-ttl", int32(10)}, func(*client) { pass(10 * time.Millisecond) }},
		"close of a channel": {[]any{"x-queue-type", "quorum", "x-delivery-limit", int32(0)}, func(c *client) {
			other := on(c.t, c.conn)
			for range 3 {
				other.get("q")
			}
			other.Close()
		}},
		"at least once": {[]any{
			"x-queue-type", "quorum", "x-dead-letter-strategy", "at-least-once",
			"x-overflow", "reject-publish", "x-message-ttl", int32(10),
		}, func(*client) { pass(10 * time.Millisecond) }},
	}
	for target, targetArgs := range targets {
		for step, s := range steps {
			t.Run(step+" into "+target, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					_, c := start(t, engine.Options{})
					c.queue("dead", targetArgs...)
					c.queue("q", append(s.args, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")...)
					for i := range 3 {
						c.publish("", "q", fmt.Sprint(i+1))
					}
					c.noAck("dead", "a")
					s.bury(c)
					if got, want := strings.ReplaceAll(c.sink.took(), " again", ""), "a#1 1, a#2 2, a#3 3"; got != want {
						t.Errorf("got %s, want %s", got, want)
					}
				})
			})
		}
	}
}

// atLeastOnce declares q, which sends to a fanout exchange dlx at least once.
func (c *client) atLeastOnce(args ...any) {
	c.t.Helper()
	c.exchange("dlx", "fanout")
	c.queue("q", append(args, "x-queue-type", "quorum", "x-dead-letter-exchange", "dlx", "x-dead-letter-strategy", "at-least-once",
		"x-overflow", "reject-publish")...)
}

func (c *client) rejectOne() {
	c.t.Helper()
	c.ok(c.Reject(&wire.BasicReject{DeliveryTag: c.get("q").Tag}))
}

func TestAtLeastOnceWaitsForEveryQueue(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind   string
		length int32 // the queue takes one message in any case
	}{{"classic", 1}, {"quorum", 0}} {
		synctest.Test(t, func(t *testing.T) {
			b, c := start(t, engine.Options{})
			c.queue("open")
			c.queue("full", "x-queue-type", tc.kind, "x-max-length", tc.length, "x-overflow", "reject-publish")
			c.atLeastOnce()
			c.bind("open", "dlx", "")
			c.bind("full", "dlx", "")
			for _, body := range []string{"1", "2"} {
				c.publish("", "q", body)
				c.rejectOne()
			}
			expect := func(when, q, open, full string) {
				t.Helper()
				if got, want := [3]string{bodies(b, "q"), bodies(b, "open"), bodies(b, "full")}, [3]string{q, open, full}; got != want {
					t.Errorf("%s, %s: q, open and full have %q, want %q", tc.kind, when, got, want)
				}
			}
			expect("at first", "2 ", "1 2 ", "1 ")
			pass(3 * time.Minute)
			expect("still full", "2 ", "1 2 ", "1 ")
			c.ok(c.Ack(&wire.BasicAck{DeliveryTag: c.get("full").Tag}))
			expect("before the next try", "2 ", "1 2 ", "")
			pass(3 * time.Minute)
			expect("after it", "", "1 2 ", "2 ")
		})
	}
}

// TestARestartSendsDeadLettersAgain: nobody knows then where one has arrived. Those
// that come about because the restart ends a consumer are sent once.
func TestARestartSendsDeadLettersAgain(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	c.queue("open")
	c.queue("full", "x-max-length", int32(0), "x-overflow", "reject-publish")
	c.queue("q", "x-queue-type", "quorum", "x-dead-letter-exchange", "amq.fanout", "x-dead-letter-strategy", "at-least-once",
		"x-overflow", "reject-publish", "x-delivery-limit", int32(0))
	c.bind("open", "amq.fanout", "")
	c.bind("full", "amq.fanout", "")
	persistent := wire.Properties{DeliveryMode: 2}
	c.publish("", "q", "1", persistent)
	c.rejectOne()
	c.publish("", "q", "2", persistent)
	c.get("q")
	if q, open := bodies(b, "q"), bodies(b, "open"); q != "1 2 " || open != "1 " {
		t.Fatalf("q has %s, open has %s", q, open)
	}
	b.Restart()
	if q, open := bodies(b, "q"), bodies(b, "open"); q != "1 2 " || open != "1 1 2 " {
		t.Errorf("after a restart q has %s, open has %s", q, open)
	}
}

func TestAtLeastOnceHas32UnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, c := start(t, engine.Options{})
		c.exchange("dlx", "direct")
		c.queue("found")
		c.bind("found", "dlx", "found")
		c.queue("q", "x-queue-type", "quorum", "x-dead-letter-exchange", "dlx", "x-dead-letter-strategy", "at-least-once",
			"x-overflow", "reject-publish")
		c.exchange("in", "fanout")
		c.bind("q", "in", "")
		for range 32 {
			c.publish("in", "nowhere", "lost")
			c.rejectOne()
		}
		c.publish("in", "found", "late")
		c.rejectOne()
		if n := ready(t, b, "found"); n != 0 {
			t.Errorf("%d came by those that wait", n)
		}
		c.bind("found", "dlx", "nowhere")
		pass(3 * time.Minute)
		if q, found := ready(t, b, "q"), ready(t, b, "found"); q != 0 || found != 33 {
			t.Errorf("q keeps %d, %d arrived", q, found)
		}
	})
}

func TestDeadLettersThatWaitCountAgainstTheBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, c := start(t, engine.Options{})
		c.atLeastOnce("x-max-length-bytes", int32(10))
		c.publish("", "q", "0123456789")
		c.publish("", "q", "x")
		c.ok(c.Reject(&wire.BasicReject{DeliveryTag: c.get("q").Tag}))
		c.ok(c.Reject(&wire.BasicReject{DeliveryTag: c.get("q").Tag}))
		if q, _ := b.Queue("/", "q"); q.Ready != 2 || q.Bytes != 11 {
			t.Errorf("%d messages of %d bytes", q.Ready, q.Bytes)
		}
		c.ok(c.ConfirmSelect(&wire.ConfirmSelect{}))
		c.publish("", "q", "refused")
		c.expect("nack<= 1")
		c.queue("dead")
		c.bind("dead", "dlx", "")
		pass(3 * time.Minute)
		if q, _ := b.Queue("/", "q"); q.Ready != 0 || q.Bytes != 0 {
			t.Errorf("%d messages of %d bytes are left", q.Ready, q.Bytes)
		}
		c.publish("", "q", "taken")
		c.expect("ack 2")
	})
}

func TestWhatDelayedRetryHoldsCountsAgainstTheBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, c := start(t, engine.Options{})
		c.queue("q", "x-queue-type", "quorum", "x-max-length-bytes", int32(10), "x-overflow", "reject-publish",
			"x-delayed-retry-type", "all", "x-delayed-retry-min", int32(1000))
		c.publish("", "q", "0123456789ab")
		c.ok(c.Reject(&wire.BasicReject{DeliveryTag: c.get("q").Tag, Requeue: true}))
		c.ok(c.ConfirmSelect(&wire.ConfirmSelect{}))
		c.publish("", "q", "refused")
		c.expect("nack<= 1")
		pass(time.Second)
		if q, _ := b.Queue("/", "q"); q.Ready != 1 || q.Bytes != 12 {
			t.Errorf("%d messages of %d bytes", q.Ready, q.Bytes)
		}
	})
}
