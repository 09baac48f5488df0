package producer_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/internal/wire"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen: far longer than it takes,
// for machines that are busy.
const patience = time.Minute

// turn lets others work while a test looks again and again for what no event tells.
func turn() { <-time.After(time.Millisecond) }

// fixture is a producer connected to a broker with one queue, q.
type fixture struct {
	*producer.Producer
	t      *testing.T
	broker *mqtest.Broker
	pool   *reconnect.Pool

	mu      sync.Mutex // guards what follows
	states  []reconnect.State
	log     []*mqtest.Event // methods that the broker has received
	cursor  int             // of next
	changed chan struct{}   // closed and replaced with each entry of either
}

// newFixture returns one whose faults are in place before the producer connects.
func newFixture(t *testing.T, cfg producer.Config, faults ...mqtest.Fault) *fixture {
	t.Helper()
	return fixtureOn(t, mqtest.New(t), cfg, faults...)
}

func fixtureOn(t *testing.T, broker *mqtest.Broker, cfg producer.Config, faults ...mqtest.Fault) *fixture {
	t.Helper()
	return fixtureWith(t, broker, cfg, func(*reconnect.Config) {}, faults...)
}

// inBubble runs f where time is fake and nothing may be left behind. Its fixtures are in
// memory.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// newMemoryFixture returns one in memory, which works in a bubble, on a pool as change has
// it.
func newMemoryFixture(t *testing.T, cfg producer.Config, change func(*reconnect.Config)) *fixture {
	t.Helper()
	broker := mqtest.NewInMemory(t)
	return fixtureWith(t, broker, cfg, func(pool *reconnect.Config) {
		pool.Dial = broker.DialContext
		change(pool)
	})
}

// backoffOf has the pool wait so long before each attempt.
func backoffOf(wait time.Duration) func(*reconnect.Config) {
	return func(pool *reconnect.Config) {
		pool.Backoff = func() backoff.BackOff { return backoff.NewConstantBackOff(wait) }
	}
}

func fixtureWith(t *testing.T, broker *mqtest.Broker, cfg producer.Config, change func(*reconnect.Config), faults ...mqtest.Fault) *fixture {
	t.Helper()
	f := &fixture{t: t, broker: broker, changed: make(chan struct{})}
	broker.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point == mqtest.Received {
			f.note(func() { f.log = append(f.log, e) })
		}
		return mqtest.Pass()
	})
	for _, fault := range faults {
		broker.Inject(fault)
	}
	pool := reconnect.Config{
		URLs:     []string{broker.URL()},
		Topology: topology.Topology{Queues: []topology.Queue{{Name: "q", Type: topology.Classic}}},
		Backoff:  func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) },
		Logger:   slog.New(slog.DiscardHandler),
		OnStateChange: func(c reconnect.StateChange) {
			f.note(func() { f.states = append(f.states, c.To) })
		},
	}
	change(&pool)
	var err error
	if f.pool, err = reconnect.Open(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pool.CloseNow)
	if f.Producer, err = producer.New(f.pool, cfg); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) note(add func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	add()
	close(f.changed)
	f.changed = make(chan struct{})
}

// until waits until look, which is called with f.mu held, says that it is so.
func (f *fixture) until(look func() bool, what string, args ...any) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for {
		f.mu.Lock()
		so, changed := look(), f.changed
		f.mu.Unlock()
		if so {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.t.Fatalf("waited in vain for "+what, args...)
		}
	}
}

// await waits until the connection was n times in state.
func (f *fixture) await(state reconnect.State, n int) {
	f.t.Helper()
	f.until(func() bool {
		seen := 0
		for _, s := range f.states {
			if s == state {
				seen++
			}
		}
		return seen >= n
	}, "the connection to be %s, %d times", state, n)
}

// next is the next method of one of names that the broker receives; those before
// it are skipped.
func (f *fixture) next(names ...string) (m *mqtest.Event) {
	f.t.Helper()
	f.until(func() bool {
		for f.cursor < len(f.log) {
			e := f.log[f.cursor]
			f.cursor++
			if slices.Contains(names, e.Method) {
				m = e
				return true
			}
		}
		return false
	}, "the broker to receive %v", names)
	return m
}

// received returns all methods received so far that have one of names.
func (f *fixture) received(names ...string) []*mqtest.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.log), func(e *mqtest.Event) bool { return !slices.Contains(names, e.Method) })
}

// arrive waits until the broker has received these bodies, in this order.
func (f *fixture) arrive(bodies ...string) []*mqtest.Event {
	f.t.Helper()
	ms := make([]*mqtest.Event, len(bodies))
	for i, want := range bodies {
		ms[i] = f.next("basic.publish")
		if string(ms[i].Body) != want {
			f.t.Fatalf("the broker received %s, want %q next", text(ms[i]), want)
		}
	}
	return ms
}

// silent is a fault: every confirm is lost, though the broker has the message.
// What the producer is to hear of it, the test says.
func silent() mqtest.Fault {
	return mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Do: mqtest.Drop()}
}

// unanswered is a fault: the first answer to a method of that name is lost.
func unanswered(name string) mqtest.Fault {
	return mqtest.Fault{Point: mqtest.Applied, Method: name, Count: 1, Do: mqtest.Drop()}
}

// loses is silent for the next n messages; see struck.
func loses(n int) mqtest.Fault {
	fault := silent()
	fault.Count = n
	return fault
}

// refuses is a fault: the broker closes the channel for the message with that body.
func refuses(body string) mqtest.Fault {
	return mqtest.Fault{
		Point: mqtest.Received, Method: "basic.publish", If: func(e *mqtest.Event) bool { return string(e.Body) == body },
		Do: mqtest.CloseChannel(404, "NOT_FOUND - test"),
	}
}

// struck waits until the faults have happened.
func (f *fixture) struck(faults ...*mqtest.Injected) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for _, in := range faults {
		if err := in.Wait(ctx); err != nil {
			f.t.Fatalf("the fault has struck %d times: %v", in.Hits(), err)
		}
	}
}

// do has actions happen to the channel on which m came, in one piece.
func (f *fixture) do(m *mqtest.Event, actions ...mqtest.Action) {
	f.t.Helper()
	all := actions[0]
	for _, a := range actions[1:] {
		all = all.Then(a)
	}
	f.conn(m).DoOn(m.Channel, all)
}

// conn is the connection on which m came.
func (f *fixture) conn(m *mqtest.Event) *mqtest.Connection {
	f.t.Helper()
	for _, c := range f.broker.Connections() {
		if c.ID() == m.Conn {
			return c
		}
	}
	f.t.Fatalf("connection %d is gone", m.Conn)
	return nil
}

// say has the broker send methods to the channel on which m came, in one piece.
func (f *fixture) say(m *mqtest.Event, methods ...mqtest.Method) {
	f.t.Helper()
	f.do(m, mqtest.Answer(methods...))
}

func ack(number uint64, multiple bool) mqtest.Method {
	return mqtest.Method{Name: "basic.ack", Fields: map[string]any{"delivery-tag": number, "multiple": multiple}}
}

func nack(number uint64) mqtest.Method {
	return mqtest.Method{Name: "basic.nack", Fields: map[string]any{"delivery-tag": number}}
}

// giveBack returns m, a basic.publish, with all that was in it.
func giveBack(m *mqtest.Event) mqtest.Action {
	return mqtest.Answer(mqtest.Method{Name: "basic.return", Message: m.Message(), Fields: map[string]any{
		"reply-code": 312, "reply-text": "NO_ROUTE", "exchange": m.Exchange, "routing-key": m.RoutingKey,
	}})
}

// frames takes those of m apart: of a publish its method, its header, its body.
func frames(m *mqtest.Event) (list [][]byte) {
	for rest := m.Frames; len(rest) > 0; {
		size := int(binary.BigEndian.Uint32(rest[3:])) + wire.FrameOverhead
		list, rest = append(list, rest[:size]), rest[size:]
	}
	return list
}

// block blocks the connection on which m came, before it publishes again.
func (f *fixture) block(m *mqtest.Event) {
	f.t.Helper()
	f.conn(m).Block("")
	f.await(reconnect.Blocked, 1)
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

// accepted waits until n messages were passed to the producer: each has its place,
// or waits for one.
func (f *fixture) accepted(n uint64) {
	f.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); f.Stats().Accepted < n; <-tick.C {
		if time.Now().After(deadline) {
			f.t.Fatalf("%d messages were passed, want %d", f.Stats().Accepted, n)
		}
	}
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

// stored checks what the broker has in the queue.
func (f *fixture) stored(bodies ...string) {
	f.t.Helper()
	if got := f.broker.Queue("q").Bodies(); !slices.Equal(got, bodies) {
		f.t.Errorf("the queue has %q, want %q", got, bodies)
	}
}

// ending waits for what a call in the background returns.
func ending(t *testing.T, what string, result <-chan error) error {
	t.Helper()
	select {
	case err := <-result:
		return err
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
		return nil
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

func text(ms ...*mqtest.Event) string {
	s := make([]string, len(ms))
	for i, m := range ms {
		if s[i] = m.Method; m.Method == "basic.publish" {
			s[i] = fmt.Sprintf("publish(%d %q)", m.Number, m.Body)
		}
	}
	return strings.Join(s, " ")
}
