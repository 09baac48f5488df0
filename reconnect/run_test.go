package reconnect_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/cenkalti/backoff/v4"

	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// runWith runs sessions on a willing peer, with waits of an hour.
func runWith(ctx context.Context, t *testing.T, session func(context.Context, *reconnect.Channel) error, failed func(error)) error {
	t.Helper()
	peer := reconnect.NewPeer(t, reconnect.Willing)
	cfg := config(newLog(), peer.URL())
	cfg.Backoff = longWait
	return open(t, cfg).Run(ctx, reconnect.Publishing, session, failed)
}

func TestRunEndsWithNilAndTheChannelIsClosed(t *testing.T) {
	t.Parallel()
	var ch *reconnect.Channel
	err := runWith(limited(t), t, func(ctx context.Context, c *reconnect.Channel) error { ch = c; return nil }, nil)
	if err != nil {
		t.Errorf("%v", err)
	}
	reconnect.Await(t, ch.Done(), "the end of the channel")
	if !errors.Is(ch.Err(), reconnect.ErrLost) {
		t.Errorf("Err: %v", ch.Err())
	}
}

func TestRunReturnsAPermanentErrorUnwrapped(t *testing.T) {
	t.Parallel()
	want := errors.New("enough")
	err := runWith(limited(t), t, func(context.Context, *reconnect.Channel) error { return backoff.Permanent(want) }, nil)
	if err != want { //nolint:errorlint // unwrapped is the claim
		t.Errorf("%#v", err)
	}
}

func TestRunReturnsTheCtxErrorWhateverTheSessionSays(t *testing.T) {
	t.Parallel()
	why := errors.New("the service stops")
	ctx, cancel := context.WithCancelCause(limited(t))
	err := runWith(ctx, t, func(sctx context.Context, _ *reconnect.Channel) error {
		cancel(why)
		<-sctx.Done()
		return errors.New("interrupted")
	}, nil)
	if !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestRunThatWaitsEndsWithItsCtxAndWithThePool(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	ctx, cancel := context.WithCancel(limited(t))
	err := runWith(ctx, t, func(context.Context, *reconnect.Channel) error { return boom }, func(error) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	peer := reconnect.NewPeer(t, reconnect.Willing)
	cfg := config(newLog(), peer.URL())
	cfg.Backoff = longWait
	p := open(t, cfg)
	ended := make(chan error, 1)
	waiting := make(chan struct{})
	go func() {
		ended <- p.Run(context.WithoutCancel(ctx), reconnect.Publishing, func(context.Context, *reconnect.Channel) error { return boom }, func(error) { close(waiting) })
	}()
	reconnect.Await(t, waiting, "the first failure")
	p.CloseNow()
	if err := reconnect.Await(t, ended, "Run"); !errors.Is(err, reconnect.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestAgainIsTheNextSessionWithoutAWait(t *testing.T) {
	t.Parallel()
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
}

func TestAnErrorIsToldAndTheNextSessionWaitsForTheBackoff(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, reconnect.Willing)
	waits := &counted{}
	cfg := config(newLog(), peer.URL())
	cfg.Backoff = func() backoff.BackOff { return waits }
	p := open(t, cfg)
	before := waits.nexts.Load()
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
	if waits.resets.Load() != 0 {
		t.Error("the backoff began afresh though no session lasted")
	}
}

// refusing answers each queue.declare with a 406.
func refusing(_ int, c *reconnect.PeerConn) {
	if c.Handshake() == nil {
		c.Serve(func(f reconnect.Frame) bool {
			if f.Method() == reconnect.MQueueDeclare {
				c.SendClose(f.Channel, 406, "PRECONDITION_FAILED - inequivalent arg")
				return true
			}
			return false
		})
	}
}

func declare(ctx context.Context, ch *reconnect.Channel) error {
	return ch.Call(ctx, "declare q", func(raw *amqp.Channel) error {
		_, err := raw.QueueDeclare("q", true, false, false, false, nil)
		return err
	})
}

func TestAFatalErrorEndsRunUnlessASessionWasReadyBefore(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, refusing)
	p := open(t, config(newLog(), peer.URL()))
	if err := p.Run(limited(t), reconnect.Publishing, declare, nil); !reconnect.IsFatal(err) {
		t.Errorf("before any success: %v", err)
	}
	ctx, cancel := context.WithCancel(limited(t))
	var n int
	err := p.Run(ctx, reconnect.Publishing, func(ctx context.Context, ch *reconnect.Channel) error {
		if n++; n == 1 {
			ch.Ready()
			return errors.New("later")
		}
		return declare(ctx, ch)
	}, func(err error) {
		if reconnect.IsFatal(err) {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after a success: %v, want the ctx's", err)
	}
	cfg := config(newLog(), peer.URL())
	cfg.StopOnFatal = true
	n = 0
	err = open(t, cfg).Run(limited(t), reconnect.Publishing, func(ctx context.Context, ch *reconnect.Channel) error {
		if n++; n == 1 {
			ch.Ready()
			return errors.New("later")
		}
		return declare(ctx, ch)
	}, nil)
	if !reconnect.IsFatal(err) {
		t.Errorf("with StopOnFatal: %v", err)
	}
}

func TestTheSessionEndsWithItsConnectionAndTheNextHasAnother(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, reconnect.Willing)
	p := open(t, config(newLog(), peer.URL()))
	var n int
	err := p.Run(limited(t), reconnect.Publishing, func(ctx context.Context, ch *reconnect.Channel) error {
		if n++; n == 2 {
			return nil
		}
		peer.CutAll()
		<-ctx.Done()
		if err := context.Cause(ctx); !errors.Is(err, reconnect.ErrLost) || !errors.Is(err, ch.Err()) {
			t.Errorf("the session ended for %v", err)
		}
		return context.Cause(ctx)
	}, nil)
	if err != nil || n != 2 || peer.Accepted() != 2 {
		t.Errorf("%v after %d sessions on %d connections", err, n, peer.Accepted())
	}
}

func TestAKeptChannelOutlivesItsSession(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, reconnect.Willing)
	p := open(t, config(newLog(), peer.URL()))
	var kept *reconnect.Channel
	if err := p.Run(limited(t), reconnect.Consuming, func(_ context.Context, ch *reconnect.Channel) error {
		ch.Keep()
		kept = ch
		return nil
	}, nil); err != nil {
		t.Fatal(err)
	}
	if err := kept.Call(limited(t), "qos", func(raw *amqp.Channel) error { return raw.Qos(1, 0, false) }); err != nil {
		t.Errorf("a call on it: %v", err)
	}
	if err := kept.Close(limited(t)); err != nil {
		t.Errorf("%v", err)
	}
	reconnect.Await(t, kept.Done(), "its end")
}

func TestPublishingWaitsWhileBlockedAndConsumingDoesNot(t *testing.T) {
	t.Parallel()
	say := [2]chan bool{make(chan bool), make(chan bool)}
	over := make(chan struct{})
	peer := reconnect.NewPeer(t, func(n int, c *reconnect.PeerConn) {
		if c.Handshake() != nil {
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case blocked := <-say[n-1]:
					if blocked {
						c.Send(0, reconnect.MConnBlocked, "low on memory")
					} else {
						c.Send(0, reconnect.MConnUnblocked)
					}
				case <-over:
					return
				}
			}
		})
		c.Serve(nil)
		wg.Wait()
	})
	t.Cleanup(func() { close(over) })
	l := newLog()
	cfg := config(l, peer.URL())
	cfg.First = reconnect.Consuming
	p := open(t, cfg)
	if _, err := p.Acquire(limited(t), reconnect.Publishing); err != nil {
		t.Fatal(err)
	}
	for _, s := range say {
		s <- true
		l.await(t, reconnect.Blocked)
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
	say[1] <- false
	if _, err := p.Acquire(limited(t), reconnect.Publishing); err != nil {
		t.Errorf("when unblocked: %v", err)
	}
}

func TestATopologyThatMendsTheErrorIsDeclaredBeforeTheNextSession(t *testing.T) {
	t.Parallel()
	var declared atomic.Int32
	peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
		if c.Handshake() == nil {
			c.Serve(func(f reconnect.Frame) bool {
				if f.Method() == reconnect.MQueueDeclare {
					declared.Add(1)
				}
				return false
			})
		}
	})
	cfg := config(newLog(), peer.URL())
	cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	p := open(t, cfg)
	var seen []int32
	err := p.Run(limited(t), reconnect.Publishing, func(_ context.Context, ch *reconnect.Channel) error {
		ch.Ready()
		seen = append(seen, declared.Load())
		switch len(seen) {
		case 1:
			return errors.New("nothing to do with it")
		case 2:
			return reconnect.Missing("orders", errors.New("cancelled by the server"))
		}
		return nil
	}, nil)
	if err != nil || len(seen) != 3 || seen[0] != 1 || seen[1] != 1 || seen[2] != 2 {
		t.Errorf("%v; declared %v times before each session, want 1 1 2", err, seen)
	}
}
