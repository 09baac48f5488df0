package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// slot is a delivery of a subscription.
type slot struct {
	consumer string
	tag      uint64
}

// ackBooks are kept, at a proxy before the broker, of when what handlers finished was
// settled.
type ackBooks struct {
	mu       sync.Mutex // guards what follows
	tags     map[[2]int]string
	finished map[slot]time.Time
	written  map[slot]time.Time
	messages map[string][]slot    // in the order in which handlers began
	cuts     map[string]time.Time // by consumer tag
	newest   string               // consumer tag
	early    int                  // settled before the handler had finished
}

func watchAcks(p *mqtest.Proxy) *ackBooks {
	b := &ackBooks{
		tags: map[[2]int]string{}, finished: map[slot]time.Time{}, written: map[slot]time.Time{},
		messages: map[string][]slot{}, cuts: map[string]time.Time{},
	}
	p.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point != mqtest.Received {
			return mqtest.Pass()
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e.Method {
		case "basic.consume":
			on := [2]int{e.Conn, int(e.Channel)}
			if _, ok := b.tags[on]; !ok { // a drain that needs proof consumes once more at its end
				b.tags[on], b.newest = e.ConsumerTag, e.ConsumerTag
			}
		case "basic.ack", "basic.nack", "basic.reject":
			from := e.Tag
			if e.Field("multiple") == true {
				from = 1
			}
			for tag := from; tag <= e.Tag; tag++ {
				s := slot{b.tags[[2]int{e.Conn, int(e.Channel)}], tag}
				if b.finished[s].IsZero() {
					b.early++
				}
				if b.written[s].IsZero() {
					b.written[s] = time.Now()
				}
			}
		}
		return mqtest.Pass()
	})
	return b
}

// handled is how many messages a handler has begun.
func (b *ackBooks) handled() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.messages)
}

// handle books what h does. h must not settle by hand.
func (b *ackBooks) handle(h consumer.Handler) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		s := slot{d.ConsumerTag, d.Tag}
		b.mu.Lock()
		b.messages[string(d.Body)] = append(b.messages[string(d.Body)], s)
		b.mu.Unlock()
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.finished[s] = time.Now()
		}()
		return h(ctx, d)
	}
}

// cut ends the connection of the subscription that is open, without a word.
func (b *ackBooks) cut(t *testing.T, p *mqtest.Proxy, c *consuming) {
	t.Helper()
	sessions := c.Stats().Sessions
	b.mu.Lock()
	b.cuts[b.newest] = time.Now()
	b.mu.Unlock()
	if p.DropConnections() == 0 {
		t.Fatal("nothing was cut")
	}
	eventually(t, "it is subscribed again", patience, func() bool { return c.Stats().Sessions > sessions })
}

// TestACutGivesOutAgainOnlyWhatWasNotSettled: sixteen workers finish in random order, some
// reject in the middle of a prefix, in each session one is stuck. Never is there a 406,
// nothing finished waits for much longer than a flush interval, and what a cut gives out
// again was not finished, or only just.
func TestACutGivesOutAgainOnlyWhatWasNotSettled(t *testing.T) {
	t.Parallel()
	const (
		n, cuts  = 8000, 2
		interval = 100 * time.Millisecond
		slack    = 5 * time.Second // of a busy machine; in memory it is none
	)
	url, queue := sharedNode(t).URL(), uniqueName(t)
	proxy := mqtest.NewProxy(t, url)
	closed := proxy.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close"})
	dead := queue + ".dead"
	queues := []topology.Queue{{Name: queue, DeadLetterQueue: dead}, {Name: dead, DeliveryLimit: topology.Unlimited}}
	direct, _ := open(t, reconnect.Config{URLs: []string{url}, Topology: topology.Topology{Queues: queues}})
	publish(t, newProducer(t, direct, producer.Config{}), queue, n)

	pool, states := open(t, reconnect.Config{URLs: []string{proxy.URL()}, First: reconnect.Consuming, Topology: topology.Topology{Queues: queues}})
	b := watchAcks(proxy)
	stuck := make(chan struct{})
	var handled atomic.Int64
	c := consume(t, pool, consumer.Config{Queue: queue, Workers: 16, Prefetch: 400, FlushInterval: interval},
		b.handle(func(_ context.Context, d *consumer.Delivery) error {
			defer handled.Add(1)
			if d.Tag == 3 {
				<-stuck
				return nil
			}
			<-time.After(rand.N(10 * time.Millisecond)) // work
			if rand.N(5) == 0 {
				return consumer.Reject(nil)
			}
			return nil
		}))
	for i := range cuts {
		eventually(t, "some are handled", patience, func() bool { return handled.Load() > int64(i+1)*n/(cuts+1) })
		b.cut(t, proxy, c)
	}
	eventually(t, "all are handled but those that are stuck", patience, func() bool {
		s := c.Status()
		return b.handled() == n && s.Handling == cuts+1 && s.Waiting == 0
	})
	close(stuck)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	own := admin(t, url)
	eventually(t, "the queue is empty, and what was rejected is dead-lettered", patience, func() bool {
		return ready(t, own, queue) == 0 && ready(t, own, dead) >= int(c.Stats().Rejected)/2
	})
	if s := c.Stats(); s.Sessions != cuts+1 || s.Rejected == 0 || states.count(reconnect.Consuming, reconnect.Waiting) != cuts {
		t.Errorf("%+v, want %d sessions and some rejected", s, cuts+1)
	}
	if hits := closed.Hits(); hits != 0 {
		t.Errorf("the broker closed %d channels", hits)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var longest time.Duration
	for s, at := range b.written {
		longest = max(longest, at.Sub(b.finished[s]))
	}
	if longest > interval+slack || b.early > 0 {
		t.Errorf("a finished delivery waited for %v, %d were settled unfinished", longest, b.early)
	}
	unfinished, young := 0, 0
	for body, slots := range b.messages {
		for _, s := range slots[:len(slots)-1] { // it came again after these
			cut, ok := b.cuts[s.consumer]
			switch finished, written := b.finished[s], b.written[s]; {
			case !ok:
				t.Errorf("message %s came again without a cut", body)
			case finished.After(cut):
				unfinished++
			case cut.Sub(finished) > interval+slack:
				t.Errorf("message %s came again although it had been finished for %v", body, cut.Sub(finished))
			case !written.IsZero() && cut.Sub(written) > slack:
				t.Errorf("message %s came again although it had been settled for %v", body, cut.Sub(written))
			default:
				young++
			}
		}
	}
	if len(b.messages) != n || unfinished < cuts {
		t.Errorf("%d of %d messages were handled, %d came again that were not finished", len(b.messages), n, unfinished)
	}
	t.Logf("the longest wait was %v; %d came again that were not finished, %d that were just", longest, unfinished, young)
}

// TestASecondVerdictIsRefusedHereAndTheChannelLives, whichever the two are, and whether or
// not the broker has the first already.
func TestASecondVerdictIsRefusedHereAndTheChannelLives(t *testing.T) {
	t.Parallel()
	url, queue := sharedNode(t).URL(), uniqueName(t)
	dead := queue + ".dead"
	pool, states := open(t, reconnect.Config{URLs: []string{url}, Topology: topology.Topology{Queues: []topology.Queue{
		{Name: queue, DeadLetterQueue: dead}, {Name: dead},
	}}})
	verdicts := []struct {
		name   string
		settle func(*consumer.Delivery) error
	}{
		{"ack", (*consumer.Delivery).Ack},
		{"reject", (*consumer.Delivery).Reject},
		{"requeue", (*consumer.Delivery).Requeue},
		{"release", (*consumer.Delivery).Release},
	}
	p := newProducer(t, pool, producer.Config{})
	for i := range verdicts {
		for j := range verdicts {
			mustBe(t, p.Publish(t.Context(), producer.Text(fmt.Sprintf("%d%d", i, j)).ToQueue(queue)), producer.Confirmed)
		}
	}
	c := consume(t, pool, consumer.Config{Queue: queue, Workers: 16}, func(_ context.Context, d *consumer.Delivery) error {
		if d.Redelivered {
			return nil
		}
		first, second := verdicts[d.Body[0]-'0'], verdicts[d.Body[1]-'0']
		if err := first.settle(d); err != nil {
			t.Errorf("%s: %v", first.name, err)
		}
		for _, written := range []bool{false, true} {
			if written {
				<-time.After(200 * time.Millisecond) // many flush intervals
			}
			if err := second.settle(d); !errors.Is(err, consumer.ErrSettled) {
				t.Errorf("%s after %s, which was written: %v: %v", second.name, first.name, written, err)
			}
		}
		return nil // and a third
	})
	eventually(t, "all are settled", patience, func() bool { s := c.Stats(); return s.Acked == 12 && s.Rejected == 4 })
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Sessions != 1 || s.Requeued != 4 || s.Released != 4 || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
	if n := states.count(reconnect.Consuming, reconnect.Waiting); n != 0 {
		t.Errorf("the connection was lost %d times", n)
	}
	own := admin(t, url)
	eventually(t, "the queue is empty, and four are dead-lettered", patience, func() bool {
		return ready(t, own, queue) == 0 && ready(t, own, dead) == 4
	})
}

// TestAHandlerThatOutlastsItsTimeoutHoldsOnlyItsWorker: one that heeds its ctx has failed,
// and gets the message again; of one that does not Status tells.
func TestAHandlerThatOutlastsItsTimeoutHoldsOnlyItsWorker(t *testing.T) {
	t.Parallel()
	url, queue := sharedNode(t).URL(), uniqueName(t)
	pool, _ := open(t, quorum(queue, url))
	p := newProducer(t, pool, producer.Config{})
	for _, body := range []string{"heeds", "ignores", "1", "2", "3"} {
		mustBe(t, p.Publish(t.Context(), producer.Text(body).ToQueue(queue)), producer.Confirmed)
	}
	causes, let := make(chan error, 1), make(chan struct{})
	c := consume(t, pool, consumer.Config{Queue: queue, Workers: 2, HandlerTimeout: 100 * time.Millisecond},
		func(ctx context.Context, d *consumer.Delivery) error {
			switch {
			case string(d.Body) == "ignores":
				<-let
			case string(d.Body) == "heeds" && !d.Redelivered:
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return ctx.Err()
			}
			return nil
		})
	eventually(t, "all others are acked, and the one that ignores it is overdue", patience, func() bool {
		s := c.Status()
		return s.Acked == 4 && s.Overdue == 1 && s.Handling == 1
	})
	if err := <-causes; !errors.Is(err, consumer.ErrHandlerTimeout) {
		t.Errorf("the ctx ended because %v", err)
	}
	close(let)
	eventually(t, "it is acked as well", patience, func() bool { s := c.Status(); return s.Acked == 5 && s.Overdue == 0 })
	if s := c.Stats(); s.Failures != 1 || s.Released != 1 || s.Sessions != 1 {
		t.Errorf("%+v", s)
	}
}

// TestAFailingHandlerNeitherLosesNorSpins: with no policy and no dead-letter exchange,
// however it fails.
func TestAFailingHandlerNeitherLosesNorSpins(t *testing.T) {
	t.Parallel()
	url, queue := sharedNode(t).URL(), uniqueName(t)
	limit := int64(topology.Unlimited) // every release counts before 4.3
	if met, _ := meets(sharedNode(t).Version(), ">=4.3"); met {
		limit = 2
	}
	pool, _ := open(t, reconnect.Config{URLs: []string{url}, Topology: topology.Topology{Queues: []topology.Queue{{Name: queue, DeliveryLimit: limit}}}})
	p := newProducer(t, pool, producer.Config{})
	bodies := []string{"fails", "not json", "panics"}
	for _, body := range bodies {
		mustBe(t, p.Publish(t.Context(), producer.Text(body).ToQueue(queue)), producer.Confirmed)
	}
	decode := consumer.JSON(func(context.Context, int, *consumer.Delivery) error { return nil })
	began := time.Now()
	c := consume(t, pool, consumer.Config{Queue: queue}, func(ctx context.Context, d *consumer.Delivery) error {
		switch string(d.Body) {
		case "fails":
			return errors.New("no database")
		case "panics":
			panic("no database")
		}
		return decode(ctx, d)
	})
	// The pauses are 100, 200, 400 ms and so on: at 0, 0, 0, 0.1, 0.2, 0.4, 0.9, 1.8, 3.6 s.
	eventually(t, "it has failed nine times", patience, func() bool { return c.Stats().Failures == 9 })
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("it has failed nine times in %v", took)
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Failures != 9 || s.Deliveries != 9 || s.Rejected != 0 || s.Sessions != 1 {
		t.Errorf("%+v", s)
	}
	eventually(t, "all are in the queue", patience, func() bool { return ready(t, admin(t, url), queue) == len(bodies) })
	var left []string
	for _, d := range mustHold(t, url, queue, len(bodies)) {
		left = append(left, string(d.Body))
	}
	if slices.Sort(left); !slices.Equal(left, bodies) {
		t.Errorf("the queue had %q", left)
	}
}

// TestBreakingOutOfMessagesReleasesThePresentOne and all that waited.
func TestBreakingOutOfMessagesReleasesThePresentOne(t *testing.T) {
	t.Parallel()
	const n = 20
	url, queue := sharedNode(t).URL(), uniqueName(t)
	pool, _ := open(t, quorum(queue, url))
	publish(t, newProducer(t, pool, producer.Config{}), queue, n)
	c, err := consumer.New(pool, consumer.Config{Queue: queue, Prefetch: 10})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := 0
	for d, err := range c.Messages(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if string(d.Body) != fmt.Sprint(seen) {
			t.Errorf("%s came in the place of %d", d.Body, seen)
		}
		if seen++; seen == 4 {
			break
		}
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
	}
	if s := c.Stats(); s.Acked != 3 || s.Failures != 0 || c.Status().Subscribed {
		t.Errorf("%+v, %s", s, c.Status())
	}
	own := admin(t, url)
	eventually(t, "all but three are in the queue", patience, func() bool { return ready(t, own, queue) == n-3 })
	counted := 0
	for _, d := range mustHold(t, url, queue, n-3) {
		if failed, _ := d.Headers["x-delivery-count"].(int64); failed > 0 {
			counted++
		}
	}
	if met, _ := meets(sharedNode(t).Version(), ">=4.3"); met && counted > 0 {
		t.Errorf("%d were counted as failed", counted)
	} else {
		t.Logf("%d were counted as failed", counted)
	}
}
