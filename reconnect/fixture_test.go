package reconnect_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// patience bounds what a test waits for and does not expect to wait for.
	patience = time.Minute

	// secret is the password of a fixture's broker.
	secret = "hunter2"

	// pause is between attempts, unless a test has a backoff of its own.
	pause = time.Second
)

// inBubble runs f where time is fake and nothing may be left behind.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// fixture is a broker and what the pools on it tell.
type fixture struct {
	*log
	t        *testing.T
	broker   *mqtest.Broker
	accepted *mqtest.Injected // counts the broker's connections
	memory   []*mqtest.Broker // that dial finds by their addresses

	mu       sync.Mutex // guards what follows
	received []*mqtest.Event
	dialled  []string
}

// newFixture is one in memory, which works in a bubble.
func newFixture(t *testing.T, cfg ...mqtest.Config) *fixture {
	t.Helper()
	f := fixtureOn(t, mqtest.NewInMemory(t, withUser(cfg)))
	f.memory = []*mqtest.Broker{f.broker}
	return f
}

// newPortFixture is one on a port, for what is about TCP.
func newPortFixture(t *testing.T, cfg ...mqtest.Config) *fixture {
	t.Helper()
	return fixtureOn(t, mqtest.New(t, withUser(cfg)))
}

func withUser(cfg []mqtest.Config) mqtest.Config {
	c := mqtest.Config{}
	if len(cfg) > 0 {
		c = cfg[0]
	}
	c.Users = map[string]string{"app": secret}
	return c
}

func fixtureOn(t *testing.T, b *mqtest.Broker) *fixture {
	t.Helper()
	f := &fixture{log: newLog(), t: t, broker: b}
	f.accepted = b.Inject(mqtest.Fault{Point: mqtest.Accepted})
	b.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point == mqtest.Received {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.received = append(f.received, e)
		}
		return mqtest.Pass()
	})
	return f
}

// second is another broker in memory that the pools of f can reach.
func (f *fixture) second() *fixture {
	f.t.Helper()
	return f.another("second.invalid:5672")
}

// another is one at an address.
func (f *fixture) another(address string) *fixture {
	f.t.Helper()
	other := newFixture(f.t, mqtest.Config{Listen: address})
	f.memory = append(f.memory, other.broker)
	return other
}

// dial is the network: brokers by their addresses, and nobody anywhere else.
func (f *fixture) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f.mu.Lock()
	f.dialled = append(f.dialled, address)
	f.mu.Unlock()
	for _, b := range f.memory {
		if b.Addr() == address {
			return b.Dial(network, address)
		}
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
}

// times is how often an address was dialled.
func (f *fixture) times(address string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.dialled {
		if a == address {
			n++
		}
	}
	return n
}

// config is that of a pool at urls, or at the broker alone, that tells f
// everything.
func (f *fixture) config(urls ...string) reconnect.Config {
	if len(urls) == 0 {
		urls = []string{f.broker.URL()}
	}
	cfg := reconnect.Config{
		URLs:          urls,
		Backoff:       shortWait,
		OnStateChange: f.change,
		Logger:        slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if len(f.memory) > 0 {
		cfg.Dial = f.dial
		return cfg
	}
	cfg.Backoff = func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) }
	return cfg
}

func shortWait() backoff.BackOff { return backoff.NewConstantBackOff(pause) }

// never again within a test.
func longWait() backoff.BackOff { return backoff.NewConstantBackOff(time.Hour) }

// counted counts how often the next wait is asked for, and resets.
type counted struct {
	nexts, resets atomic.Int64
}

func (b *counted) NextBackOff() time.Duration { b.nexts.Add(1); return pause }
func (b *counted) Reset()                     { b.resets.Add(1) }

// methods returns what the broker was sent so far: what has one of names, or all
// of it if there are none.
func (f *fixture) methods(names ...string) []*mqtest.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.received), func(e *mqtest.Event) bool {
		return len(names) > 0 && !slices.Contains(names, e.Method)
	})
}

// struck waits until the faults have happened.
func (f *fixture) struck(faults ...*mqtest.Injected) {
	f.t.Helper()
	for _, in := range faults {
		if err := in.Wait(limited(f.t)); err != nil {
			f.t.Fatalf("the fault has struck %d times: %v", in.Hits(), err)
		}
	}
}

// hits is how often a fault has struck, which it notes after the client has seen
// it. It is for a bubble.
func hits(in *mqtest.Injected) int {
	synctest.Wait()
	return in.Hits()
}

// conn is the newest connection of the broker.
func (f *fixture) conn() *mqtest.Connection {
	f.t.Helper()
	all := f.broker.Connections()
	if len(all) == 0 {
		f.t.Fatal("the broker has no connection")
	}
	return all[len(all)-1]
}

// cut cuts all connections of the broker, of which there must be n. It is for a
// bubble.
func (f *fixture) cut(n int) {
	f.t.Helper()
	synctest.Wait() // those that are being closed are gone
	if got := f.broker.DropConnections(); got != n {
		f.t.Fatalf("%d connections were cut, want %d", got, n)
	}
}

// refuses is a fault: the broker closes the connection for a method.
func refuses(method string, code int, text string) mqtest.Fault {
	return mqtest.Fault{Point: mqtest.Received, Method: method, Do: mqtest.CloseConnection(code, text)}
}

// refusesOnChannel is a fault: it closes the channel.
func refusesOnChannel(method string, code int, text string) mqtest.Fault {
	return mqtest.Fault{Point: mqtest.Received, Method: method, Do: mqtest.CloseChannel(code, text)}
}

// unanswered is a fault: the answer to a method is lost.
func unanswered(method string) mqtest.Fault {
	return mqtest.Fault{Point: mqtest.Applied, Method: method, Do: mqtest.Drop()}
}

// cutAfterOpenOk is a fault: the connection is cut as soon as it is open.
func cutAfterOpenOk() mqtest.Fault {
	return mqtest.Fault{Point: mqtest.Sending, Method: "connection.open-ok", Do: mqtest.Pass().Then(mqtest.Cut())}
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// expired is a ctx that has ended.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// open makes a pool that is closed with the test.
func open(t *testing.T, cfg reconnect.Config) *reconnect.Pool {
	t.Helper()
	p, err := reconnect.Open(limited(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseNow)
	return p
}

// openFails runs Open until its first round of dialling has failed, and then
// ends its ctx.
func openFails(t *testing.T, cfg reconnect.Config) error {
	t.Helper()
	cfg.Backoff = longWait
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	tell := cfg.OnStateChange
	cfg.OnStateChange = func(c reconnect.StateChange) {
		tell(c)
		if c.To == reconnect.Waiting {
			cancel()
		}
	}
	p, err := reconnect.Open(ctx, cfg)
	if err == nil {
		p.CloseNow()
		t.Fatal("Open succeeded")
	}
	return err
}

// opening makes a pool that may never look connected to Open.
func opening(t *testing.T, cfg reconnect.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if p, err := reconnect.Open(ctx, cfg); err == nil {
			defer p.CloseNow()
			<-ctx.Done()
		} else if reconnect.IsFatal(err) {
			t.Errorf("Open ended: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// acquire is a channel for a role, which ends with its connection.
func acquire(t *testing.T, p *reconnect.Pool, role reconnect.Role) *reconnect.Channel {
	t.Helper()
	ch, err := p.Acquire(limited(t), role)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// onClose is OnClose of a pool that is not being closed.
func onClose(t *testing.T, p *reconnect.Pool, role reconnect.Role, drain func(context.Context) error) (remove func()) {
	t.Helper()
	remove, err := p.OnClose(role, drain)
	if err != nil {
		t.Fatal(err)
	}
	return remove
}

func declare(raw *amqp.Channel) error {
	_, err := raw.QueueDeclare("q", true, false, false, false, nil)
	return err
}

func qos(raw *amqp.Channel) error { return raw.Qos(1, 0, false) }

// await is what arrives on c, or its end.
func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing after %v", what, patience)
		panic("not reached")
	}
}

// within tests that f returns.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	await(t, done, what)
}

func after(d time.Duration) { <-time.After(d) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// wantAfter tests that exactly so much time has passed.
func wantAfter(t *testing.T, began time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(began); got != want {
		t.Errorf("it took %v, want %v", got, want)
	}
}

// wantBroker tests that err is the broker's own word.
func wantBroker(t *testing.T, what string, err error, code int, fatal bool) {
	t.Helper()
	var be *reconnect.BrokerError
	if !errors.As(err, &be) || be.Code != code || reconnect.IsFatal(err) != fatal {
		t.Errorf("%s: %v (fatal %v), want the broker's %d (fatal %v)", what, err, reconnect.IsFatal(err), code, fatal)
	}
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}
