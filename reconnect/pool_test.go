package reconnect_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/reconnect"
)

func TestStateChangesComeInOrderAndOneAtATime(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
		if c.Handshake() == nil {
			c.Send(0, reconnect.MConnBlocked, "low on memory")
			c.Send(0, reconnect.MConnUnblocked)
		}
	})
	l := newLog()
	cfg := config(l, peer.URL())
	var inside atomic.Int32
	cfg.OnStateChange = func(c reconnect.StateChange) {
		if inside.Add(1) != 1 {
			t.Error("two calls at once")
		}
		l.change(c)
		inside.Add(-1)
	}
	opening(t, cfg)
	for range 20 {
		l.await(t, reconnect.Waiting)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	state, at := reconnect.Idle, time.Time{}
	for i, c := range l.changes {
		if c.From != state || c.At.Before(at) {
			t.Fatalf("change %d is %v at %v, after %v at %v", i, c, c.At, state, at)
		}
		state, at = c.To, c.At
	}
}

func TestABlockedCallbackHoldsUpNothingButLaterChanges(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, reconnect.Willing)
	entered, release := make(chan struct{}, 100), make(chan struct{})
	var told atomic.Int32
	cfg := config(newLog(), peer.URL())
	cfg.OnStateChange = func(reconnect.StateChange) {
		entered <- struct{}{}
		<-release
		told.Add(1)
	}
	p, err := reconnect.Open(limited(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	reconnect.Await(t, entered, "the first call")
	for n := 2; n <= 4; n++ {
		peer.CutAll()
		for peer.Accepted() < n { // Run returns when the next connection is there
			if err := p.Run(limited(t), reconnect.Publishing, func(context.Context, *reconnect.Channel) error { return nil }, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(entered); n != 0 || told.Load() != 0 {
		t.Errorf("%d more calls while one was blocked", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantText(t, p.Close(ctx), "OnStateChange has not returned")
	p.CloseNow() // waits for the callback no longer
	close(release)
	for n := int32(1); n < 10; n++ {
		reconnect.Await(t, entered, "the changes that waited")
	}
}

func TestCloseIsIdempotentAndEndsEverything(t *testing.T) {
	t.Parallel()
	hungUp := make(chan struct{}, 1)
	peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
		if c.Handshake() == nil {
			c.Serve(func(f reconnect.Frame) bool {
				if f.Method() == reconnect.MConnClose {
					hungUp <- struct{}{}
				}
				return false
			})
		}
	})
	l := newLog()
	p := open(t, config(l, peer.URL()))
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
	reconnect.Await(t, inSession, "the session")
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
	reconnect.Await(t, hungUp, "connection.close")
	if err := reconnect.Await(t, running, "Run"); !errors.Is(err, reconnect.ErrClosed) {
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
}

func TestCloseDoesNotWaitForABrokerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
		if c.Handshake() == nil {
			c.Serve(func(f reconnect.Frame) bool { return f.Method() == reconnect.MConnClose })
		}
	})
	cfg := config(newLog(), peer.URL())
	cfg.RPCTimeout = 50 * time.Millisecond
	p := open(t, cfg)
	closed := make(chan error, 1)
	go func() { closed <- p.Close(context.Background()) }()
	if err := reconnect.Await(t, closed, "Close"); err != nil {
		t.Errorf("%v", err)
	}
}

func TestCloseWhileDiallingEndsTheDial(t *testing.T) {
	t.Parallel()
	dialled := make(chan struct{}, 1)
	peer := reconnect.NewPeer(t, func(n int, c *reconnect.PeerConn) {
		if n == 1 {
			reconnect.Willing(n, c)
			return
		}
		dialled <- struct{}{}
		_, _ = c.Read(make([]byte, 8))
		_, _ = c.Read(make([]byte, 1)) // until it is given up
	})
	cfg := config(newLog(), peer.URL())
	cfg.DialTimeout = time.Hour
	p := open(t, cfg)
	peer.CutAll()
	reconnect.Await(t, dialled, "the second dial")
	if err := p.Close(limited(t)); err != nil {
		t.Errorf("%v", err)
	}
}

func TestCloseDrainsConsumersBeforeProducersAndJoinsTheirErrors(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, reconnect.Willing)
	p := open(t, config(newLog(), peer.URL()))
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
	p.OnClose(reconnect.Publishing, drain("producer", second))
	p.OnClose(reconnect.Consuming, drain("consumer", first))
	p.OnClose(reconnect.Consuming, drain("removed", nil))()
	err := p.Close(limited(t))
	if !errors.Is(err, first) || !errors.Is(err, second) {
		t.Errorf("Close: %v", err)
	}
	if !slices.Equal(order, []string{"consumer", "producer"}) {
		t.Errorf("drained %q", order)
	}
}

func TestEachRoleHasAConnectionOfItsOwnMadeWhenItIsFirstUsed(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, reconnect.Willing)
	cfg := config(newLog(), peer.URL())
	cfg.First = reconnect.Consuming
	p := open(t, cfg)
	if s := p.Status(reconnect.Publishing); s.State != reconnect.Idle || peer.Accepted() != 1 {
		t.Errorf("publishing is %v, %d connections", s.State, peer.Accepted())
	}
	ch, err := p.Acquire(limited(t), reconnect.Publishing)
	if err != nil {
		t.Fatal(err)
	}
	if peer.Accepted() != 2 || ch.Err() != nil || ch.Address() != peer.Addr {
		t.Errorf("%d connections, %v, at %s", peer.Accepted(), ch.Err(), ch.Address())
	}
	if major, minor := ch.ServerVersion(); major != 4 || minor != 3 {
		t.Errorf("version %d.%d", major, minor)
	}
	ch.Release()
	reconnect.Await(t, ch.Done(), "the end of the channel")
	ch.Release() // again
}
