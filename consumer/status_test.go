package consumer_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

func TestStatusSaysWhyItIsNotSubscribed(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{DrainTimeout: 50 * time.Millisecond}, g.handle)
	f.enqueue("a")
	g.next(t)
	s := f.Status()
	if !s.Subscribed || s.Cause != nil || s.Queue != "q" || s.Sessions != 1 || s.Handling != 1 {
		t.Errorf("%+v", s)
	}
	if want := `subscribed to "q" since ` + s.Since.Format(time.RFC3339); s.String() != want {
		t.Errorf("%s, want %s", s.String(), want)
	}
	lost := f.unanswered(f.subscription.Conn, "basic.consume")
	f.cancel()
	f.struck(lost)
	if s := f.Status(); s.Subscribed || s.Cause == nil || !strings.Contains(s.Cause.Error(), "cancelled the subscription") {
		t.Errorf("%+v", s)
	} else if !strings.HasPrefix(s.String(), `not subscribed to "q" since `) || !strings.HasSuffix(s.String(), s.Cause.Error()) {
		t.Errorf("%s", s.String())
	}
}

const heartbeat = 10 * time.Second

func withHeartbeat(_ *mqtest.Config, pool *reconnect.Config) { pool.Heartbeat = heartbeat }

// isNotSubscribed tests that Status says so, and why.
func (f *fixture) isNotSubscribed(why string) {
	f.t.Helper()
	if s := f.Status(); s.Subscribed || s.Cause == nil || !strings.Contains(s.Cause.Error(), why) {
		f.t.Errorf("%+v, want %q as the cause", s, why)
	}
}

// TestStatusSaysThatTheBrokerIsSilent and that it is subscribed as long as that is in time:
// an idle queue is no silence.
func TestStatusSaysThatTheBrokerIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{}, newGate().handle, withHeartbeat)
		time.Sleep(time.Minute) // in the bubble: an idle queue is none
		if s := f.Status(); !s.Subscribed {
			t.Errorf("with heartbeats alone: %s", s)
		}
		if n := f.broker.Stall(); n != 1 {
			t.Fatalf("%d connections have fallen silent", n)
		}
		began := time.Now()
		f.until("it is seen", func() bool { return !f.Status().Subscribed })
		f.isNotSubscribed("for 20s") // nothing has arrived, or the connection was given up for it: it is the same moment
		if took := time.Since(began); took < heartbeat || took > 2*heartbeat {
			t.Errorf("it was seen after %v", took)
		}
		f.until("it is subscribed again", func() bool { return f.Status().Sessions == 2 && f.Status().Subscribed })
	})
}

// TestStatusSaysThatNothingArrives before the connection is given up, as after the sleep of
// a laptop: a probe must not take silence for a queue without messages.
func TestStatusSaysThatNothingArrives(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{}, newGate().handle, func(broker *mqtest.Config, pool *reconnect.Config) {
			withHeartbeat(broker, pool)
			dial := pool.Dial
			pool.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return patientConn{conn}, err
			}
		})
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		f.broker.Stall()
		f.until("it is seen", func() bool { return !f.Status().Subscribed })
		f.isNotSubscribed("nothing has arrived for 20s")
		f.cut(f.subscription)
		f.until("it is subscribed again", func() bool { return f.Status().Sessions == 2 && f.Status().Subscribed })
	})
}

// patientConn waits without end for what it reads.
type patientConn struct{ net.Conn }

func (patientConn) SetReadDeadline(time.Time) error { return nil }

// TestStatusSaysThatTheChannelIsLost while its session cannot end yet.
func TestStatusSaysThatTheChannelIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		asked, end := make(chan struct{}, 10), make(chan struct{})
		f := newMemoryFixture(t, consumer.Config{OrderBy: func(*consumer.Delivery) string {
			asked <- struct{}{}
			<-end
			return ""
		}}, func(context.Context, *consumer.Delivery) error { return nil })
		defer close(end)
		f.enqueue("a")
		<-asked
		f.cut(f.subscription)
		f.until("it is seen", func() bool { return !f.Status().Subscribed })
		f.isNotSubscribed("session lost")
	})
}

// TestStatusSaysWhatKeepsTheConnectionAway and since when it is not subscribed: since it
// was lost, and not since the last attempt.
func TestStatusSaysWhatKeepsTheConnectionAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		everySecond := func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) }
		f := newMemoryFixture(t, consumer.Config{}, newGate().handle, func(_ *mqtest.Config, pool *reconnect.Config) { pool.Backoff = everySecond })
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		subscribed := f.Status().Since
		time.Sleep(5 * time.Second) // in the bubble, as below
		if s := f.Status(); !s.Since.Equal(subscribed) || time.Since(subscribed) < 5*time.Second {
			t.Errorf("subscribed since %v", s.Since)
		}
		lost := time.Now()
		f.broker.RefuseConnections()
		f.cut(f.subscription)
		time.Sleep(10 * time.Second) // in the bubble
		f.isNotSubscribed("the consuming connection is ")
		if s := f.Status(); s.Since.Before(lost) || s.Since.After(lost.Add(time.Second)) {
			t.Errorf("not subscribed since %v, lost at %v", s.Since, lost)
		}
		if err := f.broker.AcceptConnections(); err != nil {
			t.Fatal(err)
		}
		f.until("it is subscribed again", func() bool { return f.Status().Subscribed })
		if s := f.Status(); s.Since.Before(lost.Add(10 * time.Second)) {
			t.Errorf("subscribed since %v, lost at %v", s.Since, lost)
		}
	})
}

// TestStatusSaysSinceWhenThereIsNoQueue: not since the last time that it was looked for.
func TestStatusSaysSinceWhenThereIsNoQueue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{}, newGate().handle)
		lost := time.Now()
		missing := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.consume", Count: 5, Do: mqtest.Delay(time.Second).Then(mqtest.CloseChannel(404, "NOT_FOUND"))})
		f.cancel()
		f.until("it was looked for four times", func() bool { return missing.Hits() == 4 })
		f.isNotSubscribed("NOT_FOUND")
		if s := f.Status(); s.Since.After(lost.Add(time.Second)) || time.Since(lost) < 3*time.Second {
			t.Errorf("not subscribed since %v, cancelled %v, now %v", s.Since, lost, time.Now())
		}
	})
}
