package integration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// patience is how long a test waits for what should come soon. Nothing measures
// time with it.
const patience = 60 * time.Second

// redelivery is how long a test waits for what a broker that was stopped gives out
// again: from 4.3 on a quorum queue waits a minute for a consumer whose node went
// away to come back.
const redelivery = 3 * time.Minute

// states records the state changes of a pool.
type states struct {
	mu      sync.Mutex
	changes []reconnect.StateChange
	more    chan struct{}
}

func (s *states) add(c reconnect.StateChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, c)
	close(s.more)
	s.more = make(chan struct{})
}

func (s *states) count(role reconnect.Role, to reconnect.State) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.changes {
		if c.Role == role && c.To == to {
			n++
		}
	}
	return n
}

// await waits until role has entered state to n times.
func (s *states) await(t *testing.T, role reconnect.Role, to reconnect.State, n int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		more := s.more
		s.mu.Unlock()
		if s.count(role, to) >= n {
			return
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("the %s connection was %s %d times, want %d", role, to, s.count(role, to), n)
		}
	}
}

// open opens a pool that is closed at the end of the test.
func open(t *testing.T, cfg reconnect.Config) (*reconnect.Pool, *states) {
	t.Helper()
	s := &states{more: make(chan struct{})}
	cfg.OnStateChange = s.add
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pool, err := reconnect.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		closed := pool.Status(cfg.First).State == reconnect.Closed // by the test, which has looked at the error
		if err := pool.Close(ctx); err != nil && !closed {
			t.Errorf("close pool: %v", err)
		}
	})
	return pool, s
}

// quorum is a pool configuration whose topology has one durable quorum queue.
func quorum(name string, urls ...string) reconnect.Config {
	return reconnect.Config{URLs: urls, Topology: topology.Topology{Queues: []topology.Queue{{Name: name, DeliveryLimit: topology.Unlimited}}}}
}

// settled makes the broker write down which queues it has. A quorum queue that is
// killed with its node in its first half second comes back empty, confirmed
// messages included: see docs/guarantees.md.
func settled(t *testing.T, n interface{ SyncQueues(context.Context) error }) {
	t.Helper()
	if err := n.SyncQueues(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func newProducer(t *testing.T, pool *reconnect.Pool, cfg producer.Config) *producer.Producer {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	p, err := producer.New(pool, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// consuming is a consumer that runs in the background.
type consuming struct {
	*consumer.Consumer
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// stop ends Run and returns what it returned.
func (c *consuming) stop() error {
	c.cancel()
	<-c.done
	return c.err
}

// consume runs a consumer until the end of the test, or stop.
func consume(t *testing.T, pool *reconnect.Pool, cfg consumer.Config, h consumer.Handler) *consuming {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	cons, err := consumer.New(pool, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &consuming{Consumer: cons, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = cons.Run(ctx, h)
	}()
	t.Cleanup(func() { _ = c.stop() })
	return c
}

// eventually waits for a condition that no event tells.
func eventually(t *testing.T, what string, within time.Duration, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(within)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func (c *consuming) awaitSubscribed(t *testing.T) {
	t.Helper()
	eventually(t, "the consumer is subscribed", patience, func() bool { return c.Status().Subscribed })
}

// traffic publishes from several goroutines and consumes, and keeps the account.
type traffic struct {
	*account
	queue    string
	producer *producer.Producer
	consumer *consuming
	admits   func(error) bool // a verdict other than confirmed that is right here; nil: none is
}

// newTraffic has a producer, and a consumer that is subscribed and acks.
func newTraffic(t *testing.T, pool *reconnect.Pool, queue string, workers int) *traffic {
	t.Helper()
	tr := &traffic{account: newAccount(queue, false), queue: queue}
	tr.producer = newProducer(t, pool, tr.publishes(producer.Config{}))
	tr.consumer = consume(t, pool, tr.consumes(consumer.Config{Queue: queue, Workers: workers}), func(context.Context, *consumer.Delivery) error { return nil })
	tr.consumer.awaitSubscribed(t)
	return tr
}

// pace is between two messages of one publisher: the load is to be there when the fault
// strikes, and leaves the machine to the tests beside it.
const pace = 5 * time.Millisecond

// publish publishes from n goroutines, each message waiting for its verdict, until
// ctx ends.
func (tr *traffic) publish(ctx context.Context, t *testing.T, n int) *sync.WaitGroup {
	var wg sync.WaitGroup
	for g := range n {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				m := producer.Text("x").ToQueue(tr.queue)
				m.MessageID = fmt.Sprintf("%d-%d", g, i)
				// Not ctx: the end of the load must not give a message up.
				err := tr.producer.Publish(context.WithoutCancel(ctx), m)
				tr.answered(m.MessageID, err)
				if err != nil && (tr.admits == nil || !tr.admits(err)) {
					t.Errorf("message %s: %v", m.MessageID, err)
				}
				pause(ctx, pace)
			}
		})
	}
	return &wg
}

// awaitConfirmed waits until n more messages are confirmed.
func (tr *traffic) awaitConfirmed(t *testing.T, n int64) {
	t.Helper()
	tr.awaitMore(t, n, patience)
}

// settleUp waits until every confirmed message was handled, ends both, and has the books
// judged. url leads to the broker.
func (tr *traffic) settleUp(t *testing.T, url string) {
	t.Helper()
	defer tr.tellMissing(t)
	eventually(t, "every confirmed message is handled", redelivery, func() bool { return len(tr.missing()) == 0 })
	if err := tr.producer.Close(t.Context()); err != nil {
		t.Errorf("close the producer: %v", err)
	}
	err := tr.consumer.stop()
	if err != nil {
		t.Errorf("stop the consumer: %v", err)
	}
	_, ch := dial(t, url)
	t.Log(tr.judge(t, ch, err == nil, tr.queue))
}

// mustBe fails unless err has that verdict.
func mustBe(t *testing.T, err error, want producer.Verdict) {
	t.Helper()
	if got := producer.VerdictOf(err); got != want {
		t.Fatalf("verdict %s (%v), want %s", got, err, want)
	}
}

func isDeadline(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
