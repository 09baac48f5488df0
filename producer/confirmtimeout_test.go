package producer_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// newStubborn is a producer, in memory, whose messages the broker never confirms by itself.
func newStubborn(t *testing.T, timeout time.Duration) *fixture {
	t.Helper()
	f := newMemoryFixture(t, producer.Config{ConfirmTimeout: timeout}, backoffOf(time.Second))
	f.broker.Inject(silent())
	return f
}

// handOver publishes a message, which the broker has when it returns.
func (f *fixture) handOver() *producer.Confirmation {
	f.t.Helper()
	c := f.publish("x")[0]
	synctest.Wait()
	return c
}

// confirm has the broker confirm what it received last but n.
func (f *fixture) confirm(n int) {
	f.t.Helper()
	all := f.received("basic.publish")
	m := all[len(all)-1-n]
	f.say(m, ack(m.Number, false))
	synctest.Wait()
}

func TestWithoutAConfirmTimeoutNothingIsOverdue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newStubborn(t, -1)
		c := f.handOver()
		time.Sleep(3 * time.Hour) // in the bubble
		if n := f.Stats().Republished; n != 0 {
			t.Errorf("it was sent again %d times", n)
		}
		f.confirm(0)
		if c.Verdict() != producer.Confirmed {
			t.Error(c.Err())
		}
	})
}

// TestNoConfirmIsOverdueWhileEachComesInTime: there is always one that is waited for, but
// never one for long.
func TestNoConfirmIsOverdueWhileEachComesInTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const timeout = 10 * time.Second
		f := newStubborn(t, timeout)
		before := f.handOver()
		for range 20 {
			time.Sleep(timeout * 3 / 5) // in the bubble
			next := f.handOver()
			f.confirm(1)
			if before.Verdict() != producer.Confirmed {
				t.Fatal(before.Err())
			}
			before = next
		}
		if n := f.Stats().Republished; n != 0 {
			t.Errorf("%d messages were sent again", n)
		}
		f.confirm(0)
	})
}

// TestOnlyOverdueMessagesAreWaitedForLonger: one whose connections were cut is not to blame.
func TestOnlyOverdueMessagesAreWaitedForLonger(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const timeout = 10 * time.Second
		f := newStubborn(t, timeout)
		c := f.handOver()
		again := func(want uint64, within time.Duration) {
			t.Helper()
			time.Sleep(within) // in the bubble
			synctest.Wait()
			if n := f.Stats().Republished; n != want {
				t.Fatalf("it was sent again %d times, want %d", n, want)
			}
		}
		for i := range uint64(3) {
			if n := f.broker.DropConnections(); n != 1 {
				t.Fatalf("%d connections were cut", n)
			}
			again(i+1, 2*time.Second)
		}
		again(4, timeout*5/4)   // as long as the first time
		again(4, timeout*5/4)   // and now twice as long
		again(5, timeout*5/4+1) // it is looked at four times in a timeout
		f.confirm(0)
		if c.Verdict() != producer.Confirmed {
			t.Error(c.Err())
		}
	})
}

// TestMessagesWhoseConfirmIsOverdueAreSentAgain: a broker may lose sight of them.
// It may not answer the close of that channel either, which has to cost nobody the
// connection.
func TestMessagesWhoseConfirmIsOverdueAreSentAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{ConfirmTimeout: 40 * time.Millisecond}, silent())
	f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "channel.close", Do: mqtest.Drop()})
	cs := f.publish("1", "2", "3")
	first := f.arrive("1", "2", "3")
	f.say(first[1], ack(2, false))
	f.verdict(cs[1], producer.Confirmed)
	last := f.arrive("1", "3")
	if last[0].Conn != first[0].Conn || last[0].Channel == first[0].Channel || len(f.received("channel.close")) == 0 {
		t.Error("they were not sent again on another channel of the same connection")
	}
	last = f.arrive("1", "3") // nothing was confirmed on that session either
	f.say(last[0], ack(2, true))
	f.verdict(cs[0], producer.Confirmed)
	f.verdict(cs[2], producer.Confirmed)
	if n := f.pool.Status(reconnect.Publishing).Sessions; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestOverdueMessagesAreNotSentMoreOftenBecauseOthersAreConfirmed: each waits twice
// as long the next time.
func TestOverdueMessagesAreNotSentMoreOftenBecauseOthersAreConfirmed(t *testing.T) {
	t.Parallel()
	const timeout = 40 * time.Millisecond
	stuck := silent()
	stuck.If = func(e *mqtest.Event) bool { return string(e.Body) == "stuck" }
	f := newFixture(t, producer.Config{ConfirmTimeout: timeout}, stuck)
	f.publish("stuck")
	for began := time.Now(); time.Since(began) < 20*timeout; {
		f.verdict(f.publish("healthy")[0], producer.Confirmed)
	}
	// Sent again after 1, 3, 7 and 15 timeouts, or later.
	if n := f.Stats().Republished; n < 2 || n > 4+4 { // healthy ones that were on their way, too
		t.Errorf("%d messages were sent again", n)
	}
}

// TestNoConfirmIsOverdueWhileTheConnectionIsBlocked: the broker then reads nothing,
// not even the end of the message that had it notice the alarm.
func TestNoConfirmIsOverdueWhileTheConnectionIsBlocked(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	f := newFixture(t, producer.Config{ConfirmTimeout: timeout})
	f.next("confirm.select")
	f.broker.Block("")
	c := f.publish("1")[0]
	f.await(reconnect.Blocked, 1)
	select {
	case <-c.Done():
		t.Errorf("while the broker reads nothing: %v", c.Err())
	case <-time.After(2 * timeout):
	}
	f.stored()
	f.broker.Unblock()
	f.verdict(c, producer.Confirmed)
	if n := f.Stats().Republished; n != 0 {
		t.Errorf("%d messages were sent again", n)
	}
	f.stored("1")
}

// TestAProducerLeavesANodeThatConfirmsNothing: one that is cut off from the others goes on
// talking to its clients. On another channel of the same connection it would be no better.
func TestAProducerLeavesANodeThatConfirmsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const timeout = 30 * time.Second
		cutOff, well := mqtest.NewInMemory(t, mqtest.Config{Listen: "a.invalid:5672"}), mqtest.NewInMemory(t, mqtest.Config{Listen: "b.invalid:5672"})
		f := fixtureWith(t, cutOff, producer.Config{ConfirmTimeout: timeout}, func(pool *reconnect.Config) {
			backoffOf(time.Second)(pool)
			pool.URLs = []string{cutOff.URL(), well.URL()}
			refused := true // until the pool is at the first
			pool.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == cutOff.Addr() {
					refused = false
					return cutOff.DialContext(ctx, network, address)
				}
				if refused {
					return nil, errors.New("not yet")
				}
				return well.DialContext(ctx, network, address)
			}
		})
		lost := f.broker.Inject(silent())
		began := time.Now()
		cs := f.publish("1", "2", "3")
		for _, c := range cs {
			f.verdict(c, producer.Confirmed)
		}
		if took := time.Since(began); took < timeout || took > timeout*3/2 || lost.Hits() != 3 {
			t.Errorf("it took %v, and %d confirms were lost", took, lost.Hits())
		}
		if got := well.Queue("q").Bodies(); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("the other node has %q", got)
		}
	})
}

// TestAProducerKeepsAConnectionOnWhichSomethingIsConfirmed: another node would be no better for
// a queue that has lost its majority, and the others who publish on it would have duplicates.
func TestAProducerKeepsAConnectionOnWhichSomethingIsConfirmed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, producer.Config{ConfirmTimeout: 30 * time.Second}, func(pool *reconnect.Config) {
			pool.URLs = append(pool.URLs, "amqp://guest:guest@elsewhere.invalid/")
		})
		other, err := producer.New(f.pool, producer.Config{})
		if err != nil {
			t.Fatal(err)
		}
		stuck := silent()
		stuck.If = func(e *mqtest.Event) bool { return string(e.Body) == "stuck" }
		f.broker.Inject(stuck)
		f.publish("stuck")
		for range 30 {
			time.Sleep(10 * time.Second) // in the bubble
			if err := other.Publish(t.Context(), producer.Text("healthy").ToQueue("q")); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.Stats().Republished; n < 2 {
			t.Errorf("it was sent again %d times", n)
		}
		if n := f.pool.Status(reconnect.Publishing).Sessions; n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}
