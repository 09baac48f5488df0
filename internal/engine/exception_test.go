package engine_test

import (
	"strings"
	"testing"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

func TestExceptions(t *testing.T) {
	t.Parallel()
	declare := func(m wire.QueueDeclare) func(*client) *engine.Exception {
		return func(c *client) *engine.Exception { _, e := c.QueueDeclare(&m); return e }
	}
	exchange := func(m wire.ExchangeDeclare) func(*client) *engine.Exception {
		return func(c *client) *engine.Exception { return c.ExchangeDeclare(&m) }
	}
	publish := func(m wire.BasicPublish, p wire.Properties) func(*client) *engine.Exception {
		return func(c *client) *engine.Exception { return c.Publish(&m, raw(p), []byte("m")) }
	}
	consume := func(m wire.BasicConsume) func(*client) *engine.Exception {
		return func(c *client) *engine.Exception { return c.Consume(&m, func(string) {}) }
	}
	for _, tc := range []struct {
		code uint16
		text string
		do   func(*client) *engine.Exception
	}{
		{404, "NOT_FOUND - no queue 'none' in vhost '/'", declare(wire.QueueDeclare{Queue: "none", Passive: true})},
		{404, "NOT_FOUND - no previously declared queue", consume(wire.BasicConsume{})},
		{406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'", declare(wire.QueueDeclare{Queue: "q"})},
		{406, "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '3' of type 'signedint' but current is none", declare(wire.QueueDeclare{Queue: "q", Durable: true, Arguments: table("x-max-length", int32(3))})},
		{406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'", declare(wire.QueueDeclare{Queue: "q", Durable: true, Arguments: table("x-queue-type", "quorum")})},
		{403, "ACCESS_REFUSED - queue name 'amq.foo' contains reserved prefix 'amq.*'", declare(wire.QueueDeclare{Queue: "amq.foo"})},
		{406, "PRECONDITION_FAILED - invalid property 'non-durable' for queue 'n' in vhost '/'", declare(wire.QueueDeclare{Queue: "n", Arguments: table("x-queue-type", "quorum")})},
		{406, "PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue 'n' in vhost '/'", declare(wire.QueueDeclare{Queue: "n", Durable: true, Exclusive: true, Arguments: table("x-queue-type", "quorum")})},
		{406, "PRECONDITION_FAILED - invalid property 'auto-delete' for queue 'n' in vhost '/'", declare(wire.QueueDeclare{Queue: "n", Durable: true, AutoDelete: true, Arguments: table("x-queue-type", "stream")})},
		{406, "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'n' in vhost '/' of queue type rabbit_quorum_queue", declare(wire.QueueDeclare{Queue: "n", Durable: true, Arguments: table("x-queue-type", "quorum", "x-max-priority", int32(3))})},
		{406, `PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'n' in vhost '/': "unsupported queue type 'bogus'"`, declare(wire.QueueDeclare{Queue: "n", Arguments: table("x-queue-type", "bogus")})},
		{406, `PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'n' in vhost '/': "expected integer, got longstr"`, declare(wire.QueueDeclare{Queue: "n", Arguments: table("x-message-ttl", "1")})},
		{406, "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'n' in vhost '/': {value_negative,-1}", declare(wire.QueueDeclare{Queue: "n", Arguments: table("x-message-ttl", int32(-1))})},
		{406, "PRECONDITION_FAILED - invalid arg 'x-overflow' for queue 'n' in vhost '/': invalid_overflow", declare(wire.QueueDeclare{Queue: "n", Arguments: table("x-overflow", "up")})},
		{406, `PRECONDITION_FAILED - invalid arg 'x-queue-version' for queue 'n' in vhost '/': "unsupported queue version '1'"`, declare(wire.QueueDeclare{Queue: "n", Arguments: table("x-queue-version", int32(1))})},
		{541, "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.", declare(wire.QueueDeclare{Queue: "n"})},
		{406, "PRECONDITION_FAILED - unknown exchange type 'bogus'", exchange(wire.ExchangeDeclare{Exchange: "x", Type: "bogus"})},
		{403, "ACCESS_REFUSED - operation not permitted on the default exchange", exchange(wire.ExchangeDeclare{Type: "direct"})},
		{406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'fanout' but current is 'direct'", exchange(wire.ExchangeDeclare{Exchange: "amq.direct", Type: "fanout"})},
		{403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed", func(c *client) *engine.Exception {
			return c.ExchangeDelete(&wire.ExchangeDelete{Exchange: "amq.direct"})
		}},
		{404, "NOT_FOUND - no exchange 'none' in vhost '/'", publish(wire.BasicPublish{Exchange: "none"}, wire.Properties{})},
		{403, "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'", publish(wire.BasicPublish{Exchange: "inside"}, wire.Properties{})},
		{540, "NOT_IMPLEMENTED - immediate=true", publish(wire.BasicPublish{Immediate: true}, wire.Properties{})},
		{406, "PRECONDITION_FAILED - invalid expiration 'abc': no_integer", publish(wire.BasicPublish{}, wire.Properties{Expiration: "abc"})},
		{406, "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'", publish(wire.BasicPublish{}, wire.Properties{UserID: "other"})},
		{406, "PRECONDITION_FAILED - message size 9 is larger than configured max size 8", func(c *client) *engine.Exception {
			return c.Publish(&wire.BasicPublish{}, raw(), []byte("123456789"))
		}},
		{406, "PRECONDITION_FAILED - fast reply consumer does not exist", publish(wire.BasicPublish{}, wire.Properties{ReplyTo: "amq.rabbitmq.reply-to"})},
		{530, "NOT_ALLOWED - attempt to reuse consumer tag 't'", consume(wire.BasicConsume{Queue: "q", ConsumerTag: "t"})},
		{403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", consume(wire.BasicConsume{Queue: "q", Exclusive: true})},
		{540, "NOT_IMPLEMENTED - prefetch_size!=0 (100)", func(c *client) *engine.Exception { return c.Qos(&wire.BasicQos{PrefetchSize: 100}) }},
		{540, "NOT_IMPLEMENTED - requeue=false", func(c *client) *engine.Exception { return c.Recover(&wire.BasicRecover{}, nil) }},
		{406, "PRECONDITION_FAILED - channel is not transactional", func(c *client) *engine.Exception { return c.TxCommit() }},
		{406, "PRECONDITION_FAILED - unknown delivery tag 99", func(c *client) *engine.Exception {
			return c.Ack(&wire.BasicAck{DeliveryTag: 99, Multiple: true})
		}},
		{406, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use", func(c *client) *engine.Exception {
			return c.QueueDelete(&wire.QueueDelete{Queue: "q", IfUnused: true}, nil)
		}},
	} {
		b, c := start(t, engine.Options{DenyTransientQueues: strings.HasPrefix(tc.text, "INTERNAL"), MaxMessageSize: 8})
		c.queue("q")
		c.ok(c.ExchangeDeclare(&wire.ExchangeDeclare{Exchange: "inside", Type: "fanout", Internal: true}))
		c.consume("q", "t")
		if tc.code == 404 && strings.Contains(tc.text, "previously") {
			c = dial(t, b)
		}
		e := tc.do(c)
		if e != nil && tc.code == 541 {
			e.Text, _, _ = strings.Cut(e.Text, "\n")
		}
		expectException(t, e, tc.code, tc.text)
		if e != nil && e.Connection != (tc.code >= 500) {
			t.Errorf("%s: closes the connection: %v", tc.text, e.Connection)
		}
	}
}

func TestExceptionClosesTheChannel(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	c.queue("q")
	c.consume("q", "a")
	c.publish("", "q", "1")
	if e := c.Ack(&wire.BasicAck{DeliveryTag: 7}); e == nil {
		t.Fatal("an unknown tag was taken")
	}
	if q, _ := b.Queue("/", "q"); q.Consumers != 0 || q.Ready != 1 {
		t.Errorf("%d consumers, %d ready", q.Consumers, q.Ready)
	}
}

func TestUnknownVhost(t *testing.T) {
	t.Parallel()
	_, e := engine.New(engine.Options{}).Connect(engine.ConnInfo{Vhost: "none"})
	expectException(t, e, 530, "NOT_ALLOWED - vhost none not found")
}

func TestUnknownArgumentsAreToldOf(t *testing.T) {
	t.Parallel()
	var told []string
	_, c := start(t, engine.Options{Unknown: func(arg string) { told = append(told, arg) }})
	c.queue("q", "x-mesage-ttl", int32(1), "x-max-length", int32(1))
	c.consume("q", "a", "x-prioritty", int32(1))
	c.exchange("heads", "headers")
	for range 2 { // told once
		c.bind("q", "heads", "", "x-mach", "any", "x-match", "any", "n", int32(1))
	}
	c.bind("q", "heads", "", "x-match", "any-with-x", "x-n", int32(1))
	c.bind("q", "amq.topic", "key", "x-match", "all", "n", int32(1))
	if got := strings.Join(told, " "); got != "x-mesage-ttl x-prioritty x-mach x-match" {
		t.Errorf("told of %s", got)
	}
}
