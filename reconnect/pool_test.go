package reconnect_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// blocking is what a broker says that takes no publishes. Said out of turn, by
// Answer, it changes nothing for the broker itself.
func blocking(reason string) mqtest.Method {
	return mqtest.Method{Name: "connection.blocked", Fields: map[string]any{"reason": reason}}
}

// unblocking is its counterpart.
func unblocking() mqtest.Method { return mqtest.Method{Name: "connection.unblocked"} }

func TestStateChangesComeInOrderAndOneAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		said := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Sending, Method: "connection.open-ok",
			Do: mqtest.Pass().Then(mqtest.Answer(blocking("low on memory"), unblocking())).Then(mqtest.Cut()),
		})
		cfg := f.config()
		var inside atomic.Int32
		cfg.OnStateChange = func(c reconnect.StateChange) {
			if inside.Add(1) != 1 {
				t.Error("two calls at once")
			}
			f.change(c)
			inside.Add(-1)
		}
		opening(t, cfg)
		for range 20 {
			f.await(t, reconnect.Waiting)
		}
		state, at := reconnect.Idle, time.Time{}
		for i, c := range f.told() {
			if c.From != state || c.At.Before(at) {
				t.Fatalf("change %d is %v at %v, after %v at %v", i, c, c.At, state, at)
			}
			state, at = c.To, c.At
		}
		if hits(said) != 20 {
			t.Errorf("%d connections were cut", hits(said))
		}
	})
}

func TestABlockedCallbackHoldsUpNothingButLaterChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		entered, release := make(chan struct{}, 100), make(chan struct{})
		var told atomic.Int32
		cfg := f.config()
		cfg.OnStateChange = func(reconnect.StateChange) {
			entered <- struct{}{}
			<-release
			told.Add(1)
		}
		p, err := reconnect.Open(limited(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		await(t, entered, "the first call")
		for n := 2; n <= 4; n++ {
			f.cut(1)
			for f.accepted.Hits() < n { // Run returns when the next connection is there
				if err := p.Run(limited(t), reconnect.Publishing, func(context.Context, *reconnect.Channel) error { return nil }, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := len(entered); n != 0 || told.Load() != 0 {
			t.Errorf("%d more calls while one was blocked", n)
		}
		wantText(t, p.Close(expired(t)), "OnStateChange has not returned")
		p.CloseNow() // waits for the callback no longer
		close(release)
		for n := int32(1); n < 10; n++ {
			await(t, entered, "the changes that waited")
		}
	})
}

func TestCloseIsIdempotentAndEndsEverything(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		running := make(chan error, 1)
		inSession := make(chan struct{})
		go func() {
			running <- p.Run(context.WithoutCancel(t.Context()), reconnect.Publishing, func(ctx context.Context, ch *reconnect.Channel) error {
				close(inSession)
				<-ctx.Done()
				if err := context.Cause(ctx); !errors.Is(err, reconnect.ErrLost) {
					t.Errorf("the session ended for %v", err)
				}
				return context.Cause(ctx)
			}, nil)
		}()
		await(t, inSession, "the session")
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := p.Close(limited(t)); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			wg.Go(p.CloseNow)
		}
		wg.Wait()
		if n := len(f.methods("connection.close")); n != 1 {
			t.Errorf("%d times connection.close", n)
		}
		if err := await(t, running, "Run"); !errors.Is(err, reconnect.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
		if _, err := p.Acquire(t.Context(), reconnect.Consuming); !errors.Is(err, reconnect.ErrClosed) {
			t.Errorf("Acquire: %v", err)
		}
		for _, role := range []reconnect.Role{reconnect.Publishing, reconnect.Consuming} {
			if s := p.Status(role); s.State != reconnect.Closed || !errors.Is(s.Cause, reconnect.ErrClosed) {
				t.Errorf("%v: %+v", role, s)
			}
		}
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("once more: %v", err)
		}
		synctest.Wait()
		if n := len(f.broker.Connections()); n != 0 {
			t.Errorf("the broker has %d connections left", n)
		}
	})
}

func TestCloseDoesNotWaitForABrokerThatDoesNotAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		unheard := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "connection.close", Do: mqtest.Drop()})
		cfg := f.config()
		cfg.RPCTimeout = 50 * time.Millisecond
		p := open(t, cfg)
		closed := make(chan error, 1)
		began := time.Now()
		go func() { closed <- p.Close(context.Background()) }()
		if err := await(t, closed, "Close"); err != nil {
			t.Errorf("%v", err)
		}
		wantAfter(t, began, 50*time.Millisecond)
		f.struck(unheard)
	})
}

func TestCloseWhileDiallingEndsTheDial(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		silent := f.broker.Inject(mqtest.Fault{Point: mqtest.Accepted, Conn: 2, Do: mqtest.Stall()})
		cfg := f.config()
		cfg.DialTimeout = time.Hour
		p := open(t, cfg)
		f.cut(1)
		f.struck(silent)
		began := time.Now()
		if err := p.Close(limited(t)); err != nil {
			t.Errorf("%v", err)
		}
		wantAfter(t, began, 0)
	})
}

func TestCloseDrainsConsumersBeforeProducersAndJoinsTheirErrors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		var mu sync.Mutex
		var order []string
		drain := func(name string, err error) func(context.Context) error {
			return func(context.Context) error {
				if s := p.Status(reconnect.Publishing).State; s != reconnect.Connected {
					t.Errorf("%s is drained on a connection that is %v", name, s)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
				return err
			}
		}
		first, second := errors.New("3 messages are unsettled"), errors.New("4 are unconfirmed")
		onClose(t, p, reconnect.Publishing, drain("producer", second))
		onClose(t, p, reconnect.Consuming, drain("consumer", first))
		onClose(t, p, reconnect.Consuming, drain("removed", nil))()
		err := p.Close(limited(t))
		if !errors.Is(err, first) || !errors.Is(err, second) {
			t.Errorf("Close: %v", err)
		}
		if !slices.Equal(order, []string{"consumer", "producer"}) {
			t.Errorf("drained %q", order)
		}
	})
}

func TestEachRoleHasAConnectionOfItsOwnMadeWhenItIsFirstUsed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.First = reconnect.Consuming
		p := open(t, cfg)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Idle || hits(f.accepted) != 1 {
			t.Errorf("publishing is %v, %d connections", s.State, hits(f.accepted))
		}
		ch := acquire(t, p, reconnect.Publishing)
		if hits(f.accepted) != 2 || ch.Err() != nil || ch.Address() != f.broker.Addr() {
			t.Errorf("%d connections, %v, at %s", hits(f.accepted), ch.Err(), ch.Address())
		}
		if major, minor := ch.ServerVersion(); major != 4 || minor != 3 {
			t.Errorf("version %d.%d", major, minor)
		}
		if other := acquire(t, p, reconnect.Publishing); !ch.Shares(other) || ch.Shares(acquire(t, p, reconnect.Consuming)) {
			t.Errorf("it is not said who shares the connection of %s", ch)
		}
		ch.Release()
		ch.Release() // again
	})
}
