package amqpserver_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

func TestADeletedVhostClosesItsConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := engine.New(engine.Options{})
		defer broker.Close()
		c := open(t, amqpserver.Config{Broker: broker}, 1)
		broker.DeleteVhost("/")
		got := c.words()
		if len(got) != 1 || !strings.HasPrefix(got[0], "0 connection.close ") {
			t.Fatalf("got %q", got)
		}
		if c.conn.Open() {
			t.Error("still open")
		}
		c.send(1, &wire.QueueDeclare{Queue: "q"})
		c.expectWords()
		time.Sleep(31 * time.Second) // in the bubble: nobody answers, nobody looks
		var e *engine.Exception
		if err := c.wantEnd(); !errors.As(err, &e) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestAConsumerThatIsTooSlowLosesItsChannelByTheOldRules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := engine.New(engine.Options{Rules: engine.Rules42, ConsumerTimeout: time.Minute})
		defer broker.Close()
		c := open(t, amqpserver.Config{Broker: broker}, 1)
		c.send(1, &wire.QueueDeclare{Queue: "q", Durable: true}, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"})
		c.publish(1, &wire.BasicPublish{RoutingKey: "q"}, "x")
		c.words()
		time.Sleep(3 * time.Minute) // in the bubble
		got := c.words()
		if len(got) != 1 || !strings.HasPrefix(got[0], "1 channel.close &{ReplyCode:406 ReplyText:PRECONDITION_FAILED - ") {
			t.Fatalf("got %q", got)
		}
		c.send(1, &wire.BasicAck{DeliveryTag: 1}, &wire.ChannelCloseOk{}, &wire.ChannelOpen{}, &wire.QueueDeclare{Queue: "q", Durable: true})
		c.expect(1, &wire.ChannelOpenOk{}, &wire.QueueDeclareOk{Queue: "q", MessageCount: 1})
	})
}

func TestConfirmsTellAcksFromNacks(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 1)
	full := wire.Table{{Key: "x-max-length", Value: int32(1)}, {Key: "x-overflow", Value: "reject-publish"}}
	c.send(1, &wire.QueueDeclare{Queue: "q", Durable: true, Arguments: full}, &wire.ConfirmSelect{})
	c.words()
	for range 3 {
		c.publish(1, &wire.BasicPublish{RoutingKey: "q"}, "x")
	}
	c.conn.Idle()
	c.expect(1, &wire.BasicAck{DeliveryTag: 1}, &wire.BasicNack{DeliveryTag: 2}, &wire.BasicNack{DeliveryTag: 3})
}

func TestARoutingKeyThatDoesNotFitClosesTheConnection(t *testing.T) {
	t.Parallel()
	for _, get := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			broker := engine.New(engine.Options{})
			defer broker.Close()
			c, other := open(t, amqpserver.Config{Broker: broker}, 1), open(t, amqpserver.Config{Broker: broker}, 1)
			dead := wire.Table{
				{Key: "x-dead-letter-exchange", Value: "amq.fanout"},
				{Key: "x-dead-letter-routing-key", Value: strings.Repeat("k", 256)},
			}
			c.send(1, &wire.QueueDeclare{Queue: "q", Durable: true, Arguments: dead}, &wire.QueueDeclare{Queue: "dlq", Durable: true},
				&wire.QueueBind{Queue: "dlq", Exchange: "amq.fanout"})
			c.publish(1, &wire.BasicPublish{RoutingKey: "q"}, "x")
			if !get {
				c.send(1, &wire.BasicConsume{Queue: "dlq", ConsumerTag: "t"})
			}
			c.words()
			other.send(1, &wire.BasicGet{Queue: "q"}, &wire.BasicReject{DeliveryTag: 1})
			if get {
				c.send(1, &wire.BasicGet{Queue: "dlq"})
			}
			c.expect(0, closed(541, "INTERNAL_ERROR", nil))
			synctest.Wait()
			if c.conn.Open() || !other.conn.Open() {
				t.Error("the wrong one was closed")
			}
			if q, _ := broker.Queue("/", "dlq"); q.Ready != 1 || q.Consumers != 0 {
				t.Errorf("left: %+v", q)
			}
		})
	}
}

// TestACloseOkMayComeBeforeTheCloseHasLeft: a client on the same machine can read the
// close, and answer it, before the call that has written it returns.
func TestACloseOkMayComeBeforeTheCloseHasLeft(t *testing.T) {
	t.Parallel()
	broker := engine.New(engine.Options{ConsumerTimeout: 20 * time.Millisecond})
	defer broker.Close()
	c := accept(t, amqpserver.Config{Broker: broker})
	answered := make(chan struct{})
	c.seen = func(frames []byte) {
		if !bytes.Contains(frames, []byte("timed out")) {
			return
		}
		go func() {
			defer close(answered)
			c.conn.Handle(frame(1, &wire.ChannelCloseOk{}))
		}()
		<-time.After(20 * time.Millisecond) // it has been looked at by then
	}
	c.login()
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072}, &wire.ConnectionOpen{VirtualHost: "/"})
	c.send(1, &wire.ChannelOpen{}, &wire.QueueDeclare{Queue: "q", Durable: true, Arguments: wire.Table{{Key: "x-queue-type", Value: "quorum"}}})
	c.publish(1, &wire.BasicPublish{RoutingKey: "q"}, "x")
	c.send(1, &wire.BasicGet{Queue: "q"})
	select {
	case <-answered:
	case <-time.After(time.Minute):
		t.Fatal("the channel was not closed")
	}
	c.words()
	c.send(1, &wire.ChannelOpen{})
	c.expect(1, &wire.ChannelOpenOk{})
}
