package publishcases

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing" //nolint:depguard // only tests import this package
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// Stand is what a case runs on.
type Stand struct {
	*mqtest.Stage        // where the producer connects; nobody else does
	Direct        string // the URL of the broker itself
	Largest       int    // the largest body that the broker takes

	// Deny takes the right to write to an exchange away from the producer's user, until
	// the end of the test.
	Deny func(t *testing.T, exchange string)

	// Alarm has publishers blocked, and no more.
	Alarm func(t *testing.T, on bool)

	// Restart ends the broker in order and starts it again, at the same address.
	Restart func(t *testing.T)
}

// Run runs each case on a stand of its own.
func Run(t *testing.T, open func(t *testing.T) Stand) {
	for _, c := range []struct {
		name string
		run  func(*stand)
	}{
		{"returned of equal ids", equalIDs},
		{"returned among ten thousand in flight", tenThousand},
		{"withdrawn while the connection is down", withdrawnWhileDown},
		{"withdrawn while the connection is blocked", withdrawnWhileBlocked},
		{"withdrawn while it is unconfirmed", withdrawnWhileUnconfirmed},
		{"poison that is known here", knownPoison},
		{"poison that is too large", tooLarge},
		{"poison of a foreign user", foreignUser},
		{"poison that may not be written", notPermitted},
		{"poison to an exchange that was deleted", deletedExchange},
		{"order after a cut", orderAfterACut},
		{"fail fast while the connection is down", failFastWhileDown},
		{"fail fast while the connection is blocked", failFastWhileBlocked},
		{"no room in messages", noRoomInMessages},
		{"no room in bytes", noRoomInBytes},
		{"closed before the verdicts", closedBeforeTheVerdicts},
		{"a thousand publishers and twenty cuts", manyCuts},
		{"restart", restart},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(begin(t, open(t))) })
	}
}

// within bounds what a case waits for. It is far more than anything here takes.
const within = time.Minute

type stand struct {
	Stand
	*producer.Producer
	t        *testing.T
	queue    string
	pool     *reconnect.Pool
	observer *amqp.Connection
	direct   *amqp.Channel // the observer's; see admin

	mu       sync.Mutex // guards what follows
	states   []reconnect.State
	attempts map[string]int // by id
	sent     int            // of attempts, all together
	changed  chan struct{}  // closed and replaced with each entry of these
}

func begin(t *testing.T, open Stand) *stand {
	t.Helper()
	s := &stand{Stand: open, t: t, queue: "mqkit." + rand.Text(), attempts: map[string]int{}, changed: make(chan struct{})}
	t.Cleanup(func() {
		if _, err := s.admin().QueueDelete(s.queue, false, false, false); err != nil {
			t.Errorf("delete: %v", err)
		}
		if err := s.observer.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// admin is a channel that goes past the stage.
func (s *stand) admin() *amqp.Channel {
	s.t.Helper()
	if s.direct == nil || s.direct.IsClosed() {
		var err error
		if s.observer == nil || s.observer.IsClosed() {
			s.observer, err = amqp.Dial(s.Direct)
			s.must(err)
		}
		s.direct, err = s.observer.Channel()
		s.must(err)
		s.must(s.direct.Confirm(false))
	}
	return s.direct
}

func (s *stand) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// open has a producer on a quorum queue, unless another kind is asked for.
func (s *stand) open(cfg producer.Config, kind ...topology.QueueType) {
	s.t.Helper()
	queue := topology.Queue{Name: s.queue, Type: topology.Quorum, DeliveryLimit: topology.Unlimited}
	if len(kind) > 0 {
		queue = topology.Queue{Name: s.queue, Type: kind[0]}
	}
	ctx, cancel := s.bounded()
	defer cancel()
	var err error
	s.pool, err = reconnect.Open(ctx, reconnect.Config{
		URLs:          []string{s.URL()},
		Topology:      topology.Topology{Queues: []topology.Queue{queue}},
		Backoff:       func() backoff.BackOff { return backoff.NewConstantBackOff(5 * time.Millisecond) },
		Logger:        slog.New(slog.DiscardHandler),
		OnStateChange: func(c reconnect.StateChange) { s.note(func() { s.states = append(s.states, c.To) }) },
	})
	s.must(err)
	s.t.Cleanup(s.pool.CloseNow)
	cfg.OnAttempt = func(a producer.Attempt) { s.note(func() { s.attempts[a.MessageID]++; s.sent++ }) }
	s.Producer, err = producer.New(s.pool, cfg)
	s.must(err)
}

func (s *stand) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), within)
}

func (s *stand) note(add func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add()
	close(s.changed)
	s.changed = make(chan struct{})
}

// until waits until look, which is called with s.mu held, says that it is so.
func (s *stand) until(look func() bool, what string, args ...any) {
	s.t.Helper()
	ctx, cancel := s.bounded()
	defer cancel()
	for {
		s.mu.Lock()
		so, changed := look(), s.changed
		s.mu.Unlock()
		if so {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			s.t.Fatalf("waited in vain for "+what, args...)
		}
	}
}

func (s *stand) timesLocked(state reconnect.State) (n int) {
	for _, was := range s.states {
		if was == state {
			n++
		}
	}
	return n
}

// await waits until the connection was in state n times.
func (s *stand) await(state reconnect.State, n int) {
	s.t.Helper()
	s.until(func() bool { return s.timesLocked(state) >= n }, "the connection to be %s, %d times", state, n)
}

// handed waits until n messages were handed over, those that were handed over again
// included.
func (s *stand) handed(n int) {
	s.t.Helper()
	s.until(func() bool { return s.sent >= n }, "%d messages to be handed over", n)
}

// struck waits for a fault.
func (s *stand) struck(in *mqtest.Injected) {
	s.t.Helper()
	ctx, cancel := s.bounded()
	defer cancel()
	if err := in.Wait(ctx); err != nil {
		s.t.Fatalf("the fault has struck %d times: %v", in.Hits(), err)
	}
}

// counts is no fault: it counts a method.
func (s *stand) counts(point mqtest.Point, method string) *mqtest.Injected {
	return s.Inject(mqtest.Fault{Point: point, Method: method})
}

// unconfirmed has the next n confirms lost; the broker has the messages.
func (s *stand) unconfirmed(n int) *mqtest.Injected {
	return s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Count: n, Do: mqtest.Drop()})
}

// heldBack has no verdict leave until it is released.
func (s *stand) heldBack() *mqtest.Injected {
	return s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Count: 1, Do: mqtest.Hold()})
}

// goDown ends the connection, and has it not come back.
func (s *stand) goDown() {
	s.t.Helper()
	s.mu.Lock()
	before := s.timesLocked(reconnect.Waiting)
	s.mu.Unlock()
	s.RefuseConnections()
	if s.DropConnections() == 0 {
		s.t.Fatal("there was no connection to cut")
	}
	s.await(reconnect.Waiting, before+1)
}

func (s *stand) comeBack() {
	s.t.Helper()
	s.must(s.AcceptConnections())
}

// text is a message whose id is its body.
func (s *stand) text(id string) producer.Message {
	m := producer.Text(id).ToQueue(s.queue)
	m.MessageID = id
	return m
}

// nowhere is the name of a queue that is not there.
func (s *stand) nowhere() string { return s.queue + ".nowhere" }

func (s *stand) publish(ids ...string) (cs []*producer.Confirmation) {
	s.t.Helper()
	for _, id := range ids {
		cs = append(cs, s.message(s.text(id)))
	}
	return cs
}

func (s *stand) message(m producer.Message) *producer.Confirmation {
	s.t.Helper()
	ctx, cancel := s.bounded()
	defer cancel()
	c, err := s.PublishAsync(ctx, m)
	s.must(err)
	return c
}

// verdict waits for c's.
func (s *stand) verdict(c *producer.Confirmation, want producer.Verdict) error {
	s.t.Helper()
	ctx, cancel := s.bounded()
	defer cancel()
	err := c.Wait(ctx)
	if got := c.Verdict(); got != want {
		s.t.Fatalf("message %s: verdict %s (%v), want %s", c.MessageID(), got, err, want)
	}
	return err
}

func (s *stand) pending(c *producer.Confirmation) {
	s.t.Helper()
	if c.Verdict() != producer.Pending {
		s.t.Errorf("message %s has verdict %s (%v), want none yet", c.MessageID(), c.Verdict(), c.Err())
	}
}

// notSent checks that err is that verdict, for a reason.
func (s *stand) notSent(err, reason error) {
	s.t.Helper()
	if producer.VerdictOf(err) != producer.NotSent || !errors.Is(err, producer.ErrNotSent) || !errors.Is(err, reason) || !producer.SafeToRetry(err) {
		s.t.Errorf("%v, want not sent because: %v", err, reason)
	}
}

// theEnd is put behind everything that a case has sent.
const theEnd = "the end"

// stored takes everything out of the queue and counts it by its bodies.
func (s *stand) stored() map[string]int {
	s.t.Helper()
	ch := s.admin()
	end, err := ch.PublishWithDeferredConfirm("", s.queue, false, false, amqp.Publishing{Body: []byte(theEnd), DeliveryMode: amqp.Persistent})
	s.must(err)
	ctx, cancel := s.bounded()
	defer cancel()
	if acked, err := end.WaitContext(ctx); err != nil || !acked {
		s.t.Fatalf("the queue takes nothing: %v", err)
	}
	in, err := ch.Consume(s.queue, "", true, false, false, false, nil)
	s.must(err)
	count := map[string]int{}
	for {
		select {
		case d, ok := <-in:
			if !ok {
				s.t.Fatalf("the queue is gone, after %d bodies", len(count))
			}
			if string(d.Body) != theEnd {
				count[string(d.Body)]++
				continue
			}
			s.must(ch.Close())
			return count
		case <-ctx.Done():
			s.t.Fatalf("the queue has only %d bodies, and not the last", len(count))
		}
	}
}

// holds compares what is stored with bodies, each of them once.
func (s *stand) holds(bodies ...string) {
	s.t.Helper()
	want := map[string]int{}
	for _, b := range bodies {
		want[b]++
	}
	if got := s.stored(); !maps.Equal(got, want) {
		s.t.Errorf("stored are %v, want %v", differences(got, want), differences(want, got))
	}
}

// differences are those of a that b does not have so often.
func differences(a, b map[string]int) (list []string) {
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if a[k] != b[k] {
			list = append(list, fmt.Sprintf("%.40s x%d", k, a[k]))
		}
	}
	return list
}

// timesHanded is how often a message was handed to a connection.
func (s *stand) timesHanded(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts[id]
}

// closes ends the producer, which has its verdicts.
func (s *stand) closes() {
	s.t.Helper()
	ctx, cancel := s.bounded()
	defer cancel()
	s.must(s.Close(ctx))
}

func numbered(prefix string, n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint(prefix, i))
	}
	return ids
}
