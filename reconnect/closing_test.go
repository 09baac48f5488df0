package reconnect_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestAFirstUseWhileThePoolClosesStartsNothing: the connection of its role would
// have nobody to hang it up.
func TestAFirstUseWhileThePoolClosesStartsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		held := f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "connection.close", Count: 1, Do: mqtest.Hold()})
		closed := make(chan error, 1)
		go func() { closed <- p.Close(context.WithoutCancel(t.Context())) }()
		f.struck(held) // the publishing connection is being hung up
		used := make(chan error, 1)
		go func() {
			_, err := p.Acquire(context.WithoutCancel(t.Context()), reconnect.Consuming)
			used <- err
		}()
		synctest.Wait()
		if s := p.Status(reconnect.Consuming); s.State != reconnect.Idle {
			t.Errorf("the consuming connection is %s", s.State)
		}
		held.Release()
		if err := await(t, closed, "Close"); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := await(t, used, "Acquire"); !errors.Is(err, reconnect.ErrClosed) {
			t.Errorf("Acquire: %v", err)
		}
		for _, c := range f.told() {
			if c.Role == reconnect.Consuming && (c.From != reconnect.Idle || c.To != reconnect.Closed) {
				t.Errorf("%v", c)
			}
		}
		if n := hits(f.accepted); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// TestAFirstUseWhileAConnectedPoolClosesDoesNotPanic: as above, at any moment.
func TestAFirstUseWhileAConnectedPoolClosesDoesNotPanic(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, end := range map[string]func(*reconnect.Pool){
		"Close":    func(p *reconnect.Pool) { _ = p.Close(context.Background()) },
		"CloseNow": (*reconnect.Pool).CloseNow,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var took time.Duration // to close
			for round := range 100 {
				p, err := reconnect.Open(t.Context(), reconnect.Config{URLs: []string{f.broker.URL()}, Dial: f.dial})
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				began, wait := time.Now(), took*time.Duration(round%20)/20
				wg.Go(func() {
					for time.Since(began) < wait {
						runtime.Gosched()
					}
					ch, err := p.Acquire(context.Background(), reconnect.Consuming)
					switch {
					case err == nil:
						ch.Release()
					case !errors.Is(err, reconnect.ErrClosed) && !errors.Is(err, reconnect.ErrLost):
						t.Errorf("Acquire: %v", err)
					}
				})
				end(p)
				took = time.Since(began)
				wg.Wait()
			}
		})
	}
}

func TestOpenReturnsAFatalErrorAlthoughACallbackBlocks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		refused := f.broker.Inject(refuses("connection.start-ok", 403, "ACCESS_REFUSED - Login was refused"))
		release := make(chan struct{})
		defer close(release)
		cfg := f.config()
		cfg.OnStateChange = func(reconnect.StateChange) { <-release }
		began := time.Now()
		within(t, "Open", func() {
			_, err := reconnect.Open(limited(t), cfg)
			wantBroker(t, "Open", err, 403, true)
		})
		wantAfter(t, began, reconnect.Farewell)
		f.struck(refused)
	})
}

// TestCloseNowCutsACloseShort whatever that waits for.
func TestCloseNowCutsACloseShort(t *testing.T) {
	for _, name := range []string{"draining", "hanging up"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFixture(t)
				unheard := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "connection.close", Do: mqtest.Drop()})
				cfg := f.config()
				cfg.RPCTimeout = time.Hour
				p := open(t, cfg)
				drains := make(chan struct{})
				if name == "draining" {
					onClose(t, p, reconnect.Publishing, func(ctx context.Context) error {
						close(drains)
						<-ctx.Done()
						return errors.New("one message is unconfirmed")
					})
				}
				closed := make(chan error, 1)
				go func() { closed <- p.Close(context.Background()) }()
				if name == "draining" {
					await(t, drains, "the drain")
				} else {
					f.struck(unheard)
				}
				synctest.Wait()
				began := time.Now()
				within(t, "CloseNow", p.CloseNow)
				wantAfter(t, began, reconnect.Farewell) // in which the broker may answer
				err := await(t, closed, "Close")
				if name == "draining" {
					wantText(t, err, "one message is unconfirmed")
				} else if err != nil {
					t.Errorf("Close: %v", err)
				}
				f.struck(unheard) // drained or not, the broker is told
			})
		})
	}
}

// TestWhoComesWhileARoleIsDrainedIsTurnedAway: nobody would drain it, and it would be cut
// off in the end. The other role is open until its own drain begins, for handlers that
// publish.
func TestWhoComesWhileARoleIsDrainedIsTurnedAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		ready := make(chan struct{})
		var kept *reconnect.Channel
		old := make(chan error, 1)
		go func() { // who was there before goes on, with another session if need be
			old <- p.Run(context.WithoutCancel(t.Context()), reconnect.Publishing, func(ctx context.Context, ch *reconnect.Channel) error {
				ch.Ready()
				if kept == nil {
					kept = ch
					close(ready)
				}
				<-ctx.Done()
				return context.Cause(ctx)
			}, nil)
		}()
		await(t, ready, "a session")
		begun, end := make(chan reconnect.Role, 2), make(chan struct{})
		for _, role := range []reconnect.Role{reconnect.Consuming, reconnect.Publishing} {
			onClose(t, p, role, func(context.Context) error {
				begun <- role
				<-end
				return nil
			})
		}
		turnedAway := func(role reconnect.Role, want error) {
			t.Helper()
			ch, err := p.Acquire(limited(t), role)
			if err == nil {
				ch.Release()
			}
			run := p.Run(limited(t), role, func(context.Context, *reconnect.Channel) error { return nil }, nil)
			remove, on := p.OnClose(role, func(context.Context) error { return nil })
			if on == nil {
				remove()
			}
			for what, err := range map[string]error{"Acquire": err, "Run": run, "OnClose": on} {
				if !errors.Is(err, want) {
					t.Errorf("%s for %s: %v, want %v", what, role, err, want)
				}
			}
		}
		closed := make(chan error, 1)
		go func() { closed <- p.Close(context.WithoutCancel(t.Context())) }()
		if role := await(t, begun, "the first drain"); role != reconnect.Consuming {
			t.Errorf("%s is drained first", role)
		}
		turnedAway(reconnect.Consuming, reconnect.ErrClosed)
		turnedAway(reconnect.Publishing, nil)
		if err := p.Declare(limited(t), orders()); err != nil {
			t.Errorf("Declare: %v", err)
		}
		end <- struct{}{}
		await(t, begun, "the second drain")
		turnedAway(reconnect.Publishing, reconnect.ErrClosed)
		for what, err := range map[string]error{
			"Declare": p.Declare(limited(t), orders()), "Delete": p.Delete(limited(t), orders(), topology.DeleteOptions{}),
		} {
			if !errors.Is(err, reconnect.ErrClosed) {
				t.Errorf("%s: %v", what, err)
			}
		}
		first := kept
		kept.Drop(errors.New("a cut"))
		after(2 * pause)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.Sessions != 2 || first.Err() == nil {
			t.Errorf("a connection that is lost while its role is drained: %+v", s)
		}
		close(end)
		if err := await(t, closed, "Close"); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := await(t, old, "Run"); !errors.Is(err, reconnect.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
}
