package integration_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/internal/ledger"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

var (
	chaosFaults = flag.Int("faults", 10, "how many faults TestChaos makes")
	chaosSeed   = flag.Uint64("seed", 0, "what TestChaos begins with; 0 takes one by the clock")
)

// Chaos goes in rounds, each with a queue and books of its own, so that the books of a
// long run find room.
const (
	faultsOfRound = 20

	// backlog is how much may be confirmed and not consumed: publishers wait above it.
	backlog = 5000

	// between faults so many messages are confirmed, at least.
	betweenFaults = 500
)

// TestChaos publishes and consumes through a proxy in front of RabbitMQ, while at random
// moments the connection, the proxy, or the broker break, and has the books judged.
func TestChaos(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	proxy := mqtest.NewProxy(t, node.URL(), mqtest.ProxyConfig{Journal: 1}) // its end is no use here
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", seed)
	c := &chaos{t: t, node: node, proxy: proxy, r: rand.New(rand.NewPCG(seed, 1)), observed: map[string]int{}}
	began := time.Now()
	for c.made < *chaosFaults && !t.Failed() {
		c.round(min(faultsOfRound, *chaosFaults-c.made))
	}
	t.Logf("%d faults made, %d of them observed by the client, in %v\n%v%s", c.made, c.seen(), time.Since(began).Round(time.Second), c.total, c)
	if c.seen() < *chaosFaults*8/10 {
		t.Errorf("of %d faults the client has observed %d", c.made, c.seen())
	}
}

// chaos is one run of it.
type chaos struct {
	t     *testing.T
	node  *broker.Node
	proxy *mqtest.Proxy
	r     *rand.Rand

	made       int
	observed   map[string]int // by fault
	recoveries []time.Duration
	total      ledger.Report
}

func (c *chaos) seen() (n int) {
	for _, k := range c.observed {
		n += k
	}
	return n
}

// String tells the faults and how long the first confirm took after each.
func (c *chaos) String() string {
	var s strings.Builder
	names := make([]string, 0, len(c.observed))
	for name := range c.observed {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&s, "observed: %s %d\n", name, c.observed[name])
	}
	if n := len(c.recoveries); n > 0 {
		slices.Sort(c.recoveries)
		fmt.Fprintf(&s, "from the end of a fault to the next confirm: p50 %v, p99 %v, max %v\n",
			c.recoveries[n/2].Round(time.Millisecond), c.recoveries[n*99/100].Round(time.Millisecond), c.recoveries[n-1].Round(time.Millisecond))
	}
	return s.String()
}

// round is one queue with its books and some faults.
type round struct {
	*chaos
	books    *ledger.Books
	queue    string
	states   *states
	producer *producer.Producer

	confirmed atomic.Int64
	handled   atomic.Int64

	mu   sync.Mutex      // guards what follows
	open map[string]bool // confirmed (true) and not acked, or acked (false) and not confirmed
}

// meets notes that a message was confirmed, or that its handler is done with it.
func (r *round) meets(id string, confirmed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if other, ok := r.open[id]; ok && other != confirmed {
		delete(r.open, id)
	} else {
		r.open[id] = confirmed
	}
}

// missing counts what was confirmed and not acked yet.
func (r *round) missing() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, confirmed := range r.open {
		if confirmed {
			n++
		}
	}
	return n
}

func (c *chaos) round(faults int) {
	t := c.t
	r := &round{chaos: c, books: &ledger.Books{}, queue: uniqueName(t), open: map[string]bool{}}
	cfg := quorum(r.queue, c.proxy.URL())
	cfg.Heartbeat = 2 * time.Second // a half-open connection is noticed in four
	pool, states := open(t, cfg)
	r.states = states
	settled(t, c.node)
	r.producer = newProducer(t, pool, producer.Config{
		OnAttempt: func(a producer.Attempt) {
			r.books.Attempted(ledger.Attempt{ID: a.MessageID, Attempt: a.Number, Session: a.Session, Number: a.Tag})
		},
		OnVerdict: func(o producer.Outcome) {
			r.books.Told(ledger.Verdict{ID: o.MessageID, Verdict: o.Verdict.String()})
			if o.Verdict == producer.Confirmed {
				r.confirmed.Add(1)
				r.meets(o.MessageID, true)
			}
		},
	})
	var dice sync.Mutex
	roll := rand.New(rand.NewPCG(uint64(c.made), 7))
	con := consume(t, pool, consumer.Config{
		Queue: r.queue, Workers: 4, Prefetch: 200,
		OnDelivery: func(d consumer.Receipt) {
			r.books.Received(ledger.Receipt{ID: d.MessageID, Session: d.ConsumerTag, Tag: d.Tag, Redelivered: d.Redelivered, Failures: d.Attempt - 1})
		},
		OnSettlement: func(s consumer.Settlement) {
			r.books.Settled(ledger.Settlement{ID: s.MessageID, Session: s.ConsumerTag, Tag: s.Tag, Done: s.Verdict})
			if s.Verdict == "ack" {
				r.meets(s.MessageID, false)
			}
		},
	}, func(context.Context, *consumer.Delivery) error {
		r.handled.Add(1)
		dice.Lock()
		defer dice.Unlock()
		switch roll.IntN(1000) {
		case 0:
			return consumer.Release(errors.New("on purpose"))
		case 1:
			return consumer.Requeue(errors.New("on purpose"))
		default:
			return nil
		}
	})
	con.awaitSubscribed(t)

	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for publisher := range 2 {
		load.Go(func() { r.publish(ctx, publisher) })
	}
	for range faults {
		r.settle(betweenFaults)
		r.fault()
	}
	r.settle(betweenFaults)
	stop()
	load.Wait()

	end, cancel := context.WithTimeout(context.Background(), redelivery)
	defer cancel()
	if err := r.producer.Close(end); err != nil {
		t.Errorf("close the producer: %v", err)
	}
	_, ch := dial(t, c.node.URL())
	// That nothing is ready is not enough: what a lost consumer held a 4.3 quorum queue gives
	// out again after a minute.
	eventually(t, "all that was confirmed is handled", redelivery, func() bool { return r.missing() == 0 })
	eventually(t, "the queue is empty", redelivery, func() bool {
		s := con.Status()
		return ready(t, ch, r.queue) == 0 && s.Handling+s.Waiting+s.Paused == 0
	})
	if err := con.stop(); err != nil {
		t.Errorf("stop the consumer: %v", err)
	}
	if err := pool.Close(end); err != nil {
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
	if _, err := ch.QueueDelete(r.queue, false, false, false); err != nil {
		t.Error(err)
	}
}

// publish publishes until ctx ends, not too far ahead of the consumer.
func (r *round) publish(ctx context.Context, publisher int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		for r.confirmed.Load()-r.handled.Load() > backlog && ctx.Err() == nil {
			<-tick.C
		}
		m := producer.Text("0123456789abcdef").ToQueue(r.queue)
		m.MessageID = fmt.Sprintf("%d-%d", publisher, i)
		// Not ctx: the end of the load must not give a message up.
		if _, err := r.producer.PublishAsync(context.WithoutCancel(ctx), m); err != nil {
			r.t.Errorf("publish %s: %v", m.MessageID, err)
			return
		}
	}
}

// settle waits until n more messages are confirmed.
func (r *round) settle(n int64) {
	want := r.confirmed.Load() + n
	eventually(r.t, fmt.Sprintf("%d more messages are confirmed", n), patience, func() bool { return r.confirmed.Load() >= want })
}

// troubles counts what the client has noticed: lost connections and alarms.
func (r *round) troubles() (n int) {
	for _, role := range []reconnect.Role{reconnect.Publishing, reconnect.Consuming} {
		n += r.states.count(role, reconnect.Waiting) + r.states.count(role, reconnect.Blocked)
	}
	return n
}

// fault makes one at random, waits until the client has noticed and it is over, and
// measures how long the next confirm takes.
func (r *round) fault() {
	name, do := r.choose()
	before := r.troubles()
	r.made++
	end := do()
	deadline := time.Now().Add(8 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for r.troubles() == before && time.Now().Before(deadline) {
		<-tick.C
	}
	if r.troubles() > before {
		r.observed[name]++
	}
	end()
	over, confirmed := time.Now(), r.confirmed.Load()
	eventually(r.t, "a message is confirmed after: "+name, patience, func() bool { return r.confirmed.Load() > confirmed })
	r.recoveries = append(r.recoveries, time.Since(over))
}

// choose returns a fault, and what ends it.
func (r *round) choose() (name string, do func() (end func())) {
	t, none := r.t, func() {}
	pause := func(most time.Duration) { <-time.After(time.Duration(r.r.Int64N(int64(most)))) }
	once := func(name string, do mqtest.Action) (string, func() func()) {
		at := []mqtest.Fault{ // what there is plenty of
			{Point: mqtest.Received, Method: "basic.publish"},
			{Point: mqtest.Applied, Method: "basic.publish"},
			{Point: mqtest.Received, Method: "basic.ack"},
			{Point: mqtest.Sending, Method: "basic.ack"},
			{Point: mqtest.Sending, Method: "basic.deliver"},
		}
		f := at[r.r.IntN(len(at))]
		f.Skip, f.Count, f.Do = r.r.IntN(50), 1, do
		return name, func() func() { return r.proxy.Inject(f).Remove }
	}
	ctl := func(args ...string) {
		if _, err := r.node.Ctl(t.Context(), args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	switch n := r.r.IntN(100); {
	case n < 25:
		return "all connections cut", func() func() { r.proxy.DropConnections(); return none }
	case n < 45:
		return once("cut at a frame", mqtest.Cut())
	case n < 60:
		return once("cut inside a frame", mqtest.CutInside(1+r.r.IntN(60)))
	case n < 65:
		return once("reset", mqtest.Reset())
	case n < 70:
		return "half-open", func() func() { r.proxy.Stall(); return none }
	case n < 80:
		return "refused for a while", func() func() {
			r.proxy.RefuseConnections()
			r.proxy.DropConnections()
			return func() {
				pause(time.Second)
				if err := r.proxy.AcceptConnections(); err != nil {
					t.Error(err)
				}
			}
		}
	case n < 87:
		return "closed by the operator", func() func() { ctl("close_all_connections", "chaos"); return none }
	case n < 91:
		return "memory alarm", func() func() {
			ctl("set_vm_memory_high_watermark", "0.00000001")
			return func() { ctl("set_vm_memory_high_watermark", "0.6") }
		}
	case n < 94:
		return "disk alarm", func() func() {
			ctl("set_disk_free_limit", "10000GB")
			return func() { ctl("set_disk_free_limit", "1MB") }
		}
	case n < 97:
		return "node paused", func() func() {
			if err := r.node.Pause(t.Context()); err != nil {
				t.Error(err)
			}
			return func() {
				if err := r.node.Unpause(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
	default:
		return "node killed", func() func() {
			if err := r.node.Kill(t.Context()); err != nil {
				t.Error(err)
			}
			return func() {
				if err := r.node.Start(t.Context()); err != nil {
					t.Error(err)
				}
				if err := r.node.WaitReady(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
	}
}
