package proof_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/ledger"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// enough is how long a run may take, by the clock of its bubble: what does not come by
// then does not come at all.
const enough = 10 * time.Minute

// plan is the topology of all runs: work, whose rejects go to dead, and full, which
// takes nothing more.
func plan() topology.Topology {
	top := topology.WithDeadLetters(topology.Queue{Name: "work", DeliveryLimit: topology.Unlimited})
	top.Queues = append(top.Queues, topology.Queue{Name: "full", Type: topology.Classic, MaxLength: 1, Overflow: topology.RejectPublish})
	return top
}

// stand is a broker, a pool on it, and the books of what happens.
type stand struct {
	t      testing.TB
	broker *mqtest.Broker
	pool   *reconnect.Pool
	books  *ledger.Books
	open   atomic.Int64 // the sockets of the pool
}

func (s *stand) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := s.broker.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.open.Add(1)
	return &socket{Conn: c, closed: sync.OnceFunc(func() { s.open.Add(-1) })}, nil
}

// socket tells when it is closed.
type socket struct {
	net.Conn
	closed func()
}

func (s *socket) Close() error {
	s.closed()
	return s.Conn.Close()
}

// newStand is for a bubble. Prepare puts faults into the broker before anybody
// connects.
func newStand(t testing.TB, prepare func(*mqtest.Broker)) *stand {
	t.Helper()
	s := &stand{t: t, broker: mqtest.NewInMemory(t, mqtest.Config{Journal: -1}), books: &ledger.Books{Queue: "work"}}
	if prepare != nil {
		prepare(s.broker)
	}
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	pool, err := reconnect.Open(ctx, reconnect.Config{URLs: []string{s.broker.URL()}, Dial: s.dial, Topology: plan()})
	if err != nil {
		t.Errorf("open: %v", err)
		return nil
	}
	s.pool = pool
	s.broker.Queue("full").Enqueue(mqtest.Message{MessageID: "filling"})
	return s
}

func (s *stand) producer(cfg producer.Config) *producer.Producer {
	cfg.OnAttempt = func(a producer.Attempt) {
		s.books.Attempted(ledger.Attempt{ID: a.MessageID, Attempt: a.Number, Session: a.Session, Number: a.Tag})
	}
	cfg.OnVerdict = func(o producer.Outcome) {
		s.books.Told(ledger.Verdict{ID: o.MessageID, Verdict: o.Verdict.String()})
	}
	p, err := producer.New(s.pool, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// answered writes down what a caller got.
func (s *stand) answered(id string, err error) {
	s.books.Answered(ledger.Verdict{ID: id, Verdict: producer.VerdictOf(err).String()})
}

// consume runs a consumer; stop drains it, and returns what did not go well with that.
func (s *stand) consume(cfg consumer.Config, h consumer.Handler) (stop func() error) {
	cfg.OnDelivery = func(r consumer.Receipt) {
		s.books.Received(ledger.Receipt{ID: r.MessageID, Queue: r.Queue, Session: r.ConsumerTag, Tag: r.Tag, Redelivered: r.Redelivered, Failures: r.Attempt - 1})
	}
	cfg.OnSettlement = func(st consumer.Settlement) {
		s.books.Settled(ledger.Settlement{ID: st.MessageID, Session: st.ConsumerTag, Tag: st.Tag, Done: st.Verdict})
	}
	c, err := consumer.New(s.pool, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	handle := func(ctx context.Context, d *consumer.Delivery) error {
		defer func() { s.books.Finished(ledger.Finish{Session: d.ConsumerTag, Tag: d.Tag, At: time.Now()}) }()
		return h(ctx, d)
	}
	go func() { ended <- c.Run(ctx, handle) }()
	return func() error {
		cancel()
		var drain *consumer.DrainError
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) && !errors.As(err, &drain) {
			return fmt.Errorf("the consumer ended with %w", err)
		}
		return nil
	}
}

// close ends everything, completes the books and has them judged.
func (s *stand) close(p *producer.Producer) ledger.Report {
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		s.t.Errorf("close the producer: %v", err)
	}
	if err := s.pool.Close(ctx); err != nil {
		s.t.Errorf("close the pool: %v", err)
	}
	synctest.Wait()
	if n := s.open.Load(); n != 0 {
		s.t.Errorf("%d sockets are open", n)
	}
	for _, q := range s.broker.Queues("/") {
		for _, m := range s.broker.Queue(q.Name).Messages() {
			if m.MessageID != "filling" {
				s.books.Left = append(s.books.Left, m.MessageID)
			}
		}
	}
	s.books.Events = events(s.broker.Journal().Records())
	report := ledger.Check(s.books)
	for _, f := range report.Findings {
		s.t.Error(f)
	}
	return report
}

// events is the broker's book: what happened in its queues, and what it said of
// publishes.
func events(records []mqtest.Record) (list []ledger.Event) {
	for _, r := range records {
		e := ledger.Event{
			At: r.At, Kind: ledger.Kind(r.Detail), Conn: r.Conn, Channel: r.Channel, Queue: r.Queue, ID: r.MessageID,
			Session: r.ConsumerTag, Tag: r.Tag, Redelivered: r.Redelivered, Reason: r.Reason,
		}
		switch {
		case r.Kind == mqtest.ToClient && len(r.Frame) < confirmSize: // or cut inside
			continue
		case r.Kind == mqtest.QueueEvent && r.Detail == "returned":
			e.Kind = ledger.SaidReturn
		case r.Kind == mqtest.QueueEvent && r.MessageID != "filling":
		case r.Kind == mqtest.ToClient && r.Method() == "basic.ack":
			e.Kind = ledger.SaidAck
			e.Tag, e.Multiple = confirmed(r.Frame)
		case r.Kind == mqtest.ToClient && r.Method() == "basic.nack":
			e.Kind = ledger.SaidNack
			e.Tag, e.Multiple = confirmed(r.Frame)
		default:
			continue
		}
		list = append(list, e)
	}
	return list
}

// confirmSize is that of the frame of an ack or nack: header of 7 bytes, class and method,
// number, bits, and the frame's end.
const confirmSize = 7 + 4 + 8 + 1 + 1

// confirmed reads such a frame.
func confirmed(frame []byte) (number uint64, multiple bool) {
	return binary.BigEndian.Uint64(frame[11:19]), frame[19]&1 == 1
}

// script plays the one script, in a bubble of its own.
func script(t *testing.T, prepare func(*mqtest.Broker)) (report ledger.Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, prepare)
		if s == nil {
			return
		}
		p := s.producer(producer.Config{})
		h := &handler{first: map[string]bool{}}
		stop := s.consume(consumer.Config{Queue: "work", Workers: 4, Prefetch: 8, DeadLetters: true}, h.handle)

		ctx, cancel := context.WithTimeout(context.Background(), enough)
		defer cancel()
		var waits []*producer.Confirmation
		for i := range 20 {
			m := producer.Text("body").ToQueue("work")
			switch i {
			case 4, 10, 16:
				m = m.ToQueue("nowhere")
			case 13:
				m = m.ToQueue("full")
			}
			m.MessageID = fmt.Sprintf("m%02d", i)
			c, err := p.PublishAsync(ctx, m)
			if err != nil {
				t.Errorf("publish %s: %v", m.MessageID, err)
				continue
			}
			waits = append(waits, c)
		}
		for _, c := range waits {
			err := c.Wait(ctx)
			s.answered(c.MessageID(), err)
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s has no verdict after %v: %v", c.MessageID(), enough, err)
			}
		}
		s.drained(ctx, "work")
		if err := stop(); err != nil {
			t.Error(err)
		}
		report = s.close(p)
	})
	return report
}

// drained waits until a queue is empty.
func (s *stand) drained(ctx context.Context, queue string) {
	for s.broker.Queue(queue).Len() > 0 {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			s.t.Errorf("%s is not empty after %v: %d messages", queue, enough, s.broker.Queue(queue).Len())
			return
		}
	}
}

// handler gives each verdict once, and acks everything else. It takes its time for some,
// so that there is a moment in which others are finished and they are not.
type handler struct {
	mu    sync.Mutex // guards what follows
	first map[string]bool
}

var errOnPurpose = errors.New("on purpose")

func (h *handler) handle(_ context.Context, d *consumer.Delivery) error {
	h.mu.Lock()
	again := h.first[d.MessageID]
	h.first[d.MessageID] = true
	h.mu.Unlock()
	switch d.MessageID {
	case "m01", "m08", "m14":
		time.Sleep(5 * time.Millisecond) // in the bubble
	}
	switch {
	case d.MessageID == "m03":
		return consumer.Reject(errOnPurpose)
	case again:
	case d.MessageID == "m05":
		return consumer.Release(errOnPurpose)
	case d.MessageID == "m07":
		return consumer.Requeue(errOnPurpose)
	case d.MessageID == "m09":
		panic("on purpose")
	case d.MessageID == "m12":
		return errOnPurpose
	}
	return nil
}

// TestAConfirmThatWasCutIsNotSaid: without the last byte of its frame nobody has read it.
func TestAConfirmThatWasCutIsNotSaid(t *testing.T) {
	t.Parallel()
	ack := []byte{1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0xce}
	list := events([]mqtest.Record{{Kind: mqtest.ToClient, Frame: ack}, {Kind: mqtest.ToClient, Frame: ack[:len(ack)-1]}})
	if len(list) != 1 || list[0].Kind != ledger.SaidAck || list[0].Tag != 9 || !list[0].Multiple {
		t.Errorf("read %+v", list)
	}
}

func TestTheScriptWithoutFaults(t *testing.T) {
	t.Parallel()
	r := script(t, nil)
	want := "confirmed 16, nacked 1, returned 3"
	if !strings.Contains(r.String(), want) || r.Messages != 20 || r.Answers != 20 || r.Attempts != 20 || r.Receipts != 20 {
		t.Errorf("%+v, want %s, 20 messages, answers, attempts and receipts", r, want)
	}
}
