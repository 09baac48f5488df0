package producer_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

func TestCloseReportsExactlyTheUnresolved(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{MaxInFlight: 5}, silent())
	sent := f.publish("1", "2", "3")
	m := f.arrive("1", "2", "3")[0]
	f.say(m, ack(2, false))
	f.verdict(sent[1], producer.Confirmed)
	f.block(m)
	queued := f.publish("4", "5", "6")
	waits := make(chan error, 1)
	go func() {
		_, err := f.PublishAsync(t.Context(), producer.Text("7").ToQueue("q"))
		waits <- err
	}()
	f.accepted(7)
	err := f.Close(expired(t))
	var left *producer.UnresolvedError
	if !errors.As(err, &left) || left.NotSent != 3 || left.Unknown != 2 || !errors.Is(left.Cause, context.Canceled) || !errors.Is(err, context.Canceled) {
		t.Fatalf("Close returned %v, want 3 not sent and 2 unconfirmed", err)
	}
	f.verdict(sent[0], producer.Unknown)
	f.verdict(sent[1], producer.Confirmed)
	f.verdict(sent[2], producer.Unknown)
	for _, c := range queued {
		if err := f.verdict(c, producer.NotSent); !producer.SafeToRetry(err) {
			t.Error(err)
		}
	}
	err = ending(t, "PublishAsync", waits)
	if producer.VerdictOf(err) != producer.NotSent || !errors.Is(err, producer.ErrClosed) {
		t.Errorf("the one that waited for room got %v", err)
	}
	err = f.Publish(t.Context(), producer.Text("8").ToQueue("q"))
	if producer.VerdictOf(err) != producer.NotSent || !errors.Is(err, producer.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	if s := f.Stats(); s.Accepted != 8 || s.Confirmed+s.NotSent+s.Unknown != 8 || s.InFlight != 0 {
		t.Errorf("%+v: not every message has one verdict", s)
	}
}

func TestCloseWaitsForTheVerdicts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	cs := f.publish("1", "2")
	m := f.arrive("1", "2")[0]
	closed := f.closing(t.Context())
	f.stopped()
	f.say(m, ack(2, false))
	f.verdict(cs[1], producer.Confirmed)
	select {
	case err := <-closed:
		t.Fatalf("Close returned %v before the last verdict", err)
	default:
	}
	f.say(m, ack(1, false))
	if err := ending(t, "Close", closed); err != nil {
		t.Error(err)
	}
	f.verdict(cs[0], producer.Confirmed)
}

func TestFlushWaitsForWhatCameBeforeIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	if err := f.Flush(t.Context()); err != nil {
		t.Errorf("nothing to flush: %v", err)
	}
	cs := f.publish("1", "2", "3")
	m := f.arrive("1", "2", "3")[0]
	f.say(m, ack(2, false))
	f.verdict(cs[1], producer.Confirmed)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := f.Flush(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 messages") {
		t.Errorf("two have no verdict: %v", err)
	}
	flushed := make(chan error, 1)
	go func() { flushed <- f.Flush(t.Context()) }()
	f.say(m, nack(1), ack(3, false))
	if err := ending(t, "Flush", flushed); err != nil { // whatever the verdict is
		t.Error(err)
	}
	for i, want := range []producer.Verdict{producer.Nacked, producer.Confirmed, producer.Confirmed} {
		if got := cs[i].Verdict(); got != want {
			t.Errorf("message %d after Flush: %s, want %s", i+1, got, want)
		}
	}
}

// TestFlushCountsWhatIsLeftWhenItsContextEnds: one got its verdict meanwhile, behind another
// that has none.
func TestFlushCountsWhatIsLeftWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	cs := f.publish("1", "2", "3")
	m := f.arrive("1", "2", "3")[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	flushed := make(chan error, 1)
	go func() { flushed <- f.Flush(ctx) }()
	turn() // it has begun, if it is to see anything
	f.say(m, ack(3, false))
	f.verdict(cs[2], producer.Confirmed)
	cancel()
	if err := ending(t, "Flush", flushed); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "2 messages") {
		t.Error(err)
	}
}

func TestConfirmationWaitDecidesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	c := f.publish("1")[0]
	m := f.arrive("1")[0]
	if err := c.Wait(expired(t)); !errors.Is(err, context.Canceled) || producer.VerdictOf(err) != producer.Pending {
		t.Errorf("Wait: %v", err)
	}
	f.pending(c)
	f.say(m, ack(1, false))
	f.verdict(c, producer.Confirmed)
	if err := c.Wait(expired(t)); err != nil {
		t.Errorf("a verdict is told whatever the ctx: %v", err)
	}
	if c.MessageID() != m.MessageID {
		t.Errorf("published as %q, told as %q", m.MessageID, c.MessageID())
	}
}

func TestPoolCloseDrainsTheProducer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	c := f.publish("1")[0]
	m := f.arrive("1")[0]
	closed := make(chan error, 1)
	go func() { closed <- f.pool.Close(t.Context()) }()
	f.stopped() // and would be cut off now, if it were not drained
	f.say(m, ack(1, false))
	if err := ending(t, "Close of the pool", closed); err != nil {
		t.Error(err)
	}
	f.verdict(c, producer.Confirmed)
	if err := f.Publish(t.Context(), producer.Text("2").ToQueue("q")); producer.VerdictOf(err) != producer.NotSent {
		t.Error(err)
	}
}

// TestAProducerThatIsMadeWhileItsPoolClosesIsClosed, or is not made: Close may come before
// New has returned.
func TestAProducerThatIsMadeWhileItsPoolClosesIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		broker := mqtest.NewInMemory(t)
		for range 100 {
			pool, err := reconnect.Open(t.Context(), reconnect.Config{URLs: []string{broker.URL()}, Dial: broker.DialContext})
			if err != nil {
				t.Fatal(err)
			}
			var made sync.WaitGroup
			for range 20 {
				made.Go(func() {
					p, err := producer.New(pool, producer.Config{})
					if err != nil {
						if !errors.Is(err, reconnect.ErrClosed) {
							t.Error(err)
						}
						return
					}
					if err := p.Publish(t.Context(), producer.Text("x").ToQueue("q")); err == nil {
						t.Error("it was published, there is no such queue")
					}
				})
			}
			if err := pool.Close(t.Context()); err != nil {
				t.Error(err)
			}
			made.Wait()
		}
	})
}

// TestNoProducerIsMadeWhileThePoolClosesThem: nobody would wait for its verdicts. While the
// consumers are drained, whose handlers publish, all is as before.
func TestNoProducerIsMadeWhileThePoolClosesThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	sent := f.publish("1")
	m := f.arrive("1")[0]
	begun, end := make(chan reconnect.Role), make(chan struct{})
	for _, role := range []reconnect.Role{reconnect.Consuming, reconnect.Publishing} {
		if _, err := f.pool.OnClose(role, func(context.Context) error {
			begun <- role
			<-end
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- f.pool.Close(context.WithoutCancel(t.Context())) }()
	if role := <-begun; role != reconnect.Consuming {
		t.Errorf("%s is drained first", role)
	}
	sent = append(sent, f.publish("2")...)
	f.arrive("2")
	if _, err := producer.New(f.pool, producer.Config{}); err != nil {
		t.Errorf("New, while the consumers are drained: %v", err)
	}
	end <- struct{}{}
	<-begun
	for _, cfg := range []producer.Config{{}, {FailFast: true, OnVerdict: func(producer.Outcome) {}}} {
		if _, err := producer.New(f.pool, cfg); !errors.Is(err, reconnect.ErrClosed) {
			t.Errorf("New, while the producers are drained: %v", err)
		}
	}
	close(end)
	f.say(m, ack(2, true))
	for _, c := range sent {
		f.verdict(c, producer.Confirmed)
	}
	if err := ending(t, "Close", closed); err != nil {
		t.Errorf("Close: %v", err)
	}
}
