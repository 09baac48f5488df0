package reconnect_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestALeaseIsHandedOutAgainIfItIsAsItWas(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		first := acquire(t, p, reconnect.Publishing)
		if err := first.Call(t.Context(), "declare q", declare); err != nil {
			t.Fatal(err)
		}
		first.Release()
		first.Release() // again
		if err := first.Call(t.Context(), "declare q", declare); err == nil || !strings.Contains(err.Error(), "lease") {
			t.Errorf("a call after the end of the lease: %v", err)
		}
		again, other := acquire(t, p, reconnect.Publishing), acquire(t, p, reconnect.Publishing)
		if !again.Is(first) || other.Is(first) {
			t.Error("the one that was given back is not the one that is lent, once")
		}
		if s := p.Stats().Publishing; s.Channels != 2 || s.Kept != 0 {
			t.Errorf("%+v", s)
		}
		if n := len(f.methods("channel.open")); n != 2 {
			t.Errorf("%d channels were opened, want 2", n)
		}
	})
}

// TestTheEndOfALeaseHarmsNoLaterOne: it is deferred, and comes once more when the channel
// has been lent to somebody else.
func TestTheEndOfALeaseHarmsNoLaterOne(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *reconnect.Channel){
		"Release": func(_ *testing.T, c *reconnect.Channel) { c.Release() },
		"Close": func(t *testing.T, c *reconnect.Channel) {
			if err := c.Close(limited(t)); err != nil {
				t.Error(err)
			}
		},
	} {
		inBubbleOf(t, name, func(t *testing.T) {
			f := newFixture(t)
			p := open(t, f.config())
			first := acquire(t, p, reconnect.Publishing)
			first.Release()
			second := acquire(t, p, reconnect.Publishing)
			if !second.Is(first) {
				t.Fatal("it is another channel")
			}
			end(t, first)
			if err := second.Call(limited(t), "declare q", declare); err != nil {
				t.Errorf("a call of the second lease: %v", err)
			}
			if err := first.Call(limited(t), "declare q", declare); err == nil || !strings.Contains(err.Error(), "lease") {
				t.Errorf("a call of the first lease: %v", err)
			}
			if acquire(t, p, reconnect.Publishing).Is(second) {
				t.Error("it is lent twice")
			}
		})
	}
}

func TestACallThatWaitsForItsTurnEndsWithTheLease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		c := acquire(t, p, reconnect.Publishing)
		gate, waits := make(chan struct{}), make(chan error, 1)
		go func() { _ = c.Call(limited(t), "wait", func(*amqp.Channel) error { <-gate; return nil }) }()
		synctest.Wait()
		go func() { waits <- c.Call(limited(t), "declare q", declare) }()
		synctest.Wait()
		c.Release()
		close(gate)
		if err := await(t, waits, "the second call"); err == nil || !strings.Contains(err.Error(), "lease") {
			t.Errorf("%v", err)
		}
	})
}

// TestNobodyGetsAChannelWhoseCloseIsDue: that of a call that nobody waits for any more. Its
// turn is not given back before it is noted, or the channel could be lent meanwhile.
func TestNobodyGetsAChannelWhoseCloseIsDue(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := open(t, f.config())
	c := acquire(t, p, reconnect.Publishing)
	gate, returned := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(returned)
		if err := c.Call(ctx, "wait", func(*amqp.Channel) error { cancel(); <-gate; return nil }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	await(t, returned, "the call")
	goOn := c.Stop()
	close(gate)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Call(short, "declare q", declare); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the next call, before the close was noted: %v", err)
	}
	goOn()
	c.Release()
	await(t, c.Done(), "the end of the channel")
	c = acquire(t, p, reconnect.Publishing)
	c.NoteClose()
	c.Release()
	if s := p.Stats().Publishing; s.Kept != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTheChannelOfASessionIsNoLease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		if err := p.Run(limited(t), reconnect.Publishing, func(ctx context.Context, c *reconnect.Channel) error {
			c.Release()
			if err := c.Call(ctx, "declare q", declare); err != nil || p.Stats().Publishing.Kept != 0 {
				t.Errorf("after a Release: %v, %+v", err, p.Stats().Publishing)
			}
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
			if err := c.Call(limited(t), "declare q", declare); !errors.Is(err, reconnect.ErrLost) {
				t.Errorf("after its Close: %v", err)
			}
			return nil
		}, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestALeaseThatMayHaveChangedIsClosed(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *fixture, *reconnect.Channel){
		"its raw channel was taken": func(t *testing.T, _ *fixture, c *reconnect.Channel) {
			if err := c.Raw().Confirm(false); err != nil {
				t.Error(err)
			}
		},
		"it is called at barriers":      func(_ *testing.T, _ *fixture, c *reconnect.Channel) { c.OnBarrier(func() {}) },
		"its close waits for no answer": func(_ *testing.T, _ *fixture, c *reconnect.Channel) { c.Abandon() },
		"a call is under way": func(t *testing.T, f *fixture, c *reconnect.Channel) {
			f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "queue.declare", Count: 1, Do: mqtest.Delay(time.Second)})
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if err := c.Call(ctx, "declare q", declare); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		},
		"the broker closed it": func(t *testing.T, _ *fixture, c *reconnect.Channel) {
			err := c.Call(t.Context(), "look for x", func(raw *amqp.Channel) error {
				_, err := raw.QueueDeclarePassive("x", true, false, false, false, nil)
				return err
			})
			if err == nil {
				t.Error("there is a queue x")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFixture(t)
				p := open(t, f.config())
				c := acquire(t, p, reconnect.Publishing)
				change(t, f, c)
				began := time.Now()
				c.Release()
				if took := time.Since(began); took != 0 {
					t.Errorf("Release took %v", took)
				}
				await(t, c.Done(), "the end of the channel")
				if acquire(t, p, reconnect.Publishing).Is(c) {
					t.Error("it is lent again")
				}
			})
		})
	}
}

// TestReleaseDoesNotWaitForTheBroker: it is deferred where somebody waits.
func TestReleaseDoesNotWaitForTheBroker(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		c := acquire(t, p, reconnect.Publishing)
		_ = c.Raw()
		slow := f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "channel.close", Count: 1, Do: mqtest.Delay(time.Second)})
		began := time.Now()
		c.Release()
		wantAfter(t, began, 0)
		await(t, c.Done(), "the end of the channel")
		wantAfter(t, began, time.Second)
		if hits(slow) != 1 {
			t.Errorf("%d answers were slow", hits(slow))
		}
	})
}

// TestAcquireWaitsForAChannelNumber: of those that the broker allows on a connection.
// What is kept for leases makes room for sessions.
func TestAcquireWaitsForAChannelNumber(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t, mqtest.Config{ChannelMax: 3})
		p := open(t, f.config())
		var all []*reconnect.Channel
		for range 3 {
			all = append(all, acquire(t, p, reconnect.Publishing))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Acquire(ctx, reconnect.Publishing); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "all 3 that the broker allows") {
			t.Errorf("a fourth: %v", err)
		}
		waits := make(chan *reconnect.Channel, 1)
		go func() {
			c, err := p.Acquire(context.WithoutCancel(t.Context()), reconnect.Publishing)
			if err != nil {
				t.Error(err)
			}
			waits <- c
		}()
		synctest.Wait()
		all[0].Release()
		if c := await(t, waits, "a lease"); !c.Is(all[0]) {
			t.Error("it is not the one that was given back")
		}
		all[1].Release()
		all[2].Release()
		if s := p.Stats().Publishing; s.Channels != 3 || s.Kept != 2 {
			t.Errorf("%+v", s)
		}
		for range 2 { // sessions
			if err := p.Run(limited(t), reconnect.Publishing, func(context.Context, *reconnect.Channel) error { return nil }, nil); err != nil {
				t.Error(err)
			}
		}
		if s := p.Stats().Publishing; s.Kept != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestTheNumberOfAChannelThatNobodyWaitedForIsFreeAgain, once its answer has come.
func TestTheNumberOfAChannelThatNobodyWaitedForIsFreeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const numbers = 2
		f := newFixture(t, mqtest.Config{ChannelMax: numbers})
		p := open(t, f.config())
		slow := f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "channel.open", Count: numbers, Do: mqtest.Delay(time.Second)})
		acquires := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, err := p.Acquire(ctx, reconnect.Publishing)
			return err
		}
		for range numbers {
			if err := acquires(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		}
		if err := acquires(); err == nil || !strings.Contains(err.Error(), "all 2 that the broker allows") {
			t.Errorf("while they are being opened: %v", err)
		}
		after(time.Minute)
		f.struck(slow)
		for range numbers {
			if err := acquires(); err != nil {
				t.Error(err)
			}
		}
		if n := len(f.conn().Channels()); n != numbers {
			t.Errorf("the broker has %d channels", n)
		}
	})
}

func TestLeasesEndWithTheirConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		c := acquire(t, p, reconnect.Publishing)
		c.Release()
		f.cut(1)
		synctest.Wait()
		again := acquire(t, p, reconnect.Publishing)
		if again.Is(c) || again.Err() != nil || c.Err() == nil {
			t.Errorf("%v, %v", again.Err(), c.Err())
		}
	})
}

// TestDeclareEndsWithItsCtx: the channel on which the answer is missing is not waited for.
func TestDeclareEndsWithItsCtx(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		f.broker.Inject(unanswered("queue.declare"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := p.Declare(ctx, topology.Topology{Queues: []topology.Queue{{Name: "q"}}})
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestAChannelThatTheBrokerHasJustClosedIsNotLent: whoever was told why gives it back, perhaps
// before its end is noted.
func TestAChannelThatTheBrokerHasJustClosedIsNotLent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		for range 200 {
			c := acquire(t, p, reconnect.Publishing)
			if err := c.Call(limited(t), "look for x", func(raw *amqp.Channel) error {
				_, err := raw.QueueDeclarePassive("x", true, false, false, false, nil)
				return err
			}); err == nil {
				t.Fatal("there is a queue x")
			}
			c.Release()
			if s := p.Stats().Publishing; s.Kept != 0 {
				t.Fatalf("%+v", s)
			}
			c = acquire(t, p, reconnect.Publishing)
			if err := c.Call(limited(t), "qos", qos); err != nil {
				t.Fatal(err)
			}
			c.Release()
		}
		// Nor one that is closed while it is kept.
		if n := f.broker.CloseChannels(320); n != 1 {
			t.Errorf("%d channels were closed", n)
		}
		synctest.Wait()
		if err := acquire(t, p, reconnect.Publishing).Call(limited(t), "qos", qos); err != nil {
			t.Error(err)
		}
	})
}

func TestDeclareRefusesWhatBelongsToOneConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		err := p.Declare(limited(t), topology.Topology{Queues: []topology.Queue{{Name: "q"}, {Name: "mine", Exclusive: true}}})
		var fault *topology.Fault
		if !errors.As(err, &fault) || fault.Name != "mine" || len(f.methods("queue.declare")) != 0 {
			t.Errorf("%v, %v", err, f.methods("queue.declare"))
		}
		if err := p.Declare(limited(t), topology.Topology{Queues: []topology.Queue{{Name: "q", Type: topology.Classic}, {Name: "q", Passive: true, Exclusive: true}}}); err != nil {
			t.Errorf("what does not: %v", err)
		}
	})
}

func TestNoRedeclareLeavesDeletedWhatIsDeleted(t *testing.T) {
	for _, no := range []bool{false, true} {
		inBubbleOf(t, map[bool]string{false: "by default", true: "NoRedeclare"}[no], func(t *testing.T) {
			f := newFixture(t)
			cfg := f.config()
			cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: "q"}}}
			cfg.NoRedeclare = no
			p := open(t, cfg)
			sessions := 0
			err := p.Run(limited(t), reconnect.Publishing, func(ctx context.Context, c *reconnect.Channel) error {
				c.Ready()
				if sessions++; sessions == 3 {
					return nil
				}
				if sessions == 2 {
					f.broker.DropConnections()
					<-ctx.Done()
					return context.Cause(ctx)
				}
				f.broker.Queue("q").Delete()
				return reconnect.Missing("q", errors.New("it is gone"))
			}, nil)
			if err != nil || sessions != 3 {
				t.Fatal(sessions, err)
			}
			if n := len(f.methods("queue.declare")); (n == 1) != no {
				t.Errorf("the queue was declared %d times", n)
			}
		})
	}
}

func inBubbleOf(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { inBubble(t, f) })
}
