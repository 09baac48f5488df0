package integration_test

import (
	"context"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestADrainKeepsItsVerdictsOnAClassicQueueOfAnotherNode: there the end of a channel can
// overtake the acks that were written just before it, and what was handled comes again. The
// bare driver shows that it happens.
func TestADrainKeepsItsVerdictsOnAClassicQueueOfAnotherNode(t *testing.T) {
	t.Parallel()
	cl := cluster(t)
	near, far := cl.Nodes()[0], cl.Nodes()[1]
	q := topology.Queue{Name: uniqueName(t), Type: topology.Classic}
	own := admin(t, far.URL())
	if _, err := own.QueueDeclare(q.Name, true, false, false, false, amqp.Table{"x-queue-type": "classic"}); err != nil {
		t.Fatal(err)
	}
	const rounds, workers = 30, 10
	if is4, err := meets(near.Version(), ">=4.0"); err != nil || is4 {
		overtaken(t, near.URL(), q.Name, workers)
	}
	for name, known := range map[string]bool{"declared": true, "foreign": false} {
		t.Run(name, func(t *testing.T) {
			cfg := reconnect.Config{URLs: []string{near.URL()}}
			if known {
				cfg.Topology.Queues = []topology.Queue{q}
			}
			pool, _ := open(t, cfg)
			p := newProducer(t, pool, producer.Config{})
			lost := 0
			for range rounds {
				for range workers {
					mustBe(t, p.Publish(t.Context(), producer.Text("body").ToQueue(q.Name)), producer.Confirmed)
				}
				begun, end := make(chan struct{}, workers), make(chan struct{})
				c := consume(t, pool, consumer.Config{Queue: q.Name, Workers: workers, Prefetch: workers}, func(context.Context, *consumer.Delivery) error {
					begun <- struct{}{}
					<-end
					return nil
				})
				for range workers {
					<-begun
				}
				time.AfterFunc(50*time.Millisecond, func() { close(end) }) // the drain has begun
				if err := c.stop(); err != nil {
					t.Error(err)
				}
				if s := c.Stats(); s.Acked != workers {
					t.Errorf("%+v", s)
				}
				lost += ready(t, own, q.Name)
				if _, err := own.QueuePurge(q.Name, false); err != nil {
					t.Fatal(err)
				}
			}
			if lost > 0 {
				t.Errorf("of %d acks %d were lost", rounds*workers, lost)
			}
		})
	}
}

// overtaken ends channels behind their acks until messages come again.
func overtaken(t *testing.T, url, queue string, n int) {
	t.Helper()
	conn, ch := dial(t, url)
	const enough = 200 // it is one in three
	for round := range enough {
		for range n {
			publishConfirmed(t, ch, queue, "body")
		}
		other, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		in, err := other.Consume(queue, "", false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []amqp.Delivery
		for range n {
			got = append(got, <-in)
		}
		for _, d := range got {
			if err := d.Ack(false); err != nil {
				t.Fatal(err)
			}
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		again := ready(t, ch, queue)
		if _, err := ch.QueuePurge(queue, false); err != nil {
			t.Fatal(err)
		}
		if again > 0 {
			t.Logf("%d messages came again in round %d", again, round+1)
			return
		}
	}
	t.Errorf("no message came again in %d rounds", enough)
}
