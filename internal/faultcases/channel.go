package faultcases

import (
	"errors"
	"strconv"
	"testing" //nolint:depguard // only tests import this package
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// exists asks the broker.
func (s *stand) exists(queue string) bool {
	s.t.Helper()
	ch, err := s.observer.Channel()
	s.must(err)
	defer ch.Close()
	_, err = ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	var e *amqp.Error
	if err != nil && (!errors.As(err, &e) || e.Code != amqp.NotFound) {
		s.t.Fatal(err)
	}
	return err == nil
}

// channel is what a client meets that asks for something.
func channel(t *testing.T, run starter) {
	const declare = "queue.declare"
	for name, x := range map[string]struct {
		point  mqtest.Point
		do     mqtest.Action
		exists bool // afterwards
	}{
		"not applied":          {mqtest.Received, mqtest.Cut(), false},
		"applied, answer lost": {mqtest.Applied, mqtest.Cut(), true},
		"cut inside":           {mqtest.Applied, mqtest.CutInside(9), true},
		"wrong end of frame":   {mqtest.Applied, mqtest.BadFrameEnd(), true},
		"garbage":              {mqtest.Applied, mqtest.Garbage(64), true},
		"no answer at all":     {mqtest.Applied, mqtest.Drop(), true},
		"lost on its way":      {mqtest.Received, mqtest.Drop(), false},
	} {
		run(t, name, func(s *stand) {
			c := s.connect()
			in := s.Inject(mqtest.Fault{Point: x.point, Method: declare, Queue: s.other(), Count: 1, Do: x.do})
			done := answered(func() error {
				_, err := c.ch.QueueDeclare(s.other(), true, false, false, false, nil)
				return err
			})
			s.struck(in, 1)
			if x.do.String() == mqtest.Drop().String() {
				select {
				case err := <-done:
					s.t.Errorf("answered: %v", err)
				default:
				}
				s.cut()
			}
			if err, _ := receive(s.t, done); err == nil {
				s.t.Error("declared")
			}
			c.lost(0)
			if got := s.exists(s.other()); got != x.exists {
				s.t.Errorf("it exists: %v", got)
			}
		})
	}
	for _, code := range []int{404, 405, 406} {
		run(t, "refused by "+strconv.Itoa(code)+" for the first two tries", func(s *stand) {
			c := s.connect()
			in := s.Inject(mqtest.Fault{
				Point: mqtest.Received, Method: declare, Queue: s.other(), Count: 2, Do: mqtest.CloseChannel(code, ""),
			})
			for range 2 {
				_, err := c.ch.QueueDeclare(s.other(), true, false, false, false, nil)
				var e *amqp.Error
				if !errors.As(err, &e) || e.Code != code {
					s.t.Errorf("got %v", err)
				}
				c.open()
			}
			s.struck(in, 2)
			s.declare(c.ch, s.other())
		})
	}
	run(t, "late answer", func(s *stand) {
		const late = 20 * time.Millisecond
		c := s.connect()
		in := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: declare, Queue: s.other(), Do: mqtest.Delay(late)})
		before := time.Now()
		s.declare(c.ch, s.other())
		if took := time.Since(before); took < late {
			s.t.Errorf("answered after %v", took)
		}
		s.struck(in, 1)
	})
	run(t, "another's answer", func(s *stand) {
		c := s.connect()
		in := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: declare, Queue: s.other(), Count: 1, Do: mqtest.Answer(mqtest.Method{
			Name: "queue.declare-ok", Fields: map[string]any{"queue": s.other(), "message-count": 7},
		})})
		q, err := c.ch.QueueDeclare(s.other(), true, false, false, false, nil)
		if err != nil || q.Messages != 7 {
			s.t.Errorf("got %+v, %v", q, err)
		}
		s.struck(in, 1)
		if s.exists(s.other()) {
			s.t.Error("the broker has seen it")
		}
	})
	run(t, "closed from outside", func(s *stand) {
		c := s.connect()
		for _, code := range []int{404, 405, 406} {
			conn := s.clients()[0]
			conn.DoOn(conn.Channels()[0], mqtest.CloseChannel(code, ""))
			c.channelLost(code)
			c.open()
		}
	})
}
