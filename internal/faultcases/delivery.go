package faultcases

import (
	"testing" //nolint:depguard // only tests import this package

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// delivery is what a consumer meets. The queue has one message, a.
func delivery(t *testing.T, run starter) {
	consuming := func(s *stand, f mqtest.Fault) (*client, <-chan amqp.Delivery, *mqtest.Injected) {
		s.put("a")
		c := s.connect()
		f.Count = 1
		in := s.Inject(f)
		return c, c.consume(), in
	}
	sending := func(do mqtest.Action) mqtest.Fault {
		return mqtest.Fault{Point: mqtest.Sending, Method: "basic.deliver", ConsumerTag: "tag", Do: do}
	}
	ack := func(s *stand, in <-chan amqp.Delivery) {
		d, _ := receive(s.t, in)
		if string(d.Body) != "a" || d.Redelivered {
			s.t.Errorf("delivered %q, redelivered %v", d.Body, d.Redelivered)
		}
		s.must(d.Ack(false))
	}
	run(t, "lost", func(s *stand) {
		c, _, in := consuming(s, sending(mqtest.Drop()))
		s.struck(in, 1)
		s.must(c.ch.Cancel("tag", false))
		s.must(c.ch.Close())
		s.holds("a*")
	})
	run(t, "cut before the ack", func(s *stand) {
		c, _, in := consuming(s, sending(mqtest.Pass().Then(mqtest.Cut())))
		s.struck(in, 1)
		c.lost(0)
		s.holds("a*")
	})
	run(t, "twice", func(s *stand) {
		c, deliveries, in := consuming(s, sending(mqtest.Twice()))
		ack(s, deliveries)
		if d, _ := receive(s.t, deliveries); string(d.Body) != "a" || d.DeliveryTag != 1 {
			s.t.Errorf("then %q, tag %d", d.Body, d.DeliveryTag)
		}
		s.struck(in, 1)
		s.must(c.ch.Close())
		s.holds("")
	})
	run(t, "cancelled", func(s *stand) {
		s.put("a")
		c := s.connect()
		told := c.ch.NotifyCancel(make(chan string, 1))
		f := sending(mqtest.Pass().Then(mqtest.CancelConsumer()))
		f.Count = 1
		in := s.Inject(f)
		deliveries := c.consume()
		ack(s, deliveries)
		s.struck(in, 1)
		if tag, _ := receive(s.t, told); tag != "tag" {
			s.t.Errorf("cancelled %q", tag)
		}
		c.settled()
		s.holds("")
	})
	run(t, "held, then cut", func(s *stand) {
		c, deliveries, in := consuming(s, sending(mqtest.Hold()))
		s.struck(in, 1)
		s.cut()
		c.lost(0)
		if d, open := receive(s.t, deliveries); open {
			s.t.Errorf("delivered %q", d.Body)
		}
		in.Release() // of what is gone
		s.holds("a*")
	})
	run(t, "ack held", func(s *stand) {
		c, deliveries, in := consuming(s, mqtest.Fault{Point: mqtest.Received, Method: "basic.ack", Do: mqtest.Hold()})
		ack(s, deliveries)
		s.struck(in, 1)
		in.Remove()
		s.must(c.ch.Close())
		s.holds("")
	})
	run(t, "ack lost", func(s *stand) {
		c, deliveries, in := consuming(s, mqtest.Fault{Point: mqtest.Received, Method: "basic.ack", Do: mqtest.Cut()})
		ack(s, deliveries)
		s.struck(in, 1)
		c.lost(0)
		s.holds("a*")
	})
	run(t, "406 on the ack", func(s *stand) {
		c, deliveries, in := consuming(s, mqtest.Fault{
			Point: mqtest.Received, Method: "basic.ack",
			Do: mqtest.CloseChannel(406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out"),
		})
		ack(s, deliveries)
		s.struck(in, 1)
		c.channelLost(406)
		c.open()
		s.holds("a*")
	})
	run(t, "after the cancel", func(s *stand) {
		c, deliveries, in := consuming(s, mqtest.Fault{
			Point: mqtest.Applied, Method: "basic.cancel", Do: mqtest.Pass().Then(mqtest.Answer(mqtest.Method{
				Name: "basic.deliver", Body: []byte("late"),
				Fields: map[string]any{"consumer-tag": "tag", "delivery-tag": uint64(9), "routing-key": s.queue},
			})),
		})
		ack(s, deliveries)
		s.must(c.ch.Cancel("tag", false))
		s.struck(in, 1)
		c.settled() // the driver takes no notice
		s.holds("")
	})
	// Nothing strikes here: the broker does it by itself.
	run(t, "cancelled, and the queue recreated", func(s *stand) {
		c := s.connect()
		told := c.ch.NotifyCancel(make(chan string, 1))
		deliveries := c.consume()
		_, err := s.direct.QueueDelete(s.queue, false, false, false)
		s.must(err)
		if tag, _ := receive(s.t, told); tag != "tag" {
			s.t.Errorf("cancelled %q", tag)
		}
		if d, open := receive(s.t, deliveries); open {
			s.t.Errorf("delivered %q", d.Body)
		}
		s.must(c.ch.PublishWithContext(bounded(s.t), "", s.queue, true, false, amqp.Publishing{MessageId: "gone"}))
		if r, _ := receive(s.t, c.returns); r.ReplyCode != amqp.NoRoute || r.MessageId != "gone" {
			s.t.Errorf("returned %+v", r)
		}
		s.declare(s.direct, s.queue)
		s.put("a")
		ack(s, c.consume())
		s.must(c.ch.Close())
		s.holds("")
	})
}
