package relay_test

import (
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/internal/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTellsInOrderAndAllBeforeItEnds(t *testing.T) {
	t.Parallel()
	var got, want []int
	r := relay.New(func(n int) { got = append(got, n) })
	for n := range 1000 {
		r.Tell(n)
		want = append(want, n)
	}
	r.Close()
	<-r.Ended()
	if !slices.Equal(got, want) {
		t.Errorf("told %v", got)
	}
}

func TestTellDoesNotWaitForTheFunction(t *testing.T) {
	t.Parallel()
	let, got := make(chan struct{}), 0
	r := relay.New(func(int) { <-let; got++ })
	for n := range 100 {
		r.Tell(n)
	}
	close(let)
	r.Close()
	<-r.Ended()
	if got != 100 {
		t.Errorf("told %d of 100", got)
	}
}

// TestTheFunctionMayTell: what happens in a callback is told after what is pending.
func TestTheFunctionMayTell(t *testing.T) {
	t.Parallel()
	var got []int
	ready, done := make(chan struct{}), make(chan struct{})
	var r *relay.Relay[int]
	r = relay.New(func(n int) {
		<-ready
		got = append(got, n)
		if n == 1 {
			r.Tell(3)
		}
		if n == 3 {
			close(done)
		}
	})
	r.Tell(1)
	r.Tell(2)
	close(ready)
	<-done
	r.Close()
	<-r.Ended()
	if !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("told %v", got)
	}
}
