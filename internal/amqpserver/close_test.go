package amqpserver_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

func TestTheClientCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := open(t, amqpserver.Config{}, 1)
		c.send(1, &wire.QueueDeclare{Queue: "q", Exclusive: true})
		c.words()
		c.send(0, &wire.ConnectionClose{})
		c.expect(0, &wire.ConnectionCloseOk{})
		if c.conn.Open() {
			t.Error("still open")
		}
		// The socket is the client's to close; in the end it is closed anyway.
		time.Sleep(29 * time.Second) // in the bubble
		if ended, _ := c.end(); ended {
			t.Error("ended early")
		}
		time.Sleep(2 * time.Second) // in the bubble
		if err := c.wantEnd(); err != nil {
			t.Errorf("ended with %v", err)
		}
		c = open(t, amqpserver.Config{}, 1)
		c.send(0, &wire.ConnectionClose{})
		c.conn.Gone(io.EOF)
		if err := c.wantEnd(); err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestTheBrokerCloses(t *testing.T) {
	t.Parallel()
	const text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
	synctest.Test(t, func(t *testing.T) {
		broker := engine.New(engine.Options{})
		defer broker.Close()
		c := open(t, amqpserver.Config{Broker: broker}, 1)
		c.conn.Close(320, text)
		c.conn.Close(320, "again")
		c.expect(0, closed(320, text, nil))
		c.send(1, &wire.QueueDeclare{Queue: "q"})
		c.send(0, &wire.ConnectionClose{}) // has crossed ours
		c.expect(0, &wire.ConnectionCloseOk{})
		c.send(0, &wire.ConnectionCloseOk{})
		var e *engine.Exception
		if err := c.wantEnd(); !errors.As(err, &e) || e.Code != 320 {
			t.Errorf("ended with %v", err)
		}

		deaf := open(t, amqpserver.Config{Broker: broker}, 1)
		deaf.conn.Close(320, text)
		time.Sleep(31 * time.Second) // in the bubble
		if err := deaf.wantEnd(); !errors.As(err, &e) {
			t.Errorf("ended with %v", err)
		}

		early := accept(t, amqpserver.Config{Broker: broker})
		early.conn.Start(header)
		early.words()
		early.conn.Close(320, text)
		early.expectWords()
		early.wantEnd()
	})
}

func TestAClientThatIsGoneLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	broker := engine.New(engine.Options{})
	t.Cleanup(broker.Close)
	c := open(t, amqpserver.Config{Broker: broker}, 1)
	c.send(1, &wire.QueueDeclare{Queue: "q"}, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"})
	if q, _ := broker.Queue("/", "q"); q.Consumers != 1 {
		t.Fatalf("%d consumers", q.Consumers)
	}
	cut := errors.New("cut")
	c.conn.Gone(cut)
	c.conn.Gone(nil)
	if q, _ := broker.Queue("/", "q"); q.Consumers != 0 {
		t.Errorf("%d consumers", q.Consumers)
	}
	if err := c.wantEnd(); !errors.Is(err, cut) {
		t.Errorf("ended with %v", err)
	}
	c.words()
	c.send(1, &wire.QueueDeclare{Queue: "q"})
	c.conn.Idle()
	c.conn.Block("x")
	c.conn.Behind(false)
	c.conn.Resume()
	c.conn.Close(320, "x")
	c.expectWords()
}

func TestBlocked(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 1)
	c.conn.Block("low on memory")
	c.conn.Block("low on memory & disk")
	c.expect(0, &wire.ConnectionBlocked{Reason: "low on memory"})
	if !c.conn.Blocked() {
		t.Error("not blocked")
	}
	c.conn.Unblock()
	c.conn.Unblock()
	c.expect(0, &wire.ConnectionUnblocked{})
	if c.conn.Blocked() {
		t.Error("blocked")
	}

	// As an alarm does it: with the header of the first publish.
	c.conn.BlockPublisher("low on disk")
	c.send(1, &wire.BasicQos{}, &wire.BasicPublish{})
	c.expect(1, &wire.BasicQosOk{})
	c.sendFrames(contentHeader(1, 1))
	c.expect(0, &wire.ConnectionBlocked{Reason: "low on disk"})
	c.conn.Unblock()
	c.expect(0, &wire.ConnectionUnblocked{})

	// A client that does not know the method is blocked all the same.
	c = accept(t, amqpserver.Config{})
	c.conn.Block("low on memory") // and may be before it is open
	c.conn.Start(header)
	c.send(0, startOk("PLAIN", "\x00guest\x00guest", nil),
		&wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192}, &wire.ConnectionOpen{VirtualHost: "/"})
	if got := c.words(); len(got) != 3 {
		t.Errorf("got %q", got)
	}
	if !c.conn.Blocked() {
		t.Error("not blocked")
	}
	c.conn.Unblock()
	c.expectWords()
}
