package reconnect

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"
)

// within tests that f returns.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	Await(t, done, what)
}

// closes are the two ways to end a pool.
var closes = map[string]func(*Pool){
	"Close":    func(p *Pool) { _ = p.Close(context.Background()) },
	"CloseNow": (*Pool).CloseNow,
}

// TestAFirstUseWhileThePoolClosesDoesNotPanic: the connection of its role is made
// when it is first used, and the pool may be about to note that it never was.
// These pools have no other connection to hang up, so that their end is quick and
// the use often falls into it.
func TestAFirstUseWhileThePoolClosesDoesNotPanic(t *testing.T) {
	t.Parallel()
	dead := "amqp://" + DeadAddr(t)
	for name, end := range closes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for round := range 10000 {
				p := idlePool(t, Config{URLs: []string{dead}})
				var wg sync.WaitGroup
				for _, role := range []Role{Publishing, Consuming} {
					wg.Go(func() {
						for range round % 50 {
							runtime.Gosched()
						}
						if _, err := p.Acquire(context.Background(), role); !errors.Is(err, ErrClosed) {
							t.Errorf("Acquire: %v", err)
						}
					})
				}
				wg.Go(func() { end(p) })
				wg.Wait()
				for _, l := range p.links {
					if s := l.read(); s.State != Closed {
						t.Fatalf("%s connection: %+v", l.role, s)
					}
				}
			}
		})
	}
}

// idlePool is what Open makes before its first connection.
func idlePool(t *testing.T, cfg Config) *Pool {
	t.Helper()
	cfg, addrs, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	p := &Pool{cfg: cfg, addrs: addrs, running: running, stop: stop, notifier: newNotifier(cfg.OnStateChange, cfg.Logger)}
	for role := range roles {
		p.links[role] = newLink(p, role)
	}
	return p
}

// TestAFirstUseWhileAConnectedPoolClosesDoesNotPanic: as above, while the other
// connection is hung up.
func TestAFirstUseWhileAConnectedPoolClosesDoesNotPanic(t *testing.T) {
	t.Parallel()
	peer := NewPeer(t, Willing)
	for name, end := range closes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var took time.Duration // to close
			for round := range 200 {
				p, err := Open(t.Context(), Config{URLs: []string{peer.URL()}})
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				began, wait := time.Now(), took*time.Duration(round%20)/20
				wg.Go(func() {
					for time.Since(began) < wait {
						runtime.Gosched()
					}
					ch, err := p.Acquire(context.Background(), Consuming)
					switch {
					case err == nil:
						ch.Release()
					case !errors.Is(err, ErrClosed) && !errors.Is(err, ErrLost):
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
	t.Parallel()
	peer := NewPeer(t, func(_ int, c *PeerConn) {
		if c.Start() == nil {
			c.SendClose(0, 403, "ACCESS_REFUSED - Login was refused")
			c.Serve(nil)
		}
	})
	release := make(chan struct{})
	defer close(release)
	within(t, "Open", func() {
		_, err := Open(context.Background(), Config{URLs: []string{peer.URL()}, OnStateChange: func(StateChange) { <-release }})
		if !IsFatal(err) {
			t.Errorf("Open: %v", err)
		}
	})
}

// TestCloseNowCutsACloseShort whatever that waits for.
func TestCloseNowCutsACloseShort(t *testing.T) {
	t.Parallel()
	hung := make(chan struct{}, 1)
	peer := NewPeer(t, func(_ int, c *PeerConn) {
		if c.Handshake() == nil {
			c.Serve(func(f Frame) bool {
				if f.Method() != MConnClose {
					return false
				}
				hung <- struct{}{}
				return true // never answered
			})
		}
	})
	for name, busy := range map[string]func(p *Pool) (reached <-chan struct{}){
		"draining": func(p *Pool) <-chan struct{} {
			drains := make(chan struct{})
			p.OnClose(Publishing, func(ctx context.Context) error {
				close(drains)
				<-ctx.Done()
				return errors.New("one message is unconfirmed")
			})
			return drains
		},
		"hanging up": func(*Pool) <-chan struct{} { return hung },
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Open(t.Context(), Config{URLs: []string{peer.URL()}, RPCTimeout: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			reached := busy(p)
			closed := make(chan error, 1)
			go func() { closed <- p.Close(context.Background()) }()
			Await(t, reached, "Close")
			within(t, "CloseNow", p.CloseNow)
			err = Await(t, closed, "Close")
			if name == "draining" {
				wantText(t, err, "one message is unconfirmed")
				Await(t, hung, "connection.close")
			} else if err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}
