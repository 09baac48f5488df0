package integration_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

func TestBrokerRefusesTheQueuesThatValidateDoes(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	args := func(key string, value any) amqp.Table { return amqp.Table{key: value} }
	quorum, classic, stream := topology.Quorum, topology.Classic, topology.Stream
	for _, c := range []struct {
		claim string
		queue topology.Queue
		since string // the series that refuses it; earlier ones ignore it
	}{
		{"an unknown type", topology.Queue{Type: "bogus"}, ""},
		{"a transient quorum queue", topology.Queue{Type: quorum, Transient: true}, ""},
		{"an exclusive quorum queue", topology.Queue{Type: quorum, Exclusive: true}, ""},
		{"an auto-delete quorum queue", topology.Queue{Type: quorum, AutoDelete: true}, ""},
		{"a transient stream", topology.Queue{Type: stream, Transient: true}, ""},
		{"an exclusive stream", topology.Queue{Type: stream, Exclusive: true}, ""},
		{"an auto-delete stream", topology.Queue{Type: stream, AutoDelete: true}, ""},

		{"priorities on a quorum queue", topology.Queue{MaxPriority: 5}, ""},
		{"priorities on a stream", topology.Queue{Type: stream, MaxPriority: 5}, ""},
		{"a TTL on a stream", topology.Queue{Type: stream, MessageTTL: time.Second}, ""},
		{"an expiry on a stream", topology.Queue{Type: stream, Expires: time.Second}, ""},
		{"a length on a stream", topology.Queue{Type: stream, MaxLength: 1}, ""},
		{"an overflow on a stream", topology.Queue{Type: stream, Overflow: topology.DropHead}, ""},
		{"a dead-letter exchange on a stream", topology.Queue{Type: stream, DeadLetterExchange: "x"}, ""},
		{"a dead-letter queue on a stream", topology.Queue{Type: stream, DeadLetterQueue: "x"}, ""},
		{"a single active consumer on a stream", topology.Queue{Type: stream, SingleActiveConsumer: true}, ""},
		{"a delivery limit on a stream", topology.Queue{Type: stream, DeliveryLimit: 5}, ""},
		{"a delivery limit on a classic queue", topology.Queue{Type: classic, DeliveryLimit: 5}, ""},
		{"a dead-letter strategy on a classic queue", topology.Queue{Type: classic, DeadLetterStrategy: topology.AtMostOnce}, ""},
		{"a dead-letter strategy on a stream", topology.Queue{Type: stream, DeadLetterStrategy: topology.AtMostOnce}, ""},
		{"an age on a quorum queue", topology.Queue{MaxAge: time.Hour}, ""},
		{"an age on a classic queue", topology.Queue{Type: classic, MaxAge: time.Hour}, ""},
		{"a segment size on a quorum queue", topology.Queue{MaxSegmentBytes: 500_000}, ""},
		{"a segment size on a classic queue", topology.Queue{Type: classic, MaxSegmentBytes: 500_000}, ""},
		{"a cluster size on a quorum queue", topology.Queue{Arguments: args("x-initial-cluster-size", 1)}, ""},
		{"a group size on a classic queue", topology.Queue{Type: classic, Arguments: args("x-quorum-initial-group-size", 1)}, ""},
		{"messages in memory on a classic queue", topology.Queue{Type: classic, Arguments: args("x-max-in-memory-length", 1)}, ""},
		{"bytes in memory on a stream", topology.Queue{Type: stream, Arguments: args("x-max-in-memory-bytes", 1)}, ""},
		{"a queue mode on a quorum queue", topology.Queue{Arguments: args("x-queue-mode", "lazy")}, ""},
		{"a queue mode on a stream", topology.Queue{Type: stream, Arguments: args("x-queue-mode", "lazy")}, ""},
		{"a queue version on a quorum queue", topology.Queue{Arguments: args("x-queue-version", 2)}, ""},
		{"a master locator on a quorum queue", topology.Queue{Arguments: args("x-queue-master-locator", "min-masters")}, ""},
		{"a delayed retry on a classic queue", topology.Queue{Type: classic, DelayedRetry: topology.DelayedRetry{Min: time.Second}}, ">=4.3"},
		{"a delayed retry on a stream", topology.Queue{Type: stream, DelayedRetry: topology.DelayedRetry{Min: time.Second}}, ">=4.3"},
		{"a filter size on a quorum queue", topology.Queue{Arguments: args("x-stream-filter-size-bytes", 32)}, ">=4.3"},
		{"a disconnected timeout on a classic queue", topology.Queue{Type: classic, Arguments: args("x-consumer-disconnected-timeout", 60_000)}, ">=4.3"},

		{"a negative TTL", topology.Queue{MessageTTL: -time.Second}, ""},
		{"a TTL over ten years", topology.Queue{MessageTTL: 315_360_000_001 * time.Millisecond}, ""},
		{"a negative expiry", topology.Queue{Expires: -time.Second}, ""},
		{"an expiry over ten years", topology.Queue{Expires: 315_360_000_001 * time.Millisecond}, ""},
		{"an expiry of 0", topology.Queue{Arguments: args("x-expires", 0)}, ""},
		{"a negative length", topology.Queue{MaxLength: -1}, ""},
		{"a negative length in bytes", topology.Queue{MaxLengthBytes: -1}, ""},
		{"a negative consumer timeout", topology.Queue{ConsumerTimeout: -time.Minute}, ">=4.3"},
		{"a segment size over 3 GB", topology.Queue{Type: stream, MaxSegmentBytes: 3_000_000_001}, ""},
		{"a priority over 255", topology.Queue{Type: classic, Arguments: args("x-max-priority", 256)}, ""},
		{"an unknown overflow", topology.Queue{Overflow: "bogus"}, ""},
		{"an unknown dead-letter strategy", topology.Queue{DeadLetterStrategy: "bogus"}, ""},
		{"an unknown leader locator", topology.Queue{Arguments: args("x-queue-leader-locator", "bogus")}, ""},
		{"a queue version of 3", topology.Queue{Type: classic, Arguments: args("x-queue-version", 3)}, ""},
		{"an age below a second", topology.Queue{Type: stream, Arguments: args("x-max-age", "500ms")}, ""},
		{"an age of 0", topology.Queue{Type: stream, Arguments: args("x-max-age", "0s")}, ""},
		{"an age in weeks", topology.Queue{Type: stream, Arguments: args("x-max-age", "1w")}, ""},
		{"an age with a sign", topology.Queue{Type: stream, Arguments: args("x-max-age", "+7D")}, ">=4.3"},
		{"a filter size below 16", topology.Queue{Type: stream, Arguments: args("x-stream-filter-size-bytes", 15)}, ">=4.0"},
		{"a filter size over 255", topology.Queue{Type: stream, Arguments: args("x-stream-filter-size-bytes", 256)}, ">=4.0"},
		{"an initial cluster size of 0", topology.Queue{Type: stream, Arguments: args("x-initial-cluster-size", 0)}, ""},
		{"an initial group size of 0", topology.Queue{Arguments: args("x-quorum-initial-group-size", 0)}, ""},

		{"a TTL that is a string", topology.Queue{Arguments: args("x-message-ttl", "1000")}, ""},
		{"a TTL that is a float", topology.Queue{Arguments: args("x-message-ttl", 1000.0)}, ""},
		{"an expiry that is a string", topology.Queue{Arguments: args("x-expires", "1000")}, ""},
		{"a length that is nil", topology.Queue{Arguments: args("x-max-length", nil)}, ""},
		{"a length in bytes that is a float", topology.Queue{Arguments: args("x-max-length-bytes", 1.5)}, ""},
		{"a priority that is a string", topology.Queue{Type: classic, Arguments: args("x-max-priority", "5")}, ""},
		{"a single active consumer that is a string", topology.Queue{Arguments: args("x-single-active-consumer", "true")}, ""},
		{"a dead-letter exchange that is a number", topology.Queue{Arguments: args("x-dead-letter-exchange", 3)}, ""},
		{"an overflow that is a number", topology.Queue{Arguments: args("x-overflow", 3)}, ""},
		{"a consumer timeout that is a string", topology.Queue{Arguments: args("x-consumer-timeout", "1m")}, ">=4.3"},
		{"a segment size that is a string", topology.Queue{Type: stream, Arguments: args("x-stream-max-segment-size-bytes", "1")}, ""},

		{"a dead-letter routing key alone", topology.Queue{DeadLetterRoutingKey: "k"}, ""},
	} {
		t.Run(c.claim, func(t *testing.T) {
			if c.since != "" {
				requireVersion(t, node, c.since)
			}
			c.queue.Name = "topo-" + uniqueName(t)
			var fault *topology.Fault
			if err := c.queue.Validate(); !errors.As(err, &fault) {
				t.Errorf("Validate says %v", err)
			}
			err := newBareBroker(t, node.URL()).declare(c.queue)
			var reply *amqp.Error
			if !errors.As(err, &reply) || reply.Code != amqp.PreconditionFailed {
				t.Errorf("the broker answers %v, want 406", err)
			}
		})
	}
}

// What a fault says the broker does instead of refusing it.
func TestBrokerDoesSomethingElseWhereValidateSaysSo(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)

	t.Run("line breaks are taken out of names", func(t *testing.T) {
		b := newBareBroker(t, node.URL())
		name := "topo-" + uniqueName(t)
		b.removeAfter(topology.Topology{Queues: []topology.Queue{{Name: name}}, Exchanges: []topology.Exchange{{Name: name}}})
		if err := b.declare(topology.Queue{Name: "\r" + name + "\n"}); err != nil {
			t.Fatal(err)
		}
		if err := b.declareExchange(topology.Exchange{Name: "\r" + name + "\n"}); err != nil {
			t.Fatal(err)
		}
		if !b.exists(name) || !b.exchangeExists(name) {
			t.Error("they are called something else")
		}
	})

	for _, c := range []struct {
		claim string
		args  amqp.Table
		want  int // deliveries of one message
	}{
		{"a delivery limit of 3 is 4 deliveries", amqp.Table{"x-delivery-limit": 3}, 4},
		{"a delivery limit that is a string is ignored", amqp.Table{"x-delivery-limit": "3"}, 6},
		{"a delivery limit of 0 is 1 delivery", amqp.Table{"x-delivery-limit": 0}, 1},
	} {
		t.Run(c.claim, func(t *testing.T) {
			q := topology.Queue{Name: "topo-" + uniqueName(t), Arguments: c.args}
			if got := deliveries(t, node.URL(), q, 6); got != c.want {
				t.Errorf("%d deliveries, want %d", got, c.want)
			}
		})
	}

	t.Run("unlimited is 0 before 4.0", func(t *testing.T) {
		q := topology.Queue{Name: "topo-" + uniqueName(t), DeliveryLimit: topology.Unlimited}
		want := 30
		if strings.HasPrefix(node.Version(), "3.") {
			want = 1
		}
		if got := deliveries(t, node.URL(), q, 30); got != want {
			t.Errorf("%d deliveries, want %d", got, want)
		}
	})

	t.Run("delayed retry", func(t *testing.T) {
		requireVersion(t, node, ">=4.3")
		const delay = time.Minute // what does not come at once does not come in time
		for _, c := range []struct {
			claim string
			queue topology.Queue
			valid bool
			delay bool
		}{
			{"waits", topology.Queue{DelayedRetry: topology.DelayedRetry{Min: delay}}, true, true},
			{"does not wait without a shortest delay", topology.Queue{DelayedRetry: topology.DelayedRetry{Max: delay}}, false, false},
			{"does not wait with an unknown type", topology.Queue{DelayedRetry: topology.DelayedRetry{Type: "bogus", Min: delay}}, false, false},
			{"does not wait without a type", topology.Queue{Arguments: amqp.Table{"x-delayed-retry-min": delay.Milliseconds()}}, false, false},
			{"does not wait for a string", topology.Queue{DelayedRetry: topology.DelayedRetry{Type: topology.DelayFailed}, Arguments: amqp.Table{"x-delayed-retry-min": "60000"}}, false, false},
			{"does not wait when disabled", topology.Queue{DelayedRetry: topology.DelayedRetry{Type: topology.DelayDisabled, Min: delay}}, true, false},
		} {
			t.Run(c.claim, func(t *testing.T) {
				c.queue.Name = "topo-" + uniqueName(t)
				if err := c.queue.Validate(); (err == nil) != c.valid {
					t.Errorf("Validate says %v", err)
				}
				want := 3
				if c.delay {
					want = 1
				}
				if n := deliveries(t, node.URL(), c.queue, 3); n != want {
					t.Errorf("%d deliveries, want %d", n, want)
				}
			})
		}
	})
}

// deliveries rejects one message again and again and returns how often it came, at most limit.
func deliveries(t *testing.T, url string, q topology.Queue, limit int) (n int) {
	t.Helper()
	b := newBareBroker(t, url)
	if err := b.declare(q); err != nil {
		t.Fatal(err)
	}
	_, ch := dial(t, url)
	publishConfirmed(t, ch, q.Name, "x")
	in, err := ch.Consume(q.Name, "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n < limit {
		select {
		case d, ok := <-in:
			if !ok {
				t.Fatal("the delivery channel was closed")
			}
			n++
			if err := d.Reject(true); err != nil {
				t.Fatal(err)
			}
		case <-time.After(4 * time.Second):
			return n
		}
	}
	return n
}

func TestBrokerTakesTheQueuesThatLintWarnsOf(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	args := func(key string, value any) amqp.Table { return amqp.Table{key: value} }
	for _, c := range []struct {
		claim   string
		queue   topology.Queue
		refused string // the series that refuses it, with refusal
		refusal int
	}{
		{"the default delivery limit", topology.Queue{}, "", 0},
		{"no delivery limit", topology.Queue{DeliveryLimit: topology.Unlimited}, "", 0},
		{"a shared transient queue", topology.Queue{Transient: true}, "", 0},
		{"a transient auto-delete queue", topology.Queue{Transient: true, AutoDelete: true}, "", 0},
		{"a delayed retry", topology.Queue{DelayedRetry: topology.DelayedRetry{Min: time.Second}}, "", 0},
		{"reject-publish-dlx on a quorum queue", topology.Queue{Overflow: topology.RejectPublishDLX, MaxLength: 1}, "", 0},
		{"a stream without a limit", topology.Queue{Type: topology.Stream}, "", 0},
		{"a leader locator of old", topology.Queue{Arguments: args("x-queue-leader-locator", "least-leaders")}, "", 0},
		{"a queue mode", topology.Queue{Type: topology.Classic, Arguments: args("x-queue-mode", "lazy")}, "", 0},
		{"mirroring", topology.Queue{Arguments: args("x-ha-policy", "all")}, "", 0},
		{"an unknown argument", topology.Queue{Arguments: args("x-mesage-ttl", 1)}, "", 0},
		{"messages in memory", topology.Queue{Arguments: args("x-max-in-memory-length", 1)}, "", 0},
		{"a group size on a classic queue", topology.Queue{Type: topology.Classic, Arguments: args("x-quorum-target-group-size", 3)}, "", 0},
		{"a dead-letter exchange that does not exist", topology.Queue{DeadLetterExchange: "topo-missing"}, "", 0},
		{"a dead-letter queue that does not exist", topology.Queue{DeadLetterQueue: "topo-missing"}, "", 0},
		{"a consumer timeout on a classic queue", topology.Queue{Type: topology.Classic, ConsumerTimeout: time.Hour}, ">=4.3", amqp.PreconditionFailed},
		{"a queue version of 1", topology.Queue{Type: topology.Classic, Arguments: args("x-queue-version", 1)}, ">=4.3", amqp.PreconditionFailed},
		{"a master locator", topology.Queue{Type: topology.Classic, Arguments: args("x-queue-master-locator", "min-masters")}, ">=4.3", amqp.InternalError},
	} {
		t.Run(c.claim, func(t *testing.T) {
			c.queue.Name = "topo-" + uniqueName(t)
			if len((topology.Topology{Queues: []topology.Queue{c.queue}}).Lint()) == 0 {
				t.Error("Lint says nothing")
			}
			if err := c.queue.Validate(); err != nil {
				t.Errorf("Validate says %v", err)
			}
			err := newBareBroker(t, node.URL()).declare(c.queue)
			refused := c.refused != ""
			if refused {
				var constraintErr error
				if refused, constraintErr = meets(node.Version(), c.refused); constraintErr != nil {
					t.Fatal(constraintErr)
				}
			}
			var reply *amqp.Error
			switch {
			case !refused && err != nil:
				t.Errorf("the broker refuses it: %v", err)
			case refused && (!errors.As(err, &reply) || reply.Code != c.refusal):
				t.Errorf("the broker answers %v, want %d", err, c.refusal)
			}
		})
	}
}

func TestQuorumQueueTakesRejectPublishDLXForDropHead(t *testing.T) {
	t.Parallel()
	_, ch := dial(t, sharedNode(t).URL())
	q := topology.Queue{Name: "topo-" + uniqueName(t), MaxLength: 1, Overflow: topology.RejectPublishDLX}
	if err := newBareBroker(t, sharedNode(t).URL()).declare(q); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		publishConfirmed(t, ch, q.Name, fmt.Sprint(i)) // none is nacked
	}
	if first := getOne(t, ch, q.Name); first == "0" {
		t.Error("the oldest message was kept")
	}
}

func TestBrokerRefusesTheNamesExchangesAndBindingsThatValidateDoes(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	name := "topo-" + uniqueName(t)
	b := newBareBroker(t, node.URL())
	if err := b.declare(topology.Queue{Name: name}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []topology.Exchange{{Name: name + ".h", Kind: topology.KindHeaders}, {Name: name + ".d"}} {
		if err := b.declareExchange(e); err != nil {
			t.Fatal(err)
		}
	}
	exchange := func(e topology.Exchange) func(*bareBroker) error {
		return func(b *bareBroker) error { return b.declareExchange(e) }
	}
	queue := func(q topology.Queue) func(*bareBroker) error {
		return func(b *bareBroker) error { return b.declare(q) }
	}
	bind := func(x topology.Binding) func(*bareBroker) error {
		return func(b *bareBroker) error {
			return b.attempt(func(ch *amqp.Channel) error {
				if x.ToExchange != "" {
					return ch.ExchangeBind(x.ToExchange, x.RoutingKey, x.Exchange, false, x.Arguments)
				}
				return ch.QueueBind(x.Queue, x.RoutingKey, x.Exchange, false, x.Arguments)
			})
		}
	}
	long := strings.Repeat("x", 256)
	own := topology.Topology{
		Exchanges: []topology.Exchange{{Name: name + ".h", Kind: topology.KindHeaders}, {Name: name + ".d"}},
		Queues:    []topology.Queue{{Name: name}},
	}
	for _, c := range []struct {
		claim string
		fault topology.Topology // what Validate is asked about
		do    func(*bareBroker) error
		code  int // 0: the driver refuses to send it
		since string
	}{
		{"a queue name with the broker's prefix", topology.Topology{Queues: []topology.Queue{{Name: "amq.topo"}}}, queue(topology.Queue{Name: "amq.topo"}), 403, ""},
		{"a queue name that is too long", topology.Topology{Queues: []topology.Queue{{Name: long}}}, queue(topology.Queue{Name: long}), 0, ""},
		{"a queue name that is not UTF-8", topology.Topology{Queues: []topology.Queue{{Name: "topo-\xff"}}}, queue(topology.Queue{Name: "topo-\xff"}), 501, ""},
		{"the default exchange", topology.Topology{Exchanges: []topology.Exchange{{}}}, exchange(topology.Exchange{}), 403, ""},
		{"an exchange name with the broker's prefix", topology.Topology{Exchanges: []topology.Exchange{{Name: "amq.topo"}}}, exchange(topology.Exchange{Name: "amq.topo"}), 403, ""},
		{"an exchange name that is not UTF-8", topology.Topology{Exchanges: []topology.Exchange{{Name: "topo-\xff"}}}, exchange(topology.Exchange{Name: "topo-\xff"}), 501, ""},
		{"the broker's exchange as another kind", topology.Topology{Exchanges: []topology.Exchange{{Name: "amq.direct", Kind: topology.KindTopic}}}, exchange(topology.Exchange{Name: "amq.direct", Kind: topology.KindTopic}), 406, ""},
		{"the broker's exchange as a transient one", topology.Topology{Exchanges: []topology.Exchange{{Name: "amq.direct", Transient: true}}}, exchange(topology.Exchange{Name: "amq.direct", Transient: true}), 406, ""},
		{"an unknown kind", topology.Topology{Exchanges: []topology.Exchange{{Name: name + ".k", Kind: "bogus"}}}, exchange(topology.Exchange{Name: name + ".k", Kind: "bogus"}), 406, ">=4.0"},
		{"a kind in capitals", topology.Topology{Exchanges: []topology.Exchange{{Name: name + ".k", Kind: "Direct"}}}, exchange(topology.Exchange{Name: name + ".k", Kind: "Direct"}), 406, ">=4.0"},
		{"an alternate exchange that is a number", topology.Topology{Exchanges: []topology.Exchange{{Name: name + ".k", Arguments: amqp.Table{"alternate-exchange": 3}}}}, exchange(topology.Exchange{Name: name + ".k", Arguments: amqp.Table{"alternate-exchange": 3}}), 406, ""},
		{"a server-named quorum queue", topology.Topology{Queues: []topology.Queue{{Type: topology.Quorum}}}, queue(topology.Queue{Type: topology.Quorum}), 406, ""},
		{"a server-named stream", topology.Topology{Queues: []topology.Queue{{Type: topology.Stream}}}, queue(topology.Queue{Type: topology.Stream}), 406, ""},
		{"a binding of the default exchange", topology.Topology{Bindings: []topology.Binding{{Queue: name}}}, bind(topology.Binding{Queue: name}), 403, ""},
		{"a binding from a key that is too long", topology.Topology{Bindings: []topology.Binding{{Exchange: name + ".d", Queue: name, RoutingKey: long}}}, bind(topology.Binding{Exchange: name + ".d", Queue: name, RoutingKey: long}), 0, ""},
		{"a binding from a key that is not UTF-8", topology.Topology{Bindings: []topology.Binding{{Exchange: name + ".d", Queue: name, RoutingKey: "\xff"}}}, bind(topology.Binding{Exchange: name + ".d", Queue: name, RoutingKey: "\xff"}), 501, ""},
		{"a binding with an unknown x-match", own.Merge(topology.Topology{Bindings: []topology.Binding{{Exchange: name + ".h", Queue: name, Arguments: amqp.Table{"x-match": "bogus"}}}}), bind(topology.Binding{Exchange: name + ".h", Queue: name, Arguments: amqp.Table{"x-match": "bogus"}}), 406, ""},
		{"a binding with an x-match that is no string", own.Merge(topology.Topology{Bindings: []topology.Binding{{Exchange: name + ".h", Queue: name, Arguments: amqp.Table{"x-match": 1}}}}), bind(topology.Binding{Exchange: name + ".h", Queue: name, Arguments: amqp.Table{"x-match": 1}}), 406, ""},
		{
			"a quorum queue behind x-local-random", own.Merge(topology.Topology{Exchanges: []topology.Exchange{{Name: name + ".r", Kind: "x-local-random"}}, Bindings: []topology.Binding{{Exchange: name + ".r", Queue: name}}}),
			func(b *bareBroker) error {
				if err := b.declareExchange(topology.Exchange{Name: name + ".r", Kind: "x-local-random"}); err != nil {
					b.t.Fatal(err)
				}
				return bind(topology.Binding{Exchange: name + ".r", Queue: name})(b)
			}, 406, ">=4.0",
		},
		{"an argument of 64 bits without a sign", topology.Topology{Queues: []topology.Queue{{Name: name + ".u", Arguments: amqp.Table{"x": uint64(1)}}}}, queue(topology.Queue{Name: name + ".u", Arguments: amqp.Table{"x": uint64(1)}}), 0, ""},
	} {
		t.Run(c.claim, func(t *testing.T) {
			if c.since != "" {
				requireVersion(t, node, c.since)
			}
			var fault *topology.Fault
			if err := c.fault.Validate(); !errors.As(err, &fault) {
				t.Errorf("Validate says %v", err)
			}
			err := c.do(newBareBroker(t, node.URL()))
			var reply *amqp.Error
			switch {
			case err == nil:
				t.Error("it was taken")
			case c.code != 0 && (!errors.As(err, &reply) || reply.Code != c.code):
				t.Errorf("the broker answers %v, want %d", err, c.code)
			}
		})
	}
}
