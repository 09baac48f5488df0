package producer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/cenkalti/backoff/v4"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
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

// TestCloseWaitsForThoseWhoAreTold: all verdicts were told when it returns, unless its ctx
// ends before.
func TestCloseWaitsForThoseWhoAreTold(t *testing.T) {
	t.Parallel()
	told := 0
	f := newFixture(t, producer.Config{OnVerdict: func(producer.Outcome) {
		turn()
		told++
	}})
	const n = 100
	for range n {
		f.publish("x")
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told != n {
		t.Errorf("%d of %d verdicts were told", told, n)
	}
	stuck := make(chan struct{})
	defer close(stuck)
	f = newFixture(t, producer.Config{OnVerdict: func(producer.Outcome) { <-stuck }})
	f.verdict(f.publish("x")[0], producer.Confirmed)
	if err := ending(t, "Close", f.closing(expired(t))); err != nil {
		t.Error(err)
	}
}

// TestTheEndOfThePoolEndsEverything: StopOnFatal, and the broker knows the user no more.
func TestTheEndOfThePoolEndsEverything(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	pool, err := reconnect.Open(t.Context(), reconnect.Config{
		URLs: []string{f.broker.URL()}, StopOnFatal: true, Logger: slog.New(slog.DiscardHandler),
		Backoff:       func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) },
		OnStateChange: func(c reconnect.StateChange) { f.note(func() { f.states = append(f.states, c.To) }) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.CloseNow)
	f.Producer, err = producer.New(pool, producer.Config{MaxInFlight: 2})
	if err != nil {
		t.Fatal(err)
	}
	lost := f.broker.Inject(loses(1))
	sent := f.publish("sent")[0]
	f.struck(lost)
	f.block(f.next("basic.publish"))
	queued := f.publish("queued")[0]
	waits := make(chan error, 1)
	go func() { waits <- f.Publish(t.Context(), producer.Text("waits").ToQueue("q")) }()
	f.accepted(3)
	refused := f.broker.Inject(mqtest.Fault{
		Point: mqtest.Received, Method: "connection.start-ok",
		Do: mqtest.CloseConnection(403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."),
	})
	f.broker.DropConnections()
	if err := f.verdict(sent, producer.Unknown); producer.SafeToRetry(err) {
		t.Error(err)
	}
	notSent(t, f.verdict(queued, producer.NotSent), producer.ErrNotSent)
	notSent(t, ending(t, "Publish", waits), producer.ErrClosed)
	f.struck(refused)
	err = f.Publish(t.Context(), producer.Text("after").ToQueue("q"))
	notSent(t, err, producer.ErrClosed)
	if !strings.Contains(err.Error(), "ACCESS_REFUSED") {
		t.Errorf("it does not say why: %v", err)
	}
	if s := f.Stats(); s.InFlight != 0 || s.Unknown != 1 || s.NotSent != 3 {
		t.Errorf("%+v", s)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
	f.stored("sent")
}

// TestConfirmTimeoutsAreNoWrongUnits: a number that was meant to be seconds.
func TestConfirmTimeoutsAreNoWrongUnits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	for _, c := range []struct {
		timeout time.Duration
		ok      bool
	}{{30, false}, {10*time.Millisecond - 1, false}, {10 * time.Millisecond, true}, {-1, true}} {
		p, err := producer.New(f.pool, producer.Config{ConfirmTimeout: c.timeout})
		if (err == nil) != c.ok {
			t.Errorf("%v: %v", c.timeout, err)
		}
		if p != nil {
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}
