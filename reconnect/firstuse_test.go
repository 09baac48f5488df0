package reconnect

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
)

// newTestPool is what Open makes before its first connection.
func newTestPool(t *testing.T, cfg Config) *Pool {
	t.Helper()
	cfg, addrs, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	p := &Pool{cfg: cfg, addrs: addrs, running: running, stop: stop, notifier: newNotifier(&cfg)}
	for role := range roles {
		p.links[role] = newLink(p, role)
	}
	t.Cleanup(p.CloseNow)
	return p
}

// TestAFirstUseWhileThePoolClosesDoesNotPanic: the connection of its role is made
// when it is first used, and the pool may be about to note that it never was.
// These pools have no other connection to hang up, so that their end is quick and
// the use often falls into it.
func TestAFirstUseWhileThePoolClosesDoesNotPanic(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Pool){
		"Close":    func(p *Pool) { _ = p.Close(context.Background()) },
		"CloseNow": (*Pool).CloseNow,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for round := range 2000 {
				p := newTestPool(t, Config{URLs: []string{"amqp://127.0.0.1:1"}}) // nobody listens there
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
