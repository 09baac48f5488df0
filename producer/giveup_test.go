package producer_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
)

// handed waits until the session has taken a message: the driver is reading it,
// for as long as a large one takes.
func (f *fixture) handed() {
	for deadline := time.Now().Add(patience); producer.HandedOver(f.Producer) == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			f.t.Error("it is not handed over")
			return
		}
	}
}

// settled waits until no message holds a place.
func (f *fixture) settled() {
	f.t.Helper()
	for deadline := time.Now().Add(patience); f.Stats().InFlight > 0; turn() {
		if time.Now().After(deadline) {
			f.t.Fatalf("%+v", f.Stats())
		}
	}
}

// large takes the driver milliseconds to read.
const large = 4 << 20

// refill has every byte of body be b: no two sendings of it look alike.
func refill(body []byte, b byte) { copy(body, bytes.Repeat([]byte{b}, len(body))) }

func wholeBodies(t *testing.T, ms ...*mqtest.Event) {
	t.Helper()
	for _, m := range ms {
		if n := bytes.Count(m.Body, m.Body[:1]); n != len(m.Body) {
			t.Errorf("of a body of %d bytes, %d are what the first one is: it was read after its verdict", len(m.Body), n)
		}
	}
}

// TestBodyIsNotReadAfterItsVerdict: whoever publishes has it back with the
// verdict, also when the ctx ends while the driver reads it. The race detector
// sees what the broker may not.
func TestBodyIsNotReadAfterItsVerdict(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	f.next("confirm.select")
	body := make([]byte, large)
	withdrawn := 0
	for i := range 5 {
		refill(body, 'a'+byte(i))
		ctx, cancel := context.WithCancel(t.Context())
		canceller := make(chan struct{})
		go func() {
			defer close(canceller)
			f.handed()
			cancel()
		}()
		err := f.Publish(ctx, producer.Bytes(body).ToQueue("q"))
		refill(body, 'z')
		<-canceller
		switch producer.VerdictOf(err) {
		case producer.Confirmed:
		case producer.Unknown:
			withdrawn++
			if !errors.Is(err, context.Canceled) || producer.SafeToRetry(err) {
				t.Errorf("withdrawn while it was handed over: %v", err)
			}
		default:
			t.Errorf("%v", err)
		}
		f.settled() // the broker's verdict frees its place
	}
	if withdrawn == 0 {
		t.Error("no message was withdrawn")
	}
	wholeBodies(t, f.received("basic.publish")...)
}

// TestBodyIsNotReadAfterTheVerdictThatCloseGives: the verdict comes before Close
// returns.
func TestBodyIsNotReadAfterTheVerdictThatCloseGives(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	f.next("confirm.select")
	body := bytes.Repeat([]byte("a"), large)
	c := f.message(producer.Bytes(body).ToQueue("q"))
	f.handed()
	closed := f.closing(expired(t))
	f.verdict(c, producer.Unknown)
	refill(body, 'z')
	var left *producer.UnresolvedError
	if err := ending(t, "Close", closed); !errors.As(err, &left) || left.Unknown != 1 || left.NotSent != 0 {
		t.Errorf("Close: %v", err)
	}
	wholeBodies(t, f.next("basic.publish"))
}

// closing runs Close in the background.
func (f *fixture) closing(ctx context.Context) <-chan error {
	closed := make(chan error, 1)
	go func() { closed <- f.Close(ctx) }()
	return closed
}

// stopped waits until the producer takes nothing more: Close has begun.
func (f *fixture) stopped() {
	f.t.Helper()
	for deadline := time.Now().Add(patience); ; turn() {
		_, err := f.PublishAsync(expired(f.t), producer.Text("x").ToQueue("q"))
		if errors.Is(err, producer.ErrClosed) {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("it is not closed: %v", err)
		}
	}
}

func TestSecondCloseHonoursItsContextAndCutsTheFirstShort(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	c := f.publish("1")[0]
	f.arrive("1") // and is never confirmed
	first := f.closing(context.Background())
	f.stopped()
	select {
	case err := <-first:
		t.Fatalf("Close returned %v before the verdict", err)
	default:
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var left *producer.UnresolvedError
	if err := ending(t, "the second Close", f.closing(ctx)); !errors.As(err, &left) || left.Unknown != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second Close: %v", err)
	}
	if err := ending(t, "the first Close", first); err != nil {
		t.Errorf("the first Close: %v", err)
	}
	f.verdict(c, producer.Unknown)
}

// TestMaxInFlightIsBounded: room is made beforehand for as many returns.
func TestMaxInFlightIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	const most = 100_000
	for n, ok := range map[int]bool{most: true, most + 1: false, int(^uint(0) >> 1): false} {
		p, err := producer.New(f.pool, producer.Config{MaxInFlight: n})
		if (err == nil) != ok {
			t.Errorf("MaxInFlight %d: %v", n, err)
		}
		if err != nil && !strings.Contains(err.Error(), "at most 100000") {
			t.Errorf("the error does not say the bound: %v", err)
		}
		if p != nil {
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestAClosedProducerIsForgotten: its pool lives on, and has nothing of it.
func TestAClosedProducerIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	gone := func() weak.Pointer[producer.Producer] {
		p, err := producer.New(f.pool, producer.Config{FailFast: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(t.Context(), producer.Text("x").ToQueue("q")); err != nil {
			t.Error(err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		return weak.Make(p)
	}()
	for deadline := time.Now().Add(patience); gone.Value() != nil; turn() {
		if time.Now().After(deadline) {
			t.Fatal("the pool still has it")
		}
		runtime.GC()
	}
}
