package faultcases

import (
	"bytes"
	"testing" //nolint:depguard // only tests import this package
	"time"

	"github.com/mqkit/mqkit/mqtest"
)

// How a case leaves its client.
type ending uint8

const (
	goesOn       ending = iota
	losesChannel        // it can open another
	losesConnection
	hearsNothing // until the stage drops it
)

// publish publishes a, waits for its confirm, and publishes b, at which the fault
// strikes, and c, where the channel goes on.
func publish(t *testing.T, run starter) {
	const late = 20 * time.Millisecond
	lastOfBody := mqtest.Rewrite(func(frames []byte) []byte {
		frames = bytes.Clone(frames)
		frames[len(frames)-2] = 'B'
		return frames
	})
	for _, x := range []struct {
		name   string
		point  mqtest.Point
		do     mqtest.Action
		told   string // of a, b and c
		leaves ending
		code   int // of the close; 0 is any
		stored string
	}{
		// Not applied.
		{"cut", mqtest.Received, mqtest.Cut(), "+?", losesConnection, 0, "a"},
		{"reset", mqtest.Received, mqtest.Reset(), "+?", losesConnection, 0, "a"},
		{"cut inside", mqtest.Received, mqtest.CutInside(9), "+?", losesConnection, 0, "a"},
		{"cut before its last byte", mqtest.Received, mqtest.CutInside(-1), "+?", losesConnection, 0, "a"},
		{"channel closed by 403", mqtest.Received, mqtest.CloseChannel(403, ""), "+?", losesChannel, 403, "a"},
		{"channel closed by 404", mqtest.Received, mqtest.CloseChannel(404, ""), "+?", losesChannel, 404, "a"},
		{"channel closed by 406", mqtest.Received, mqtest.CloseChannel(406, ""), "+?", losesChannel, 406, "a"},
		{"connection closed by 320", mqtest.Received, mqtest.CloseConnection(320, ""), "+?", losesConnection, 320, "a"},
		{"returned", mqtest.Received, mqtest.Return(312, "NO_ROUTE"), "+++", goesOn, 0, "a c"},
		{"nacked", mqtest.Received, mqtest.Nack(), "+-+", goesOn, 0, "a c"},
		{"lost", mqtest.Received, mqtest.Drop(), "+?+", goesOn, 0, "a c"},
		{"stall", mqtest.Received, mqtest.Stall(), "+?", hearsNothing, 0, "a"},
		{"stop reading", mqtest.Received, mqtest.StopReading(), "+?", hearsNothing, 0, "a"},
		{"wrong end of frame", mqtest.Received, mqtest.BadFrameEnd(), "+?", losesConnection, 501, "a"},
		{"oversized frame", mqtest.Received, mqtest.Oversize(), "+?", losesConnection, 501, "a"},
		{"garbage", mqtest.Received, mqtest.Garbage(64), "+?", losesConnection, 501, "a"},
		// Applied, but not as it was sent.
		{"late", mqtest.Received, mqtest.Delay(late), "+++", goesOn, 0, "a b c"},
		{"late and lost", mqtest.Received, mqtest.Delay(late).Then(mqtest.Drop()), "+?+", goesOn, 0, "a c"},
		{"twice", mqtest.Received, mqtest.Twice(), "+++", goesOn, 0, "a b b c"},
		{"byte by byte", mqtest.Received, mqtest.Trickle(1, 0), "+++", goesOn, 0, "a b c"},
		{"rewritten", mqtest.Received, lastOfBody, "+++", goesOn, 0, "a B c"},
		// Applied, and the answer lost.
		{"cut", mqtest.Applied, mqtest.Cut(), "+?", losesConnection, 0, "a b"},
		{"reset", mqtest.Applied, mqtest.Reset(), "+?", losesConnection, 0, "a b"},
		{"cut inside", mqtest.Applied, mqtest.CutInside(9), "+?", losesConnection, 0, "a b"},
		{"cut before its last byte", mqtest.Applied, mqtest.CutInside(-1), "+?", losesConnection, 0, "a b"},
		{"channel closed by 404", mqtest.Applied, mqtest.CloseChannel(404, ""), "+?", losesChannel, 404, "a b"},
		{"connection closed by 541", mqtest.Applied, mqtest.CloseConnection(541, ""), "+?", losesConnection, 541, "a b"},
		{"lost", mqtest.Applied, mqtest.Drop(), "+?+", goesOn, 0, "a b c"},
		{"stall", mqtest.Applied, mqtest.Stall(), "+?", hearsNothing, 0, "a b"},
		{"stop sending", mqtest.Applied, mqtest.StopSending(), "+?", hearsNothing, 0, "a b"},
		{"wrong end of frame", mqtest.Applied, mqtest.BadFrameEnd(), "+?", losesConnection, 0, "a b"},
		{"garbage", mqtest.Applied, mqtest.Garbage(64), "+?", losesConnection, 0, "a b"},
		// Applied, and another answer.
		{"nacked", mqtest.Applied, mqtest.Nack(), "+-+", goesOn, 0, "a b c"},
		{"late", mqtest.Applied, mqtest.Delay(late), "+++", goesOn, 0, "a b c"},
		{"byte by byte", mqtest.Applied, mqtest.Trickle(1, 0), "+++", goesOn, 0, "a b c"},
	} {
		run(t, x.point.String()+"/"+x.name, func(s *stand) {
			c := s.connect()
			receive(s.t, c.publish("a").Done())
			in := s.Inject(mqtest.Fault{Point: x.point, Method: "basic.publish", MessageID: "b", Count: 1, Do: x.do})
			c.publish("b")
			if x.leaves == goesOn {
				c.publish("c")
			}
			s.struck(in, 1)
			switch x.leaves {
			case goesOn:
				for i, confirm := range c.sent {
					if x.told[i] != '?' {
						receive(s.t, confirm.Done())
					}
				}
				c.settled()
			case losesChannel:
				c.channelLost(x.code)
			case losesConnection:
				c.lost(x.code)
			}
			if got := c.told(); got != x.told {
				s.t.Errorf("told %s, want %s", got, x.told)
			}
			if got, want := len(c.returns), 0; x.name == "returned" {
				if r, _ := receive(s.t, c.returns); r.MessageId != "b" || r.ReplyCode != 312 || string(r.Body) != "b" {
					s.t.Errorf("returned %+v", r)
				}
			} else if got != want {
				s.t.Errorf("%d messages were returned", got)
			}
			switch x.leaves {
			case losesChannel:
				c.open() // the id is free again, and so is its count of confirms
				c.sent = nil
				receive(s.t, c.publish("d").Done())
				x.stored += " d"
				if got := c.told(); got != "+" {
					s.t.Errorf("on a new channel told %s", got)
				}
			case hearsNothing:
				s.cut()
				c.lost(0)
			}
			s.holds(x.stored)
		})
	}
	together(t, run)
	kept(t, run)
	mixed(t, run)
}

// kept are the cases of what waits until it is let go of.
func kept(t *testing.T, run starter) {
	for _, point := range []mqtest.Point{mqtest.Received, mqtest.Applied} {
		for name, x := range map[string]struct {
			do           mqtest.Action
			told, stored string
		}{
			"held":          {mqtest.Hold(), "+++", "a b c"},
			"held and lost": {mqtest.Hold().Then(mqtest.Drop()), "+?+", "a b c"},
		} {
			run(t, point.String()+"/"+name, func(s *stand) {
				c := s.connect()
				receive(s.t, c.publish("a").Done())
				in := s.Inject(mqtest.Fault{Point: point, Method: "basic.publish", MessageID: "b", Count: 1, Do: x.do})
				c.publish("b")
				c.publish("c")
				s.struck(in, 1)
				waits := c.ch
				c.open() // other channels go on
				if got := c.told(); got != "+??" {
					s.t.Errorf("told %s while it is held", got)
				}
				c.ch = waits
				in.Release()
				receive(s.t, c.sent[2].Done())
				c.settled()
				if got := c.told(); got != x.told {
					s.t.Errorf("told %s, want %s", got, x.told)
				}
				if x.told != "+++" && point == mqtest.Received {
					x.stored = "a c"
				}
				s.holds(x.stored)
			})
		}
	}
}

// together are the cases of confirms that wait for each other. How they are said
// the driver does not show.
func together(t *testing.T, run starter) {
	for name, x := range map[string]struct {
		do   mqtest.Action
		told string
	}{
		"range nacked": {mqtest.NackBatch(2, 0), "+--+"},
		"batched":      {mqtest.Batch(2, 0), "++++"},
		"reversed":     {mqtest.Reverse(2, 0), "++++"},
	} {
		run(t, "applied/"+name, func(s *stand) {
			c := s.connect()
			in := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Skip: 1, Count: 2, Do: x.do})
			for _, body := range []string{"a", "b", "c", "d"} {
				c.publish(body)
			}
			for _, confirm := range c.sent {
				receive(s.t, confirm.Done())
			}
			s.struck(in, 2)
			if got := c.told(); got != x.told {
				s.t.Errorf("told %s, want %s", got, x.told)
			}
			s.holds("a b c d")
		})
	}
}
