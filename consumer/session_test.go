package consumer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/amqppeer"
	"github.com/mqkit/mqkit/reconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// patience is how long a test waits for what has to happen.
	patience = 10 * time.Second

	// never is a flush interval in which nothing is written but for another
	// reason.
	never = time.Hour
)

// fixture is a consumer that runs on a scripted peer.
type fixture struct {
	*consumer.Consumer
	t    *testing.T
	peer *amqppeer.Peer
	pool *reconnect.Pool
	log  *logs

	subscription *amqppeer.Method // the first basic.consume
	stop         context.CancelFunc
	ended        chan struct{}
	err          error // of Run, once ended is closed
}

// logs keeps what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newFixture(t *testing.T, version string, cfg consumer.Config, h consumer.Handler) *fixture {
	t.Helper()
	peer, err := amqppeer.Listen(version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peer.Close)
	f := &fixture{t: t, peer: peer, log: &logs{}, ended: make(chan struct{})}
	f.pool, err = reconnect.Open(t.Context(), reconnect.Config{
		URLs:    []string{peer.URL()},
		First:   reconnect.Consuming,
		Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pool.CloseNow)
	cfg.Queue = "q"
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Millisecond // tests end with handlers that run
	}
	cfg.Logger = slog.New(slog.NewTextHandler(f.log, nil))
	if f.Consumer, err = consumer.New(f.pool, cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	f.stop = stop
	go func() {
		defer close(f.ended)
		f.err = f.Run(ctx, h)
	}()
	t.Cleanup(func() { stop(); <-f.ended })
	f.subscription = f.next("basic.consume")
	return f
}

// next is the next method of one of names that the peer receives.
func (f *fixture) next(names ...string) *amqppeer.Method {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	m, err := f.peer.Next(ctx, names...)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// settlement is the next one that the peer receives; it has to read as want.
func (f *fixture) settlement(want string) *amqppeer.Method {
	f.t.Helper()
	m := f.next("basic.ack", "basic.nack", "basic.reject")
	if got := m.String(); got != want {
		f.t.Fatalf("the peer received %s, want %s", got, want)
	}
	return m
}

// unsettled tests that the peer has received no more than n settlements.
func (f *fixture) unsettled(n int) {
	f.t.Helper()
	if ms := f.peer.Received("basic.ack", "basic.nack", "basic.reject"); len(ms) > n {
		f.t.Fatalf("the peer has received %v, want %d settlements", ms, n)
	}
}

// wait waits for the end of Run and returns its error.
func (f *fixture) wait() error {
	f.t.Helper()
	select {
	case <-f.ended:
		return f.err
	case <-time.After(patience):
		f.t.Fatal("Run does not return")
		return nil
	}
}

// deliver sends deliveries to the subscription, with tags from first on.
func deliver(to *amqppeer.Method, first uint64, bodies ...string) {
	var frames [][]byte
	for i, b := range bodies {
		frames = append(frames, to.Deliver(first+uint64(i), b))
	}
	to.Conn.Send(frames...)
}

// waiting waits until n deliveries wait for a handler.
func (f *fixture) waiting(n int) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); f.Status().Waiting != n; runtime.Gosched() {
		if time.Now().After(deadline) {
			f.t.Fatalf("%d deliveries wait, want %d", f.Status().Waiting, n)
		}
	}
}

// gate is a handler whose deliveries end when the test says how.
type gate struct {
	begun chan *call
}

type call struct {
	*consumer.Delivery
	ctx context.Context
	end chan error
}

func newGate() *gate { return &gate{begun: make(chan *call, 100)} }

func (g *gate) handle(ctx context.Context, d *consumer.Delivery) error {
	c := &call{Delivery: d, ctx: ctx, end: make(chan error, 1)}
	g.begun <- c
	select {
	case err := <-c.end:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next is the next call of the handler.
func (g *gate) next(t *testing.T) *call {
	t.Helper()
	select {
	case c := <-g.begun:
		return c
	case <-time.After(patience):
		t.Fatal("no handler was called")
		return nil
	}
}

func TestFinishedDeliveriesShareOneAckWhenIdle(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{FlushInterval: never}, g.handle)
	deliver(f.subscription, 1, "a", "b", "c")
	first := g.next(t) // one is handled, so the two that wait are all the others
	f.waiting(2)
	first.end <- nil
	g.next(t).end <- nil
	last := g.next(t)
	f.unsettled(0)
	last.end <- nil
	f.settlement("basic.ack(3 multiple=true requeue=false)")
}

func TestFinishedDeliveriesWaitNoLongerThanTheFlushInterval(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{FlushInterval: 5 * time.Millisecond, Workers: 2}, g.handle)
	deliver(f.subscription, 1, "slow", "b", "c", "d", "e")
	f.waiting(3)
	slow, other := g.next(t), g.next(t)
	if string(slow.Body) != "slow" {
		slow, other = other, slow
	}
	other.end <- nil
	f.settlement("basic.ack(2 multiple=false requeue=false)") // beyond the gap, on its own
	g.next(t).end <- nil
	f.settlement("basic.ack(3 multiple=false requeue=false)")
	slow.end <- nil
	g.next(t)
	f.settlement("basic.ack(1 multiple=false requeue=false)")
	g.next(t).end <- nil
}

func TestHalfThePrefetchFinishedIsAckedAtOnce(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{FlushInterval: never, Prefetch: 4}, g.handle)
	deliver(f.subscription, 1, "a", "b", "c", "d")
	f.waiting(3)
	g.next(t).end <- nil
	second := g.next(t)
	f.unsettled(0)
	second.end <- nil
	f.settlement("basic.ack(2 multiple=true requeue=false)")
}

func TestVerdictsOfHandlersAreWritten(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{}, g.handle)
	deliver(f.subscription, 1, "a", "b", "c", "d", "e")
	for _, c := range []struct {
		err  error
		want string
	}{
		{consumer.Reject(nil), "basic.reject(1 multiple=false requeue=false)"},
		{consumer.Requeue(nil), "basic.reject(2 multiple=false requeue=true)"},
		{consumer.Release(nil), "basic.nack(3 multiple=false requeue=true)"},
		{nil, "basic.ack(4 multiple=false requeue=false)"},
	} {
		g.next(t).end <- c.err
		f.settlement(c.want)
	}
	// What the handler has done itself stands.
	own := g.next(t)
	if err := own.Reject(); err != nil {
		t.Error(err)
	}
	if err := own.Ack(); !errors.Is(err, consumer.ErrSettled) {
		t.Errorf("the second verdict: %v", err)
	}
	own.end <- errors.New("and an error")
	f.settlement("basic.reject(5 multiple=false requeue=false)")
	deliver(f.subscription, 6, "f")
	g.next(t).end <- nil
	f.settlement("basic.ack(6 multiple=false requeue=false)")
	if s := f.Status(); s.Acked != 2 || s.Rejected != 2 || s.Requeued != 1 || s.Released != 1 || s.Failures != 1 {
		t.Errorf("%+v", s)
	}
}

func TestFailedDeliveryIsReleasedAfterAPause(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{}, g.handle)
	deliver(f.subscription, 1, "a", "b")
	f.waiting(1)
	failed := g.next(t)
	began := time.Now()
	failed.end <- errors.New("no database")
	g.next(t).end <- nil // the worker goes on meanwhile
	f.settlement("basic.ack(2 multiple=false requeue=false)")
	f.settlement("basic.nack(1 multiple=false requeue=true)")
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("it was released after %v", took)
	}
	if !strings.Contains(f.log.String(), "no database") {
		t.Errorf("the log is %s", f.log)
	}
}

func TestPanicIsLoggedWithItsStack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "4.3.6", consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
		explode()
		return nil
	})
	deliver(f.subscription, 1, "a")
	f.settlement("basic.nack(1 multiple=false requeue=true)")
	if s := f.log.String(); !strings.Contains(s, "consumer_test.explode") || !strings.Contains(s, "panic: boom") {
		t.Errorf("the log is %s", s)
	}
	if s := f.Status(); s.Failures != 1 || s.LastFailure == nil || s.Handling != 0 {
		t.Errorf("%+v", s)
	}
}

//go:noinline
func explode() { panic("boom") }

func TestHandlerThatEndsItsGoroutineCostsNoWorker(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "4.3.6", consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
		if d.Tag == 1 {
			runtime.Goexit() // as t.FailNow does
		}
		return nil
	})
	deliver(f.subscription, 1, "a", "b")
	f.settlement("basic.ack(2 multiple=false requeue=false)")
	f.settlement("basic.nack(1 multiple=false requeue=true)")
}

func TestUndecodableIsRejectedOnlyIntoADeadLetterExchange(t *testing.T) {
	t.Parallel()
	for deadLetters, want := range map[bool]string{
		true:  "basic.reject(1 multiple=false requeue=false)",
		false: "basic.nack(1 multiple=false requeue=true)",
	} {
		h := consumer.JSON(func(context.Context, int, *consumer.Delivery) error { return nil })
		f := newFixture(t, "4.3.6", consumer.Config{DeadLetters: deadLetters}, h)
		deliver(f.subscription, 1, "nope")
		f.settlement(want)
	}
}

func TestLaterSettlesFromElsewhere(t *testing.T) {
	t.Parallel()
	held := make(chan *consumer.Delivery, 3)
	f := newFixture(t, "4.3.6", consumer.Config{FlushInterval: never, DrainTimeout: patience}, func(_ context.Context, d *consumer.Delivery) error {
		held <- d
		return consumer.Later
	})
	deliver(f.subscription, 1, "a", "b", "c") // one worker: none is held
	a, b, c := <-held, <-held, <-held
	for _, d := range []*consumer.Delivery{c, a} {
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
	}
	f.unsettled(0)
	f.stop() // a drain waits for what is to come later
	f.next("basic.cancel")
	f.settlement("basic.ack(1 multiple=false requeue=false)")
	f.settlement("basic.ack(3 multiple=false requeue=false)")
	if err := b.Reject(); err != nil {
		t.Error(err)
	}
	if err := b.Ack(); err == nil {
		t.Error("a second verdict was taken")
	}
	f.settlement("basic.reject(2 multiple=false requeue=false)")
	f.next("channel.close")
	if err := f.wait(); err != nil {
		t.Error(err)
	}
}

// TestServerCancelKeepsTheChannel: what is not overdue can still be settled there.
func TestServerCancelKeepsTheChannel(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{Workers: 2, DrainTimeout: patience}, g.handle)
	old := f.subscription
	deliver(old, 1, "a", "b", "waits")
	a, b := g.next(t), g.next(t)
	if a.Tag != 1 {
		a, b = b, a
	}
	old.Conn.Send(old.Cancel())
	if m := f.settlement("basic.nack(3 multiple=false requeue=true)"); m.Channel != old.Channel {
		t.Errorf("released on channel %d", m.Channel)
	}
	renewed := f.renewed()
	if renewed.Channel == old.Channel || renewed.ConsumerTag == old.ConsumerTag || renewed.Conn != old.Conn {
		t.Errorf("channel %d tag %s; before %d %s", renewed.Channel, renewed.ConsumerTag, old.Channel, old.ConsumerTag)
	}
	if a.ctx.Err() != nil {
		t.Errorf("the handler's ctx has ended: %v", context.Cause(a.ctx))
	}
	// Tags of both channels at once; those of the old one are acked one by one,
	// because an overdue one among them is void.
	b.end <- nil
	if m := f.settlement("basic.ack(2 multiple=false requeue=false)"); m.Channel != old.Channel {
		t.Errorf("the late ack went to channel %d", m.Channel)
	}
	deliver(renewed, 1, "c")
	g.next(t).end <- nil
	if m := f.settlement("basic.ack(1 multiple=false requeue=false)"); m.Channel != renewed.Channel {
		t.Errorf("the new ack went to channel %d", m.Channel)
	}
	a.end <- nil
	if m := f.settlement("basic.ack(1 multiple=false requeue=false)"); m.Channel != old.Channel {
		t.Errorf("the late ack went to channel %d", m.Channel)
	}
	if m := f.next("channel.close"); m.Channel != old.Channel {
		t.Errorf("channel %d was closed, want the old one, when its handlers had finished", m.Channel)
	}
}

// TestServerCancelEndsMultipleAcks: the tag of one, or one below it, may be void.
func TestServerCancelEndsMultipleAcks(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{FlushInterval: never, Workers: 3}, g.handle)
	deliver(f.subscription, 1, "a", "b", "c")
	calls := map[uint64]*call{}
	for range 3 {
		c := g.next(t)
		calls[c.Tag] = c
	}
	for tag := range uint64(2) {
		if err := calls[tag+1].Ack(); err != nil {
			t.Error(err)
		}
	}
	f.unsettled(0)
	f.subscription.Conn.Send(f.subscription.Cancel())
	f.settlement("basic.ack(1 multiple=false requeue=false)")
	f.settlement("basic.ack(2 multiple=false requeue=false)")
}

// TestCutIsNotTakenForACancel: with its channel the driver closes also the
// notification of a cancel.
func TestCutIsNotTakenForACancel(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	f := newFixture(t, "4.3.6", consumer.Config{OrderBy: func(*consumer.Delivery) string {
		<-goOn // holds the session until the driver has closed all
		return ""
	}}, func(context.Context, *consumer.Delivery) error { return nil })
	deliver(f.subscription, 1, "a")
	f.waiting(1)
	f.subscription.Conn.Cut()
	f.next("connection.open") // the cut was seen
	close(goOn)
	f.renewed()
	if s := f.log.String(); strings.Contains(s, "cancelled the subscription") || !strings.Contains(s, "session lost") {
		t.Errorf("the log is %s", s)
	}
}

// renewed is the second subscription.
func (f *fixture) renewed() *amqppeer.Method {
	f.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
		if ms := f.peer.Received("basic.consume"); len(ms) > 1 {
			return ms[1]
		}
	}
	f.t.Fatal("it does not subscribe again")
	return nil
}

// TestVerdictAfterACutIsStale: its tag names another delivery by then.
func TestVerdictAfterACutIsStale(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{Workers: 3}, g.handle)
	deliver(f.subscription, 1, "a", "b")
	a, b := g.next(t), g.next(t)
	f.subscription.Conn.Cut()
	<-a.ctx.Done()
	if err := context.Cause(a.ctx); !errors.Is(err, consumer.ErrStale) || !errors.Is(err, reconnect.ErrLost) {
		t.Errorf("the handler's ctx ended with %v", err)
	}
	renewed := f.renewed()
	deliver(renewed, 1, "a", "b")
	again := g.next(t)
	for _, c := range []*call{a, b} {
		if err := c.Ack(); !errors.Is(err, consumer.ErrStale) {
			t.Errorf("late ack: %v", err)
		}
		if err := c.Release(); !errors.Is(err, consumer.ErrStale) {
			t.Errorf("late release: %v", err)
		}
	}
	f.unsettled(0)
	again.end <- consumer.Reject(nil) // the first that is written is that of its own handler
	f.settlement("basic.reject(" + map[uint64]string{1: "1", 2: "2"}[again.Tag] + " multiple=false requeue=false)")
	if s := f.Status(); s.Sessions != 2 || s.Acked != 0 {
		t.Errorf("%+v", s)
	}
}

func TestDrainCancelsFirstAndWritesNothingBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{DrainTimeout: patience}, g.handle)
	f.peer.Hold("basic.cancel")
	deliver(f.subscription, 1, "a", "b")
	a := g.next(t)
	f.stop()
	cancel := f.next("basic.cancel")
	if cancel.ConsumerTag != f.subscription.ConsumerTag {
		t.Errorf("it cancels %s", cancel.ConsumerTag)
	}
	a.end <- nil
	deliver(f.subscription, 3, "c") // was on its way
	select {
	case c := <-g.begun:
		t.Errorf("delivery %d was begun while draining", c.Tag)
	case <-time.After(20 * time.Millisecond):
	}
	f.unsettled(0)
	cancel.Answer()
	want := map[string]bool{
		"basic.ack(1 multiple=false requeue=false)": true,
		"basic.nack(2 multiple=false requeue=true)": true,
		"basic.nack(3 multiple=false requeue=true)": true,
	}
	for range 3 {
		m := f.next("basic.ack", "basic.nack", "basic.reject", "channel.close").String()
		if !want[m] {
			t.Errorf("%s: want one of %v", m, want)
		}
		delete(want, m)
	}
	f.next("channel.close")
	if err := f.wait(); err != nil {
		t.Errorf("a clean drain: %v", err)
	}
	if s := f.Status(); s.Acked != 1 || s.Released != 2 || s.Subscribed {
		t.Errorf("%+v", s)
	}
}

// TestDrainBefore43WorksThroughWhatWaits: a release counts as a failure there.
func TestDrainBefore43WorksThroughWhatWaits(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.2.1", consumer.Config{DrainTimeout: patience}, g.handle)
	deliver(f.subscription, 1, "a", "b", "c")
	a := g.next(t)
	f.stop()
	f.next("basic.cancel")
	a.end <- nil
	g.next(t).end <- nil
	g.next(t).end <- nil
	if err := f.wait(); err != nil {
		t.Error(err)
	}
	if s := f.Status(); s.Acked != 3 || s.Released != 0 {
		t.Errorf("%+v", s)
	}
}

// TestHandlerMayEndWhileItsDrainCloses: after the deadline, however it ends and
// whatever it says.
func TestHandlerMayEndWhileItsDrainCloses(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]error{"error": errors.New("too late"), "ack": nil, "later": consumer.Later, "reject": consumer.Reject(nil)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, end := make(chan *consumer.Delivery, 2), make(chan struct{})
			f := newFixture(t, "4.3.6", consumer.Config{Workers: 2, DrainTimeout: 20 * time.Millisecond}, func(ctx context.Context, d *consumer.Delivery) error {
				begun <- d
				<-end // does not heed its ctx
				return verdict
			})
			f.peer.Hold("channel.close")
			deliver(f.subscription, 1, "a", "b")
			a := <-begun
			<-begun
			f.stop()
			f.settlement("basic.nack(2 multiple=true requeue=true)")
			closing := f.next("channel.close")
			close(end) // the session is not over yet
			if err := a.Ack(); err == nil {
				t.Error("a delivery that was given back was acked")
			}
			for f.Status().Handling > 0 {
				runtime.Gosched()
			}
			closing.Answer()
			var left *consumer.DrainError
			if err := f.wait(); !errors.As(err, &left) || left.Released != 2 || left.Running != 0 {
				t.Errorf("Run returned %v, want two given back", err)
			}
			f.unsettled(1)
		})
	}
}

func TestSecondRunIsRefusedWhileTheFirstGoesOn(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{}, g.handle)
	if err := f.Run(t.Context(), g.handle); !errors.Is(err, consumer.ErrRunning) {
		t.Errorf("the second Run: %v", err)
	}
	f.stop()
	if err := f.wait(); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Run(ended, g.handle); err != nil {
		t.Errorf("after the first it may run again: %v", err)
	}
}

func TestStatusSaysWhyItIsNotSubscribed(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{DrainTimeout: 50 * time.Millisecond}, g.handle)
	deliver(f.subscription, 1, "a")
	g.next(t)
	if s := f.Status(); !s.Subscribed || s.Cause != nil || s.Queue != "q" || s.Sessions != 1 || s.Handling != 1 {
		t.Errorf("%+v", s)
	}
	f.peer.Hold("basic.consume")
	f.subscription.Conn.Send(f.subscription.Cancel())
	f.renewed()
	if s := f.Status(); s.Subscribed || s.Cause == nil || !strings.Contains(s.Cause.Error(), "cancelled the subscription") {
		t.Errorf("%+v", s)
	}
}

func TestPoolCloseDrainsTheConsumer(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, "4.3.6", consumer.Config{DrainTimeout: patience}, g.handle)
	deliver(f.subscription, 1, "a")
	a := g.next(t)
	closed := make(chan error, 1)
	go func() { closed <- f.pool.Close(t.Context()) }()
	f.next("basic.cancel")
	a.end <- nil
	f.settlement("basic.ack(1 multiple=false requeue=false)")
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := f.wait(); err != nil {
		t.Error(err)
	}
}
