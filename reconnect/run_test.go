package reconnect_test

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/cenkalti/backoff/v4"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// runWith runs sessions on a willing broker, with waits of an hour.
func runWith(ctx context.Context, t *testing.T, session func(context.Context, *reconnect.Channel) error, failed func(error)) error {
	t.Helper()
	cfg := newFixture(t).config()
	cfg.Backoff = longWait
	return open(t, cfg).Run(ctx, reconnect.Publishing, session, failed)
}

func TestRunEndsWithNilAndTheChannelIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var ch *reconnect.Channel
		err := runWith(limited(t), t, func(ctx context.Context, c *reconnect.Channel) error { ch = c; return nil }, nil)
		if err != nil {
			t.Errorf("%v", err)
		}
		await(t, ch.Done(), "the end of the channel")
		if !errors.Is(ch.Err(), reconnect.ErrLost) {
			t.Errorf("Err: %v", ch.Err())
		}
	})
}

func TestRunReturnsAPermanentErrorUnwrapped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		want := errors.New("enough")
		err := runWith(limited(t), t, func(context.Context, *reconnect.Channel) error { return backoff.Permanent(want) }, nil)
		if err != want { //nolint:errorlint // unwrapped is the claim
			t.Errorf("%#v", err)
		}
	})
}

func TestRunReturnsTheCtxErrorWhateverTheSessionSays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		why := errors.New("the service stops")
		ctx, cancel := context.WithCancelCause(limited(t))
		err := runWith(ctx, t, func(sctx context.Context, _ *reconnect.Channel) error {
			cancel(why)
			<-sctx.Done()
			return errors.New("interrupted")
		}, func(err error) { t.Errorf("another session is to come after %v", err) })
		if !errors.Is(err, why) {
			t.Errorf("%v", err)
		}
	})
}

func TestRunThatWaitsEndsWithItsCtxAndWithThePool(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		boom := errors.New("boom")
		ctx, cancel := context.WithCancel(limited(t))
		err := runWith(ctx, t, func(context.Context, *reconnect.Channel) error { return boom }, func(error) { cancel() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		cfg := newFixture(t).config()
		cfg.Backoff = longWait
		p := open(t, cfg)
		ended := make(chan error, 1)
		waiting := make(chan struct{})
		go func() {
			ended <- p.Run(context.WithoutCancel(ctx), reconnect.Publishing, func(context.Context, *reconnect.Channel) error { return boom }, func(error) { close(waiting) })
		}()
		await(t, waiting, "the first failure")
		p.CloseNow()
		if err := await(t, ended, "Run"); !errors.Is(err, reconnect.ErrClosed) {
			t.Errorf("%v", err)
		}
		wantAfter(t, began, 0)
	})
}

func TestAgainIsTheNextSessionWithoutAWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		var n int
		var last *reconnect.Channel
		err := runWith(limited(t), t, func(_ context.Context, ch *reconnect.Channel) error {
			if n++; n == 5 {
				return nil
			}
			if ch == last {
				t.Error("the same channel again")
			}
			last = ch
			return errors.Join(errors.New("one batch done"), reconnect.Again)
		}, nil)
		if err != nil || n != 5 {
			t.Errorf("%v after %d sessions", err, n)
		}
		wantAfter(t, began, 0)
	})
}

func TestAnErrorIsToldAndTheNextSessionWaitsForTheBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		waits := &counted{}
		cfg := newFixture(t).config()
		cfg.Backoff = func() backoff.BackOff { return waits }
		p := open(t, cfg)
		before, began := waits.nexts.Load(), time.Now()
		var n int
		var told []error
		boom := errors.New("boom")
		err := p.Run(limited(t), reconnect.Publishing, func(_ context.Context, ch *reconnect.Channel) error {
			ch.Ready()
			if n++; n == 4 {
				return nil
			}
			return boom
		}, func(err error) { told = append(told, err) })
		if err != nil || len(told) != 3 || !errors.Is(told[0], boom) {
			t.Errorf("%v, told %v", err, told)
		}
		if asked := waits.nexts.Load() - before; asked != 3 {
			t.Errorf("%d waits between 4 sessions", asked)
		}
		wantAfter(t, began, 3*pause)
		if waits.resets.Load() != 0 {
			t.Error("the backoff began afresh though no session lasted")
		}
	})
}

// TestTheBackoffBeginsAfreshAfterASessionThatLasted: one that was ready, that is.
func TestTheBackoffBeginsAfreshAfterASessionThatLasted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ready  bool
		lived  time.Duration
		resets int64
	}{
		{"not long", true, reconnect.StableAfter - time.Millisecond, 0},
		{"not ready", false, reconnect.StableAfter, 0},
		{"long", true, reconnect.StableAfter, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				waits := &counted{}
				cfg := newFixture(t).config()
				cfg.Backoff = func() backoff.BackOff { return waits }
				var n int
				err := open(t, cfg).Run(t.Context(), reconnect.Publishing, func(_ context.Context, ch *reconnect.Channel) error {
					if n++; n == 2 {
						return nil
					}
					if tt.ready {
						ch.Ready()
					}
					after(tt.lived)
					return errors.New("boom")
				}, nil)
				if got := waits.resets.Load(); err != nil || got != tt.resets {
					t.Errorf("%v; %d resets, want %d", err, got, tt.resets)
				}
			})
		})
	}
}

func TestAFatalErrorEndsRunUnlessASessionWasReadyBefore(t *testing.T) {
	declaring := func(ctx context.Context, ch *reconnect.Channel) error { return ch.Call(ctx, "declare q", declare) }
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		refused := f.broker.Inject(refusesOnChannel("queue.declare", 406, "PRECONDITION_FAILED - inequivalent arg"))
		p := open(t, f.config())
		wantBroker(t, "before any success", p.Run(limited(t), reconnect.Publishing, declaring, nil), 406, true)
		if hits(refused) != 1 {
			t.Errorf("%d declares before any success", hits(refused))
		}
		readyOnce := func() func(context.Context, *reconnect.Channel) error {
			var n int
			return func(ctx context.Context, ch *reconnect.Channel) error {
				if n++; n == 1 {
					ch.Ready()
					return errors.New("later")
				}
				return declaring(ctx, ch)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var fatal []time.Time
		err := p.Run(ctx, reconnect.Publishing, readyOnce(), func(err error) {
			if reconnect.IsFatal(err) {
				fatal = append(fatal, time.Now())
			}
			if len(fatal) == 2 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || hits(refused) != 3 {
			t.Errorf("after a success: %v after %d declares, want the ctx's", err, hits(refused))
		}
		if len(fatal) == 2 && fatal[1].Sub(fatal[0]) != reconnect.LongestWait {
			t.Errorf("tried again after %v", fatal[1].Sub(fatal[0]))
		}
		cfg := f.config()
		cfg.StopOnFatal = true
		err = open(t, cfg).Run(limited(t), reconnect.Publishing, readyOnce(), nil)
		wantBroker(t, "with StopOnFatal", err, 406, true)
		if hits(refused) != 4 {
			t.Errorf("%d declares", hits(refused))
		}
	})
}

func TestTheSessionEndsWithItsConnectionAndTheNextHasAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		var n int
		err := p.Run(limited(t), reconnect.Publishing, func(ctx context.Context, ch *reconnect.Channel) error {
			if n++; n == 2 {
				return nil
			}
			f.cut(1)
			<-ctx.Done()
			if err := context.Cause(ctx); !errors.Is(err, reconnect.ErrLost) || !errors.Is(err, ch.Err()) {
				t.Errorf("the session ended for %v", err)
			}
			return context.Cause(ctx)
		}, nil)
		if err != nil || n != 2 || hits(f.accepted) != 2 {
			t.Errorf("%v after %d sessions on %d connections", err, n, hits(f.accepted))
		}
	})
}

func TestAKeptChannelOutlivesItsSession(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := open(t, newFixture(t).config())
		var kept *reconnect.Channel
		if err := p.Run(limited(t), reconnect.Consuming, func(_ context.Context, ch *reconnect.Channel) error {
			ch.Keep()
			kept = ch
			return nil
		}, nil); err != nil {
			t.Fatal(err)
		}
		if err := kept.Call(limited(t), "qos", qos); err != nil {
			t.Errorf("a call on it: %v", err)
		}
		if err := kept.Close(limited(t)); err != nil {
			t.Errorf("%v", err)
		}
		await(t, kept.Done(), "its end")
	})
}

func TestPublishingWaitsWhileBlockedAndConsumingDoesNot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.First = reconnect.Consuming
		p := open(t, cfg)
		acquire(t, p, reconnect.Publishing)
		// The consuming connection is told so, no more: its channels still open. The
		// publishing one is blocked as the broker does it.
		conns := f.broker.Connections()
		conns[0].Do(mqtest.Answer(blocking("low on memory")))
		conns[1].Block("low on memory")
		for range 2 {
			f.await(t, reconnect.Blocked)
		}
		ch, err := p.Acquire(limited(t), reconnect.Consuming)
		if err != nil {
			t.Fatalf("consuming: %v", err)
		}
		if b, _ := ch.Blocked(); !b {
			t.Error("the channel does not know that it is blocked")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err = p.Acquire(ctx, reconnect.Publishing)
		wantText(t, err, "no publishing connection: blocked by the broker: low on memory")
		conns[1].Unblock()
		if _, err := p.Acquire(limited(t), reconnect.Publishing); err != nil {
			t.Errorf("when unblocked: %v", err)
		}
	})
}

func TestATopologyThatMendsTheErrorIsDeclaredBeforeTheNextSession(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = orders()
		p := open(t, cfg)
		queue := f.broker.Queue("orders")
		var seen []bool
		err := p.Run(limited(t), reconnect.Publishing, func(ctx context.Context, ch *reconnect.Channel) error {
			ch.Ready()
			seen = append(seen, queue.Exists())
			queue.Delete()
			switch len(seen) {
			case 1:
				return errors.New("nothing to do with it")
			case 2:
				return reconnect.Missing("orders", errors.New("cancelled by the server"))
			case 3: // a 404
				return ch.Call(ctx, "consume", func(raw *amqp.Channel) error {
					_, err := raw.Consume("orders", "", false, false, false, false, nil)
					return err
				})
			}
			return nil
		}, nil)
		if err != nil || len(seen) != 4 || !seen[0] || seen[1] || !seen[2] || !seen[3] {
			t.Errorf("%v; the queue was there: %v, want true false true true", err, seen)
		}
		if n := len(f.methods("queue.declare")); n != 3 {
			t.Errorf("declared %d times", n)
		}
	})
}

// TestASessionThatMayHaveCostTheConnectionLetsTheOthersWork: for longer each time, until it
// was set up.
func TestASessionThatMayHaveCostTheConnectionLetsTheOthersWork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const costs = 9
		f := newFixture(t)
		p := open(t, f.config())
		refused := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.qos", Count: costs, Do: mqtest.CloseConnection(541, "INTERNAL_ERROR")})
		var again *mqtest.Injected
		var waits []time.Duration
		last := time.Now()
		err := p.Run(t.Context(), reconnect.Publishing, func(ctx context.Context, ch *reconnect.Channel) error {
			waits = append(waits, time.Since(last))
			if err := ch.Call(ctx, "set up", qos); err != nil {
				return err
			}
			ch.Ready()
			if len(waits) == costs+1 {
				again = f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.qos", Count: 1, Do: mqtest.CloseConnection(541, "INTERNAL_ERROR")})
				ch.Drop(errors.New("a cut")) // says nothing against it
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		}, func(error) { last = time.Now() })
		if err != nil || len(waits) != costs+3 || hits(refused) != costs || hits(again) != 1 {
			t.Fatalf("Run: %v; sessions %v, %d and %d were refused", err, waits, hits(refused), hits(again))
		}
		most := time.Second
		for i, w := range waits[1 : costs+1] {
			w -= pause // until there is another connection
			if w < most/2 || w > most {
				t.Errorf("after %d connections it waited for %v, want %v to %v", i+1, w, most/2, most)
			}
			most = min(3*most, 5*time.Minute)
		}
		if w := waits[costs+1]; w != pause {
			t.Errorf("after the cut it waited for %v", w)
		}
		if w := waits[costs+2] - pause; w > time.Second {
			t.Errorf("after it was set up, and cost another, it waited for %v", w)
		}
	})
}
