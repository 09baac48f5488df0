package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestAFailingHandlerNeitherLosesNorSpins: with no policy and no dead-letter exchange, a
// handler that fails for an hour, however it fails, gets its message as often as the
// pauses allow, and the message is still there.
func TestAFailingHandlerNeitherLosesNorSpins(t *testing.T) {
	t.Parallel()
	fail := map[string]consumer.Handler{
		"an error": func(context.Context, *consumer.Delivery) error { return errors.New("no database") },
		"a panic":  func(context.Context, *consumer.Delivery) error { panic("no database") },
		"no JSON":  consumer.JSON(func(context.Context, int, *consumer.Delivery) error { return nil }),
	}
	for how, h := range fail {
		for rules, before := range map[mqtest.Rules]setup{mqtest.Rules43: func(*mqtest.Config, *reconnect.Config) {}, mqtest.Rules42: rules42} {
			t.Run(fmt.Sprintf("%s on %s", how, rules), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					var at []time.Duration
					begun := time.Now()
					f := newMemoryFixture(t, consumer.Config{}, func(ctx context.Context, d *consumer.Delivery) error {
						at = append(at, time.Since(begun))
						return h(ctx, d)
					}, before, queues(topology.Queue{Name: "q", DeliveryLimit: topology.Unlimited}))
					f.enqueue("kept")
					time.Sleep(time.Hour) // in the bubble
					f.stop()
					if err := f.wait(); err != nil {
						t.Error(err)
					}
					// 51.1 s until the pause is at its longest, then every 30 s.
					want := []time.Duration{0, 100, 300, 700, 1500, 3100, 6300, 12700, 25500, 51100, 81100, 111100}
					for i, ms := range want {
						if i < len(at) && at[i] != ms*time.Millisecond {
							t.Errorf("attempt %d came after %v, want %v", i+1, at[i], ms*time.Millisecond)
						}
					}
					if n := 10 + int((time.Hour-51100*time.Millisecond)/(30*time.Second)); len(at) != n {
						t.Errorf("it was handled %d times in an hour, want %d", len(at), n)
					}
					if got := f.queue.Bodies(); !slices.Equal(got, []string{"kept"}) {
						t.Errorf("the queue has %q", got)
					}
					if rules == mqtest.Rules43 {
						f.contains("kept") // and not counted once
					}
				})
			})
		}
	}
}

// TestASuccessEndsThePausesGrowth: one message that always fails must not slow down for
// ever what fails now and then.
func TestASuccessEndsThePausesGrowth(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		f := newMemoryFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
			if string(d.Body) == "good" {
				return nil
			}
			at = append(at, time.Since(began))
			if len(at) == 7 {
				return nil
			}
			return errors.New("bad")
		})
		f.enqueue("bad")
		time.Sleep(2 * time.Second) // in the bubble: it failed five times, and is paused until 3.1 s
		f.enqueue("good")
		f.until("it is done", func() bool { return f.queue.Len() == 0 })
		if s := f.Status(); s.Paused != 0 {
			t.Errorf("%+v: something is paused still", s)
		}
		want := []time.Duration{0, 100, 300, 700, 1500, 3100, 3200}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
	})
}

// TestManyFailingMessagesComeNoFasterThanTheirPauses: together too they do not spin.
func TestManyFailingMessagesComeNoFasterThanTheirPauses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n = 50
		times := 0
		f := newMemoryFixture(t, consumer.Config{}, func(context.Context, *consumer.Delivery) error {
			times++
			return errors.New("no database")
		})
		f.enqueue(numbered(1, n)...)
		time.Sleep(time.Hour) // in the bubble
		f.stop()
		if err := f.wait(); err != nil {
			t.Error(err)
		}
		if least, most := n*100, n*(10+120); times < least || times > most {
			t.Errorf("%d messages were handled %d times in an hour, want %d to %d", n, times, least, most)
		}
		want := numbered(1, n)
		slices.Sort(want)
		f.contains(want...)
	})
}

// TestASettlementLaterEndsThePausesGrowthToo: its handler has not failed.
func TestASettlementLaterEndsThePausesGrowthToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var at []time.Time
		f := newMemoryFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
			if string(d.Body) == "later" {
				return consumer.Later
			}
			at = append(at, time.Now())
			return errors.New("bad")
		})
		f.enqueue("bad")
		time.Sleep(2 * time.Second) // in the bubble: it failed five times, and is paused until 3.1 s
		f.enqueue("later")
		time.Sleep(1250 * time.Millisecond) // in the bubble: 3.25 s
		synctest.Wait()
		if n := len(at); n != 7 {
			t.Errorf("after %d attempts, at %v; want seven", n, at)
		}
	})
}

// TestAFailureWhileDrainingIsNotPaused: it goes back at once, with a verdict of its own,
// and Run does not call it unfinished.
func TestAFailureWhileDrainingIsNotPaused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{DrainTimeout: time.Hour}, g.handle)
		f.enqueue("a")
		a := g.next(t)
		f.stop()
		f.next("basic.cancel")
		a.end <- errors.New("bad")
		f.settlement("basic.nack(1 multiple=false requeue=true)")
		if err := f.wait(); err != nil {
			t.Errorf("Run: %v", err)
		}
		f.contains("a")
	})
}

// TestWhatIsPausedEndsWithItsSession: there is nothing to give back any more.
func TestWhatIsPausedEndsWithItsSession(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var told []string
		f := newMemoryFixture(t, consumer.Config{OnSettlement: func(s consumer.Settlement) { told = append(told, s.Verdict) }}, func(_ context.Context, d *consumer.Delivery) error {
			if d.Redelivered {
				return nil
			}
			return errors.New("bad")
		})
		f.enqueue("a")
		f.until("it is paused", func() bool { return f.Status().Paused == 1 })
		f.cut(f.subscription)
		time.Sleep(time.Second) // in the bubble: longer than the pause
		synctest.Wait()
		if s := f.Stats(); s.Stale != 0 || s.Released != 0 || s.Acked != 1 {
			t.Errorf("%+v", s)
		}
		if want := []string{"stale", "ack"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// TestADecisionThatIsThrownIsNone: a panic is a failure, whatever its value.
func TestADecisionThatIsThrownIsNone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
			if d.Redelivered {
				return nil
			}
			panic(consumer.Reject(errors.New("bad")))
		}, withDeadLetters())
		f.enqueue("a")
		f.settlement("basic.nack(1 multiple=false requeue=true)")
		f.settlement("basic.ack(2 multiple=false requeue=false)")
		if s := f.Stats(); s.Panics != 1 || s.Failures != 1 {
			t.Errorf("%+v", s)
		}
	})
}
