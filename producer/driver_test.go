package producer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// bareDriver is a connection of the driver alone, with a channel.
func bareDriver(t *testing.T, broker *mqtest.Broker, dial func(network, addr string) (net.Conn, error)) (*amqp.Connection, *amqp.Channel) {
	t.Helper()
	conn, err := amqp.DialConfig(broker.URL(), amqp.Config{Dial: dial, Heartbeat: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return conn, ch
}

// TestNothingIsPublishedBeforeConfirmsAreOn: what slips out between channel.open and the
// answer to confirm.select puts every later confirm off by one, and a nack is then told of
// the wrong message.
func TestNothingIsPublishedBeforeConfirmsAreOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, producer.Config{}, backoffOf(time.Millisecond))
		lost := f.broker.Inject(loses(1))
		cs := f.publish("1")
		f.struck(lost)
		first := f.arrive("1")[0]
		late := f.broker.Inject(unanswered("confirm.select"))
		refused := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "basic.publish", If: func(e *mqtest.Event) bool { return string(e.Body) == "2" }, Do: mqtest.Nack(),
		})
		f.do(first, mqtest.Cut())
		f.struck(late)
		confirm := f.next("confirm.select")
		cs = append(cs, f.publish("2", "3")...)
		time.Sleep(time.Second) // in the bubble
		synctest.Wait()
		if n := len(f.received("basic.publish")); n != 1 {
			t.Fatalf("%d messages came before confirms were on", n-1)
		}
		f.say(confirm, mqtest.Method{Name: "confirm.select-ok"})
		for i, m := range f.arrive("1", "2", "3") {
			if m.Number != uint64(i+1) {
				t.Errorf("%s has the wrong number", text(m))
			}
		}
		f.verdict(cs[0], producer.Confirmed)
		f.verdict(cs[1], producer.Nacked)
		f.verdict(cs[2], producer.Confirmed)
		f.struck(refused)
		f.stored("1", "1", "3")
	})
}

// TestALargeIntInAHeaderArrives: the driver sends a Go int over 32 bits as 0, and says
// nothing. One without a sign it refuses.
func TestALargeIntInAHeaderArrives(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const large = math.MaxInt &^ math.MaxUint32 // 0 where an int has 32 bits
		f := newMemoryFixture(t, producer.Config{}, backoffOf(time.Millisecond))
		headers := amqp.Table{"n": large, "deep": []any{large}}
		_, bare := bareDriver(t, f.broker, f.broker.Dial)
		if err := bare.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Headers: headers}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it comes first
		m := producer.Text("x").ToQueue("q")
		m.Headers = headers
		f.verdict(f.message(m), producer.Confirmed)
		synctest.Wait()
		ms := f.broker.Queue("q").Messages()
		if len(ms) != 2 || ms[0].Headers["n"] != int32(0) {
			t.Fatalf("the driver's own is stored with %v", ms[0].Headers)
		}
		if got := ms[1].Headers; got["n"] != int64(large) || fmt.Sprint(got["deep"]) != fmt.Sprint([]any{int64(large)}) {
			t.Errorf("it is stored with %v", got)
		}
		unsigned := amqp.Table{"n": uint64(1)}
		if err := bare.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Headers: unsigned}); err == nil {
			t.Error("the driver takes an uint64")
		}
		m.Headers = unsigned
		if err := f.Publish(t.Context(), m); producer.VerdictOf(err) != producer.Refused {
			t.Errorf("an uint64: %v", err)
		}
	})
}

// TestATooLongNameCostsTheDriverItsConnectionAndUsNothing: a property of more than 255 bytes
// has the driver send a publish without its content, and a header over a frame is too large
// for the broker. What is published behind either is gone, without an error.
func TestATooLongNameCostsTheDriverItsConnectionAndUsNothing(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for name, tt := range map[string]struct {
		driver amqp.Publishing
		ours   func(*producer.Message)
	}{
		"message id": {amqp.Publishing{MessageId: long}, func(m *producer.Message) { m.MessageID = long }},
		"header":     {amqp.Publishing{Headers: amqp.Table{"h": strings.Repeat("x", 128<<10)}}, func(m *producer.Message) { m.Headers = amqp.Table{"h": strings.Repeat("x", 128<<10)} }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newMemoryFixture(t, producer.Config{}, backoffOf(time.Second))
				conn, bare := bareDriver(t, f.broker, f.broker.Dial)
				closed := conn.NotifyClose(make(chan *amqp.Error, 1))
				_ = bare.PublishWithContext(t.Context(), "", "q", false, false, tt.driver)
				behind := bare.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: []byte("behind")})
				if err := <-closed; err == nil || behind != nil {
					t.Fatalf("the driver's connection ended with %v, what was behind with %v", err, behind)
				}
				m := producer.Text("x").ToQueue("q")
				tt.ours(&m)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := f.Publish(ctx, m); producer.VerdictOf(err) != producer.Refused || !producer.SafeToRetry(err) {
					t.Errorf("%v", err)
				}
				f.verdict(f.publish("good")[0], producer.Confirmed)
				f.stored("good")
				if n := f.pool.Status(reconnect.Publishing).Sessions; n != 1 {
					t.Errorf("%d connections, want 1", n)
				}
			})
		})
	}
}

// counting is a socket that counts writes, and takes none before it is free.
type counting struct {
	net.Conn
	free   chan struct{}
	writes atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	<-c.free
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestManyMessagesTakeFewWrites: the driver alone makes one write for each.
func TestManyMessagesTakeFewWrites(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n = 200
		broker := mqtest.NewInMemory(t)
		sockets := make(chan *counting, 2)
		dial := func(network, addr string) (net.Conn, error) {
			conn, err := broker.Dial(network, addr)
			c := &counting{Conn: conn, free: make(chan struct{})}
			close(c.free)
			sockets <- c
			return c, err
		}
		f := fixtureWith(t, broker, producer.Config{}, func(pool *reconnect.Config) {
			pool.Dial = func(_ context.Context, network, addr string) (net.Conn, error) { return dial(network, addr) }
		})
		ours := <-sockets
		synctest.Wait()
		ours.free = make(chan struct{}) // busy, as a system call is
		ours.writes.Store(0)
		var cs []*producer.Confirmation
		for range n {
			cs = append(cs, f.publish("x")...)
		}
		synctest.Wait()
		close(ours.free)
		for _, c := range cs {
			f.verdict(c, producer.Confirmed)
		}
		_, bare := bareDriver(t, broker, dial)
		drivers := <-sockets
		before := drivers.writes.Load()
		for range n {
			if err := bare.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		if got := drivers.writes.Load() - before; got < n {
			t.Errorf("the driver makes %d writes for %d messages", got, n)
		}
		if got := ours.writes.Load(); got > 3 {
			t.Errorf("%d writes for %d messages", got, n)
		}
	})
}

// slow is a network that keeps what it has taken, and brings it to the broker when its
// sender has long given the connection up.
type slow struct {
	net.Conn

	mu    sync.Mutex // guards what follows
	keeps bool
	lost  bool
	kept  []byte
}

func (s *slow) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeps {
		s.kept = append(s.kept, p...)
		return len(p), nil
	}
	return s.Conn.Write(p)
}

func (s *slow) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return 0, io.EOF
	}
	return n, err
}

func (s *slow) Close() error { return nil } // the broker is not told

// keep has it keep what is written from now on.
func (s *slow) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keeps = true
}

// lose has its sender think that it is gone.
func (s *slow) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
	_ = s.SetReadDeadline(time.Now())
}

// bring has the broker get what was kept.
func (s *slow) bring(t *testing.T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.Conn.Write(s.kept); err != nil || len(s.kept) == 0 {
		t.Errorf("%d bytes were kept: %v", len(s.kept), err)
	}
}

// TestALateCopyOfALostSessionIsADuplicateBehindNewer: the broker may read what was sent
// before a cut when newer messages were confirmed already. It has the id of the copy that
// was sent again, and nobody is told that it makes none.
func TestALateCopyOfALostSessionIsADuplicateBehindNewer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		broker := mqtest.NewInMemory(t)
		old := &slow{}
		f := fixtureWith(t, broker, producer.Config{}, func(pool *reconnect.Config) {
			pool.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := broker.DialContext(ctx, network, addr)
				if old.Conn != nil {
					return conn, err
				}
				old.Conn = conn
				return old, err
			}
			backoffOf(time.Millisecond)(pool)
		})
		f.verdict(f.publish("before")[0], producer.Confirmed)
		old.keep()
		cs := f.publish("1", "2")
		synctest.Wait() // they have left
		refused := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "basic.publish", Count: 1, If: func(e *mqtest.Event) bool { return string(e.Body) == "2" }, Do: mqtest.Nack(),
		})
		old.lose()
		f.verdict(cs[0], producer.Confirmed)
		err := f.verdict(cs[1], producer.Nacked)
		f.struck(refused)
		var pe *producer.PublishError
		if !errors.As(err, &pe) || !pe.MaybeStored || producer.SafeToRetry(err) {
			t.Errorf("%v does not tell of the earlier sending", err)
		}
		f.verdict(f.publish("new")[0], producer.Confirmed)
		f.stored("before", "1", "new")
		old.bring(t)
		synctest.Wait()
		f.stored("before", "1", "new", "1", "2")
		ms := f.broker.Queue("q").Messages()
		if len(ms) == 5 && (ms[1].MessageID != ms[3].MessageID || ms[1].MessageID == "") {
			t.Errorf("the copies have the ids %q and %q", ms[1].MessageID, ms[3].MessageID)
		}
		if s := f.Stats(); s.Republished != 2 || s.Confirmed != 3 || s.Nacked != 1 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
		_ = old.Conn.Close()
	})
}

// TestAStuckObserverHoldsUpNeitherPublishNorClose: the driver waits 5 s for a listener, and
// then drops the return, the confirm or the alarm that it has for it.
func TestAStuckObserverHoldsUpNeitherPublishNorClose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n = 500
		stuck := make(chan struct{})
		defer close(stuck)
		begun := make(chan struct{}, 1)
		hang := func() {
			select {
			case begun <- struct{}{}:
			default:
			}
			<-stuck
		}
		f := newMemoryFixture(t, producer.Config{
			OnVerdict: func(producer.Outcome) { hang() },
			OnAttempt: func(producer.Attempt) { hang() },
		}, func(pool *reconnect.Config) {
			pool.OnStateChange = func(reconnect.StateChange) { hang() }
			pool.OnAttempt = func(reconnect.Attempt) { hang() }
			backoffOf(time.Millisecond)(pool)
		})
		<-begun
		returns := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.return"})
		held := f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Count: 1, Do: mqtest.Hold()})
		began := time.Now()
		round := func() {
			var cs []*producer.Confirmation
			for range n {
				cs = append(cs, f.message(producer.Text("x").ToQueue("nowhere")))
			}
			f.struck(held)
			held.Release() // what was returned comes in one piece
			for _, c := range cs {
				f.verdict(c, producer.Returned)
			}
		}
		round()
		if cut := f.broker.DropConnections(); cut != 1 {
			t.Fatalf("%d connections were cut", cut)
		}
		round()
		for _, c := range f.broker.Connections() {
			for range 20 {
				c.Block("")
				c.Unblock()
			}
		}
		round()
		if err := f.Close(expired(t)); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second || returns.Hits() != 3*n {
			t.Errorf("%d returns took %v", returns.Hits(), took)
		}
	})
}
