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

// delete deletes on a channel of its own and reports whether that stayed open.
func (b *bareBroker) delete(top topology.Topology, opts topology.DeleteOptions) (open bool, err error) {
	b.t.Helper()
	_ = b.attempt(func(ch *amqp.Channel) error {
		err = topology.Delete(b.t.Context(), ch, top, opts)
		open = !ch.IsClosed()
		return nil
	})
	return open, err
}

// deletedFrom is a topology that is declared and taken down by each test: two
// queues of a type behind a topic exchange, which is bound to another.
func deletedFrom(t *testing.T, b *bareBroker, kind topology.QueueType) (top topology.Topology, first, second string) {
	t.Helper()
	name := "topo-" + uniqueName(t)
	first, second = name+".1", name+".2"
	top = topology.Topology{
		Exchanges: []topology.Exchange{{Name: name, Kind: topology.KindTopic}, {Name: name + ".onward", Kind: topology.KindFanout}, {Name: "amq.topic", Kind: topology.KindTopic}},
		Queues:    []topology.Queue{{Name: first, Type: kind}, {Name: second, Type: kind}},
		Bindings: []topology.Binding{
			{Exchange: name, Queue: first, RoutingKey: "#"},
			{Exchange: name, Queue: second, RoutingKey: "2"},
			{Exchange: name, ToExchange: name + ".onward", RoutingKey: "#"},
			{Exchange: "amq.topic", Queue: first, RoutingKey: name},
			{Exchange: "amq.topic", ToExchange: name, RoutingKey: name},
		},
	}
	b.removeAfter(top)
	if err := b.attempt(func(ch *amqp.Channel) error { return topology.Declare(t.Context(), ch, top) }); err != nil {
		t.Fatal(err)
	}
	return top, first, second
}

// anyExists reports which entities of t are still there.
func (b *bareBroker) anyExists(top topology.Topology) (left []string) {
	b.t.Helper()
	for _, q := range top.Queues {
		if b.exists(q.Name) {
			left = append(left, q.Name)
		}
	}
	for _, e := range top.Exchanges {
		if !strings.HasPrefix(e.Name, "amq.") && b.exchangeExists(e.Name) {
			left = append(left, e.Name)
		}
	}
	return left
}

func TestDeleteTakesDownWhatDeclareMade(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	for _, kind := range []topology.QueueType{topology.Quorum, topology.Classic, topology.Stream} {
		t.Run(string(kind), func(t *testing.T) {
			b := newBareBroker(t, node.URL())
			top, _, _ := deletedFrom(t, b, kind)
			opts := topology.DeleteOptions{}
			if kind == topology.Stream {
				opts = topology.DeleteOptions{DiscardMessages: true, InUse: true}
			}
			for _, claim := range []string{"once", "again, when nothing is there"} {
				if open, err := b.delete(top, opts); err != nil || !open {
					t.Errorf("%s: %v, channel open: %v", claim, err, open)
				}
				if left := b.anyExists(top); len(left) > 0 {
					t.Errorf("%s: left %v", claim, left)
				}
			}
		})
	}
}

func TestDeleteKeepsAllWhenOneQueueHoldsMessages(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	for _, kind := range []topology.QueueType{topology.Quorum, topology.Classic, topology.Stream} {
		t.Run(string(kind), func(t *testing.T) {
			b := newBareBroker(t, node.URL())
			top, _, second := deletedFrom(t, b, kind)
			_, ch := dial(t, node.URL())
			publishConfirmed(t, ch, second, "precious")

			for _, opts := range []topology.DeleteOptions{{}, {InUse: true}} {
				open, err := b.delete(top, opts)
				if !errors.Is(err, topology.ErrKept) || !strings.Contains(err.Error(), second) || !strings.Contains(err.Error(), "DiscardMessages") {
					t.Errorf("%+v: %v", opts, err)
				}
				if !open {
					t.Errorf("%+v: the channel was closed", opts)
				}
				if left := b.anyExists(top); len(left) != 4 {
					t.Errorf("%+v: only %v are left", opts, left)
				}
			}
			if kind != topology.Stream {
				if body := getOne(t, ch, second); body != "precious" {
					t.Errorf("the message is %q", body)
				}
				return
			}
			if _, err := b.delete(top, topology.DeleteOptions{DiscardMessages: true}); !errors.Is(err, topology.ErrKept) {
				t.Errorf("a stream that may have consumers: %v", err)
			}
		})
	}
}

func TestDeleteDiscardsMessagesWhenAskedTo(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	for _, kind := range []topology.QueueType{topology.Quorum, topology.Classic} {
		t.Run(string(kind), func(t *testing.T) {
			b := newBareBroker(t, node.URL())
			top, first, _ := deletedFrom(t, b, kind)
			_, ch := dial(t, node.URL())
			publishConfirmed(t, ch, first, "worthless")
			if _, err := b.delete(top, topology.DeleteOptions{DiscardMessages: true}); err != nil {
				t.Error(err)
			}
			if left := b.anyExists(top); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestDeleteKeepsAQueueThatHasConsumers(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	for _, kind := range []topology.QueueType{topology.Quorum, topology.Classic} {
		t.Run(string(kind), func(t *testing.T) {
			b := newBareBroker(t, node.URL())
			top, first, _ := deletedFrom(t, b, kind)
			_, ch := dial(t, node.URL())
			deliveries, err := ch.Consume(first, "", false, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, opts := range []topology.DeleteOptions{{}, {DiscardMessages: true}} {
				if open, err := b.delete(top, opts); !errors.Is(err, topology.ErrKept) || !strings.Contains(err.Error(), "it has 1 consumer: set InUse") || !open {
					t.Errorf("%+v: %v, channel open: %v", opts, err, open)
				}
			}
			publishConfirmed(t, ch, first, "still consumed")
			d := <-deliveries
			if string(d.Body) != "still consumed" {
				t.Errorf("got %q", d.Body)
			}
			// What is delivered and not settled is in no count.
			if open, err := b.delete(top, topology.DeleteOptions{InUse: true}); !errors.Is(err, topology.ErrKept) || !strings.Contains(err.Error(), "set DiscardMessages") || !open {
				t.Errorf("InUse alone: %v, channel open: %v", err, open)
			}
			if err := d.Ack(false); err != nil {
				t.Fatal(err)
			}
			if _, err := b.delete(top, topology.DeleteOptions{InUse: true, DiscardMessages: true}); err != nil {
				t.Errorf("both: %v", err)
			}
			if left := b.anyExists(top); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// From RabbitMQ 4.3 on, a message that waits for its retry is in no count and no
// get finds it.
func TestDeleteKeepsAMessageThatWaitsForItsRetry(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	q := topology.Queue{Name: "topo-" + uniqueName(t), DelayedRetry: topology.DelayedRetry{Min: time.Hour}}
	ch := declared(t, node.URL(), queueOnly(q))
	publishConfirmed(t, ch, q.Name, "precious")
	rejectNext(t, ch, q.Name, true)
	b := newBareBroker(t, node.URL())
	if open, err := b.delete(queueOnly(q), topology.DeleteOptions{}); !errors.Is(err, topology.ErrKept) || !open {
		t.Errorf("%v, channel open: %v", err, open)
	}
	if !b.exists(q.Name) {
		t.Error("it was deleted")
	}
	if _, err := b.delete(queueOnly(q), topology.DeleteOptions{DiscardMessages: true}); err != nil || b.exists(q.Name) {
		t.Errorf("DiscardMessages does not delete it: %v", err)
	}
}

func TestDeleteKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)

	t.Run("a queue with another definition", func(t *testing.T) {
		b := newBareBroker(t, node.URL())
		q := topology.Queue{Name: "topo-" + uniqueName(t), MaxLength: 5}
		if err := b.declare(q); err != nil {
			t.Fatal(err)
		}
		_, err := b.delete(queueOnly(topology.Queue{Name: q.Name}), topology.DeleteOptions{})
		var e *topology.DeclareError
		if !errors.As(err, &e) || e.Cause != topology.CauseInequivalent || e.Argument != "x-max-length" || e.Op != "delete" {
			t.Errorf("%v", err)
		}
		if !b.exists(q.Name) {
			t.Error("it was deleted")
		}
	})

	t.Run("an exchange that somebody else has bound", func(t *testing.T) {
		b := newBareBroker(t, node.URL())
		top, _, _ := deletedFrom(t, b, topology.Classic)
		exchange := top.Exchanges[0].Name
		theirs := topology.Queue{Name: "topo-" + uniqueName(t)}
		if err := b.declare(theirs); err != nil {
			t.Fatal(err)
		}
		if err := b.attempt(func(ch *amqp.Channel) error { return ch.QueueBind(theirs.Name, "k", exchange, false, nil) }); err != nil {
			t.Fatal(err)
		}
		open, err := b.delete(top, topology.DeleteOptions{})
		if !errors.Is(err, topology.ErrKept) || !strings.Contains(err.Error(), exchange) || open {
			t.Errorf("%v, channel open: %v", err, open)
		}
		if !b.exchangeExists(exchange) {
			t.Error("it was deleted")
		}
		if _, err := b.delete(top, topology.DeleteOptions{InUse: true}); err != nil || b.exchangeExists(exchange) {
			t.Errorf("InUse does not delete it: %v", err)
		}
	})

	t.Run("what is passive", func(t *testing.T) {
		b := newBareBroker(t, node.URL())
		top, first, _ := deletedFrom(t, b, topology.Classic)
		top.Queues[0] = topology.Queue{Name: first, Passive: true}
		top.Exchanges[0] = topology.Exchange{Name: top.Exchanges[0].Name, Passive: true}
		if _, err := b.delete(top, topology.DeleteOptions{DiscardMessages: true, InUse: true}); err != nil {
			t.Fatal(err)
		}
		if left := b.anyExists(top); len(left) != 2 || left[0] != first || left[1] != top.Exchanges[0].Name {
			t.Errorf("left %v", left)
		}
		// But its bindings, which the topology made, are gone.
		_, ch := dial(t, node.URL())
		returned := ch.NotifyReturn(make(chan amqp.Return, 1))
		if err := ch.PublishWithContext(t.Context(), top.Exchanges[0].Name, "x", true, false, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-returned:
		case <-time.After(10 * time.Second):
			t.Error("a message is still routed")
		}
	})
}

// A quorum queue whose leader does not answer at once says that it is empty.
func TestDeleteKeepsAQueueWhoseLeaderIsSlow(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	b := newBareBroker(t, node.URL())
	q := topology.Queue{Name: "slow"}
	if err := b.declare(q); err != nil {
		t.Fatal(err)
	}
	_, ch := dial(t, node.URL())
	publishConfirmed(t, ch, q.Name, "precious")

	leader := fmt.Sprintf("{list_to_atom(%q), node()}", "%2F_"+q.Name)
	evaluate(t, node, "ok = sys:suspend("+leader+").")
	if found, err := ch.QueueDeclarePassive(q.Name, true, false, false, false, nil); err != nil || found.Messages != 0 {
		t.Fatalf("the leader is not slow: %+v, %v", found, err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := b.delete(queueOnly(q), topology.DeleteOptions{})
		result <- err
	}()
	select {
	case err := <-result:
		t.Fatalf("Delete did not wait for the leader: %v", err)
	case <-time.After(time.Second):
	}
	evaluate(t, node, "ok = sys:resume("+leader+").")
	select {
	case err := <-result:
		if !errors.Is(err, topology.ErrKept) {
			t.Errorf("Delete returned %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Delete does not return")
	}
	if !b.exists(q.Name) {
		t.Fatal("the queue is gone")
	}
	if body := getOne(t, ch, q.Name); body != "precious" {
		t.Errorf("the message is %q", body)
	}
}

// Why Delete does not leave it to the broker.
func TestBrokerDoesNotProtectQuorumQueuesAndStreams(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	for _, flags := range [][2]bool{{true, false}, {false, true}} {
		b := newBareBroker(t, node.URL())
		q := topology.Queue{Name: "topo-" + uniqueName(t)}
		if err := b.declare(q); err != nil {
			t.Fatal(err)
		}
		err := b.attempt(func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(q.Name, flags[0], flags[1], false)
			return err
		})
		var reply *amqp.Error
		if !errors.As(err, &reply) || reply.Code != amqp.NotImplemented || !b.conn.IsClosed() {
			t.Errorf("if-unused %v, if-empty %v: %v, connection closed: %v", flags[0], flags[1], err, b.conn.IsClosed())
		}
	}

	b := newBareBroker(t, node.URL())
	stream := topology.Queue{Name: "topo-" + uniqueName(t), Type: topology.Stream}
	if err := b.declare(stream); err != nil {
		t.Fatal(err)
	}
	_, ch := dial(t, node.URL())
	publishConfirmed(t, ch, stream.Name, "precious")
	if err := ch.Qos(1, 0, false); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Consume(stream.Name, "", false, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if found, err := ch.QueueDeclarePassive(stream.Name, true, false, false, false, nil); err != nil || found.Consumers != 0 {
		t.Errorf("a stream tells its consumers: %+v, %v", found, err)
	}
	if _, err := ch.QueueDelete(stream.Name, true, true, false); err != nil || b.exists(stream.Name) {
		t.Errorf("a stream that is in use and not empty was kept: %v", err)
	}
}
