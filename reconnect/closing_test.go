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
					p.OnClose(reconnect.Publishing, func(ctx context.Context) error {
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
