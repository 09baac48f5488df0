package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
)

// books are kept of what handlers finish and of what the broker is told of it.
type books struct {
	t *testing.T

	mu       sync.Mutex // guards what follows
	tags     map[[2]int]string
	finished map[slot]time.Time
	written  map[slot]bool
	messages map[string][]slot    // in the order in which handlers began
	cuts     map[string]time.Time // by consumer tag
	longest  time.Duration        // from a handler's end to the broker
	multiple int                  // acks for several
}

// slot is a delivery of a subscription.
type slot struct {
	consumer string
	tag      uint64
}

func newBooks(t *testing.T) *books {
	return &books{
		t: t, tags: map[[2]int]string{}, finished: map[slot]time.Time{}, written: map[slot]bool{},
		messages: map[string][]slot{}, cuts: map[string]time.Time{},
	}
}

// watch reads what the broker is sent, and whether it complains.
func (b *books) watch(f *fixture) {
	f.broker.Intercept(func(e *mqtest.Event) mqtest.Action {
		b.mu.Lock()
		defer b.mu.Unlock()
		if e.Point == mqtest.Sending && e.Method == "channel.close" {
			b.t.Errorf("the broker closes a channel: %v %v", e.Field("reply-code"), e.Field("reply-text"))
		}
		if e.Point != mqtest.Received {
			return mqtest.Pass()
		}
		switch e.Method {
		case "basic.ack", "basic.nack", "basic.reject":
			consumer := b.tags[[2]int{e.Conn, int(e.Channel)}]
			if e.Field("multiple") != true {
				b.writeLocked(slot{consumer, e.Tag})
				break
			}
			b.multiple++
			for tag := uint64(1); tag <= e.Tag; tag++ {
				if s := (slot{consumer, tag}); !b.written[s] {
					b.writeLocked(s)
				}
			}
		case "basic.consume":
			b.tags[[2]int{e.Conn, int(e.Channel)}] = e.ConsumerTag
		}
		return mqtest.Pass()
	})
}

func (b *books) writeLocked(s slot) {
	at, ok := b.finished[s]
	switch {
	case !ok:
		b.t.Errorf("delivery %d was settled before its handler had finished", s.tag)
	case b.written[s]:
		b.t.Errorf("delivery %d was settled twice", s.tag)
	}
	b.written[s] = true
	b.longest = max(b.longest, time.Since(at))
}

func (b *books) begin(d *consumer.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages[string(d.Body)] = append(b.messages[string(d.Body)], slot{d.ConsumerTag, d.Tag})
}

func (b *books) finish(d *consumer.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished[slot{d.ConsumerTag, d.Tag}] = time.Now()
}

// TestACutGivesOutAgainOnlyWhatIsUnfinishedOrYoung: sixteen workers finish in random
// order, some reject in the middle of a prefix, in each session one is stuck. Never is
// there a 406, nothing finished waits for more than a flush interval, and what a cut gives
// out again was not finished, or had been for less than that.
func TestACutGivesOutAgainOnlyWhatIsUnfinishedOrYoung(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const n, cuts, interval = 4000, 4, 50 * time.Millisecond
				rnd := rand.New(rand.NewPCG(seed, 11))
				var mu sync.Mutex // guards rnd
				random := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return rnd.IntN(n)
				}
				b := newBooks(t)
				stuck := make(chan struct{})
				f := newMemoryFixture(t, consumer.Config{
					Workers: 16, Prefetch: 400, FlushInterval: interval, DrainTimeout: patience,
				}, func(_ context.Context, d *consumer.Delivery) error {
					b.begin(d)
					defer b.finish(d)
					if d.Tag == 60 { // before it there is a prefix
						<-stuck
						return nil
					}
					time.Sleep(time.Duration(random(20)) * time.Millisecond) // in the bubble
					if len(d.Body) == 2 || random(5) == 0 {
						return consumer.Reject(nil)
					}
					return nil
				}, withDeadLetters())
				b.watch(f)
				b.tags[[2]int{f.subscription.Conn, int(f.subscription.Channel)}] = f.subscription.ConsumerTag
				f.enqueue(numbered(1, n)...)
				sub := f.subscription
				for i := range cuts {
					time.Sleep(time.Duration(100+random(200)) * time.Millisecond) // in the bubble
					b.mu.Lock()
					b.cuts[sub.ConsumerTag] = time.Now()
					b.mu.Unlock()
					f.cut(sub)
					_, sub = f.received.await(t, 0, i+2, "basic.consume")
				}
				f.until("all but the stuck one are settled", func() bool { return f.queue.Len() == 1 })
				if s := f.Status(); s.Handling != cuts+1 {
					t.Errorf("%d handlers are stuck, want one of each session", s.Handling)
				}
				close(stuck)
				f.until("all are settled", func() bool { return f.queue.Len() == 0 && f.Status().Handling == 0 })
				if s := f.Stats(); s.Sessions != cuts+1 || s.Rejected == 0 {
					t.Errorf("%+v, want %d sessions and some rejected", s, cuts+1)
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				if b.longest > interval || b.multiple == 0 {
					t.Errorf("a finished delivery waited for %v, %d acks were for several", b.longest, b.multiple)
				}
				young := 0
				for body, slots := range b.messages {
					for _, s := range slots[:len(slots)-1] { // it came again after these
						cut, ok := b.cuts[s.consumer]
						switch finished := b.finished[s]; {
						case !ok:
							t.Errorf("message %s came again without a cut", body)
						case finished.After(cut):
						case cut.Sub(finished) > interval:
							t.Errorf("message %s came again although it had been finished for %v", body, cut.Sub(finished))
						default:
							young++
						}
					}
				}
				if len(b.messages) != n || young == 0 {
					t.Errorf("%d messages were handled, %d came again although they were finished", len(b.messages), young)
				}
			})
		})
	}
}

// TestASecondVerdictIsRefusedHereAndTheChannelLives, whichever the two are, and whether or
// not the broker has the first already.
func TestASecondVerdictIsRefusedHereAndTheChannelLives(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		verdicts := []struct {
			name   string
			settle func(*consumer.Delivery) error
		}{
			{"ack", (*consumer.Delivery).Ack},
			{"reject", (*consumer.Delivery).Reject},
			{"requeue", (*consumer.Delivery).Requeue},
			{"release", (*consumer.Delivery).Release},
		}
		f := newMemoryFixture(t, consumer.Config{Workers: 16, FlushInterval: time.Second}, func(_ context.Context, d *consumer.Delivery) error {
			if d.Redelivered {
				return nil
			}
			first, second := verdicts[d.Body[0]-'0'], verdicts[d.Body[1]-'0']
			if err := first.settle(d); err != nil {
				t.Errorf("%s: %v", first.name, err)
			}
			for _, written := range []bool{false, true} {
				if written {
					time.Sleep(2 * time.Second) // in the bubble
				}
				if err := second.settle(d); !errors.Is(err, consumer.ErrSettled) {
					t.Errorf("%s after %s, which was written: %v: %v", second.name, first.name, written, err)
				}
			}
			return nil // and a third
		}, withDeadLetters())
		closes := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close"})
		for i := range verdicts {
			for j := range verdicts {
				f.enqueue(fmt.Sprintf("%d%d", i, j))
			}
		}
		f.until("all are settled", func() bool { return f.queue.Len() == 0 })
		synctest.Wait()
		if s := f.Stats(); s.Sessions != 1 || s.Acked != 12 || s.Rejected != 4 || s.Requeued != 4 || s.Released != 4 || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
		if n := closes.Hits(); n != 0 {
			t.Errorf("the broker closed %d channels", n)
		}
	})
}

// TestSettlementsWaitForRoom: a broker that reads nothing is not written to without end;
// what it does not take waits here, and can still be covered by fewer acks.
func TestSettlementsWaitForRoom(t *testing.T) {
	if raceDetector {
		t.Skip("it is about bytes, and would take a minute")
	}
	inBubble(t, func(t *testing.T) {
		const n = 20_000 // more than the connection and its buffers take
		end := make(chan struct{})
		f := newMemoryFixture(t, consumer.Config{Prefetch: consumer.Unlimited, Workers: 2, DrainTimeout: time.Second}, func(ctx context.Context, d *consumer.Delivery) error {
			if d.Tag == 1 { // holds up the prefix, so that each ack is for one
				select {
				case <-end:
				case <-ctx.Done():
				}
			}
			return nil
		})
		f.conn(f.subscription.Conn).Do(mqtest.StopReading())
		f.enqueue(numbered(1, n)...)
		time.Sleep(10 * time.Second) // in the bubble
		s := f.Status()
		if s.Waiting != 0 || s.Handling != 1 {
			t.Fatalf("%+v: are all but the first handled?", s)
		}
		if s.Acked == 0 || s.Acked == n-1 {
			t.Errorf("%d of %d acks were written to nobody", s.Acked, n)
		}
		close(end)
		f.cut(f.subscription)
		f.renewed()
		f.until("all are acked", func() bool { return f.queue.Len() == 0 })
	})
}
