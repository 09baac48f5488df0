package mqtest_test

import (
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

func TestChannelsAreClosedFromOutside(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		c.declare("q")
		for _, code := range []int{404, 405, 406} {
			if n := s.CloseChannels(code); n != 1 {
				t.Fatalf("%d channels closed", n)
			}
			if err := c.channelLost(); err == nil || err.Code != code {
				t.Errorf("closed with %v, want %d", err, code)
			}
			c.open()
		}
		c.publish("q", "a")
		same(t, "verdicts", c.verdicts(1), []string{"1+"})
	})
}

func TestAReplyIsDelayedOrSwallowed(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		const d = 30 * time.Millisecond
		delay := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "queue.declare", Queue: "late", Do: mqtest.Delay(d)})
		before := time.Now()
		c.declare("late")
		if took := time.Since(before); took < d {
			t.Errorf("answered after %v", took)
		}
		hit(t, delay, 1)

		swallow := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "queue.declare", Queue: "lost", Do: mqtest.Drop()})
		done := make(chan error, 1)
		go func() {
			_, err := c.ch.QueueDeclare("lost", true, false, false, false, nil)
			done <- err
		}()
		hit(t, swallow, 1)
		select {
		case err := <-done:
			t.Errorf("answered: %v", err)
		default:
		}
		if !b.Queue("lost").Exists() {
			t.Error("it was not applied")
		}
		s.DropConnections()
		if err, _ := receive(t, done); err == nil {
			t.Error("declared, though the answer was lost")
		}
	})
}

func TestAMethodIsLostBeforeTheBrokerSeesIt(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		in := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: "queue.declare", Do: mqtest.Cut()})
		if _, err := c.ch.QueueDeclare("q", true, false, false, false, nil); err == nil {
			t.Error("declared")
		}
		hit(t, in, 1)
		gone(t, b)
		if b.Queue("q").Exists() {
			t.Error("it was applied")
		}
	})
}

func TestAnAnswerInPlaceOfTheBrokers(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		in := s.Inject(mqtest.Fault{Method: "queue.declare", Point: mqtest.Received, Do: mqtest.Answer(mqtest.Method{
			Name: "queue.declare-ok", Fields: map[string]any{"queue": "q", "message-count": 7},
		})})
		q, err := c.ch.QueueDeclare("q", true, false, false, false, nil)
		if err != nil || q.Messages != 7 || q.Name != "q" {
			t.Errorf("got %+v, %v", q, err)
		}
		hit(t, in, 1)
		if b.Queue("q").Exists() {
			t.Error("the broker has seen it")
		}
	})
}

// consuming has a queue with messages and a consumer of it.
func consuming(t *testing.T, s *mqtest.Stage, b *mqtest.Broker, bodies ...string) (*client, <-chan amqp.Delivery) {
	t.Helper()
	c := connect(t, s)
	c.declare("q")
	for _, body := range bodies {
		b.Queue("q").Enqueue(mqtest.Message{Body: []byte(body)})
	}
	deliveries, err := c.ch.Consume("q", "tag", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, deliveries
}

func TestCutBetweenADeliveryAndItsAck(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		in := s.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.deliver", Queue: "q", Count: 1, Do: mqtest.Pass().Then(mqtest.Cut())})
		p := raw(t, s) // the driver drops a delivery that nobody has taken when it is cut
		p.confirming()
		b.Queue("q").Enqueue(mqtest.Message{Body: []byte("a")})
		p.method(1, "basic.consume", map[string]any{"queue": "q", "consumerTag": "tag"})
		p.expect("basic.consume-ok")
		p.expect("basic.deliver")
		if last := p.ended(); last != "" {
			t.Errorf("and then %s", last)
		}
		hit(t, in, 1)
		gone(t, b)
		if got := b.Queue("q").Messages(); len(got) != 1 || !got[0].Redelivered {
			t.Errorf("in the queue: %+v", got)
		}
	})
}

func TestAnAckIsLostBeforeOrAfterItCounts(t *testing.T) {
	for point, left := range map[mqtest.Point]int{mqtest.Received: 1, mqtest.Applied: 0} {
		t.Run(point.String(), func(t *testing.T) {
			t.Parallel()
			b := mqtest.New(t)
			in := b.Inject(mqtest.Fault{Point: point, Method: "basic.ack", Tag: 1, Count: 1, Do: mqtest.Cut()})
			c, deliveries := consuming(t, b.Stage, b, "a")
			d, _ := receive(t, deliveries)
			if err := d.Ack(false); err != nil {
				t.Fatal(err)
			}
			hit(t, in, 1)
			c.lost()
			gone(t, b)
			if n := b.Queue("q").Len(); n != left {
				t.Errorf("%d messages are left, want %d", n, left)
			}
		})
	}
}

func TestADeliveryTwice(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		in := s.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.deliver", Count: 1, Do: mqtest.Twice()})
		_, deliveries := consuming(t, s, b, "a", "b")
		for _, want := range []string{"a", "a", "b"} {
			if d, _ := receive(t, deliveries); string(d.Body) != want {
				t.Errorf("got %q, want %q", d.Body, want)
			}
		}
		hit(t, in, 1)
	})
}

func TestAConsumerIsCancelled(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		in := s.Inject(mqtest.Fault{
			Point: mqtest.Sending, Method: "basic.deliver", ConsumerTag: "tag", Count: 1,
			Do: mqtest.Pass().Then(mqtest.CancelConsumer()),
		})
		c, deliveries := consuming(t, s, b)
		cancelled := c.ch.NotifyCancel(make(chan string, 1))
		b.Queue("q").Enqueue(mqtest.Message{Body: []byte("a")})
		if d, _ := receive(t, deliveries); string(d.Body) != "a" {
			t.Errorf("got %q", d.Body)
		}
		hit(t, in, 1)
		if tag, _ := receive(t, cancelled); tag != "tag" {
			t.Errorf("cancelled %q", tag)
		}
		c.settled()
		if list := b.Consumers("/"); len(list) != 0 {
			t.Errorf("the broker still has %+v", list)
		}
	})
}

func TestADeliveryAfterTheCancel(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c, _ := consuming(t, s, b)
		in := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.cancel", Do: mqtest.Pass().Then(mqtest.Answer(mqtest.Method{
			Name: "basic.deliver", Body: []byte("late"),
			Fields: map[string]any{"consumer-tag": "tag", "delivery-tag": uint64(9), "routing-key": "q"},
		}))})
		if err := c.ch.Cancel("tag", false); err != nil {
			t.Fatal(err)
		}
		hit(t, in, 1)
		c.settled() // the driver takes no notice
	})
}

func TestAnAckIsAnsweredByAnException(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		in := s.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "basic.ack", Count: 1,
			Do: mqtest.CloseChannel(406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out"),
		})
		c, deliveries := consuming(t, s, b, "a")
		d, _ := receive(t, deliveries)
		if err := d.Ack(false); err != nil {
			t.Fatal(err)
		}
		hit(t, in, 1)
		if err := c.channelLost(); err == nil || err.Code != 406 {
			t.Errorf("closed with %v", err)
		}
		c.open()
		if got := b.Queue("q").Messages(); len(got) != 1 || got[0].Unacked || !got[0].Redelivered {
			t.Errorf("in the queue: %+v", got)
		}
	})
}

func TestTopologyIsRefusedForTheFirstTries(t *testing.T) {
	for _, code := range []int{404, 405, 406} {
		onBothNamed(t, code, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
			in := s.Inject(mqtest.Fault{
				Point: mqtest.Received, Method: "queue.declare", Queue: "q", Count: 2, Do: mqtest.CloseChannel(code, ""),
			})
			c := connect(t, s)
			for range 2 {
				_, err := c.ch.QueueDeclare("q", true, false, false, false, nil)
				var refused *amqp.Error
				if !errors.As(err, &refused) || refused.Code != code {
					t.Errorf("got %v", err)
				}
				c.open()
			}
			hit(t, in, 2)
			c.declare("q")
		})
	}
}

func onBothNamed(t *testing.T, code int, scenario func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker)) {
	t.Run(map[int]string{404: "gone", 405: "locked", 406: "other arguments"}[code], func(t *testing.T) {
		onBoth(t, scenario)
	})
}
