package mqtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

func TestBrokerServesTheDriver(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	c := connect(t, b.Stage)
	c.declare("q")
	c.publish("q", "a", "b", "c")
	c.verdicts(3)
	same(t, "queue", b.Queue("q").Bodies(), []string{"a", "b", "c"})
	deliveries, err := c.ch.Consume("q", "tag", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a", "b", "c"} {
		d, _ := receive(t, deliveries)
		if string(d.Body) != want {
			t.Errorf("delivered %q, want %q", d.Body, want)
		}
		if err := d.Ack(false); err != nil {
			t.Fatal(err)
		}
	}
	c.settled()
	if n := b.Queue("q").Len(); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestHeartbeatLossTakesNoTimeInABubble(t *testing.T) {
	took := time.Hour
	for try := 0; try < 5 && took > 50*time.Millisecond; try++ { // the machine may be busy
		start := time.Now()
		heartbeatLoss(t)
		took = time.Since(start)
	}
	if took > 50*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func heartbeatLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		c := connect(t, b.Stage)
		c.declare("q")
		b.Stall()
		before := time.Now()
		if err := c.lost(); err == nil {
			t.Error("the driver has not noticed")
		}
		t.Logf("noticed after %v", time.Since(before))
	})
}

func TestBrokersInMemoryAreToldApartByTheirNames(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"":                "amqp://guest:guest@mqtest.invalid:5672/",
		"second.test:567": "amqp://guest:guest@second.test:567/",
	} {
		b := mqtest.NewInMemory(t, mqtest.Config{Listen: listen})
		if b.URL() != want {
			t.Errorf("URL is %s, want %s", b.URL(), want)
		}
		connect(t, b.Stage).declare("q")
		if err := b.Restart(); err != nil || b.URL() != want {
			t.Errorf("after a restart, %v, URL is %s", err, b.URL())
		}
		connect(t, b.Stage).declare("q")
	}
}

func BenchmarkFirstConfirm(b *testing.B) {
	for b.Loop() {
		broker, err := mqtest.Start(mqtest.Config{})
		if err != nil {
			b.Fatal(err)
		}
		conn, err := amqp.Dial(broker.URL())
		if err != nil {
			b.Fatal(err)
		}
		c := &client{t: b, conn: conn}
		c.open()
		c.declare("q")
		c.publish("q", "x")
		c.verdicts(1)
		_ = conn.Close()
		broker.Close()
	}
}
