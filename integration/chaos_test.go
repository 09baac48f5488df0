package integration_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/ledger"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

var (
	chaosSeed = flag.Uint64("seed", 0, "what chaos begins with; 0 takes one by the clock")

	chaosDuration = flag.Duration("duration", 0, "how long chaos goes on; 0: until it has made its number of faults")

	// By default it leaves something of the machine to the tests beside it.
	chaosPause = flag.Duration("pause", 2*time.Millisecond, "how long a publisher of chaos pauses between messages")
)

const (
	// backlog is how much may be confirmed and not consumed: publishers wait above it.
	backlog = 5000

	// betweenFaults so many messages are confirmed, at least.
	betweenFaults = 500

	// noticing is how long a fault is waited for to be noticed.
	noticing = 8 * time.Second

	// deadLettering is how long a message may be on its way into the dead-letter queue: what
	// is not confirmed there RabbitMQ sends again after three minutes.
	deadLettering = 8 * time.Minute

	// forgotten is the consumer timeout of a cluster's queues. RabbitMQ 4.3.6 once held what a
	// lost consumer had for more than the minute that it should, see docs/guarantees.md.
	forgotten = 90 * time.Second

	// stalled is how long nothing has to be confirmed for a fault to count as noticed.
	stalled = time.Second
)

// chaos breaks a broker at random moments while messages are published and consumed, and
// has the books judged. It goes in rounds, each with a queue and books of its own, so that
// the books of a long run find room.
type chaos struct {
	t       *testing.T
	began   time.Time
	most    int // faults, unless there is a duration
	r       *rand.Rand
	urls    []string                   // that the client knows
	broker  func() string              // a URL that leads there whatever is broken, once nothing is
	written func()                     // has the broker write down which queues it has
	patient time.Duration              // how long it may take until something is confirmed
	overdue time.Duration              // the queues' consumer timeout; 0 is the node's
	faults  func(r *round) []*mishap   // of one round, in their order
	made    map[string]int             // by fault
	seen    map[string]int             // of those, noticed by the client
	silent  map[string][]time.Duration // the longest time without a confirm from a fault's beginning to the first confirm after its end
	total   ledger.Report
}

// mishap is one fault. do begins it and returns what ends it, which reports whether it was
// made at all.
type mishap struct {
	name string
	do   func() (end func() (made bool))
}

// manner is how a round publishes and consumes.
type manner struct {
	sync        bool // each publisher waits for each verdict
	get         bool // it is consumed by basic.get, on the bare driver
	deadLetters bool // some are rejected into a dead-letter queue, which is consumed as well
}

func (m manner) String() string {
	s := "published without waiting, "
	if m.sync {
		s = "published one by one, "
	}
	if m.get {
		s += "got"
	} else {
		s += "consumed"
	}
	if m.deadLetters {
		s += ", some dead-lettered"
	}
	return s
}

func newChaos(t *testing.T, faults int) *chaos {
	t.Helper()
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", seed)
	return &chaos{t: t, began: time.Now(), most: faults, r: rand.New(rand.NewPCG(seed, 1)), patient: patience, made: map[string]int{}, seen: map[string]int{}, silent: map[string][]time.Duration{}}
}

// left is how many faults are still to be made, n at most.
func (c *chaos) left(n int) int {
	switch {
	case c.t.Failed():
		return 0
	case *chaosDuration == 0:
		return min(n, c.most-sum(c.made))
	case time.Since(c.began) < *chaosDuration:
		return n
	default:
		return 0
	}
}

func sum(counts map[string]int) (n int) {
	for _, k := range counts {
		n += k
	}
	return n
}

// String is the table of verdicts, faults, and how long nothing was confirmed.
func (c *chaos) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d faults made in %v, %d of them noticed by the client\n%v", sum(c.made), time.Since(c.began).Round(time.Second), sum(c.seen), c.total)
	var all []time.Duration
	for _, name := range slices.Sorted(maps.Keys(c.made)) {
		fmt.Fprintf(&s, "%s: %d made, %d noticed, without a confirm %s\n", name, c.made[name], c.seen[name], spread(c.silent[name]))
		all = append(all, c.silent[name]...)
	}
	fmt.Fprintf(&s, "the longest time without a confirm around a fault: %s\n", spread(all))
	return s.String()
}

// spread is p50, p99 and the most of durations.
func spread(list []time.Duration) string {
	if len(list) == 0 {
		return "none"
	}
	slices.Sort(list)
	at := func(percent int) time.Duration { return list[(len(list)-1)*percent/100].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %v, p99 %v, max %v", at(50), at(99), at(100))
}

// round is one queue with its books and some faults.
type round struct {
	*chaos
	*account
	manner   manner
	queue    string
	exchange string // what is published to it comes to the queue as well
	side     string // a queue that may be deleted: what is in it is in no book
	pool     *reconnect.Pool
	states   *states
	producer *producer.Producer

	sessions atomic.Uint64 // of the producer
	sent     atomic.Int64  // messages that were published
	told     atomic.Int64  // of these, the ones that have their verdict
	watched  []*consuming

	clock   sync.Mutex    // guards what follows
	at      time.Time     // of the last confirm
	longest time.Duration // between two confirms, since that was asked for
}

// round plays one.
func (c *chaos) round(m manner) {
	t := c.t
	began := time.Now()
	queue := uniqueName(t)
	r := &round{chaos: c, manner: m, queue: queue, exchange: queue + ".x", side: queue + ".side", at: time.Now(), account: newAccount(queue, m.deadLetters)}
	cfg := quorum(queue, c.urls...)
	cfg.Heartbeat = 2 * time.Second // a half-open connection is noticed in four
	cfg.Topology.Exchanges = []topology.Exchange{{Name: r.exchange, Kind: topology.KindFanout}}
	cfg.Topology.Bindings = []topology.Binding{{Exchange: r.exchange, Queue: queue}}
	cfg.Topology.Queues = append(cfg.Topology.Queues, topology.Queue{Name: r.side})
	dead := queue + ".dead"
	if m.deadLetters {
		// At most once, as is the default, nodes that are killed lose some.
		q := &cfg.Topology.Queues[0]
		q.DeadLetterQueue, q.DeadLetterStrategy, q.Overflow = dead, topology.AtLeastOnce, topology.RejectPublish
		cfg.Topology.Queues = append(cfg.Topology.Queues, topology.Queue{Name: dead, DeliveryLimit: topology.Unlimited})
	}
	for i := range cfg.Topology.Queues {
		cfg.Topology.Queues[i].ConsumerTimeout = c.overdue
	}
	r.pool, r.states = open(t, cfg)
	c.written()
	r.producer = newProducer(t, r.pool, r.publishes(producer.Config{
		OnAttempt: func(a producer.Attempt) { r.sessions.Store(a.Session) },
		OnVerdict: r.passes,
	}))

	defer r.tellMissing(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load, getting sync.WaitGroup
	got, gotten := context.WithCancel(t.Context())
	defer gotten()
	if m.get {
		getting.Go(func() { r.get(got) })
	} else {
		r.consume(queue, r.handler())
	}
	if m.deadLetters {
		r.consume(dead, func(context.Context, *consumer.Delivery) error { return nil })
	}
	r.watched = append(r.watched, consume(t, r.pool, consumer.Config{Queue: r.side}, func(context.Context, *consumer.Delivery) error { return nil }))
	for _, con := range r.watched {
		con.awaitSubscribed(t)
	}
	publishers := 2
	if m.sync {
		publishers = 16
	}
	for publisher := range publishers {
		load.Go(func() { r.publish(ctx, publisher) })
	}
	faults := c.faults(r)
	for _, f := range faults {
		r.awaitMore(t, betweenFaults, c.patient)
		r.suffer(f)
		if t.Failed() {
			break
		}
	}
	r.awaitMore(t, betweenFaults, c.patient)
	stop()
	load.Wait()

	patient := redelivery
	if m.deadLetters {
		patient = deadLettering
	}
	end, cancel := context.WithTimeout(context.Background(), 2*patient)
	defer cancel()
	if err := r.producer.Close(end); err != nil {
		t.Errorf("close the producer: %v", err)
	}
	_, ch := dial(t, c.broker())
	// That nothing is ready is not enough: what a lost consumer held a 4.3 quorum queue gives
	// out again after a minute.
	t.Logf("%d messages are confirmed and not handled when the last fault is over", len(r.missing()))
	eventually(t, "all that was confirmed is handled", patient, func() bool { return len(r.missing()) == 0 })
	eventually(t, "the queues are empty", patient, func() bool {
		busy := 0
		for _, con := range r.watched {
			s := con.Status()
			busy += s.Handling + s.Waiting + s.Paused
		}
		return busy == 0 && ready(t, ch, queue) == 0 && (!m.deadLetters || ready(t, ch, dead) == 0)
	})
	gotten()
	getting.Wait()
	orderly := true
	for _, con := range r.watched {
		if err := con.stop(); err != nil {
			t.Errorf("stop a consumer: %v", err)
			orderly = false
		}
	}
	if err := r.pool.Close(end); err != nil {
		t.Errorf("close the pool: %v", err)
	}
	queues := []string{queue}
	if m.deadLetters {
		queues = append(queues, dead)
	}
	report := r.judge(t, ch, orderly, queues...)
	for _, verdict := range []producer.Verdict{producer.NotSent, producer.Unknown} { // nobody has given a message up
		if n := report.Verdicts[verdict.String()]; n > 0 {
			t.Errorf("%d messages are called %s", n, verdict)
		}
	}
	c.total.Add(report)
	for _, name := range []string{queue, r.side, dead} {
		if _, err := ch.QueueDelete(name, false, false, false); err != nil {
			t.Error(err)
		}
	}
	if err := ch.ExchangeDelete(r.exchange, false, false); err != nil {
		t.Error(err)
	}
	t.Logf("%s: %d faults, %d messages, in %v", m, len(faults), report.Messages, time.Since(began).Round(time.Second))
}

// troubles counts what the client has noticed: lost connections, alarms, sessions that
// ended.
func (r *round) troubles() int {
	n := int(r.sessions.Load()) //nolint:gosec // few
	for _, role := range []reconnect.Role{reconnect.Publishing, reconnect.Consuming} {
		n += r.states.count(role, reconnect.Waiting) + r.states.count(role, reconnect.Blocked)
	}
	for _, con := range r.watched {
		n += int(con.Stats().Sessions) //nolint:gosec // few
	}
	return n
}

// suffer makes a fault, waits until the client has noticed it, ends it, and measures how
// long nothing is confirmed.
func (r *round) suffer(f *mishap) {
	before := r.troubles()
	r.gap()
	noticed := make(chan bool, 1)
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	go func() { noticed <- r.notices(ctx, before) }() // from its beginning on: it may take long to make
	end := f.do()
	defer time.AfterFunc(noticing, cancel).Stop()
	seen := <-noticed
	made := end()
	confirmed := r.confirmed.Load()
	eventually(r.t, "a message is confirmed after: "+f.name, r.patient, func() bool { return r.confirmed.Load() > confirmed })
	if !made {
		return
	}
	r.made[f.name]++
	if seen {
		r.seen[f.name]++
	}
	r.silent[f.name] = append(r.silent[f.name], r.gap())
}

// notices waits until the client has noticed something since troubles were before, by what
// it was told or because nothing was confirmed any more, or ctx ends.
func (r *round) notices(ctx context.Context, before int) bool {
	confirmed, since := r.confirmed.Load(), time.Now()
	for ctx.Err() == nil {
		if now := r.confirmed.Load(); now != confirmed {
			confirmed, since = now, time.Now()
		}
		if r.troubles() > before || time.Since(since) > stalled {
			return true
		}
		pause(ctx, 5*time.Millisecond)
	}
	return false
}
