package integration_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// underLoad runs fault three times while eight goroutines publish and a consumer
// acks, makes sure that both connections were lost each time and came back, and
// settles up.
func underLoad(t *testing.T, n *broker.Node, fault func(t *testing.T, round int)) {
	queue := uniqueName(t)
	pool, states := open(t, quorum(queue, n.URL()))
	tr := newTraffic(t, pool, queue, 4)
	settled(t, n)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load := tr.publish(ctx, t, 8)
	const rounds = 3
	for round := range rounds {
		tr.awaitConfirmed(t, 200)
		lost := states.count(reconnect.Publishing, reconnect.Waiting)
		lostConsuming := states.count(reconnect.Consuming, reconnect.Waiting)
		fault(t, round)
		states.await(t, reconnect.Publishing, reconnect.Waiting, lost+1) // the fault happened
		states.await(t, reconnect.Consuming, reconnect.Waiting, lostConsuming+1)
		tr.awaitConfirmed(t, 200)
	}
	stop()
	load.Wait()
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := n.Ctl(context.Background(), "list_queues", "name", "messages_ready", "messages_unacknowledged", "consumers")
			t.Log(out)
			out, _ = n.Ctl(context.Background(), "list_consumers")
			t.Log(out, tr.consumer.Status())
		}
	})
	tr.settleUp(t, n.URL())
}

func ctl(t *testing.T, n *broker.Node, args ...string) string {
	t.Helper()
	out, err := n.Ctl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// evaluate has the node evaluate Erlang.
func evaluate(t *testing.T, n *broker.Node, expressions string) string {
	t.Helper()
	out, err := n.Eval(t.Context(), expressions)
	must(t, err)
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestClosedConnectionsUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	underLoad(t, node, func(t *testing.T, _ int) {
		must(t, node.CloseConnections(t.Context(), "test"))
	})
}

func TestStoppedApplicationUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	underLoad(t, node, func(t *testing.T, _ int) {
		ctl(t, node, "stop_app")
		ctl(t, node, "start_app")
	})
}

func TestKilledBrokerUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	underLoad(t, node, func(t *testing.T, _ int) {
		if err := node.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := node.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestKilledLeaderUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	cl := cluster(t)
	requireVersion(t, cl.Nodes()[0], ">=4.0") // before, a queue may nack until its dead leader's node is back
	queue := uniqueName(t)
	pool, states := open(t, quorum(queue, cl.URLs()...))
	tr := newTraffic(t, pool, queue, 4)
	settled(t, cl)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load := tr.publish(ctx, t, 8)
	for range 3 {
		tr.awaitConfirmed(t, 200)
		leader, err := cl.Leader(t.Context(), queue)
		if err != nil {
			t.Fatal(err)
		}
		if err := leader.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		tr.awaitConfirmed(t, 200) // by another leader, while that one is dead
		now, err := cl.Leader(t.Context(), queue)
		if err != nil {
			t.Fatal(err)
		}
		if now.Name() == leader.Name() {
			t.Fatalf("%s was killed and still leads", now.Name())
		}
		if err := leader.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := leader.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		tr.awaitConfirmed(t, 200)
	}
	stop()
	load.Wait()
	tr.settleUp(t, cl.URLs()[0])
	t.Logf("publishing connection lost %d times, consuming %d times",
		states.count(reconnect.Publishing, reconnect.Waiting), states.count(reconnect.Consuming, reconnect.Waiting))
}

// TestWhatAConsumerOfALostNodeHeldComesAgainLate: from 4.3 on a quorum queue waits a minute
// for the consumer to come back with its node. It is subscribed again long before, on
// another one.
func TestWhatAConsumerOfALostNodeHeldComesAgainLate(t *testing.T) {
	t.Parallel()
	cl := cluster(t)
	requireVersion(t, cl.Nodes()[0], ">=4.3")
	queue := uniqueName(t)
	pool, _ := open(t, quorum(queue, cl.URLs()...))
	p := newProducer(t, pool, producer.Config{})
	var handled atomic.Int64
	c := consume(t, pool, consumer.Config{Queue: queue}, func(ctx context.Context, _ *consumer.Delivery) error {
		if handled.Add(1) == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	publish(t, p, queue, 1)
	eventually(t, "it is handled", patience, func() bool { return handled.Load() == 1 })
	settled(t, cl)
	began := time.Now()
	lost := (&chaosCluster{t: t, cl: cl}).at(pool.Status(reconnect.Consuming).Address)
	if err := lost.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is subscribed again", patience, func() bool { s := c.Status(); return s.Subscribed && s.Sessions > 1 })
	subscribed := time.Since(began)
	eventually(t, "it comes again", redelivery, func() bool { return handled.Load() == 2 })
	took := time.Since(began)
	t.Logf("subscribed after %v, and it came again after %v", subscribed, took)
	if took < 30*time.Second || subscribed > took/2 {
		t.Error("the broker has not waited")
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
}
