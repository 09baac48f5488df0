package mqtest_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/wire"
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

// halfSent has the broker get the first half of a publish, and returns the other.
func halfSent(p *peer, queue string) (rest []byte) {
	p.t.Helper()
	half := wire.Frame{Type: wire.BodyFrame, Channel: 1, Payload: make([]byte, 5000)}.Append(nil)
	begun := wire.AppendMethod(nil, 1, &wire.BasicPublish{RoutingKey: queue})
	begun = wire.AppendHeader(begun, 1, wire.Header{Class: 60, BodySize: 10000, Properties: []byte{0, 0}})
	p.write(append(begun, half...))
	p.method(2, "channel.open", nil)
	p.expect("channel.open-ok") // and so it has got there
	return half
}

func TestAChannelIsClosedWhileAMessageIsHalfSent(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		rest := halfSent(p, "q")
		s.Connections()[0].DoOn(1, mqtest.CloseChannel(404, ""))
		p.expect("channel.close")
		p.write(rest)
		p.publish(1, "q", "dropped")
		p.send(1, &wire.ChannelCloseOk{})
		p.method(1, "channel.open", nil)
		p.expect("channel.open-ok")
		p.send(1, &wire.QueueDeclare{Queue: "q", Durable: true})
		p.expect("queue.declare-ok")
		if n := b.Queue("q").Len(); n != 1 {
			t.Errorf("%d messages, want the one that had begun to arrive", n)
		}
	})
}

func TestAConsumerIsCancelledWhileAMessageIsHalfSent(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		p.method(1, "basic.consume", map[string]any{"queue": "q", "consumerTag": "tag"})
		p.expect("basic.consume-ok")
		rest := halfSent(p, "none")
		in := s.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.deliver", Count: 1, Do: mqtest.Pass().Then(mqtest.CancelConsumer())})
		b.Queue("q").Enqueue(mqtest.Message{Body: []byte("a")})
		p.expect("basic.deliver")
		p.expect("basic.cancel")
		hit(t, in, 1)
		p.write(rest)
		p.expect("basic.ack")
		p.send(1, &wire.QueueDeclare{Queue: "q", Durable: true})
		p.expect("queue.declare-ok")
		if x := b.Consumers("/"); len(x) != 0 {
			t.Errorf("consumers: %+v", x)
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

// By 4.3 rules the consumer is told that it is cancelled and the delivery goes to
// another; by 4.2 rules the channel is closed, when it is looked at next.
func TestADeliveryIsNotAckedInTime(t *testing.T) {
	argument := amqp.Table{"x-queue-type": "quorum", "x-consumer-timeout": int64(30_000)}
	for _, x := range []struct {
		rules mqtest.Rules
		set   time.Duration
		args  amqp.Table
		want  string // of the close; "": the consumer is cancelled
		late  time.Duration
	}{
		{mqtest.Rules43, 30 * time.Second, amqp.Table{"x-queue-type": "quorum"}, "", 0},
		{mqtest.Rules43, 0, argument, "", 0},
		{mqtest.Rules42, 30 * time.Second, nil, "Timeout value used: 30000 ms", time.Minute},
		{mqtest.Rules42, 0, argument, "Timeout value used: 30000 ms", time.Minute},
	} {
		t.Run(fmt.Sprintf("%s by %v", x.rules, x.args), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := mqtest.NewInMemory(t, mqtest.Config{Rules: x.rules, ConsumerTimeout: x.set})
				c, other := connect(t, b.Stage), connect(t, b.Stage)
				if _, err := c.ch.QueueDeclare("q", true, false, false, false, x.args); err != nil {
					t.Fatal(err)
				}
				b.Queue("q").Enqueue(mqtest.Message{Body: []byte("a")})
				cancelled := c.ch.NotifyCancel(make(chan string, 1))
				deliveries, err := c.ch.Consume("q", "slow", false, false, false, false, nil)
				if err != nil {
					t.Fatal(err)
				}
				receive(t, deliveries)
				begin := time.Now()
				if x.want == "" {
					if tag, _ := receive(t, cancelled); tag != "slow" {
						t.Errorf("cancelled %q", tag)
					}
					c.settled()
				} else if err := <-c.chClosed; err == nil || err.Code != 406 || !strings.Contains(err.Reason, x.want) {
					t.Errorf("closed with %v", err)
				}
				if took := time.Since(begin); took < 30*time.Second || took > 31*time.Second+x.late {
					t.Errorf("it took %v", took)
				}
				if d, ok, err := other.ch.Get("q", true); err != nil || !ok || !d.Redelivered {
					t.Errorf("it is not there for others: %v, %v", ok, err)
				}
			})
		})
	}
}

func TestAQueueGoesAndComesBack(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c, deliveries := consuming(t, s, b)
		cancelled := c.ch.NotifyCancel(make(chan string, 1))
		told := s.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.cancel", ConsumerTag: "tag"})
		if !b.Queue("q").Delete() {
			t.Error("there was none")
		}
		receive(t, cancelled)
		hit(t, told, 1)
		if _, open := receive(t, deliveries); open {
			t.Error("it goes on")
		}
		c.declare("q")
		again, err := c.ch.Consume("q", "tag", false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.Queue("q").Enqueue(mqtest.Message{Body: []byte("a")})
		if d, _ := receive(t, again); string(d.Body) != "a" {
			t.Errorf("got %q", d.Body)
		}
	})
}
