package amqpserver_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/wire"
)

// beating returns a client that has agreed to a heartbeat of 10 s.
func beating(t *testing.T) *client {
	c := accept(t, amqpserver.Config{})
	c.login()
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192, Heartbeat: 10}, &wire.ConnectionOpen{VirtualHost: "/"})
	c.expect(0, &wire.ConnectionOpenOk{})
	return c
}

func TestASilentClientIsGivenUpAfterTwoIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := beating(t)
		// The open counts for the first interval.
		time.Sleep(29 * time.Second) // in the bubble
		if ended, err := c.end(); ended {
			t.Fatalf("ended early with %v", err)
		}
		time.Sleep(2 * time.Second) // in the bubble
		if err := c.wantEnd(); !errors.Is(err, amqpserver.ErrHeartbeat) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestAnySignOfLifeCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := beating(t)
		for i := range 20 {
			time.Sleep(15 * time.Second) // in the bubble
			if i%2 == 0 {
				c.sendFrames(wire.Frame{Type: wire.HeartbeatFrame})
			} else {
				c.conn.Heard()
			}
		}
		if ended, err := c.end(); ended {
			t.Fatalf("ended with %v", err)
		}
	})
}

func TestAHeartbeatIsSentEachHalfIntervalOfSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := beating(t)
		time.Sleep(16 * time.Second) // in the bubble: open-ok, two heartbeats
		c.expectWords("0 heartbeat", "0 heartbeat")
		c.send(1, &wire.ChannelOpen{}) // and its answer
		c.words()
		time.Sleep(5 * time.Second) // in the bubble
		c.expectWords()
		time.Sleep(5 * time.Second) // in the bubble
		c.expectWords("0 heartbeat")
	})
}

func TestABlockedClientMayBeSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := beating(t)
		c.conn.Block("low on memory")
		time.Sleep(time.Minute) // in the bubble
		if ended, err := c.end(); ended {
			t.Fatalf("ended with %v", err)
		}
		c.conn.Unblock()
		time.Sleep(time.Minute) // in the bubble
		c.wantEnd()
	})
}

func TestAHeartbeatHasItsPlace(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 1)
	c.sendFrames(wire.Frame{Type: wire.HeartbeatFrame, Channel: 1})
	c.expect(0, closed(505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", nil))
	c = open(t, amqpserver.Config{}, 1)
	c.sendFrames(wire.Frame{Type: wire.HeartbeatFrame, Payload: []byte("x")})
	c.expect(0, closed(501, `FRAME_ERROR - type 8, all octets = <<"x">>: unknown_frame`, nil))
}
