package integration_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/topology"
)

// declareError declares t and returns the error as what it has to be.
func (b *bareBroker) declareError(top topology.Topology) *topology.DeclareError {
	b.t.Helper()
	b.removeAfter(top)
	err := b.attempt(func(ch *amqp.Channel) error { return topology.Declare(context.Background(), ch, top) })
	var e *topology.DeclareError
	if !errors.As(err, &e) {
		b.t.Fatalf("Declare returned %v, want a *DeclareError", err)
	}
	var reply *amqp.Error
	if !errors.As(err, &reply) || reply.Code != e.Code {
		b.t.Errorf("the driver's error is not in %v", err)
	}
	return e
}

func queueOnly(q topology.Queue) topology.Topology {
	return topology.Topology{Queues: []topology.Queue{q}}
}

func TestDeclareNamesTheArgumentThatDiffers(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	quorum := func(q topology.Queue) topology.Queue { return q }
	classic := func(q topology.Queue) topology.Queue { q.Type = topology.Classic; return q }
	stream := func(q topology.Queue) topology.Queue { q.Type = topology.Stream; return q }
	type queue = topology.Queue
	delay := func(kind topology.DelayedRetryType, least, most time.Duration) queue {
		return queue{DelayedRetry: topology.DelayedRetry{Type: kind, Min: least, Max: most}}
	}
	hour, minute := "3600000", "60000" // in milliseconds, from 4.3 on
	if before, err := meets(node.Version(), "<4.3"); err != nil {
		t.Fatal(err)
	} else if before {
		hour, minute = "1h", "1m" // as the user wrote it
	}
	for _, c := range []struct {
		base                 func(queue) queue
		exists, asked        queue
		argument, have, want string
		since                string
	}{
		{quorum, queue{}, queue{Type: topology.Classic}, "x-queue-type", "quorum", "classic", ""},
		{quorum, queue{Type: topology.Classic}, queue{}, "x-queue-type", "classic", "quorum", ""},
		{quorum, queue{Type: topology.Stream}, queue{}, "x-queue-type", "stream", "quorum", ""},
		{classic, queue{}, queue{Transient: true}, "durable", "true", "false", ""},
		{classic, queue{}, queue{AutoDelete: true}, "auto_delete", "false", "true", ""},
		{quorum, queue{}, queue{MessageTTL: time.Second}, "x-message-ttl", "none", "1000", ""},
		{quorum, queue{MessageTTL: time.Second}, queue{}, "x-message-ttl", "1000", "none", ""},
		{quorum, queue{MessageTTL: time.Second}, queue{MessageTTL: time.Minute}, "x-message-ttl", "1000", "60000", ""},
		{quorum, queue{Expires: time.Hour}, queue{Expires: time.Minute}, "x-expires", "3600000", "60000", ""},
		{quorum, queue{MaxLength: 1}, queue{MaxLength: 2}, "x-max-length", "1", "2", ""},
		{quorum, queue{MaxLengthBytes: 1}, queue{MaxLengthBytes: 2}, "x-max-length-bytes", "1", "2", ""},
		{quorum, queue{}, queue{Overflow: topology.RejectPublish}, "x-overflow", "none", "reject-publish", ""},
		{quorum, queue{DeadLetterExchange: "a"}, queue{DeadLetterExchange: "b"}, "x-dead-letter-exchange", "a", "b", ""},
		{quorum, queue{DeadLetterQueue: "a"}, queue{DeadLetterQueue: "it's"}, "x-dead-letter-routing-key", "a", "it's", ""},
		{quorum, queue{DeadLetterExchange: "x", DeadLetterRoutingKey: "a but current is b"}, queue{DeadLetterExchange: "x"}, "x-dead-letter-routing-key", "a but current is b", "none", ""},
		{quorum, queue{DeadLetterStrategy: topology.AtMostOnce}, queue{}, "x-dead-letter-strategy", "at-most-once", "none", ""},
		{quorum, queue{DeliveryLimit: 5}, queue{DeliveryLimit: 6}, "x-delivery-limit", "5", "6", ""},
		{quorum, queue{}, queue{DeliveryLimit: 20}, "x-delivery-limit", "none", "20", ""},
		{quorum, queue{}, queue{DeliveryLimit: topology.Unlimited}, "x-delivery-limit", "none", "-1", ""},
		{quorum, queue{}, queue{SingleActiveConsumer: true}, "x-single-active-consumer", "none", "true", ""},
		{classic, queue{MaxPriority: 5}, queue{MaxPriority: 6}, "x-max-priority", "5", "6", ""},
		{quorum, delay("", time.Second, 0), queue{}, "x-delayed-retry-type", "failed", "none", ">=4.3"},
		{quorum, delay("", time.Second, 0), delay("", 2*time.Second, 0), "x-delayed-retry-min", "1000", "2000", ">=4.3"},
		{quorum, delay("", time.Second, time.Minute), delay("", time.Second, time.Hour), "x-delayed-retry-max", "60000", "3600000", ">=4.3"},
		{quorum, queue{ConsumerTimeout: time.Hour}, queue{ConsumerTimeout: time.Minute}, "x-consumer-timeout", "3600000", "60000", ">=4.3"},
		{stream, queue{MaxAge: time.Hour}, queue{MaxAge: time.Minute}, "x-max-age", hour, minute, ""},
		{stream, queue{MaxSegmentBytes: 1_000_000}, queue{MaxSegmentBytes: 2_000_000}, "x-stream-max-segment-size-bytes", "1000000", "2000000", ""},
		{stream, queue{}, queue{Arguments: amqp.Table{"x-initial-cluster-size": 1}}, "x-initial-cluster-size", "none", "1", ""},
		{quorum, queue{}, queue{Arguments: amqp.Table{"x-quorum-initial-group-size": 1}}, "x-quorum-initial-group-size", "none", "1", ""},
		{quorum, queue{}, queue{Arguments: amqp.Table{"x-queue-leader-locator": "balanced"}}, "x-queue-leader-locator", "none", "balanced", ""},
	} {
		t.Run(c.argument+" is "+c.have+" and not "+c.want, func(t *testing.T) {
			if c.since != "" {
				requireVersion(t, node, c.since)
			}
			b := newBareBroker(t, node.URL())
			exists, asked := c.base(c.exists), c.base(c.asked)
			if c.exists.Type != "" {
				exists.Type = c.exists.Type
			}
			exists.Name = "topo-" + rand.Text() // short: the broker cuts its text
			asked.Name = exists.Name
			if err := b.declare(exists); err != nil {
				t.Fatal(err)
			}
			e := b.declareError(queueOnly(asked))
			if e.Cause != topology.CauseInequivalent || e.Code != 406 || e.Argument != c.argument || e.Have != c.have || e.Want != c.want {
				t.Errorf("%+v", e)
			}
			for _, part := range []string{e.Name, c.argument, "set Passive", "take another name", "delete it first"} {
				if !strings.Contains(e.Error(), part) {
					t.Errorf("%q does not say %q", e, part)
				}
			}
		})
	}
}

func TestDeclareNamesTheDifferenceOfAnExchange(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	for _, c := range []struct {
		asked                topology.Exchange
		argument, have, want string
	}{
		{topology.Exchange{Kind: topology.KindTopic}, "type", "direct", "topic"},
		{topology.Exchange{Transient: true}, "durable", "true", "false"},
		{topology.Exchange{AutoDelete: true}, "auto_delete", "false", "true"},
		{topology.Exchange{Internal: true}, "internal", "false", "true"},
		{topology.Exchange{AlternateExchange: "x"}, "alternate-exchange", "none", "x"},
	} {
		t.Run(c.argument, func(t *testing.T) {
			b := newBareBroker(t, node.URL())
			c.asked.Name = "topo-" + uniqueName(t)
			if err := b.declareExchange(topology.Exchange{Name: c.asked.Name}); err != nil {
				t.Fatal(err)
			}
			e := b.declareError(topology.Topology{Exchanges: []topology.Exchange{c.asked}})
			if e.Cause != topology.CauseInequivalent || e.Argument != c.argument || e.Have != c.have || e.Want != c.want || e.Entity != topology.EntityExchange {
				t.Errorf("%+v", e)
			}
			if !strings.Contains(e.Error(), "its bindings are lost") {
				t.Errorf("it says %v", e)
			}
		})
	}
}

func TestDeclareExplainsAQueueThatPikaMade(t *testing.T) {
	t.Parallel()
	url := sharedNode(t).URL()
	b := newBareBroker(t, url)
	name := "topo-" + uniqueName(t)
	b.removeAfter(queueOnly(topology.Queue{Name: name}))
	pika := func(ch *amqp.Channel) error { // channel.queue_declare(queue='example_queue')
		_, err := ch.QueueDeclare(name, false, false, false, false, nil)
		return err
	}
	if err := b.attempt(pika); err != nil {
		t.Fatal(err)
	}
	e := b.declareError(queueOnly(topology.Queue{Name: name}))
	if e.Argument != "durable" || e.Have != "false" || !strings.Contains(e.Error(), "it exists as a transient queue, as pika and other clients declare one by default") {
		t.Errorf("%v", e)
	}
	for claim, q := range map[string]topology.Queue{
		"as it is":        {Name: name, Passive: true},
		"as pika does it": {Name: name, Transient: true},
	} {
		err := b.attempt(func(ch *amqp.Channel) error { return topology.Declare(t.Context(), ch, queueOnly(q)) })
		if err != nil {
			t.Errorf("%s: %v", claim, err)
		}
	}
}

func TestDeclareExplainsANameThatLeavesNoRoomForTheRest(t *testing.T) {
	t.Parallel()
	b := newBareBroker(t, sharedNode(t).URL())
	name := "topo-" + strings.Repeat("x", 200) + uniqueName(t)[4:45]
	if err := b.declare(topology.Queue{Name: name}); err != nil {
		t.Fatal(err)
	}
	e := b.declareError(queueOnly(topology.Queue{Name: name, MessageTTL: time.Second}))
	if e.Cause != topology.CauseInequivalent || e.Argument != "x-message-ttl" || e.Have != "" || e.Want != "" || !strings.Contains(e.Error(), "another x-message-ttl") {
		t.Errorf("%+v: %v", e, e)
	}
}

func TestDeclareExplainsWhatIsMissingOrLocked(t *testing.T) {
	t.Parallel()
	url := sharedNode(t).URL()
	b := newBareBroker(t, url)
	name := "topo-" + uniqueName(t)

	if e := b.declareError(queueOnly(topology.Queue{Name: name, Passive: true})); e.Cause != topology.CauseNotFound || !strings.Contains(e.Error(), "Passive only uses what is there") {
		t.Errorf("a missing passive queue: %v", e)
	}
	if e := b.declareError(topology.Topology{Exchanges: []topology.Exchange{{Name: name, Passive: true}}}); e.Cause != topology.CauseNotFound || !strings.Contains(e.Error(), "Passive only uses what is there") {
		t.Errorf("a missing passive exchange: %v", e)
	}
	bound := topology.Topology{Queues: []topology.Queue{{Name: name}}, Bindings: []topology.Binding{{Exchange: name, Queue: name}}}
	e := b.declareError(bound)
	if e.Cause != topology.CauseNotFound || e.Entity != topology.EntityBinding || !strings.Contains(e.Error(), "no exchange '"+name+"'") {
		t.Errorf("a binding of a missing exchange: %v", e)
	}
	if bound.Covers(e) {
		t.Error("a topology without the exchange covers it")
	}
	if with := (topology.Topology{Exchanges: []topology.Exchange{{Name: name}}}); !with.Covers(e) {
		t.Error("a topology with the exchange does not cover it")
	}

	other := newBareBroker(t, url)
	exclusive := topology.Queue{Name: name + ".e", Exclusive: true}
	if err := other.declare(exclusive); err != nil {
		t.Fatal(err)
	}
	if e := b.declareError(queueOnly(exclusive)); e.Cause != topology.CauseLocked || e.Code != 405 || !strings.Contains(e.Error(), "another connection owns it exclusively") {
		t.Errorf("another connection's exclusive queue: %v", e)
	}
}

func TestDeclareExplainsWhatABrokerDenies(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	must(t, node.AddUser(t.Context(), "limited", "limited"))
	must(t, node.Permit(t.Context(), "/", "limited", "^ok.*", "^ok.*", "^ok.*"))
	must(t, node.AddVhost(t.Context(), "full"))
	ctl(t, node, "set_vhost_limits", "-p", "full", `{"max-queues": 0}`)

	t.Run("transient queues", func(t *testing.T) {
		requireVersion(t, node, ">=4.0") // earlier ones do not start with this setting
		denying := ownNode(t, broker.Options{Conf: []string{"deprecated_features.permit.transient_nonexcl_queues = false"}})
		e := newBareBroker(t, denying.URL()).declareError(queueOnly(topology.Queue{Name: "q", Transient: true}))
		if e.Cause != topology.CauseDeprecated || e.Code != 541 || !strings.Contains(e.Error(), "declare it without Transient, or set Exclusive") {
			t.Errorf("%+v: %v", e.Cause, e)
		}
	})
	t.Run("permissions", func(t *testing.T) {
		b := newBareBroker(t, strings.Replace(node.URL(), "guest:guest", "limited:limited", 1))
		for _, top := range []topology.Topology{
			queueOnly(topology.Queue{Name: "q"}),
			queueOnly(topology.Queue{Name: "ok", DeadLetterExchange: "x"}),
			{Exchanges: []topology.Exchange{{Name: "x"}}},
			{Queues: []topology.Queue{{Name: "ok"}}, Bindings: []topology.Binding{{Exchange: "amq.direct", Queue: "ok"}}},
		} {
			if e := b.declareError(top); e.Cause != topology.CauseAccess || !strings.Contains(e.Error(), "refused for user 'limited': grant it with rabbitmqctl set_permissions") {
				t.Errorf("%+v: %v", e.Cause, e)
			}
		}
	})
	t.Run("limits", func(t *testing.T) {
		e := newBareBroker(t, strings.TrimRight(node.URL(), "/")+"/full").declareError(queueOnly(topology.Queue{Name: "q"}))
		if e.Cause != topology.CauseInvalid || !strings.Contains(e.Error(), "limit") {
			t.Errorf("%+v: %v", e.Cause, e)
		}
	})
}

func TestPassiveUsesWhatExistsAsItIs(t *testing.T) {
	t.Parallel()
	b := newBareBroker(t, sharedNode(t).URL())
	name := "topo-" + uniqueName(t)
	if err := b.declare(topology.Queue{Name: name, Type: topology.Classic, MaxPriority: 5}); err != nil {
		t.Fatal(err)
	}
	if err := b.declareExchange(topology.Exchange{Name: name, Kind: topology.KindFanout, Transient: true}); err != nil {
		t.Fatal(err)
	}
	err := b.attempt(func(ch *amqp.Channel) error {
		return topology.Declare(t.Context(), ch, topology.Topology{
			Exchanges: []topology.Exchange{{Name: name, Kind: "bogus", Passive: true, Arguments: amqp.Table{"a": 1}}},
			Queues:    []topology.Queue{{Name: name, Passive: true, MessageTTL: time.Second, MaxAge: time.Hour, Overflow: "bogus"}},
			Bindings:  []topology.Binding{{Exchange: name, Queue: name}},
		})
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDeclareCanBeRepeated(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	b := newBareBroker(t, node.URL())
	name := "topo-" + uniqueName(t)
	top := topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: name + ".t", Kind: topology.KindTopic, AlternateExchange: name + ".f"},
			{Name: name + ".f", Kind: topology.KindFanout, Internal: true},
			{Name: name + ".h", Kind: topology.KindHeaders, Transient: true},
			{Name: "amq.topic", Kind: topology.KindTopic},
			{Name: name + ".f", Passive: true},
		},
		Queues: []topology.Queue{
			{Name: name + ".used", Passive: true}, // before its own definition
			{Name: name + ".used", MessageTTL: 30 * time.Second, Expires: time.Hour, MaxLength: 10, MaxLengthBytes: 1 << 40, SingleActiveConsumer: true},
			{Name: name + ".all", DeadLetterExchange: name + ".f", DeadLetterRoutingKey: "k", DeadLetterStrategy: topology.AtLeastOnce, Overflow: topology.RejectPublish, DeliveryLimit: 1 << 40},
			{Name: name + ".delayed", DelayedRetry: topology.DelayedRetry{Min: time.Second, Max: time.Minute}, ConsumerTimeout: time.Hour, Arguments: amqp.Table{"x-custom": int64(1 << 40)}},
			{Name: name + ".classic", Type: topology.Classic, MaxPriority: 9, Overflow: topology.RejectPublishDLX, DeadLetterQueue: name + ".all"},
			{Name: name + ".stream", Type: topology.Stream, MaxAge: 7 * 24 * time.Hour, MaxSegmentBytes: 100_000_000},
		},
		Bindings: []topology.Binding{
			{Exchange: name + ".t", Queue: name + ".all", RoutingKey: "a.#"},
			{Exchange: name + ".t", ToExchange: name + ".h", RoutingKey: "*"},
			{Exchange: name + ".h", Queue: name + ".stream", Arguments: amqp.Table{"x-match": "any", "n": int64(1 << 40)}},
		},
	}
	b.removeAfter(top)
	if err := top.Validate(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := b.attempt(func(ch *amqp.Channel) error { return topology.Declare(t.Context(), ch, top) }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeclareStopsBetweenCallsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	b := newBareBroker(t, sharedNode(t).URL())
	name := "topo-" + uniqueName(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = b.attempt(func(ch *amqp.Channel) error {
		if err := topology.Declare(ctx, ch, queueOnly(topology.Queue{Name: name})); !errors.Is(err, context.Canceled) {
			t.Errorf("Declare returned %v", err)
		}
		if _, err := topology.DeclareQueue(ctx, ch, topology.Queue{Name: name}); !errors.Is(err, context.Canceled) {
			t.Errorf("DeclareQueue returned %v", err)
		}
		if err := topology.Delete(ctx, ch, queueOnly(topology.Queue{Name: name}), topology.DeleteOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("Delete returned %v", err)
		}
		if ch.IsClosed() {
			t.Error("the channel was closed")
		}
		return nil
	})
	if b.exists(name) {
		t.Error("the queue was declared")
	}
}

func TestDeclareSendsNothingThatHasAFault(t *testing.T) {
	t.Parallel()
	b := newBareBroker(t, sharedNode(t).URL())
	name := "topo-" + uniqueName(t)
	faulty := topology.Topology{Queues: []topology.Queue{{Name: name}, {Name: "amq.topo"}}}
	_ = b.attempt(func(ch *amqp.Channel) error {
		var fault *topology.Fault
		if err := topology.Declare(t.Context(), ch, faulty); !errors.As(err, &fault) {
			t.Errorf("Declare returned %v", err)
		}
		if _, err := topology.DeclareQueue(t.Context(), ch, topology.Queue{Name: name, Overflow: "bogus"}); !errors.As(err, &fault) {
			t.Errorf("DeclareQueue returned %v", err)
		}
		if err := topology.Delete(t.Context(), ch, faulty, topology.DeleteOptions{}); !errors.As(err, &fault) {
			t.Errorf("Delete returned %v", err)
		}
		if ch.IsClosed() {
			t.Error("the channel was closed")
		}
		return nil
	})
	if b.exists(name) {
		t.Error("the queue was declared")
	}
}

func TestDeclareQueueReturnsTheNameThatTheBrokerChose(t *testing.T) {
	t.Parallel()
	_, ch := dial(t, sharedNode(t).URL())
	exchange := topology.Exchange{Name: "topo-" + uniqueName(t), Kind: topology.KindTopic, AutoDelete: true}
	newBareBroker(t, sharedNode(t).URL()).removeAfter(topology.Topology{Exchanges: []topology.Exchange{exchange}})
	if err := topology.Declare(t.Context(), ch, topology.Topology{Exchanges: []topology.Exchange{exchange}}); err != nil {
		t.Fatal(err)
	}
	q, err := topology.DeclareQueue(t.Context(), ch, topology.Queue{Exclusive: true}, topology.Binding{Exchange: exchange.Name, RoutingKey: "a.*"}, topology.Binding{Exchange: exchange.Name, RoutingKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(q.Name, "amq.gen-") {
		t.Errorf("it is called %q", q.Name)
	}
	for _, key := range []string{"a.x", "b"} {
		if err := ch.PublishWithContext(t.Context(), exchange.Name, key, true, false, amqp.Publishing{Body: []byte(key)}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "message "+key, 10*time.Second, func() bool {
			d, ok, err := ch.Get(q.Name, true)
			return err == nil && ok && string(d.Body) == key
		})
	}
	again, err := topology.DeclareQueue(t.Context(), ch, topology.Queue{Exclusive: true})
	if err != nil || again.Name == q.Name {
		t.Errorf("the second one is called %q, %v", again.Name, err)
	}
}
