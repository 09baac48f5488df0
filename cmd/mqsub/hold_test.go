package main

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/consumer"
)

// acks counts what a holder lets go.
type acks struct {
	holder
	mu    sync.Mutex
	n     int
	works bool // a message is being written
}

func newAcks() *acks {
	a := &acks{}
	a.ack = func(*consumer.Delivery) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.n++
	}
	a.busy = func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.works
	}
	return a
}

func (a *acks) working(is bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.works = is
}

// after is how many are acked after so long.
func (a *acks) after(d time.Duration) int {
	time.Sleep(d) // in the bubble
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n
}

func of(tag string) *consumer.Delivery { return &consumer.Delivery{ConsumerTag: tag} }

func TestAcksAreHeldWhileMoreIsComing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAcks()
		a.working(true)
		for range 20 {
			a.hold(of("1"))
			if n := a.after(holdQuiet - time.Millisecond); n != 0 {
				t.Fatalf("%d acked although more came", n)
			}
		}
		a.working(false)
		if n := a.after(holdQuiet); n != 20 {
			t.Errorf("%d of 20 acked when nothing more came", n)
		}
	})
}

func TestAcksAreNotHeldForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAcks()
		a.working(true)
		a.hold(of("1"))
		if n := a.after(holdLongest - time.Second); n != 0 {
			t.Errorf("%d acked while one is being written", n)
		}
		if n := a.after(time.Second + holdQuiet); n != 1 {
			t.Errorf("%d acked after %v", n, holdLongest)
		}
		a.hold(of("1")) // its own time
		if n := a.after(holdLongest - time.Second); n != 1 {
			t.Errorf("%d acked", n)
		}
		a.release()
		if n := a.after(0); n != 2 {
			t.Errorf("%d acked after release", n)
		}
		if n := a.after(time.Hour); n != 2 {
			t.Errorf("%d acked, some twice", n)
		}
	})
}

func TestWhatIsHeldOfALostSessionIsLetGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAcks()
		a.working(true)
		a.session("1")
		a.hold(of("1"))
		a.session("1")
		if n := a.after(0); n != 0 {
			t.Errorf("%d acked within a session", n)
		}
		a.session("2")
		if n := a.after(0); n != 1 {
			t.Errorf("%d let go of the lost session", n)
		}
		a.release()
	})
}
