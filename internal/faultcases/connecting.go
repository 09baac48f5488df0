package faultcases

import (
	"errors"
	"strings"
	"testing" //nolint:depguard // only tests import this package
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// attempt connects, opens a channel and leaves.
func (s *stand) attempt() error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	_, err = conn.Channel()
	_ = conn.Close()
	return err
}

// connecting is what a client meets before it has a channel. What is in the way
// once is not there any more at its second attempt.
func connecting(t *testing.T, run starter) {
	const startOk, open, channelOpen = "connection.start-ok", "connection.open", "channel.open"
	for name, x := range map[string]struct {
		fault mqtest.Fault
		want  string // in the driver's error; "": there is none
	}{
		"accepted, then closed": {mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Cut()}, "eof"},
		"accepted, then reset":  {mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Reset()}, "reset"},
		"slow": {
			mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Delay(time.Millisecond).Then(mqtest.Trickle(1, 0))}, "",
		},
		"another protocol's header": {
			mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.SendRaw([]byte("AMQP\x00\x01\x00\x00")).Then(mqtest.Cut())}, "exception",
		},
		"cut inside start":      {mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.CutInside(100)}, "eof"},
		"403":                   {mqtest.Fault{Point: mqtest.Received, Method: startOk, Do: mqtest.CloseConnection(403, "")}, "403"},
		"closed without reason": {mqtest.Fault{Point: mqtest.Received, Method: startOk, Do: mqtest.Cut()}, "403"}, // the driver's guess
		"530": {
			mqtest.Fault{Point: mqtest.Received, Method: open, Do: mqtest.CloseConnection(530, "NOT_ALLOWED - vhost x not found")}, "vhost",
		},
		"504 to channel.open": {mqtest.Fault{Point: mqtest.Received, Method: channelOpen, Do: mqtest.CloseConnection(504, "")}, "504"},
	} {
		run(t, name, func(s *stand) {
			x.fault.Count = 1
			in := s.Inject(x.fault)
			switch err := s.attempt(); {
			case x.want == "" && err != nil:
				s.t.Errorf("got %v", err)
			case x.want != "" && x.fault.Point == mqtest.Accepted && errors.Is(err, amqp.ErrClosed): // its reader had come before it wrote
			case x.want == "reset" && err != nil && strings.Contains(err.Error(), "broken pipe"): // it had come before we wrote
			case x.want != "" && (err == nil || !strings.Contains(strings.ToLower(err.Error()), x.want)):
				s.t.Errorf("got %v, want %q in it", err, x.want)
			}
			s.struck(in, 1)
			if err := s.attempt(); err != nil {
				s.t.Errorf("and then: %v", err)
			}
		})
	}
	for name, fault := range map[string]mqtest.Fault{
		"silent once accepted":      {Point: mqtest.Accepted, Do: mqtest.Stall()},
		"silent after start-ok":     {Point: mqtest.Received, Method: startOk, Do: mqtest.Stall()},
		"silent behind open-ok":     {Point: mqtest.Sending, Method: "connection.open-ok", Do: mqtest.Pass().Then(mqtest.Stall())},
		"silent after channel.open": {Point: mqtest.Received, Method: channelOpen, Do: mqtest.Stall()},
	} {
		run(t, name, func(s *stand) {
			fault.Count = 1
			in := s.Inject(fault)
			done := answered(s.attempt)
			s.struck(in, 1)
			select {
			case err := <-done:
				s.t.Errorf("it has an answer: %v", err)
			default:
			}
			s.cut()
			if err, _ := receive(s.t, done); err == nil {
				s.t.Error("it is connected")
			}
			if err := s.attempt(); err != nil {
				s.t.Errorf("and then: %v", err)
			}
		})
	}
	run(t, "small limits", func(s *stand) {
		in := s.Inject(mqtest.Fault{
			Point: mqtest.Sending, Method: "connection.tune", Count: 1, Do: mqtest.Tune(2, 8192, time.Second),
		})
		conn, err := s.dial()
		s.must(err)
		defer conn.Close()
		s.struck(in, 1)
		if conn.Config.ChannelMax != 2 || conn.Config.FrameSize != 8192 || conn.Config.Heartbeat != time.Second {
			s.t.Errorf("agreed on %+v", conn.Config)
		}
		for range 2 {
			if _, err := conn.Channel(); err != nil {
				s.t.Error(err)
			}
		}
		if _, err := conn.Channel(); err == nil {
			s.t.Error("the ids are not exhausted")
		}
	})
}

// connection is how a connection ends that nobody was using.
func connection(t *testing.T, run starter) {
	for name, x := range map[string]struct {
		do   mqtest.Action
		code int
	}{
		"320": {mqtest.CloseConnection(320, "CONNECTION_FORCED - bye"), 320},
		"541": {mqtest.CloseConnection(541, ""), 541},
		"RST": {mqtest.Reset(), 501},
		"FIN": {mqtest.Cut(), 501},
	} {
		run(t, name, func(s *stand) {
			c := s.connect()
			s.clients()[0].Do(x.do)
			c.lost(x.code)
			s.must(s.attempt())
		})
	}
	for name, fault := range map[string]mqtest.Fault{
		"the broker's heartbeats lost": {Point: mqtest.Sending, Method: "heartbeat", Do: mqtest.Drop()},
		"the client's heartbeats lost": {Point: mqtest.Received, Method: "heartbeat", Do: mqtest.Drop()},
		"half-open":                    {Point: mqtest.Received, Method: "heartbeat", Do: mqtest.Stall()},
	} {
		run(t, name, func(s *stand) {
			if !s.Patient {
				s.t.Skip("heartbeats take their time")
			}
			s.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "connection.tune", Count: 1, Do: mqtest.Tune(0, 0, time.Second)})
			c := s.connect()
			in := s.Inject(fault)
			c.lost(0)
			if in.Hits() == 0 {
				s.t.Error("no heartbeat was met")
			}
		})
	}
}
