package engine_test

import (
	"strings"
	"testing"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

func TestDeliversRoundRobinAndByPriority(t *testing.T) {
	t.Parallel()
	_, c := start(t, engine.Options{})
	c.queue("q")
	c.consume("q", "a")
	c.consume("q", "b")
	for _, m := range []string{"1", "2", "3"} {
		c.publish("", "q", m)
	}
	c.expect("a#1 1, b#2 2, a#3 3")
	c.consume("q", "high", "x-priority", int32(5))
	c.publish("", "q", "4")
	c.publish("", "q", "5")
	c.expect("high#4 4, high#5 5")
}

func TestPrefetchHoldsBackUntilSettled(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"classic", "quorum"} {
		_, c := start(t, engine.Options{})
		c.queue("q", "x-queue-type", kind)
		for _, m := range []string{"1", "2", "3", "4", "5"} {
			c.publish("", "q", m)
		}
		c.qos(2)
		c.consume("q", "a")
		c.expect("a#1 1, a#2 2")
		c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 2}))
		c.expect("a#3 3")
		c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 3, Multiple: true}))
		c.expect("a#4 4, a#5 5")
		expectException(t, c.Ack(&wire.BasicAck{DeliveryTag: 3}), 406, "PRECONDITION_FAILED - unknown delivery tag 3")
	}
}

func TestRequeueGoesBackToItsPlace(t *testing.T) {
	t.Parallel()
	_, c := start(t, engine.Options{})
	c.queue("q")
	for _, m := range []string{"1", "2", "3", "4"} {
		c.publish("", "q", m)
	}
	for range 3 {
		c.get("q")
	}
	c.ok(c.Nack(&wire.BasicNack{DeliveryTag: 3, Requeue: true}))
	c.ok(c.Reject(&wire.BasicReject{DeliveryTag: 1, Requeue: true}))
	c.qos(0)
	c.consume("q", "a")
	c.expect("a#4 1 again, a#5 3 again, a#6 4")
	c.ok(c.Recover(&wire.BasicRecover{Requeue: true}, func() { c.sink.note("recovered") }))
	c.expect("recovered, a#7 1 again, a#8 2 again, a#9 3 again, a#10 4 again")
}

func TestCloseRequeuesAndExclusiveQueuesGo(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	c.queue("q")
	_, e := c.QueueDeclare(&wire.QueueDeclare{Queue: "mine", Exclusive: true})
	c.ok(e)
	c.consume("q", "a")
	c.publish("", "q", "1")
	c.publish("", "q", "2")
	other := dial(t, b)
	_, e = other.QueueDeclare(&wire.QueueDeclare{Queue: "mine", Passive: true})
	expectException(t, e, 405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. "+
		"It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.")
	c.conn.Close()
	if _, there := b.Queue("/", "mine"); there {
		t.Error("an exclusive queue outlived its connection")
	}
	other = dial(t, b)
	other.consume("q", "b")
	other.expect("b#1 1 again, b#2 2 again")
}

func TestMandatoryIsReturnedBeforeItsConfirm(t *testing.T) {
	t.Parallel()
	_, c := start(t, engine.Options{})
	c.ok(c.ConfirmSelect(&wire.ConfirmSelect{}))
	c.ok(c.Publish(&wire.BasicPublish{RoutingKey: "nowhere", Mandatory: true}, raw(), []byte("x")))
	c.publish("", "nowhere", "y")
	c.expect("return 312 NO_ROUTE /nowhere x, ack 1, ack 2")
}

func TestConfirmsAreBatched(t *testing.T) {
	t.Parallel()
	_, c := start(t, engine.Options{})
	c.queue("q")
	c.queue("full", "x-max-length", int32(0), "x-overflow", "reject-publish")
	c.ok(c.ConfirmSelect(&wire.ConfirmSelect{}))
	c.BatchConfirms(true)
	c.publish("", "q", "1")
	c.expect("")
	c.FlushConfirms()
	c.expect("ack 1")
	for _, q := range []string{"q", "q", "full", "q", "full"} {
		c.publish("", q, "m")
	}
	c.FlushConfirms()
	c.expect("ack<= 3, ack 5, nack 4, nack 6")
	c.publish("", "full", "m")
	c.FlushConfirms()
	c.expect("nack<= 7")
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	for _, q := range []string{"a", "b", "c", "d"} {
		c.queue(q)
	}
	c.exchange("direct", "direct")
	c.bind("a", "direct", "k")
	c.bind("b", "direct", "k")
	c.bind("b", "direct", "l")
	c.exchange("fan", "fanout")
	c.bind("a", "fan", "")
	c.bind("c", "fan", "whatever")
	c.exchange("topic", "topic")
	c.bind("a", "topic", "*.stock.#")
	c.bind("b", "topic", "#")
	c.bind("c", "topic", "usd.*")
	c.bind("d", "topic", "#.nyse.*")
	c.exchange("heads", "headers")
	c.bind("a", "heads", "", "x-match", "all", "n", int32(1), "s", "x")
	c.bind("b", "heads", "", "x-match", "any", "n", int64(1), "s", "x")
	c.bind("c", "heads", "", "x-match", "any-with-x", "x-n", int64(1))
	c.bind("d", "heads", "", "p", nil)
	c.exchange("alt", "direct", "alternate-exchange", "fan")
	c.bind("d", "alt", "known")
	c.exchange("front", "direct")
	c.ok(c.ExchangeBind(&wire.ExchangeBind{Source: "front", Destination: "fan", RoutingKey: "f"}))
	c.ok(c.ExchangeBind(&wire.ExchangeBind{Source: "front", Destination: "direct", RoutingKey: "f"}))
	c.ok(c.ExchangeBind(&wire.ExchangeBind{Source: "fan", Destination: "front"}))
	for _, tc := range []struct {
		exchange, key string
		headers       wire.Table
		want          string
	}{
		{"", "a", nil, "a"},
		{"direct", "k", nil, "ab"},
		{"direct", "none", nil, ""},
		{"direct", "none", table("CC", wire.Array{"k", "l"}), "ab"},
		{"", "a", table("BCC", wire.Array{"d"}), "ad"},
		{"fan", "x", nil, "ac"},
		{"topic", "usd.stock.db", nil, "ab"},
		{"topic", "usd.stock", nil, "abc"},
		{"topic", "", nil, "b"},
		{"topic", "a.b.nyse.z", nil, "bd"},
		{"topic", "nyse.z", nil, "bd"},
		{"heads", "", table("n", int64(1), "s", "x"), "ab"},
		{"heads", "", table("n", int16(1)), "b"},
		{"heads", "", table("x-n", int16(1), "p", "anything"), "cd"},
		{"alt", "known", nil, "d"},
		{"alt", "unknown", nil, "ac"},
		{"front", "f", nil, "ac"},
	} {
		c.publish(tc.exchange, tc.key, "m", wire.Properties{Headers: tc.headers})
		got := ""
		for _, q := range []string{"a", "b", "c", "d"} {
			got += strings.Repeat(q, b.Purge("/", q))
		}
		if got != tc.want {
			t.Errorf("%s/%s %v: in %q, want %q", tc.exchange, tc.key, tc.headers, got, tc.want)
		}
	}
}

func TestAutoDelete(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	c.ok(c.ExchangeDeclare(&wire.ExchangeDeclare{Exchange: "x", Type: "fanout", AutoDelete: true}))
	_, e := c.QueueDeclare(&wire.QueueDeclare{Queue: "q", AutoDelete: true})
	c.ok(e)
	c.bind("q", "x", "")
	c.consume("q", "a")
	c.ok(c.Cancel(&wire.BasicCancel{ConsumerTag: "a"}))
	if len(b.Queues("/")) != 0 {
		t.Error("the queue is still there after its last consumer")
	}
	for _, x := range b.Exchanges("/") {
		if x.Name == "x" {
			t.Error("the exchange is still there after its last binding")
		}
	}
}

func TestDeletedQueueCancelsItsConsumers(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	c.queue("q")
	c.consume("q", "a")
	c.publish("", "q", "1")
	b.DeleteQueue("/", "q")
	c.expect("a#1 1, cancel a")
	c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 1}))
}

func TestSinkThatIsBehindIsPassedOver(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	c.queue("q")
	c.consume("q", "a")
	c.sink.full = true
	c.publish("", "q", "1")
	other := dial(t, b)
	other.publish("", "q", "2")
	c.expect("")
	c.sink.full = false
	c.Resume()
	c.expect("a#1 1, a#2 2")
}

func TestTx(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	c.queue("q")
	c.publish("", "q", "0")
	c.ok(c.TxSelect())
	c.publish("", "q", "1")
	g := c.get("q")
	c.ok(c.Ack(&wire.BasicAck{DeliveryTag: g.Tag}))
	if n := ready(t, b, "q"); n != 0 {
		t.Errorf("%d ready before the commit", n)
	}
	c.ok(c.TxRollback())
	c.ok(c.Ack(&wire.BasicAck{DeliveryTag: g.Tag}))
	c.publish("", "q", "2")
	c.ok(c.TxCommit())
	if got := string(c.get("q").Body); got != "2" {
		t.Errorf("got %s after the commit", got)
	}
	if q, _ := b.Queue("/", "q"); q.Unacked != 1 {
		t.Errorf("%d unacked", q.Unacked)
	}
	expectException(t, c.ConfirmSelect(&wire.ConfirmSelect{}), 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode")
}

func TestDirectReplyTo(t *testing.T) {
	t.Parallel()
	b, client := start(t, engine.Options{})
	server := dial(t, b)
	server.queue("rpc")
	server.consume("rpc", "s")
	client.ok(client.Consume(&wire.BasicConsume{Queue: "amq.rabbitmq.reply-to", ConsumerTag: "r", NoAck: true}, func(string) {}))
	client.publish("", "rpc", "question", wire.Properties{ReplyTo: "amq.rabbitmq.reply-to"})
	p, err := wire.ParseProperties(server.sink.last.Properties)
	if err != nil || !strings.HasPrefix(p.ReplyTo, "amq.rabbitmq.reply-to.") {
		t.Fatalf("reply-to is %q", p.ReplyTo)
	}
	server.publish("", p.ReplyTo, "answer")
	client.expect("r#1 answer")
	client.conn.Close()
	server.expect("s#1 question")
	server.ok(server.Publish(&wire.BasicPublish{RoutingKey: p.ReplyTo, Mandatory: true}, raw(), []byte("late")))
	server.expect("") // RabbitMQ 4.3 does not find out
	server.ok(server.Publish(&wire.BasicPublish{RoutingKey: "amq.rabbitmq.reply-to.x", Mandatory: true}, raw(), []byte("astray")))
	server.expect("return 312 NO_ROUTE /amq.rabbitmq.reply-to.x astray")
}

func TestRestartKeepsWhatIsDurable(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	c.queue("classic")
	c.queue("quorum", "x-queue-type", "quorum")
	_, e := c.QueueDeclare(&wire.QueueDeclare{Queue: "transient"})
	c.ok(e)
	c.ok(c.ExchangeDeclare(&wire.ExchangeDeclare{Exchange: "kept", Type: "fanout", Durable: true}))
	c.exchange("lost", "fanout")
	for _, q := range []string{"classic", "quorum", "transient"} {
		c.bind(q, "kept", "")
		c.bind(q, "lost", "")
	}
	c.publish("kept", "", "transient")
	c.publish("kept", "", "persistent", wire.Properties{DeliveryMode: 2})
	b.Restart()
	for queue, want := range map[string]int{"classic": 1, "quorum": 2} {
		if n := ready(t, b, queue); n != want {
			t.Errorf("%d messages left in %s, want %d", n, queue, want)
		}
	}
	if n := len(b.Queues("/")); n != 2 {
		t.Errorf("%d queues left", n)
	}
	if n := len(b.Bindings("/")); n != 2 {
		t.Errorf("%d bindings left", n)
	}
	for _, x := range b.Exchanges("/") {
		if x.Name == "lost" {
			t.Error("a transient exchange is left")
		}
	}
}

func TestGlobalQosIsPerChannelUpTo42(t *testing.T) {
	t.Parallel()
	for rules, want := range map[engine.Rules]string{
		engine.Rules42: "a#1 1, b#2 2",
		engine.Rules43: "a#1 1, b#2 2, a#3 3, b#4 4",
	} {
		_, c := start(t, engine.Options{Rules: rules})
		c.queue("q")
		c.ok(c.Qos(&wire.BasicQos{PrefetchCount: 2, Global: true}))
		c.consume("q", "a")
		c.consume("q", "b")
		for _, m := range []string{"1", "2", "3", "4", "5"} {
			c.publish("", "q", m)
		}
		c.expect(want)
	}
}

func TestCancelOkOfAnUnknownConsumerIsTooMuch(t *testing.T) {
	t.Parallel()
	_, c := start(t, engine.Options{})
	expectException(t, c.CancelOk("none"), 541, "INTERNAL_ERROR")
	_, c = start(t, engine.Options{Rules: engine.Rules42})
	expectException(t, c.CancelOk("none"), 503, "COMMAND_INVALID - unimplemented method")
}

func TestControlSeesAndTouches(t *testing.T) {
	t.Parallel()
	b, c := start(t, engine.Options{})
	c.queue("q")
	if !b.Enqueue("/", "q", raw(wire.Properties{MessageID: "1"}), []byte("by hand")) || b.Enqueue("/", "none", nil, nil) {
		t.Error("enqueue")
	}
	c.consume("q", "a")
	c.expect("a#1 by hand")
	if m := b.Messages("/", "q"); len(m) != 1 || !m[0].Unacked || m[0].RoutingKey != "q" {
		t.Errorf("messages %+v", m)
	}
	if cs := b.Consumers("/"); len(cs) != 1 || cs[0].Tag != "a" || cs[0].Unacked != 1 || !cs[0].Active {
		t.Errorf("consumers %+v", cs)
	}
	if n := b.CancelConsumers("/", "q"); n != 1 {
		t.Errorf("cancelled %d", n)
	}
	c.expect("cancel a")
	c.ok(c.Ack(&wire.BasicAck{DeliveryTag: 1}))
	b.AddVhost("other", "quorum")
	var closed *engine.Exception
	conn, e := b.Connect(engine.ConnInfo{Vhost: "other", Closed: func(e *engine.Exception) { closed = e }})
	c.ok(e)
	o := on(t, conn)
	o.queue("q")
	if q, _ := b.Queue("other", "q"); q.Type != "quorum" {
		t.Errorf("type %s", q.Type)
	}
	b.DeleteVhost("other")
	expectException(t, closed, 320, "CONNECTION_FORCED - vhost 'other' is deleted")
}
