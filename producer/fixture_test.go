package producer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/internal/amqppeer"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen.
const patience = 10 * time.Second

// fixture is a producer connected to a scripted peer.
type fixture struct {
	*producer.Producer
	t    *testing.T
	peer *amqppeer.Peer
	pool *reconnect.Pool

	mu      sync.Mutex
	states  []reconnect.State
	changed chan struct{}
}

// newFixture returns one whose peer has answered nothing yet but the login, when
// prepare has told it to hold something.
func newFixture(t *testing.T, cfg producer.Config, prepare ...func(*amqppeer.Peer)) *fixture {
	t.Helper()
	peer, err := amqppeer.Listen("4.3.6")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peer.Close)
	for _, f := range prepare {
		f(peer)
	}
	f := &fixture{t: t, peer: peer, changed: make(chan struct{})}
	f.pool, err = reconnect.Open(t.Context(), reconnect.Config{
		URLs:    []string{peer.URL()},
		Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) },
		Logger:  slog.New(slog.DiscardHandler),
		OnStateChange: func(c reconnect.StateChange) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.states = append(f.states, c.To)
			close(f.changed)
			f.changed = make(chan struct{})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pool.CloseNow)
	if f.Producer, err = producer.New(f.pool, cfg); err != nil {
		t.Fatal(err)
	}
	return f
}

// await waits until the connection was n times in state.
func (f *fixture) await(state reconnect.State, n int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for {
		f.mu.Lock()
		seen := 0
		for _, s := range f.states {
			if s == state {
				seen++
			}
		}
		changed := f.changed
		f.mu.Unlock()
		if seen >= n {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.t.Fatalf("the connection was %s %d times, want %d", state, seen, n)
		}
	}
}

// next is the next method of one of names that the peer receives.
func (f *fixture) next(names ...string) *amqppeer.Method {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	m, err := f.peer.Next(ctx, names...)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// publish hands messages with these bodies to the producer.
func (f *fixture) publish(bodies ...string) []*producer.Confirmation {
	f.t.Helper()
	cs := make([]*producer.Confirmation, len(bodies))
	for i, b := range bodies {
		cs[i] = f.message(producer.Text(b).ToQueue("q"))
	}
	return cs
}

func (f *fixture) message(m producer.Message) *producer.Confirmation {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	c, err := f.PublishAsync(ctx, m)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// arrive waits until the peer has received these bodies, in this order.
func (f *fixture) arrive(bodies ...string) []*amqppeer.Method {
	f.t.Helper()
	ms := make([]*amqppeer.Method, len(bodies))
	for i, want := range bodies {
		ms[i] = f.next("basic.publish")
		if ms[i].Body != want {
			f.t.Fatalf("the peer received %v, want %q next", ms[i], want)
		}
	}
	return ms
}

// verdict waits for c's.
func (f *fixture) verdict(c *producer.Confirmation, want producer.Verdict) error {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	err := c.Wait(ctx)
	if got := c.Verdict(); got != want {
		f.t.Fatalf("verdict %s (%v), want %s", got, err, want)
	}
	return err
}

func (f *fixture) pending(cs ...*producer.Confirmation) {
	f.t.Helper()
	for i, c := range cs {
		if !errors.Is(c.Err(), producer.ErrPending) || c.Verdict() != producer.Pending {
			f.t.Fatalf("message %d of these has verdict %s (%v), want none yet", i, c.Verdict(), c.Err())
		}
	}
}

// expired is a ctx that has ended.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func numbered(from, to int) []string {
	var s []string
	for i := from; i <= to; i++ {
		s = append(s, fmt.Sprint(i))
	}
	return s
}

func received(ms []*amqppeer.Method) string {
	s := make([]string, len(ms))
	for i, m := range ms {
		s[i] = m.String()
	}
	return strings.Join(s, " ")
}
