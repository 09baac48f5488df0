package integration_test

import (
	"context"
	"errors"
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

	amqp "github.com/rabbitmq/amqp091-go"

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
	urls    []string                 // that the client knows
	broker  func() string            // a URL that leads there whatever is broken, once nothing is
	written func()                   // has the broker write down which queues it has
	patient time.Duration            // how long it may take until something is confirmed
	faults  func(r *round) []*mishap // of one round, in their order
	made    map[string]int           // by fault
	seen    map[string]int           // of those, noticed by the client
	waited  []time.Duration          // from a fault's end to the next confirm
	total   ledger.Report
}

// mishap is one fault. do begins it and returns what ends it.
type mishap struct {
	name string
	do   func() (end func())
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
	return &chaos{t: t, began: time.Now(), most: faults, r: rand.New(rand.NewPCG(seed, 1)), patient: patience, made: map[string]int{}, seen: map[string]int{}}
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

// String is the table of verdicts, faults, and how long the next confirm took.
func (c *chaos) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d faults made in %v, %d of them noticed by the client\n%v", sum(c.made), time.Since(c.began).Round(time.Second), sum(c.seen), c.total)
	for _, name := range slices.Sorted(maps.Keys(c.made)) {
		fmt.Fprintf(&s, "%s: %d made, %d noticed\n", name, c.made[name], c.seen[name])
	}
	if n := len(c.waited); n > 0 {
		slices.Sort(c.waited)
		fmt.Fprintf(&s, "from the end of a fault to the next confirm: p50 %v, p99 %v, max %v\n",
			c.waited[n/2].Round(time.Millisecond), c.waited[n*99/100].Round(time.Millisecond), c.waited[n-1].Round(time.Millisecond))
	}
	return s.String()
}

// round is one queue with its books and some faults.
type round struct {
	*chaos
	manner   manner
	books    *ledger.Books
	queue    string
	exchange string // what is published to it comes to the queue as well
	side     string // a queue that may be deleted: what is in it is in no book
	pool     *reconnect.Pool
	states   *states
	producer *producer.Producer

	sessions  atomic.Uint64 // of the producer
	confirmed atomic.Int64
	handled   atomic.Int64
	watched   []*consuming

	mu   sync.Mutex // guards what follows
	open map[string]int
}

// meets notes that a message was confirmed, or that a handler is done with it. It is done
// when both are.
func (r *round) meets(id string, confirmed bool) {
	const wasConfirmed, wasHandled = 1, 2
	r.mu.Lock()
	defer r.mu.Unlock()
	before, now := r.open[id], wasHandled
	if confirmed {
		now = wasConfirmed
	}
	if before|now == wasConfirmed|wasHandled {
		delete(r.open, id)
	} else {
		r.open[id] = now
	}
}

// missing counts what was confirmed and not handled yet.
func (r *round) missing() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, state := range r.open {
		if state == 1 {
			n++
		}
	}
	return n
}

// round plays one.
func (c *chaos) round(m manner) {
	t := c.t
	began := time.Now()
	queue := uniqueName(t)
	r := &round{chaos: c, manner: m, queue: queue, exchange: queue + ".x", side: queue + ".side", open: map[string]int{}, books: &ledger.Books{Queue: queue, DeadLetters: m.deadLetters}}
	cfg := quorum(queue, c.urls...)
	cfg.Heartbeat = 2 * time.Second // a half-open connection is noticed in four
	cfg.Topology.Exchanges = []topology.Exchange{{Name: r.exchange, Kind: topology.KindFanout}}
	cfg.Topology.Bindings = []topology.Binding{{Exchange: r.exchange, Queue: queue}}
	cfg.Topology.Queues = append(cfg.Topology.Queues, topology.Queue{Name: r.side})
	dead := queue + ".dead"
	if m.deadLetters {
		cfg.Topology.Queues[0].DeadLetterQueue = dead
		cfg.Topology.Queues = append(cfg.Topology.Queues, topology.Queue{Name: dead, DeliveryLimit: topology.Unlimited})
	}
	r.pool, r.states = open(t, cfg)
	c.written()
	r.producer = newProducer(t, r.pool, producer.Config{OnAttempt: r.attempted, OnVerdict: r.told})

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
		r.settle(betweenFaults)
		r.suffer(f)
		if t.Failed() {
			break
		}
	}
	r.settle(betweenFaults)
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
	t.Logf("%d messages are confirmed and not handled when the last fault is over", r.missing())
	eventually(t, "all that was confirmed is handled", patient, func() bool { return r.missing() == 0 })
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
	for _, con := range r.watched {
		if err := con.stop(); err != nil {
			t.Errorf("stop a consumer: %v", err)
		}
	}
	if err := r.pool.Close(end); err != nil {
		t.Errorf("close the pool: %v", err)
	}
	report := ledger.Check(r.books)
	for i, f := range report.Findings {
		if i == 20 {
			t.Errorf("and %d more", len(report.Findings)-i)
			break
		}
		t.Error(f)
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

func (r *round) attempted(a producer.Attempt) {
	r.sessions.Store(a.Session)
	r.books.Attempted(ledger.Attempt{ID: a.MessageID, Attempt: a.Number, Session: a.Session, Number: a.Tag})
}

func (r *round) told(o producer.Outcome) {
	r.books.Told(ledger.Verdict{ID: o.MessageID, Verdict: o.Verdict.String()})
	if o.Verdict == producer.Confirmed {
		r.confirmed.Add(1)
		r.meets(o.MessageID, true)
	}
}

// isDone reports whether a settlement is the end of a message.
func (r *round) isDone(verdict string) bool {
	return verdict == "ack" || verdict == "reject" && !r.manner.deadLetters
}

// consume consumes a queue by mqkit.
func (r *round) consume(queue string, h consumer.Handler) {
	r.t.Helper()
	r.watched = append(r.watched, consume(r.t, r.pool, consumer.Config{
		Queue: queue, Workers: 4, Prefetch: 200,
		OnDelivery: func(d consumer.Receipt) {
			r.books.Received(ledger.Receipt{ID: d.MessageID, Queue: d.Queue, Session: d.ConsumerTag, Tag: d.Tag, Redelivered: d.Redelivered, Failures: d.Attempt - 1})
		},
		OnSettlement: func(s consumer.Settlement) {
			r.books.Settled(ledger.Settlement{ID: s.MessageID, Session: s.ConsumerTag, Tag: s.Tag, Done: s.Verdict})
			if r.isDone(s.Verdict) {
				r.meets(s.MessageID, false)
			}
		},
	}, h))
}

// handler acks most.
func (r *round) handler() consumer.Handler {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(r.r.Uint64(), 7))
	return func(context.Context, *consumer.Delivery) error {
		r.handled.Add(1)
		mu.Lock()
		defer mu.Unlock()
		switch n := dice.IntN(1000); {
		case n == 0:
			return consumer.Release(errors.New("on purpose"))
		case n == 1:
			return consumer.Requeue(errors.New("on purpose"))
		case n < 12 && r.manner.deadLetters:
			return consumer.Reject(errors.New("on purpose"))
		default:
			return nil
		}
	}
}

// get gets messages one by one on the bare driver until ctx ends, from the next address
// whenever it loses one.
func (r *round) get(ctx context.Context) {
	for session := 0; ctx.Err() == nil; session++ {
		r.getOn(ctx, r.urls[session%len(r.urls)], fmt.Sprintf("get-%d", session))
		pause(ctx, 50*time.Millisecond)
	}
}

func (r *round) getOn(ctx context.Context, url, session string) {
	conn, err := amqp.DialConfig(url, amqp.Config{Heartbeat: 2 * time.Second, Dial: amqp.DefaultDial(2 * time.Second)})
	if err != nil {
		return
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		d, ok, err := ch.Get(r.queue, false)
		if err != nil {
			return
		}
		if !ok {
			pause(ctx, 5*time.Millisecond)
			continue
		}
		r.books.Received(ledger.Receipt{ID: d.MessageId, Queue: r.queue, Session: session, Tag: d.DeliveryTag, Redelivered: d.Redelivered})
		done := ledger.Settlement{ID: d.MessageId, Session: session, Tag: d.DeliveryTag, Done: "ack"}
		if r.manner.deadLetters && d.DeliveryTag%100 == 0 {
			done.Done = "reject"
			err = d.Reject(false)
		} else {
			err = d.Ack(false)
		}
		if err != nil {
			return // it is given out again
		}
		r.books.Settled(done)
		r.handled.Add(1)
		if r.isDone(done.Done) {
			r.meets(d.MessageId, false)
		}
	}
}

// pause waits, not beyond ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// publish publishes until ctx ends, not too far ahead of the consumer.
func (r *round) publish(ctx context.Context, publisher int) {
	for i := 0; ctx.Err() == nil; i++ {
		for r.confirmed.Load()-r.handled.Load() > backlog && ctx.Err() == nil {
			pause(ctx, time.Millisecond)
		}
		m := producer.Text("0123456789abcdef").ToQueue(r.queue)
		if publisher%2 == 1 {
			m = producer.Text("0123456789abcdef").To(r.exchange, "")
		}
		m.MessageID = fmt.Sprintf("%d-%d", publisher, i)
		// Not ctx: the end of the load must not give a message up.
		c, err := r.producer.PublishAsync(context.WithoutCancel(ctx), m)
		if err != nil {
			r.t.Errorf("publish %s: %v", m.MessageID, err)
			return
		}
		if r.manner.sync {
			_ = c.Wait(context.WithoutCancel(ctx)) // its verdict is in the books
		}
		if *chaosPause > 0 {
			pause(ctx, *chaosPause)
		}
	}
}

// settle waits until n more messages are confirmed.
func (r *round) settle(n int64) {
	want := r.confirmed.Load() + n
	eventually(r.t, fmt.Sprintf("%d more messages are confirmed", n), r.patient, func() bool { return r.confirmed.Load() >= want })
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
// long the next confirm takes.
func (r *round) suffer(f *mishap) {
	before := r.troubles()
	r.made[f.name]++
	noticed := make(chan bool, 1)
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	go func() { noticed <- r.notices(ctx, before) }() // from its beginning on: it may take long to make
	end := f.do()
	defer time.AfterFunc(noticing, cancel).Stop()
	if ok := <-noticed; ok {
		r.seen[f.name]++
	}
	end()
	over, confirmed := time.Now(), r.confirmed.Load()
	eventually(r.t, "a message is confirmed after: "+f.name, r.patient, func() bool { return r.confirmed.Load() > confirmed })
	r.waited = append(r.waited, time.Since(over))
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
