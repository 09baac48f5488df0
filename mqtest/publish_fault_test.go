package mqtest_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/wire"
	"github.com/mqkit/mqkit/mqtest"
)

const publish = "basic.publish"

func TestWhatFollowsAClosedChannelIsDropped(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		p := raw(t, s)
		p.open("/")
		p.method(1, "channel.open", nil)
		p.expect("channel.open-ok")
		p.method(1, "queue.declare", map[string]any{"queue": "q"})
		p.expect("queue.declare-ok")
		in := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: publish, Skip: 1, Count: 1, Do: mqtest.CloseChannel(406, "")})
		p.publish(1, "q", "a")
		p.publish(1, "q", "culprit")
		p.publish(1, "q", "after")
		p.expect("channel.close")
		hit(t, in, 1)
		p.publish(1, "q", "after")
		p.method(1, "channel.close-ok", nil)
		p.method(1, "channel.open", nil)
		p.expect("channel.open-ok")
		p.publish(1, "q", "b")
		p.method(1, "basic.qos", nil)
		p.expect("basic.qos-ok")
		same(t, "queue", b.Queue("q").Bodies(), []string{"a", "b"})
	})
}

func TestConfirmsAreBatched(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		in := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: publish, Count: 3, Do: mqtest.Batch(3, 0)})
		for range 3 {
			p.publish(1, "q", "x")
		}
		if m := p.expect("basic.ack"); m.String() != "basic.ack delivery-tag=3 multiple=true" {
			t.Errorf("got %v", m)
		}
		hit(t, in, 3)
	})
}

func TestConfirmsAreNackedAsARange(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		in := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: publish, Count: 2, Do: mqtest.NackBatch(2, 0)})
		p.publish(1, "q", "x")
		p.publish(1, "q", "y")
		if m := p.expect("basic.nack"); m.String() != "basic.nack delivery-tag=2 multiple=true" {
			t.Errorf("got %v", m)
		}
		hit(t, in, 2)
		same(t, "queue", b.Queue("q").Bodies(), []string{"x", "y"})
	})
}

func TestConfirmsAreReversed(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		in := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: publish, Do: mqtest.Reverse(3, 0)})
		for range 3 {
			p.publish(1, "q", "x")
		}
		for _, want := range []string{"3", "2", "1"} {
			if m := p.expect("basic.ack"); m.String() != "basic.ack delivery-tag="+want+" multiple=false" {
				t.Errorf("got %v, want tag %s", m, want)
			}
		}
		if err := in.Wait(timeout(t)); err != nil || in.Hits() != 3 {
			t.Errorf("%d hits, %v", in.Hits(), err)
		}
	})
}

func TestABatchThatStaysSmallIsSaidInTheEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		c.declare("q")
		s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: publish, Do: mqtest.Batch(100, time.Millisecond)})
		c.publish("q", "a", "b")
		same(t, "verdicts", c.verdicts(2), []string{"1+", "2+"})
	})
}

// A lost confirm leaves a gap: no ack for many may cover it, whatever the broker
// batches.
func TestNoAckForManyCoversALostConfirm(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		for _, point := range []mqtest.Point{mqtest.Received, mqtest.Applied} {
			s.Inject(mqtest.Fault{Point: point, Method: publish, MessageID: "lost at " + point.String(), Do: mqtest.Drop()})
		}
		hold := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: publish, MessageID: "", Do: mqtest.Batch(4, 0)})
		for _, id := range []string{"a", "lost at received", "b", "lost at applied", "c", "d"} {
			p.publishID(1, "q", id, id)
		}
		var got []string
		for range 4 {
			got = append(got, p.expect("basic.ack").String())
		}
		same(t, "acks", got, []string{
			"basic.ack delivery-tag=1 multiple=false",
			"basic.ack delivery-tag=3 multiple=false",
			"basic.ack delivery-tag=5 multiple=false",
			"basic.ack delivery-tag=6 multiple=false",
		})
		hit(t, hold, 4)
		same(t, "queue", b.Queue("q").Bodies(), []string{"a", "b", "lost at applied", "c", "d"})
	})
}

func TestDelayKeepsTheOrderOfItsChannelAlone(t *testing.T) {
	for _, point := range []mqtest.Point{mqtest.Received, mqtest.Applied} {
		t.Run(point.String(), func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
				c := connect(t, s)
				c.declare("q")
				c.declare("other")
				const d = 50 * time.Millisecond
				in := s.Inject(mqtest.Fault{Point: point, MessageID: "slow", Count: 1, Do: mqtest.Delay(d)})
				before := time.Now()
				c.publish("q", "slow", "fast")
				slow := c.confirms
				c.open()
				c.publish("other", "x")
				c.verdicts(1)
				if took := time.Since(before); took > d {
					t.Logf("the other channel took %v: the machine is busy", took)
				}
				c.confirms = slow
				same(t, "verdicts", c.verdicts(2), []string{"1+", "2+"})
				if took := time.Since(before); took < d {
					t.Errorf("confirmed after %v", took)
				}
				hit(t, in, 1)
				same(t, "queue", b.Queue("q").Bodies(), []string{"slow", "fast"})
			})
		})
	}
}

func TestMandatoryAndDropMixWithTheBrokersOwnReturns(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		in := s.Inject(mqtest.Fault{Point: mqtest.Received, MessageID: "nacked", Do: mqtest.Nack()})
		for _, id := range []string{"nacked", "unroutable"} {
			err := c.ch.PublishWithContext(timeout(t), "", "nowhere", true, false, amqp.Publishing{MessageId: id})
			if err != nil {
				t.Fatal(err)
			}
		}
		same(t, "verdicts", c.verdicts(2), []string{"1-", "2+"})
		if r, _ := receive(t, c.returns); r.MessageId != "unroutable" {
			t.Errorf("returned %q", r.MessageId)
		}
		hit(t, in, 1)
	})
}

func TestAScriptedReturnCarriesTheMessage(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		c := connect(t, s)
		c.declare("q")
		s.Intercept(func(e *mqtest.Event) mqtest.Action {
			if e.Method != publish || e.Point != mqtest.Received {
				if e.Method != publish && e.Message() != nil {
					t.Errorf("%v has a message", e)
				}
				return mqtest.Pass()
			}
			back := mqtest.Method{
				Name: "basic.return", Message: e.Message(),
				Fields: map[string]any{"reply-code": 312, "reply-text": "NO_ROUTE", "exchange": e.Exchange, "routing-key": e.RoutingKey},
			}
			other := back
			other.Body = []byte("another body")
			return mqtest.Answer(back, other)
		})
		err := c.ch.PublishWithContext(timeout(t), "", "q", true, false, amqp.Publishing{
			MessageId: "id", Priority: 3, DeliveryMode: amqp.Persistent, Timestamp: time.Unix(1e9, 0),
			Headers: amqp.Table{"n": int64(1), "list": []any{"x", int64(2)}}, Body: []byte("body"),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range []string{"body", "another body"} {
			r, _ := receive(t, c.returns)
			list, _ := r.Headers["list"].([]any)
			if string(r.Body) != body || r.ReplyCode != 312 || r.RoutingKey != "q" || r.MessageId != "id" || r.Priority != 3 ||
				r.DeliveryMode != amqp.Persistent || !r.Timestamp.Equal(time.Unix(1e9, 0)) || r.Headers["n"] != int64(1) || len(list) != 2 {
				t.Errorf("returned %+v", r)
			}
		}
	})
}

func TestAPublishThatTheBrokerRefusesIsNotApplied(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		c := connect(t, s)
		full := amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"}
		if _, err := c.ch.QueueDeclare("q", true, false, false, false, full); err != nil {
			t.Fatal(err)
		}
		in := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: publish})
		c.publish("q", "kept", "refused", "refused too")
		same(t, "confirms", c.verdicts(3), []string{"1+", "2-", "3-"})
		hit(t, in, 1)
	})
}

// What has no answer is known to be applied only by what the broker does not do.
func TestAMethodWithoutAnAnswerThatTheBrokerRefusesIsNotApplied(t *testing.T) {
	t.Parallel()
	ack := wire.AppendMethod(nil, 1, &wire.BasicAck{DeliveryTag: 99})
	nowhere := wire.AppendContent(nil, 1, &wire.BasicPublish{Exchange: "nosuch"}, []byte{0, 0}, []byte("x"), 4096)
	stored := wire.AppendContent(nil, 1, &wire.BasicPublish{RoutingKey: "q"}, []byte{0, 0}, []byte("x"), 4096)
	immediate := wire.AppendContent(nil, 1, &wire.BasicPublish{Immediate: true}, []byte{0, 0}, []byte("x"), 4096)
	for name, x := range map[string]struct {
		sent   []byte
		closed string
		hits   map[string]int
	}{
		"an ack":                          {ack, "channel.close", nil},
		"a publish":                       {nowhere, "channel.close", nil},
		"what comes behind them":          {slices.Concat(ack, stored, nowhere, ack), "channel.close", nil},
		"what comes before them is":       {slices.Concat(stored, ack), "channel.close", map[string]int{publish: 1}},
		"what costs the connection":       {immediate, "connection.close", nil},
		"what comes behind the close too": {slices.Concat(immediate, stored, ack), "connection.close", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := mqtest.New(t)
			p := raw(t, b.Stage)
			p.open("/")
			p.method(1, "channel.open", nil)
			p.expect("channel.open-ok")
			p.send(1, &wire.QueueDeclare{Queue: "q", Durable: true})
			p.expect("queue.declare-ok")
			faults := map[string]*mqtest.Injected{}
			for _, method := range []string{publish, "basic.ack"} {
				faults[method] = b.Inject(mqtest.Fault{Point: mqtest.Applied, Method: method})
			}
			p.write(x.sent)
			p.expect(x.closed)
			over := b.Inject(mqtest.Fault{Point: mqtest.Applied, If: func(e *mqtest.Event) bool {
				return e.Method == "channel.close-ok" || e.Method == "connection.close-ok"
			}})
			if x.closed == "channel.close" {
				p.send(1, &wire.ChannelCloseOk{})
			} else {
				p.send(0, &wire.ConnectionCloseOk{})
			}
			hit(t, over, 1) // and so all before it has been looked at
			for method, in := range faults {
				if got := in.Hits(); got != x.hits[method] {
					t.Errorf("%s applied %d times, want %d", method, got, x.hits[method])
				}
			}
			if n := b.Queue("q").Len(); n != x.hits[publish] {
				t.Errorf("%d in the queue", n)
			}
		})
	}
}

func TestWhatABlockedConnectionHasPublishedIsAppliedOnceItIsNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		ch, err := dial(t, b.Stage).Channel()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		applied := b.Inject(mqtest.Fault{Point: mqtest.Applied, Method: publish, Count: 2})
		counts := func(when string, want int) {
			t.Helper()
			if hits, stored := applied.Hits(), b.Queue("q").Len(); hits != want || stored != want {
				t.Errorf("%s: %d applied, %d stored, want %d", when, hits, stored, want)
			}
		}
		b.Block("")
		for range 2 {
			if err := ch.PublishWithContext(timeout(t), "", "q", false, false, amqp.Publishing{Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		counts("blocked", 0)
		b.Unblock()
		hit(t, applied, 2)
		counts("afterwards", 2)
	})
}

func TestALargeMessageIsSeenAsAnyOther(t *testing.T) {
	if testing.Short() {
		t.Skip("65 MiB")
	}
	const size = 65 << 20
	b := mqtest.New(t, mqtest.Config{MaxMessageSize: size, Journal: 100})
	in := b.Inject(mqtest.Fault{Point: mqtest.Applied, If: func(e *mqtest.Event) bool {
		return e.Method == publish && len(e.Body) == size || e.Method == "basic.get"
	}})
	c := connect(t, b.Stage)
	c.declare("q")
	if err := c.ch.PublishWithContext(timeout(t), "", "q", false, false, amqp.Publishing{Body: make([]byte, size)}); err != nil {
		t.Fatal(err)
	}
	c.publish("q", "small")
	same(t, "verdicts", c.verdicts(2), []string{"1+", "2+"})
	hit(t, in, 1)
	for i, want := range []int{size, len("small")} {
		d, _, err := c.ch.Get("q", true)
		if err != nil || len(d.Body) != want {
			t.Errorf("got %d bytes, %v; want %d", len(d.Body), err, want)
		}
		if got := in.Hits(); got != 2+i {
			t.Errorf("the fault has struck %d times, not %d", got, 2+i)
		}
	}
}

// RabbitMQ counts frame_max without the eight octets around a payload.
func TestAFrameMayBeAsLargeAsRabbitMQTakesIt(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		in := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: publish})
		for i, size := range []int{131072 - 8, 131072 - 7, 131072, 131073} {
			message := wire.AppendMethod(nil, 1, &wire.BasicPublish{RoutingKey: "q"})
			message = wire.AppendHeader(message, 1, wire.Header{Class: 60, BodySize: uint64(size), Properties: []byte{0, 0}})
			p.write(wire.Frame{Type: wire.BodyFrame, Channel: 1, Payload: make([]byte, size)}.Append(message))
			if size <= 131072 {
				p.expect("basic.ack")
				hit(t, in, 1+i)
			} else if last := p.ended(); !strings.Contains(last, "frame_too_large,131073,131064") {
				t.Errorf("%d octets: %s", size, last)
			}
		}
	})
}

func TestNackAndReturnPassWhatIsNoPublish(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		for _, a := range []mqtest.Action{mqtest.Nack(), mqtest.Return(312, "NO_ROUTE")} {
			in := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: "queue.declare", Count: 1, Do: a})
			p.method(1, "queue.declare", map[string]any{"queue": "q", "durable": true})
			p.expect("queue.declare-ok")
			hit(t, in, 1)
		}
	})
}
