package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// patience is how long a test waits for what has to happen: far longer than it
	// takes, for machines that are busy.
	patience = time.Minute

	// never is a flush interval in which nothing is written but for another
	// reason.
	never = time.Hour
)

// fixture is a consumer that runs on a broker in this process.
type fixture struct {
	*consumer.Consumer
	t      *testing.T
	broker *mqtest.Broker
	queue  *mqtest.Queue // "q", a quorum queue unless the topology says otherwise
	pool   *reconnect.Pool
	memory bool // in a bubble
	log    *logs

	received events // what the broker was sent, before it knew of it
	cursor   int    // of next

	subscription *mqtest.Event // the first basic.consume of the present Run
	stop         context.CancelFunc
	ended        chan struct{}
	err          error // of Run, once ended is closed
}

// inBubble runs f where time is fake and nothing may be left behind. Its fixtures are
// in memory.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// setup changes what a fixture is made of.
type setup func(*mqtest.Config, *reconnect.Config)

// rules42 is a broker before 4.3.
func rules42(broker *mqtest.Config, _ *reconnect.Config) { broker.Rules = mqtest.Rules42 }

// queues are declared instead of a plain "q".
func queues(list ...topology.Queue) setup {
	return func(_ *mqtest.Config, pool *reconnect.Config) { pool.Topology.Queues = list }
}

// withDeadLetters is a "q" that dead-letters into "dead".
func withDeadLetters() setup {
	return queues(topology.Queue{Name: "q", DeadLetterQueue: "dead"}, topology.Queue{Name: "dead"})
}

// newFixture is one on a port: the pool dials by TCP, so its clock is the real one.
func newFixture(t *testing.T, cfg consumer.Config, h consumer.Handler, changes ...setup) *fixture {
	t.Helper()
	return fixtureOn(t, false, cfg, h, changes)
}

// newMemoryFixture is one in memory, which works in a bubble.
func newMemoryFixture(t *testing.T, cfg consumer.Config, h consumer.Handler, changes ...setup) *fixture {
	t.Helper()
	return fixtureOn(t, true, cfg, h, changes)
}

func fixtureOn(t *testing.T, memory bool, cfg consumer.Config, h consumer.Handler, changes []setup) *fixture {
	t.Helper()
	broker := mqtest.Config{Strict: true}
	pool := reconnect.Config{
		First:   reconnect.Consuming,
		Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) },
	}
	f := &fixture{t: t, memory: memory, log: &logs{}}
	if memory {
		pool.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			return f.broker.DialContext(ctx, network, address)
		}
	}
	queues(topology.Queue{Name: "q"})(&broker, &pool)
	for _, change := range changes {
		change(&broker, &pool)
	}
	start := mqtest.New
	if memory {
		start = mqtest.NewInMemory
	}
	f.broker = start(t, broker)
	f.queue = f.broker.Queue("q")
	f.broker.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point == mqtest.Received {
			f.received.add(e)
		}
		return mqtest.Pass()
	})
	pool.URLs = []string{f.broker.URL()}
	var err error
	if f.pool, err = reconnect.Open(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pool.CloseNow)
	if cfg.Declare == nil {
		cfg.Queue = "q"
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = patience
	}
	cfg.Logger = slog.New(slog.NewTextHandler(f.log, nil))
	if f.Consumer, err = consumer.New(f.pool, cfg); err != nil {
		t.Fatal(err)
	}
	f.run(h)
	return f
}

// run has the consumer run until stop, or the end of the test. An earlier Run has
// returned.
func (f *fixture) run(h consumer.Handler) {
	f.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(f.t.Context()))
	ended := make(chan struct{})
	f.stop, f.ended = stop, ended
	go func() {
		defer close(ended)
		f.err = f.Run(ctx, h)
	}()
	f.t.Cleanup(func() {
		f.pool.CloseNow() // tests end with handlers that run
		stop()
		<-ended
	})
	f.subscription = f.next("basic.consume")
}

// next is the next method of one of names that the broker is sent.
func (f *fixture) next(names ...string) *mqtest.Event {
	f.t.Helper()
	i, e := f.received.await(f.t, f.cursor, 1, names...)
	f.cursor = i + 1
	return e
}

// nextOn is next on the channel of a subscription.
func (f *fixture) nextOn(sub *mqtest.Event, names ...string) *mqtest.Event {
	f.t.Helper()
	for {
		if e := f.next(names...); e.Conn == sub.Conn && e.Channel == sub.Channel {
			return e
		}
	}
}

// renewed is the second subscription.
func (f *fixture) renewed() *mqtest.Event {
	f.t.Helper()
	_, e := f.received.await(f.t, 0, 2, "basic.consume")
	return e
}

var settlements = []string{"basic.ack", "basic.nack", "basic.reject"}

// settlement is the next one that the broker is sent; it has to read as want.
func (f *fixture) settlement(want string) *mqtest.Event {
	f.t.Helper()
	e := f.next(settlements...)
	if got := settled(e); got != want {
		f.t.Fatalf("the broker was sent %s, want %s", got, want)
	}
	return e
}

func settled(e *mqtest.Event) string {
	return fmt.Sprintf("%s(%d multiple=%v requeue=%v)", e.Method, e.Tag, e.Field("multiple") == true, e.Field("requeue") == true)
}

// unsettled tests that the broker was sent no more than n settlements.
func (f *fixture) unsettled(n int) {
	f.t.Helper()
	if list := f.received.of(settlements...); len(list) > n {
		f.t.Fatalf("the broker was sent %v, want %d settlements", list, n)
	}
}

// wait waits for the end of Run and returns its error.
func (f *fixture) wait() error {
	f.t.Helper()
	select {
	case <-f.ended:
		return f.err
	case <-time.After(patience):
		f.t.Fatal("Run does not return")
		return nil
	}
}

// enqueue puts messages into the queue.
func (f *fixture) enqueue(bodies ...string) {
	f.t.Helper()
	for _, b := range bodies {
		if !f.queue.Enqueue(mqtest.Message{Body: []byte(b)}) {
			f.t.Fatalf("the queue does not take %q", b)
		}
	}
}

// cut ends the connection of e without a word.
func (f *fixture) cut(e *mqtest.Event) {
	f.t.Helper()
	f.conn(e.Conn).Do(mqtest.Cut())
}

func (f *fixture) conn(id int) *mqtest.Connection {
	f.t.Helper()
	for _, c := range f.broker.Connections() {
		if c.ID() == id {
			return c
		}
	}
	f.t.Fatalf("connection %d is gone", id)
	return nil
}

// cancel has the broker cancel the subscription of the queue, once it has one.
func (f *fixture) cancel() {
	f.t.Helper()
	f.until("the queue had one consumer", func() bool { return f.queue.CancelConsumers() == 1 })
}

// waiting waits until n deliveries wait for a handler.
func (f *fixture) waiting(n int) {
	f.t.Helper()
	f.until(fmt.Sprintf("%d deliveries wait", n), func() bool { return f.Status().Waiting == n })
}

// until waits for what no event tells of. In a bubble it also waits for all that follows at once.
func (f *fixture) until(what string, is func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !is(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("it is not so that %s: %+v", what, f.Status())
		}
	}
	if f.memory {
		synctest.Wait()
	}
}

// contains tests what the queue holds once Run has returned: these bodies, none of
// them with anybody, none counted as failed.
func (f *fixture) contains(bodies ...string) {
	f.t.Helper()
	var got []string
	for _, m := range f.queue.Messages() {
		got = append(got, string(m.Body))
		if m.Unacked || m.DeliveryCount != 0 {
			f.t.Errorf("%q was given back as unacked=%v, with %d failed deliveries", m.Body, m.Unacked, m.DeliveryCount)
		}
	}
	if slices.Sort(got); !slices.Equal(got, bodies) {
		f.t.Errorf("the queue holds %q, want %q", got, bodies)
	}
}

// gate is a handler whose deliveries end when the test says how.
type gate struct {
	begun chan *call
}

type call struct {
	*consumer.Delivery
	ctx context.Context
	end chan error
}

func newGate() *gate { return &gate{begun: make(chan *call, 100)} }

func (g *gate) handle(ctx context.Context, d *consumer.Delivery) error {
	c := &call{Delivery: d, ctx: ctx, end: make(chan error, 1)}
	g.begun <- c
	select {
	case err := <-c.end:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next is the next call of the handler.
func (g *gate) next(t *testing.T) *call {
	t.Helper()
	return receive(t, g.begun)
}

// cause waits for the end of the handler's ctx and says why it ended.
func (c *call) cause(t *testing.T) error {
	t.Helper()
	select {
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	case <-time.After(patience):
		t.Fatal("the handler's ctx does not end")
		return nil
	}
}

// receive is the next value of a channel.
func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// brokersCode is the code with which the broker caused err, 0 if it did not.
func brokersCode(err error) int {
	var told *reconnect.BrokerError
	if errors.As(err, &told) {
		return told.Code
	}
	return 0
}
