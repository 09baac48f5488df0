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
