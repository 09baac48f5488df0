package mqtest_test

import (
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// TestARestartKeepsADurableAutoDeleteQueueThatHasAConsumer: a broker that is killed
// does not see the consumer go. It goes with its next one.
func TestARestartKeepsADurableAutoDeleteQueueThatHasAConsumer(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	c := connect(t, b.Stage)
	if _, err := c.ch.QueueDeclare("q", true, true, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.ch.QueueBind("q", "k", "amq.direct", false, nil); err != nil {
		t.Fatal(err)
	}
	consume := func() {
		if _, err := c.ch.Consume("q", "c", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	consume()
	if err := b.Restart(); err != nil {
		t.Fatal(err)
	}
	c.lost()
	if !b.Queue("q").Exists() || len(b.Bindings("/")) != 1 {
		t.Fatal("the queue or its binding is gone")
	}
	c = connect(t, b.Stage)
	consume()
	if err := c.ch.Cancel("c", false); err != nil {
		t.Fatal(err)
	}
	if b.Queue("q").Exists() {
		t.Error("the queue has outlived the consumer that it has seen go")
	}
}

// TestARestartIsSeenByNoConsumer: what one held does not go to the next while the
// connections end one after the other, which would count it as failed each time.
func TestARestartIsSeenByNoConsumer(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	c := connect(t, b.Stage)
	if _, err := c.ch.QueueDeclare("q", true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": int32(1)}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if i > 0 {
			c = connect(t, b.Stage)
		}
		if _, err := c.ch.Consume("q", fmt.Sprint(i), false, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.Queue("q").Enqueue(mqtest.Message{Body: []byte("m")})
	b.Stop()
	m := b.Queue("q").Messages()
	if len(m) != 1 || m[0].DeliveryCount != 1 || m[0].Unacked || len(b.Consumers("/")) != 0 {
		t.Errorf("messages %+v, consumers %+v", m, b.Consumers("/"))
	}
}
