package producer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// notSent checks that err is that verdict, for a reason, and safe to retry.
func notSent(t *testing.T, err, reason error) {
	t.Helper()
	if producer.VerdictOf(err) != producer.NotSent || !errors.Is(err, producer.ErrNotSent) || !errors.Is(err, reason) || !producer.SafeToRetry(err) {
		t.Errorf("%v, want not sent because: %v", err, reason)
	}
}

func TestTryPublishIsTurnedAwayAtTheBound(t *testing.T) {
	t.Parallel()
	m, size := sized(t, 1000)
	for name, cfg := range map[string]producer.Config{
		"in messages": {MaxInFlight: 2},
		"in bytes":    {MaxInFlightBytes: 2*size + 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, cfg)
			for range 2 { // there is as much room as before
				lost := f.broker.Inject(loses(2))
				var cs []*producer.Confirmation
				for range 2 {
					c, err := f.TryPublish(m)
					if err != nil {
						t.Fatal(err)
					}
					cs = append(cs, c)
				}
				f.struck(lost)
				_, err := f.TryPublish(m)
				notSent(t, err, producer.ErrFull)
				sent := f.received("basic.publish")
				last := sent[len(sent)-1]
				f.say(last, ack(last.Number, true))
				for _, c := range cs {
					f.verdict(c, producer.Confirmed)
				}
			}
			if n := len(f.received("basic.publish")); n != 4 {
				t.Errorf("%d messages were sent, want the 4 that were taken in", n)
			}
		})
	}
}

// TestTryPublishDoesNotOvertakeThoseThatWait: it is turned away while another waits
// for room, even if it would fit itself.
func TestTryPublishDoesNotOvertakeThoseThatWait(t *testing.T) {
	t.Parallel()
	large, size := sized(t, 1000)
	f := newFixture(t, producer.Config{MaxInFlightBytes: size + size/2}, silent())
	f.message(large)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() {
		_, err := f.PublishAsync(ctx, large)
		waited <- err
	}()
	f.accepted(2)
	_, err := f.TryPublish(producer.Text("small").ToQueue("q"))
	notSent(t, err, producer.ErrFull)
	cancel()
	notSent(t, ending(t, "PublishAsync", waited), context.Canceled)
}

func TestFailFastDoesNotWaitForALostConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{FailFast: true})
	f.verdict(f.publish("before")[0], producer.Confirmed)
	f.broker.RefuseConnections()
	f.broker.DropConnections()
	f.await(reconnect.Waiting, 1)
	_, err := f.PublishAsync(t.Context(), producer.Text("down").ToQueue("q"))
	notSent(t, err, producer.ErrNotSent)
	if !strings.Contains(err.Error(), "the publishing connection is ") {
		t.Errorf("it does not say what is wrong: %v", err)
	}
	_, err = f.TryPublish(producer.Text("down").ToQueue("q"))
	notSent(t, err, producer.ErrNotSent)
	f.broker.AcceptConnections()
	f.await(reconnect.Connected, 2)
	f.verdict(f.publish("after")[0], producer.Confirmed)
	f.stored("before", "after")
}

// TestFailFastDoesNotWaitForTheEndOfAnAlarm: what was sent is not given up.
func TestFailFastDoesNotWaitForTheEndOfAnAlarm(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{FailFast: true, MaxInFlight: 2})
	lost := f.broker.Inject(loses(1))
	sent := f.publish("sent")[0]
	f.struck(lost)
	m := f.next("basic.publish")
	f.block(m)
	_, err := f.PublishAsync(t.Context(), producer.Text("blocked").ToQueue("q"))
	notSent(t, err, producer.ErrNotSent)
	f.pending(sent)
	f.broker.DropConnections()
	f.verdict(sent, producer.Confirmed)
	f.stored("sent", "sent")
}

// TestFailFastFailsWhatWaitsForRoom: also when what holds the room is not given up.
func TestFailFastFailsWhatWaitsForRoom(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{FailFast: true, MaxInFlight: 1})
	lost := f.broker.Inject(loses(1))
	sent := f.publish("sent")[0]
	f.struck(lost)
	waited := make(chan error, 1)
	go func() { waited <- f.Publish(t.Context(), producer.Text("waits").ToQueue("q")) }()
	f.accepted(2)
	f.block(f.next("basic.publish"))
	notSent(t, ending(t, "Publish", waited), producer.ErrNotSent)
	f.pending(sent)
}

// TestFailFastKnowsFromTheStart: the connection was blocked before there was a producer.
func TestFailFastKnowsFromTheStart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	f.publish("before")
	m := f.next("basic.publish")
	f.block(m)
	late, err := producer.New(f.pool, producer.Config{FailFast: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = late.PublishAsync(t.Context(), producer.Text("blocked").ToQueue("q"))
	notSent(t, err, producer.ErrNotSent)
	f.conn(m).Unblock()
	f.await(reconnect.Connected, 2)
	if err := late.Publish(t.Context(), producer.Text("after").ToQueue("q")); err != nil {
		t.Error(err)
	}
}

// TestFailFastWaitsForTheFirstConnection: it is not lost, there was none.
func TestFailFastWaitsForTheFirstConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	connecting := make(chan struct{}, 1)
	pool, err := reconnect.Open(t.Context(), reconnect.Config{
		URLs: []string{f.broker.URL()}, First: reconnect.Consuming, Logger: slog.New(slog.DiscardHandler),
		OnStateChange: func(c reconnect.StateChange) {
			if c.Role == reconnect.Publishing && c.To == reconnect.Connecting {
				connecting <- struct{}{}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.CloseNow)
	held := f.broker.Inject(mqtest.Fault{Point: mqtest.Accepted, Count: 1, Do: mqtest.Hold()})
	p, err := producer.New(pool, producer.Config{FailFast: true})
	if err != nil {
		t.Fatal(err)
	}
	<-connecting
	f.struck(held)
	c, err := p.PublishAsync(t.Context(), producer.Text("first").ToQueue("q"))
	if err != nil {
		t.Fatal(err)
	}
	f.pending(c)
	held.Release()
	f.verdict(c, producer.Confirmed)
}

// TestFailFastFailsWhatIsQueued: its session has not begun when the connection is lost.
func TestFailFastFailsWhatIsQueued(t *testing.T) {
	t.Parallel()
	f, _ := unserved(t, producer.Config{FailFast: true, MaxInFlight: 2})
	queued := f.publish("1", "2")
	waited := make(chan error, 1)
	go func() { waited <- f.Publish(t.Context(), producer.Text("3").ToQueue("q")) }()
	f.accepted(3)
	f.pending(queued...)
	f.broker.RefuseConnections()
	f.broker.DropConnections()
	for _, c := range queued {
		notSent(t, f.verdict(c, producer.NotSent), producer.ErrNotSent)
	}
	notSent(t, ending(t, "Publish", waited), producer.ErrNotSent)
	f.stored()
}

func TestNoRepublishReportsWhatLostItsVerdict(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{NoRepublish: true})
	cut := f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Count: 1, Do: mqtest.Cut()})
	err := f.verdict(f.publish("stored")[0], producer.Unknown)
	f.struck(cut)
	if !errors.Is(err, producer.ErrUnconfirmed) || producer.SafeToRetry(err) {
		t.Error(err)
	}
	f.verdict(f.publish("next")[0], producer.Confirmed)
	f.stored("stored", "next")
	if s := f.Stats(); s.Republished != 0 || s.Unknown != 1 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// TestACutInsideAPublishIsUnknownAtEachByte: all of it has left, and the broker has seen so
// many bytes of it before the connection was cut. What fails while it is written
// is tested in package reconnect, where there is a socket to be had.
func TestACutInsideAPublishIsUnknownAtEachByte(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{NoRepublish: true})
	f.verdict(f.publish("x")[0], producer.Confirmed)
	size := len(f.next("basic.publish").Frames)
	for n := range size { // a whole one may be confirmed before the cut
		cut := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Count: 1, Do: mqtest.CutInside(n)})
		err := f.verdict(f.publish("x")[0], producer.Unknown)
		if !errors.Is(err, producer.ErrUnconfirmed) || producer.SafeToRetry(err) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		f.struck(cut)
	}
	f.verdict(f.publish("last")[0], producer.Confirmed)
	f.stored("x", "last")
}

// TestNoRepublishSendsAgainWhatCertainlyNeverLeft: that makes no duplicate.
func TestNoRepublishSendsWhatWasQueuedWhenTheConnectionWasLost(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{NoRepublish: true})
	lost := f.broker.Inject(loses(1))
	sent := f.publish("sent")[0]
	f.struck(lost)
	f.block(f.next("basic.publish"))
	waits := f.publish("waits")[0]
	f.pending(sent, waits)
	f.broker.DropConnections()
	f.verdict(sent, producer.Unknown)
	f.verdict(waits, producer.Confirmed)
	f.stored("sent", "waits")
}

// TestNoRepublishLooksForNoCulprit: to send the candidates one by one is to send again.
func TestNoRepublishLooksForNoCulprit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{NoRepublish: true}, refuses("poison"), silent())
	cs := f.publish("neighbour", "poison", "behind")
	for _, c := range cs {
		f.verdict(c, producer.Unknown)
	}
	f.stored("neighbour")
}

func TestWithdrawSaysWhatBecameOfTheMessage(t *testing.T) {
	t.Parallel()
	t.Run("while the connection is down", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, producer.Config{})
		f.verdict(f.publish("before")[0], producer.Confirmed)
		f.broker.RefuseConnections()
		f.broker.DropConnections()
		f.await(reconnect.Waiting, 1)
		c := f.publish("withdrawn")[0]
		notSent(t, c.Withdraw(), producer.ErrNotSent)
		f.broker.AcceptConnections()
		f.verdict(f.publish("after")[0], producer.Confirmed)
		f.stored("before", "after")
	})
	t.Run("while the connection is blocked", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, producer.Config{})
		f.verdict(f.publish("before")[0], producer.Confirmed)
		m := f.next("basic.publish")
		f.block(m)
		c := f.publish("withdrawn")[0]
		notSent(t, c.Withdraw(), producer.ErrNotSent)
		f.conn(m).Unblock()
		f.verdict(f.publish("after")[0], producer.Confirmed)
		f.stored("before", "after")
	})
	t.Run("while it is unconfirmed", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, producer.Config{})
		lost := f.broker.Inject(loses(1))
		c := f.publish("stored")[0]
		f.struck(lost)
		if err := c.Withdraw(); !errors.Is(err, producer.ErrUnconfirmed) || producer.SafeToRetry(err) || c.Verdict() != producer.Unknown {
			t.Errorf("%v", err)
		}
		f.broker.DropConnections() // it is not sent again
		f.await(reconnect.Connected, 2)
		f.verdict(f.publish("after")[0], producer.Confirmed)
		f.stored("stored", "after")
	})
	t.Run("when it is confirmed", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, producer.Config{})
		c := f.publish("1")[0]
		f.verdict(c, producer.Confirmed)
		if err := c.Withdraw(); err != nil {
			t.Error(err)
		}
	})
}

func TestPublishAllTellsTheVerdictOfEach(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	nacked := f.broker.Inject(mqtest.Fault{
		Point: mqtest.Received, Method: "basic.publish", If: func(e *mqtest.Event) bool { return string(e.Body) == "3" }, Do: mqtest.Nack(),
	})
	var ms []producer.Message
	for _, body := range numbered(0, 5) {
		ms = append(ms, producer.Text(body).ToQueue("q"))
	}
	ms[1] = ms[1].ToQueue("nowhere")
	ms[4].RoutingKey = strings.Repeat("k", 256)
	err := f.PublishAll(t.Context(), ms)
	var batch *producer.BatchError
	if !errors.As(err, &batch) || batch.Total != 6 || nacked.Hits() != 1 {
		t.Fatalf("%v", err)
	}
	got := map[int]producer.Verdict{}
	for _, fail := range batch.Failed {
		got[fail.Index] = producer.VerdictOf(fail.Err)
	}
	want := map[int]producer.Verdict{1: producer.Returned, 3: producer.Nacked, 4: producer.Refused}
	if len(got) != len(want) {
		t.Errorf("failed are %v, want %v", got, want)
	}
	for i, v := range want {
		if got[i] != v {
			t.Errorf("message %d is %v, want %v", i, got[i], v)
		}
	}
	if producer.SafeToRetry(err) || producer.VerdictOf(err) != producer.Pending || !errors.Is(err, producer.ErrNacked) {
		t.Errorf("a nacked one may be stored: %v", err)
	}
	f.stored("0", "2", "5")
	if err := f.PublishAll(t.Context(), ms[:1]); err != nil {
		t.Error(err)
	}
	if err := f.PublishAll(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := f.PublishAll(t.Context(), []producer.Message{ms[1], ms[4]}); !producer.SafeToRetry(err) {
		t.Errorf("none can be stored: %v", err)
	}
}

// TestPublishAllGivesTheRestUpWithItsContext: each has its verdict then.
func TestPublishAllGivesTheRestUpWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{MaxInFlight: 2}, silent())
	ctx, cancel := context.WithCancel(t.Context())
	var ms []producer.Message
	for _, body := range numbered(1, 4) {
		ms = append(ms, producer.Text(body).ToQueue("q"))
	}
	result := make(chan error, 1)
	go func() { result <- f.PublishAll(ctx, ms) }()
	f.arrive("1", "2")
	f.accepted(3)
	cancel()
	err := ending(t, "PublishAll", result)
	var batch *producer.BatchError
	if !errors.As(err, &batch) || len(batch.Failed) != 4 || !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	for i, want := range []producer.Verdict{producer.Unknown, producer.Unknown, producer.NotSent, producer.NotSent} {
		if fail := batch.Failed[i]; fail.Index != i || producer.VerdictOf(fail.Err) != want {
			t.Errorf("message %d: %v, want %v", fail.Index, fail.Err, want)
		}
	}
	f.stored("1", "2")
}

func TestMaxMessageSizeIsCheckedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{MaxMessageSize: 10})
	err := f.Publish(t.Context(), producer.Text("12345678901").ToQueue("q"))
	var refused *producer.RefusedError
	if !errors.As(err, &refused) || refused.Field != "Body" || !producer.SafeToRetry(err) {
		t.Errorf("%v", err)
	}
	f.verdict(f.publish("1234567890")[0], producer.Confirmed)
	if n := len(f.received("basic.publish")); n != 1 {
		t.Errorf("%d messages were sent, want 1", n)
	}
}

// TestWhatTheBrokerTakesIsLearnedOnce: the first one too large costs a channel, no other
// does, until there is another connection.
func TestWhatTheBrokerTakesIsLearnedOnce(t *testing.T) {
	t.Parallel()
	f := fixtureOn(t, mqtest.New(t, mqtest.Config{MaxMessageSize: 1000}), producer.Config{})
	large := producer.Bytes(bytes.Repeat([]byte("x"), 1001)).ToQueue("q")
	var refused *producer.RefusedError
	for i, field := range []string{"", "Body"} { // the broker's word, then ours
		err := f.Publish(t.Context(), large)
		if !errors.As(err, &refused) || refused.Field != field {
			t.Errorf("time %d: %v", i+1, err)
		}
	}
	if n := len(f.received("basic.publish")); n != 1 {
		t.Errorf("it was sent %d times, want once", n)
	}
	f.verdict(f.publish("fits")[0], producer.Confirmed)
	f.broker.DropConnections()
	f.await(reconnect.Connected, 2)
	f.verdict(f.publish("fits")[0], producer.Confirmed)
	if err := f.Publish(t.Context(), large); !errors.As(err, &refused) || refused.Field != "" {
		t.Errorf("on the next connection, which may take more: %v", err)
	}
}

func TestObserversAreToldInOrder(t *testing.T) {
	t.Parallel()
	var told []string
	f := newFixture(t, producer.Config{
		OnAttempt: func(a producer.Attempt) {
			told = append(told, fmt.Sprintf("attempt %d of %s to %q/%s, %d in session %d", a.Number, a.MessageID, a.Exchange, a.RoutingKey, a.Tag, a.Session))
			if a.At.IsZero() {
				told = append(told, "without a time")
			}
		},
		OnVerdict: func(o producer.Outcome) {
			told = append(told, fmt.Sprintf("%s to %q/%s: %s after %d, %d bytes, %v", o.MessageID, o.Exchange, o.RoutingKey, o.Verdict, o.Attempts, o.Bytes, o.Err != nil))
			if o.Took <= 0 {
				told = append(told, "in no time")
			}
		},
	})
	cut := f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Count: 1, Do: mqtest.Cut()})
	named := func(id, body string) producer.Message {
		m := producer.Text(body).ToQueue("q")
		m.MessageID = id
		return m
	}
	if err := f.Publish(t.Context(), named("a", "1")); err != nil {
		t.Fatal(err)
	}
	f.struck(cut)
	_ = f.Publish(t.Context(), named("b", "22").ToQueue("nowhere"))
	_ = f.Publish(t.Context(), named(strings.Repeat("i", 256), "3"))
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = f.Publish(t.Context(), named("d", "4")) // nobody is told any more
	want := []string{
		`attempt 1 of a to ""/q, 1 in session 1`, `attempt 2 of a to ""/q, 1 in session 2`, `a to ""/q: confirmed after 2, 1 bytes, false`,
		`attempt 1 of b to ""/nowhere, 2 in session 2`, `b to ""/nowhere: returned after 1, 2 bytes, true`,
		strings.Repeat("i", 256) + ` to ""/q: refused after 0, 1 bytes, true`,
	}
	if !slices.Equal(told, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	if s := f.Stats(); s.Returned != 1 || s.Confirmed != 1 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
}
