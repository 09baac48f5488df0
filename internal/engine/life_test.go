package engine_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// pass lets time go by in the bubble.
func pass(d time.Duration) {
	time.Sleep(d) // in the bubble
	synctest.Wait()
}

func TestMessagesExpire(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"classic", "quorum"} {
		synctest.Test(t, func(t *testing.T) {
			b, c := start(t, engine.Options{})
			c.queue("dead")
			c.queue("q", "x-queue-type", kind, "x-message-ttl", int32(1000),
				"x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")
			c.publish("", "q", "long")
			c.publish("", "q", "short", wire.Properties{Expiration: "10"})
			pass(500 * time.Millisecond)
			if n := ready(t, b, "q"); n != 2 {
				t.Errorf("%s: %d left: a message expired though it was not at the head", kind, n)
			}
			pass(501 * time.Millisecond)
			if n := ready(t, b, "dead"); n != 2 {
				t.Fatalf("%s: %d dead-lettered", kind, n)
			}
			c.get("dead")
			g := c.get("dead")
			p, err := wire.ParseProperties(g.Properties)
			if err != nil || p.Has(wire.FlagExpiration) {
				t.Errorf("%s: expiration %q survived", kind, p.Expiration)
			}
			deaths, _ := p.Headers.Get("x-death")
			want := wire.Array{table("original-expiration", "10", "count", int64(1), "reason", "expired", "queue", "q",
				"time", wire.Timestamp(time.Now().Unix()), "exchange", "", "routing-keys", wire.Array{"q"})}
			if fmt.Sprint(deaths) != fmt.Sprint(want) {
				t.Errorf("%s: x-death is %v, want %v", kind, deaths, want)
			}
		})
	}
}

func TestZeroTTLIsDeliveredOrGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, c := start(t, engine.Options{})
		c.queue("q", "x-message-ttl", int32(0))
		c.publish("", "q", "nobody")
		if n := ready(t, b, "q"); n != 0 {
			t.Errorf("%d left", n)
		}
		c.consume("q", "a")
		c.publish("", "q", "somebody")
		c.expect("a#1 somebody")
	})
}

func TestUnusedQueueExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, c := start(t, engine.Options{})
		c.queue("q", "x-expires", int32(1000))
		pass(900 * time.Millisecond)
		c.get("q")
		pass(900 * time.Millisecond)
		c.consume("q", "a")
		pass(time.Hour)
		c.ok(c.Cancel(&wire.BasicCancel{ConsumerTag: "a"}))
		pass(999 * time.Millisecond)
		if _, there := b.Queue("/", "q"); !there {
			t.Error("gone too early")
		}
		pass(2 * time.Millisecond)
		if _, there := b.Queue("/", "q"); there {
			t.Error("still there")
		}
	})
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind, overflow, want, confirms string
	}{
		{"classic", "drop-head", "4,5", "ack 1, ack 2, ack 3, ack 4, ack 5"},
		{"quorum", "drop-head", "4,5", "ack 1, ack 2, ack 3, ack 4, ack 5"},
		{"classic", "reject-publish", "1,2", "ack 1, ack 2, nack<= 3, nack<= 4, nack<= 5"},
		{"quorum", "reject-publish", "1,2,3", "ack 1, ack 2, ack 3, nack<= 4, nack<= 5"},
	} {
		b, c := start(t, engine.Options{})
		c.queue("q", "x-queue-type", tc.kind, "x-max-length", int32(2), "x-overflow", tc.overflow)
		c.ok(c.ConfirmSelect(&wire.ConfirmSelect{}))
		for i := range 5 {
			c.publish("", "q", fmt.Sprint(i+1))
		}
		c.expect(tc.confirms)
		got := ""
		for i, m := range b.Messages("/", "q") {
			if i > 0 {
				got += ","
			}
			got += string(m.Body)
		}
		if got != tc.want {
			t.Errorf("%s %s: left %s, want %s", tc.kind, tc.overflow, got, tc.want)
		}
	}
}

func TestPriorities(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rules engine.Rules
		args  []any
		want  string
	}{
		{engine.Rules43, nil, "none#1 0#2 3#3 9#4 5#5 200#6 "},
		{engine.Rules43, []any{"x-max-priority", int32(5)}, "9#4 5#5 200#6 3#3 none#1 0#2 "},
		{engine.Rules43, []any{"x-queue-type", "quorum"}, "200#6 9#4 5#5 none#1 3#3 0#2 "},
		{engine.Rules42, []any{"x-queue-type", "quorum"}, "9#4 5#5 none#1 200#6 0#2 3#3 "},
	} {
		_, c := start(t, engine.Options{Rules: tc.rules})
		c.queue("q", tc.args...)
		for i, p := range []int{-1, 0, 3, 9, 5, 200} {
			properties := wire.Properties{Priority: uint8(max(p, 0))}
			if p >= 0 {
				properties.Flags = wire.FlagPriority
			}
			name := fmt.Sprint(p)
			if p < 0 {
				name = "none"
			}
			c.ok(c.Publish(&wire.BasicPublish{RoutingKey: "q"}, properties.Append(nil), fmt.Appendf(nil, "%s#%d", name, i+1)))
		}
		got := ""
		for {
			g := c.get("q")
			if g == nil {
				break
			}
			got += string(g.Body) + " "
		}
		if got != tc.want {
			t.Errorf("%v %v: got %s, want %s", tc.rules, tc.args, got, tc.want)
		}
	}
}

func TestDeliveryLimit(t *testing.T) {
	t.Parallel()
	nack := func(c *client, tag uint64) *engine.Exception {
		return c.Nack(&wire.BasicNack{DeliveryTag: tag, Requeue: true})
	}
	reject := func(c *client, tag uint64) *engine.Exception {
		return c.Reject(&wire.BasicReject{DeliveryTag: tag, Requeue: true})
	}
	for _, tc := range []struct {
		name  string
		rules engine.Rules
		back  func(*client, uint64) *engine.Exception
		seen  int    // deliveries until it is gone, of 10
		last  string // headers of the third
	}{
		{"4.3 reject", engine.Rules43, reject, 3, "[{x-acquired-count 2} {x-delivery-count 2}]"},
		{"4.3 nack", engine.Rules43, nack, 10, "[{x-acquired-count 2}]"},
		{"4.2 nack", engine.Rules42, nack, 3, "[{x-delivery-count 2}]"},
	} {
		b, c := start(t, engine.Options{Rules: tc.rules})
		c.queue("dead")
		c.queue("q", "x-queue-type", "quorum", "x-delivery-limit", int32(2), "x-dead-letter-exchange", "",
			"x-dead-letter-routing-key", "dead")
		c.publish("", "q", "m")
		seen := 0
		for seen < 10 {
			g := c.get("q")
			if g == nil {
				break
			}
			if seen++; seen == 3 {
				if got := fmt.Sprint(headers(t, g.Properties)); got != tc.last {
					t.Errorf("%s: headers %s, want %s", tc.name, got, tc.last)
				}
			}
			c.ok(tc.back(c, g.Tag))
		}
		if seen != tc.seen {
			t.Errorf("%s: seen %d times, want %d", tc.name, seen, tc.seen)
		}
		if n := ready(t, b, "dead"); n != 1 && seen < 10 {
			t.Errorf("%s: %d dead-lettered", tc.name, n)
		}
	}
}

func TestDelayedRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, c := start(t, engine.Options{})
		c.queue("q", "x-queue-type", "quorum", "x-delayed-retry-type", "failed",
			"x-delayed-retry-min", int32(1000), "x-delayed-retry-max", int32(1500))
		c.publish("", "q", "m")
		c.consume("q", "a")
		c.ok(c.Nack(&wire.BasicNack{DeliveryTag: 1, Requeue: true}))
		c.expect("a#1 m, a#2 m again")
		c.ok(c.Reject(&wire.BasicReject{DeliveryTag: 2, Requeue: true}))
		pass(999 * time.Millisecond)
		c.expect("")
		if m := b.Messages("/", "q"); len(m) != 1 || !m[0].Delayed {
			t.Errorf("messages %+v", m)
		}
		pass(time.Millisecond)
		c.expect("a#3 m again")
		c.ok(c.Reject(&wire.BasicReject{DeliveryTag: 3, Requeue: true}))
		pass(1499 * time.Millisecond)
		c.expect("")
		pass(time.Millisecond)
		c.expect("a#4 m again")
	})
}

func TestConsumerTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, engine.Options{ConsumerTimeout: time.Minute})
		c.queue("q", "x-queue-type", "quorum")
		c.queue("classic")
		c.consume("q", "a")
		c.consume("classic", "b")
		c.publish("", "classic", "0")
		c.publish("", "q", "1")
		pass(30 * time.Second)
		c.publish("", "q", "2")
		c.expect("b#1 0, a#2 1, a#3 2")
		pass(30 * time.Second)
		c.expect("cancel a")
		c.publish("", "q", "3")
		c.expect("")
		c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 3})) // it is younger, and stays valid
		c.expect("")
		c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 2})) // makes no difference but to the consumer
		c.expect("a#4 1 again, a#5 3")
		pass(time.Minute)
		c.expect("cancel a")
		c.ok(c.CancelOk("a"))
		c.consume("q", "new")
		c.expect("new#6 1 again, new#7 3 again")
	})
	synctest.Test(t, func(t *testing.T) {
		b, c := start(t, engine.Options{Rules: engine.Rules42, ConsumerTimeout: time.Minute})
		c.queue("q")
		c.consume("q", "a")
		c.publish("", "q", "1")
		pass(time.Minute)
		c.expect("a#1 1, close 406 PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: " +
			"60000 ms. This timeout value can be configured, see consumers doc guide to learn more")
		if n := ready(t, b, "q"); n != 1 {
			t.Errorf("%d in the queue", n)
		}
	})
}

func TestSingleActiveConsumer(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"classic", "quorum"} {
		_, c := start(t, engine.Options{})
		c.queue("q", "x-queue-type", kind, "x-single-active-consumer", true)
		c.consume("q", "a")
		c.consume("q", "b")
		c.publish("", "q", "1")
		c.publish("", "q", "2")
		c.expect("a#1 1, a#2 2")
		c.ok(c.Cancel(&wire.BasicCancel{ConsumerTag: "a"}))
		c.publish("", "q", "3")
		c.expect("b#3 3")
	}
}

func TestHigherPriorityTakesOverOnQuorum(t *testing.T) {
	t.Parallel()
	_, c := start(t, engine.Options{})
	c.queue("q", "x-queue-type", "quorum", "x-single-active-consumer", true)
	c.consume("q", "low")
	c.publish("", "q", "1")
	c.consume("q", "high", "x-priority", int32(1))
	c.publish("", "q", "2")
	c.expect("low#1 1") // the present one is served no more, and not done yet
	c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 1}))
	c.expect("high#2 2")
}

func TestDeadLetterCycles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, c := start(t, engine.Options{})
		c.queue("q", "x-message-ttl", int32(10), "x-dead-letter-exchange", "")
		c.publish("", "q", "expired and back: dropped")
		pass(11 * time.Millisecond)
		if n := ready(t, b, "q"); n != 0 {
			t.Errorf("%d went in a circle", n)
		}
		c.publish("", "q", "rejected and back: allowed")
		for i := range 3 {
			g := c.get("q")
			if g == nil {
				t.Fatalf("gone after %d", i)
			}
			c.ok(c.Reject(&wire.BasicReject{DeliveryTag: g.Tag}))
		}
		deaths, _ := headers(t, c.get("q").Properties).Get("x-death")
		count, _ := deaths.(wire.Array)[0].(wire.Table).Get("count")
		if count != int64(3) {
			t.Errorf("count %v", count)
		}
	})
}

func TestAtLeastOnceDeadLettersWaitForAQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, c := start(t, engine.Options{})
		c.exchange("dlx", "fanout")
		c.queue("q", "x-queue-type", "quorum", "x-dead-letter-exchange", "dlx", "x-dead-letter-strategy", "at-least-once",
			"x-overflow", "reject-publish")
		c.publish("", "q", "m")
		c.ok(c.Reject(&wire.BasicReject{DeliveryTag: c.get("q").Tag}))
		if n := ready(t, b, "q"); n != 1 {
			t.Fatalf("%d kept", n)
		}
		c.queue("dead")
		c.bind("dead", "dlx", "")
		pass(3 * time.Minute)
		if n := ready(t, b, "dead"); n != 1 {
			t.Errorf("%d arrived", n)
		}
	})
}

func TestStream(t *testing.T) {
	t.Parallel()
	_, c := start(t, engine.Options{})
	c.queue("s", "x-queue-type", "stream")
	for i := range 4 {
		c.publish("", "s", fmt.Sprint(i))
	}
	c.qos(2)
	c.consume("s", "all", "x-stream-offset", "first")
	c.consume("s", "some", "x-stream-offset", int64(3))
	c.consume("s", "new")
	c.expect("all#1 0, all#2 1, some#3 3")
	c.ok(c.Nack(&wire.BasicNack{DeliveryTag: 1, Requeue: true})) // counts as taken
	c.publish("", "s", "4")
	c.expect("all#4 2, some#5 4, new#6 4")
	c.consume("s", "last", "x-stream-offset", "last")
	c.expect("last#7 4")
	expectException(t, c.Get(&wire.BasicGet{Queue: "s"}, nil), 540,
		"NOT_IMPLEMENTED - basic.get not supported by stream queues queue 's' in vhost '/'")
}

func TestEventsTellALife(t *testing.T) {
	t.Parallel()
	var told string
	_, c := start(t, engine.Options{Event: func(e engine.Event) { told += e.Kind.String() + " " }})
	c.queue("q")
	c.consume("q", "a")
	c.publish("", "q", "m")
	c.ok(c.Reject(&wire.BasicReject{DeliveryTag: 1, Requeue: true}))
	c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 2}))
	want := "queue-declared consumer-added published enqueued delivered requeued delivered acked "
	if told != want {
		t.Errorf("told %s\nwant %s", told, want)
	}
}

// TestWhatComesBackIsOfferedWithinTheLimit: a classic queue drops what is too much
// before it delivers again, a quorum queue after it.
func TestWhatComesBackIsOfferedWithinTheLimit(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"classic": "a#4 3 again",
		"quorum":  "a#4 1 again, a#5 2 again, a#6 3 again",
	} {
		_, c := start(t, engine.Options{})
		c.queue("q", "x-queue-type", kind, "x-max-length", int32(1))
		c.consume("q", "a")
		for i := range 3 {
			c.publish("", "q", fmt.Sprint(i+1))
		}
		c.expect("a#1 1, a#2 2, a#3 3")
		c.ok(c.Nack(&wire.BasicNack{DeliveryTag: 3, Multiple: true, Requeue: true}))
		c.expect(want)
	}
	// So with a consumer that waits, when a channel closes.
	_, c := start(t, engine.Options{})
	c.queue("q", "x-max-length", int32(1))
	other := on(t, c.conn)
	other.consume("q", "b")
	c.publish("", "q", "1")
	c.publish("", "q", "2")
	c.consume("q", "a")
	other.Close()
	c.expect("a#1 2 again")
}

func TestAReplacedConsumerIsNotServedUntilItHoldsNothing(t *testing.T) {
	t.Parallel()
	_, c := start(t, engine.Options{})
	c.queue("q", "x-queue-type", "quorum", "x-single-active-consumer", true)
	c.consume("q", "low")
	c.publish("", "q", "1")
	c.publish("", "q", "2")
	c.consume("q", "high", "x-priority", int32(1))
	c.publish("", "q", "3")
	c.expect("low#1 1, low#2 2")
	ok, e := c.QueueDeclare(&wire.QueueDeclare{Queue: "q", Passive: true})
	if c.ok(e); ok.ConsumerCount != 1 {
		t.Errorf("%d consumers, want the active one", ok.ConsumerCount)
	}
	c.ok(c.Cancel(&wire.BasicCancel{ConsumerTag: "high"}))
	c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 1}))
	c.expect("")
	c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 2}))
	c.expect("low#3 3")
}

// TestWhoFollowsTheSingleActiveConsumer: the one of the largest prefetch on a quorum
// queue, the one that has waited longest on a classic one.
func TestWhoFollowsTheSingleActiveConsumer(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{"classic": "small#1 m", "quorum": "unlimited#1 m"} {
		_, c := start(t, engine.Options{})
		c.queue("q", "x-queue-type", kind, "x-single-active-consumer", true)
		c.consume("q", "first")
		c.qos(1)
		c.consume("q", "small")
		c.qos(100)
		c.consume("q", "large")
		c.qos(0)
		c.consume("q", "unlimited")
		c.ok(c.Cancel(&wire.BasicCancel{ConsumerTag: "first"}))
		c.publish("", "q", "m")
		c.expect(want)
	}
}

func TestAConsumerOfAQuorumQueueHolds2000(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]int{"classic": 2001, "quorum": 2000} {
		b, c := start(t, engine.Options{})
		c.queue("q", "x-queue-type", kind)
		c.consume("q", "a")
		for range 2001 {
			c.publish("", "q", "m")
		}
		if q, _ := b.Queue("/", "q"); q.Unacked != want {
			t.Errorf("%s: %d held, want %d", kind, q.Unacked, want)
		}
		c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 1}))
		if q, _ := b.Queue("/", "q"); q.Unacked != 2000 || q.Ready != 0 {
			t.Errorf("%s: %d held and %d ready after an ack", kind, q.Unacked, q.Ready)
		}
	}
}

// TestWhichHeadsExpire: RabbitMQ looks at the message that would be delivered next,
// and in a quorum queue of 4.3 at the first one of each priority.
func TestWhichHeadsExpire(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rules engine.Rules
		args  []any
		left  int
	}{
		{engine.Rules43, []any{"x-max-priority", int32(5)}, 2},
		{engine.Rules42, []any{"x-queue-type", "quorum"}, 2},
		{engine.Rules43, []any{"x-queue-type", "quorum"}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, c := start(t, engine.Options{Rules: tc.rules})
			c.queue("q", tc.args...)
			c.publish("", "q", "high", wire.Properties{Priority: 5})
			c.publish("", "q", "low", wire.Properties{Priority: 1, Expiration: "10"})
			pass(time.Second)
			if n := ready(t, b, "q"); n != tc.left {
				t.Errorf("%v %v: %d left, want %d", tc.rules, tc.args, n, tc.left)
			}
			if g := c.get("q"); string(g.Body) != "high" || g.Remaining != 0 {
				t.Errorf("%v %v: got %s, %d remain", tc.rules, tc.args, g.Body, g.Remaining)
			}
		})
	}
}

// TestBefore43WithoutADeliveryLimitANackedMessageGoesToTheEnd: what comes back in another way
// goes to the front all the same.
func TestBefore43WithoutADeliveryLimitANackedMessageGoesToTheEnd(t *testing.T) {
	t.Parallel()
	nack := func(c *client) { c.ok(c.Nack(&wire.BasicNack{DeliveryTag: 1, Requeue: true})) }
	reject := func(c *client) { c.ok(c.Reject(&wire.BasicReject{DeliveryTag: 1, Requeue: true})) }
	for _, tc := range []struct {
		name  string
		rules engine.Rules
		limit int32
		back  func(*client)
		want  string
	}{
		{"nack", engine.Rules43, -1, nack, "1 2 3 "},
		{"reject", engine.Rules43, -1, reject, "1 2 3 "},
		{"close", engine.Rules43, -1, (*client).Close, "1 2 3 "},
		{"nack with a limit before 4.3", engine.Rules42, 20, nack, "1 2 3 "},
		{"nack before 4.3", engine.Rules42, -1, nack, "2 3 1 "},
		{"reject before 4.3", engine.Rules42, -1, reject, "2 3 1 "},
		{"close before 4.3", engine.Rules42, -1, (*client).Close, "1 2 3 "},
	} {
		b, c := start(t, engine.Options{Rules: tc.rules})
		c.queue("q", "x-queue-type", "quorum", "x-delivery-limit", tc.limit)
		for i := range 3 {
			c.publish("", "q", fmt.Sprint(i+1))
		}
		c.get("q")
		tc.back(c)
		if got := bodies(b, "q"); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestWhatAQuorumQueueTakesForAUse(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]struct{ redeclared, held bool }{
		"classic": {redeclared: true},
		"quorum":  {held: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, c := start(t, engine.Options{})
			there := func(queue string) bool { _, ok := b.Queue("/", queue); return ok }
			args := []any{"x-queue-type", kind, "x-expires", int32(1000)}
			c.queue("redeclared", args...)
			c.queue("held", args...)
			c.publish("", "held", "m")
			tag := c.get("held").Tag
			pass(900 * time.Millisecond)
			c.queue("redeclared", args...)
			pass(900 * time.Millisecond)
			if got := there("redeclared"); got != want.redeclared {
				t.Errorf("%s, declared again: still there %v", kind, got)
			}
			if got := there("held"); got != want.held {
				t.Errorf("%s, a message is held: still there %v", kind, got)
			}
			c.ok(c.Ack(&wire.BasicAck{DeliveryTag: tag}))
			pass(900 * time.Millisecond)
			if got := there("held"); got != want.held {
				t.Errorf("%s, the message was settled: still there %v", kind, got)
			}
			pass(100 * time.Millisecond)
			if there("held") {
				t.Errorf("%s is not deleted", kind)
			}
		})
	}
}
