package producer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// leak is a socket that takes so many bytes and then fails, as one does whose peer is
// gone. What it has taken reaches the broker: it is the kernel.
type leak struct {
	net.Conn
	open    chan struct{} // closed when it takes what waits
	reached chan struct{} // closed when it has taken all that it will
	fail    chan struct{} // closed when it says so

	mu      sync.Mutex // guards what follows
	armed   bool
	limit   int
	offered int // bytes that it was asked to take
	taken   int
}

func (l *leak) Write(p []byte) (int, error) {
	l.mu.Lock()
	if !l.armed {
		l.mu.Unlock()
		return l.Conn.Write(p)
	}
	l.offered += len(p)
	n := min(len(p), l.limit-l.taken)
	l.taken += n
	l.mu.Unlock()
	<-l.open
	if n > 0 {
		if _, err := l.Conn.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	if n == len(p) {
		return n, nil
	}
	close(l.reached)
	<-l.fail
	return n, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
}

// arm has what is written from now on counted, and wait for open.
func (l *leak) arm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = true
}

func (l *leak) count() (offered, taken int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offered, l.taken
}

// writing is messages that are published to a socket that fails.
type writing struct {
	broker   *mqtest.Broker
	messages int
	heard    bool // what the broker has taken is confirmed before the write fails
	cfg      producer.Config

	each int // bytes of a message, by the first round
	told map[producer.Verdict]int
}

// TestEveryByteOfAFailedWriteHasItsVerdict: the socket takes each number of bytes of what
// is published, from none to all. Not sent is said of what was never offered to
// it, and then the broker has seen nothing of it; unknown of what was offered and
// has no verdict. The first message is offered alone, those behind it together: they
// were handed over while the socket was busy.
func TestEveryByteOfAFailedWriteHasItsVerdict(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]writing{
		"one":                          {messages: 1, cfg: producer.Config{NoRepublish: true}},
		"one that would be sent again": {messages: 1},
		"one, heard":                   {messages: 1, heard: true, cfg: producer.Config{NoRepublish: true}},
		"three":                        {messages: 3, cfg: producer.Config{NoRepublish: true}},
		"three, heard":                 {messages: 3, heard: true, cfg: producer.Config{NoRepublish: true}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w.broker, w.told = mqtest.NewInMemory(t), map[producer.Verdict]int{}
				if !w.heard {
					w.broker.Inject(silent())
				}
				w.fails(t, -1)
				size := w.each * w.messages
				for n := range size {
					w.fails(t, n)
				}
				t.Logf("%d messages of %d bytes: %v", w.messages, w.each, w.told)
				if w.told[producer.Unknown] < size || (w.messages > 1) != (w.told[producer.NotSent] > 0) || w.heard != (w.told[producer.Confirmed] > 0) {
					t.Error("not all verdicts were there")
				}
			})
		})
	}
}

// fails publishes to a socket that takes limit bytes and fails, or, if that is negative,
// to one that takes all and is cut off then.
func (w *writing) fails(t *testing.T, limit int) {
	t.Helper()
	l := &leak{limit: limit, open: make(chan struct{}), reached: make(chan struct{}), fail: make(chan struct{})}
	if limit < 0 {
		l.limit = math.MaxInt
	}
	f := fixtureWith(t, w.broker, w.cfg, func(pool *reconnect.Config) {
		pool.Dial = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			if l.Conn != nil { // there is no second connection
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
			}
			l.Conn, err = w.broker.DialContext(ctx, network, address)
			return l, err
		}
		backoffOf(time.Second)(pool)
	})
	defer f.pool.CloseNow()
	w.broker.Queue("q").Purge()
	synctest.Wait() // its session is set up
	began := w.broker.Journal().Records()
	l.arm()
	cs := make([]*producer.Confirmation, w.messages)
	for i := range cs {
		m := producer.Text(fmt.Sprint(i)).ToQueue("q")
		m.MessageID = fmt.Sprint("id-", i)
		cs[i] = f.message(m)
		synctest.Wait() // it was handed over, and the first is being written
	}
	close(l.open)
	if limit < 0 {
		synctest.Wait() // all of it has reached the broker
		if n := w.broker.DropConnections(); n != 1 {
			t.Fatalf("%d connections were cut", n)
		}
	} else {
		<-l.reached
	}
	synctest.Wait() // what the broker says has arrived
	close(l.fail)
	synctest.Wait() // the session has ended
	offered, taken := l.count()
	if limit < 0 {
		w.each = taken / w.messages
	} else if taken != limit {
		t.Fatalf("the socket took %d bytes, want %d", taken, limit)
	}
	want := make([]producer.Verdict, len(cs))
	for i := range want {
		switch {
		case w.heard && (i+1)*w.each <= taken:
			want[i] = producer.Confirmed
		case offered > i*w.each:
			want[i] = producer.Unknown
		default:
			want[i] = producer.NotSent
		}
		early := want[i]
		if early == producer.NotSent || early == producer.Unknown && !w.cfg.NoRepublish {
			early = producer.Pending // while there may be another connection
		}
		if got := cs[i].Verdict(); got != early {
			t.Errorf("%d bytes, message %d: when the session has ended it is %s, want %s", taken, i, got, early)
		}
	}
	_ = f.Close(expired(t)) // what it returns has its own tests
	stored := []string{}
	for i, c := range cs {
		got := c.Verdict()
		w.told[got]++
		if got != want[i] || producer.SafeToRetry(c.Err()) != (got == producer.NotSent) {
			t.Errorf("%d bytes of %d offered, message %d: %s (%v), want %s", taken, offered, i, got, c.Err(), want[i])
		}
		if got == producer.NotSent && (taken > i*w.each || w.seen(began[len(began)-1].Seq, c.MessageID())) {
			t.Errorf("%d bytes, message %d is said not to be sent, and the broker has seen it", taken, i)
		}
		if (i+1)*w.each <= taken {
			stored = append(stored, fmt.Sprint(i))
		}
	}
	if got := w.broker.Queue("q").Bodies(); !slices.Equal(got, stored) {
		t.Errorf("%d bytes: stored are %q, want %q", taken, got, stored)
	}
}

// seen reports whether the broker has been sent a frame with that id since.
func (w *writing) seen(since uint64, id string) bool {
	return slices.ContainsFunc(w.broker.Journal().Since(since), func(r mqtest.Record) bool {
		return r.Kind == mqtest.FromClient && bytes.Contains(r.Frame, []byte(id))
	})
}

// TestNotSentIsSaidOfWhatNeverReachedTheKernel: the broker reads nothing, so the
// last that were handed over are still in our buffer when the connection is cut.
func TestNotSentIsSaidOfWhatNeverReachedTheKernel(t *testing.T) {
	t.Parallel()
	const n = 4000
	f := newFixture(t, producer.Config{MaxInFlight: n, MaxInFlightBytes: 1 << 30}, silent())
	confirm := f.next("confirm.select")
	f.do(confirm, mqtest.StopReading())
	body := bytes.Repeat([]byte("x"), 14<<10)
	var cs []*producer.Confirmation
	for range n {
		cs = append(cs, f.message(producer.Bytes(body).ToQueue("q")))
	}
	handed, still := 0, 0
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for still < 50 { // until the socket takes nothing more
		<-tick.C
		if now := producer.HandedOver(f.Producer); now != handed || now == 0 {
			handed, still = now, 0
		} else {
			still++
		}
	}
	if handed == n {
		t.Fatalf("all %d MB were handed over, nothing held them back", n*len(body)>>20)
	}
	f.broker.Inject(unanswered("confirm.select"))
	f.do(confirm, mqtest.Reset())
	f.next("confirm.select") // the session has ended, and the next one has not begun
	var left *producer.UnresolvedError
	if err := f.Close(expired(t)); !errors.As(err, &left) || left.NotSent+left.Unknown != n {
		t.Fatalf("Close returned %v", err)
	}
	unknown := slices.IndexFunc(cs, func(c *producer.Confirmation) bool { return c.Verdict() != producer.Unknown })
	for i, c := range cs {
		want := producer.NotSent
		if i < unknown {
			want = producer.Unknown
		}
		if err := f.verdict(c, want); producer.SafeToRetry(err) != (want == producer.NotSent) {
			t.Fatal(err)
		}
	}
	// The buffer holds 64 KiB: five of these.
	if kept := handed - unknown; unknown == 0 || kept < 2 || kept > 8 {
		t.Errorf("of %d handed over the first %d are unknown, the buffer held the rest", handed, unknown)
	}
	if left.Unknown != unknown {
		t.Errorf("Close counted %d unknown, there are %d", left.Unknown, unknown)
	}
}
