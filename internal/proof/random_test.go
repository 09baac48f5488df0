package proof_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/ledger"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
)

var seeds = flag.Int("seeds", 40, "how many random schedules are played, each by a seed of its own")

// schedule is one run by chance: what is published, how it is consumed, what breaks and
// when. The same seed gives the same one; how the goroutines interleave is not in it.
type schedule struct {
	seed       uint64
	r          *rand.Rand
	publishers int
	messages   int // of each
	faults     int
	producer   producer.Config
	consumer   consumer.Config
	lost       []*mqtest.Injected // answers that never come
}

func newSchedule(seed uint64) *schedule {
	r := rand.New(rand.NewPCG(seed, 2))
	s := &schedule{
		seed: seed, r: r,
		publishers: 1 + r.IntN(6), messages: 1 + r.IntN(60), faults: r.IntN(25),
		producer: producer.Config{MaxInFlight: 1 + r.IntN(50), NoRepublish: r.IntN(4) == 0, FailFast: r.IntN(6) == 0},
		consumer: consumer.Config{Queue: "work", Workers: 1 + r.IntN(8), Prefetch: 1 + r.IntN(30), DeadLetters: true},
	}
	if s.consumer.Workers > 1 && r.IntN(3) == 0 {
		s.consumer.OrderBy = func(d *consumer.Delivery) string { return d.MessageID[:1] }
	}
	return s
}

func (s *schedule) String() string {
	return fmt.Sprintf("go test ./internal/proof -run TestRandomSchedules -seeds 1 -seed %d", s.seed)
}

func TestRandomSchedules(t *testing.T) {
	t.Parallel()
	var all []*schedule
	planned := 0
	for i := range *seeds {
		s := newSchedule(begin() + uint64(i))
		all = append(all, s)
		if s.faults > 0 {
			planned++
		}
	}
	total, struck := inParallel(t, all, func(t *testing.T, s *schedule) (r ledger.Report, hit bool) {
		synctest.Test(t, func(t *testing.T) { r, hit = s.play(t) })
		return r, hit
	})
	t.Logf("%d seeds from %d, %d to have faults, %d of which had some that struck\n%v", len(all), begin(), planned, struck, total)
	if struck < planned*8/10 {
		t.Errorf("of %d schedules with faults only %d were struck", planned, struck)
	}
}

func (s *schedule) play(t *testing.T) (ledger.Report, bool) {
	st := newStand(t, nil)
	if st == nil {
		return ledger.Report{}, false
	}
	p := st.producer(s.producer)
	h := &chance{r: rand.New(rand.NewPCG(s.seed, 3))}
	stop := st.consume(s.consumer, h.handle)

	var work sync.WaitGroup
	for i := range s.publishers {
		r := rand.New(rand.NewPCG(s.seed, 100+uint64(i)))
		work.Go(func() { s.publish(st, p, i, r) })
	}
	struck := 0
	for range s.faults {
		<-time.After(time.Duration(s.r.IntN(400)) * time.Millisecond)
		struck += s.fault(st.broker)
	}
	st.broker.Unblock()
	if err := st.broker.AcceptConnections(); err != nil {
		t.Error(err)
	}
	work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Errorf("flush: %v", err)
	}
	st.drained(ctx, "work")
	missed := 0 // answers that did not come: what waits for one when the drain begins reports it, as it should
	for _, in := range s.lost {
		in.Remove()
		missed += in.Hits()
	}
	if err := stop(); err != nil && (missed == 0 || !errors.Is(err, context.DeadlineExceeded)) {
		t.Error(err)
	}
	if s.r.IntN(2) == 0 { // it closes its producers
		if err := st.pool.Close(ctx); err != nil {
			t.Errorf("close the pool: %v", err)
		}
	}
	report := st.close(p)
	for _, r := range st.broker.Journal().Records() {
		if r.Kind == mqtest.FaultStruck {
			struck++
		}
	}
	return report, struck > 0
}

// publish publishes as the users of a producer do, in every way that there is.
func (s *schedule) publish(st *stand, p *producer.Producer, publisher int, r *rand.Rand) {
	t := st.t
	var open []*producer.Confirmation
	for i := range s.messages {
		m := producer.Text(strings.Repeat("x", r.IntN(3000))).ToQueue("work")
		m.MessageID = fmt.Sprintf("%c%03d", 'a'+publisher, i)
		switch r.IntN(15) {
		case 0:
			m = m.ToQueue("nowhere")
		case 1:
			m = m.ToQueue("full")
		}
		ctx, cancel := context.WithTimeout(context.Background(), enough)
		switch r.IntN(8) {
		case 0: // a caller without patience
			hasty, cancel := context.WithTimeout(ctx, time.Duration(r.IntN(300))*time.Millisecond)
			st.answered(m.MessageID, p.Publish(hasty, m))
			cancel()
		case 1:
			if c, err := p.TryPublish(m); err == nil {
				open = append(open, c)
			} else {
				st.answered(m.MessageID, err)
			}
		case 2:
			c, err := p.PublishAsync(ctx, m)
			if err == nil {
				<-time.After(time.Duration(r.IntN(20)) * time.Millisecond)
				err = c.Withdraw()
			}
			st.answered(m.MessageID, err)
		case 3, 4:
			err := p.Publish(ctx, m)
			st.answered(m.MessageID, err)
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", m.MessageID, err)
			}
		default:
			if c, err := p.PublishAsync(ctx, m); err == nil {
				open = append(open, c)
			} else {
				st.answered(m.MessageID, err)
			}
		}
		cancel()
		if r.IntN(4) == 0 {
			<-time.After(time.Duration(r.IntN(60)) * time.Millisecond)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	for _, c := range open {
		err := c.Wait(ctx)
		st.answered(c.MessageID(), err)
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s has no verdict after %v", c.MessageID(), enough)
		}
	}
}

// fault breaks something, and returns how much of it that is not in the broker's journal.
func (s *schedule) fault(b *mqtest.Broker) (struck int) {
	r := s.r
	points := []mqtest.Point{mqtest.Received, mqtest.Applied, mqtest.Sending}
	once := func(do mqtest.Action, methods ...string) {
		f := mqtest.Fault{Point: points[r.IntN(len(points))], Skip: r.IntN(10), Count: 1, Do: do}
		if len(methods) > 0 {
			f.Method = methods[r.IntN(len(methods))]
		}
		b.Inject(f)
	}
	switch r.IntN(14) {
	case 0, 1:
		return b.DropConnections()
	case 2, 3:
		once(mqtest.Cut())
	case 4:
		once(mqtest.CutInside(1 + r.IntN(40)))
	case 5:
		b.CloseChannels([]int{403, 404, 406, 541, 504}[r.IntN(5)])
	case 6:
		return b.Queue("work").CancelConsumers()
	case 7:
		b.Block("low on memory")
		time.AfterFunc(time.Duration(r.IntN(2000))*time.Millisecond, b.Unblock)
	case 8:
		b.Stall()
	case 9:
		b.RefuseConnections()
		time.AfterFunc(time.Duration(r.IntN(2000))*time.Millisecond, func() { _ = b.AcceptConnections() })
		return b.DropConnections()
	case 10:
		struck = len(b.Connections())
		_ = b.Restart()
	case 11:
		once(mqtest.Delay(time.Duration(r.IntN(500)) * time.Millisecond))
	case 12: // an answer that never comes
		method := []string{"basic.ack", "basic.consume-ok", "channel.open-ok", "basic.qos-ok"}[r.IntN(4)]
		s.lost = append(s.lost, b.Inject(mqtest.Fault{Point: mqtest.Sending, Method: method, Count: 1, Do: mqtest.Drop()}))
	default:
		b.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Count: 1 + r.IntN(20), Do: []mqtest.Action{
			mqtest.Batch(5, 50*time.Millisecond), mqtest.Reverse(5, 50*time.Millisecond),
		}[r.IntN(2)]})
	}
	return struck
}

// chance is a handler that decides by chance, and acks in the end.
type chance struct {
	mu sync.Mutex // guards what follows
	r  *rand.Rand
	n  map[string]int
}

func (h *chance) handle(ctx context.Context, d *consumer.Delivery) error {
	h.mu.Lock()
	what, wait := h.r.IntN(30), time.Duration(h.r.IntN(50))*time.Millisecond
	if h.n == nil {
		h.n = map[string]int{}
	}
	if h.n[d.MessageID]++; h.n[d.MessageID] > 3 {
		what = -1
	}
	h.mu.Unlock()
	if what%3 == 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	switch what {
	case 1:
		return consumer.Reject(errOnPurpose)
	case 2:
		return consumer.Release(errOnPurpose)
	case 4:
		return consumer.Requeue(errOnPurpose)
	case 5:
		panic("on purpose")
	case 7:
		return errOnPurpose
	case 8:
		_ = d.Ack()
		return errOnPurpose
	}
	return nil
}
