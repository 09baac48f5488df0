package producer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/producer"
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
