package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// aStream is a "q" that is a stream.
func aStream() setup {
	return func(_ *mqtest.Config, pool *reconnect.Config) {
		pool.Topology.Queues = []topology.Queue{{Name: "q", Type: topology.Stream}}
	}
}

// seldom has a pool that is refused for minutes try once a second: each try costs real time.
func seldom(_ *mqtest.Config, pool *reconnect.Config) {
	pool.Backoff = func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) }
}

// streaming is a stream with messages 0 to n-1, consumed from an offset.
func streaming(t *testing.T, n int, cfg consumer.Config, h consumer.Handler) *fixture {
	t.Helper()
	f := newMemoryFixture(t, cfg, h, aStream())
	for i := range n {
		f.enqueue(fmt.Sprint(i))
	}
	return f
}

func TestAStreamIsConsumedFromAnOffset(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		offset consumer.Offset
		wire   any // x-stream-offset
	}{
		{consumer.OffsetFirst, "first"},
		{consumer.OffsetLast, "last"},
		{consumer.OffsetNext, "next"},
		{consumer.OffsetNumber(7), int64(7)},
		{consumer.OffsetTime(time.Unix(1700000000, 0)), time.Unix(1700000000, 0)},
		{consumer.OffsetInterval(90 * time.Second), "90s"},
		{consumer.Offset{}, nil},
	} {
		t.Run(tt.offset.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, consumer.Config{Offset: tt.offset}, newGate().handle, aStream())
			args, _ := f.subscription.Field("arguments").(map[string]any)
			got := args["x-stream-offset"]
			if at, ok := got.(time.Time); ok {
				if !at.Equal(tt.wire.(time.Time)) {
					t.Errorf("it asked for %v", at)
				}
			} else if got != tt.wire {
				t.Errorf("it asked for %v, want %v", got, tt.wire)
			}
		})
	}
}

// TestAStreamGoesOnBehindWhatWasDone: after a cut, at the first delivery whose handler
// had not finished.
func TestAStreamGoesOnBehindWhatWasDone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := streaming(t, 6, consumer.Config{Offset: consumer.OffsetFirst, Workers: 3, Prefetch: 10}, g.handle)
		calls := map[string]*call{}
		for range 3 {
			c := g.next(t)
			calls[string(c.Body)] = c
		}
		if n, ok := calls["2"].StreamOffset(); !ok || n != 2 {
			t.Errorf("offset %d, %v", n, ok)
		}
		calls["0"].end <- nil
		calls["2"].end <- nil // beyond what is not done
		third, fourth := g.next(t), g.next(t)
		f.cut(f.subscription)
		if err := calls["1"].cause(t); !errors.Is(err, consumer.ErrStale) {
			t.Errorf("%v", err)
		}
		third.cause(t)
		fourth.cause(t)
		again := f.renewed()
		args, _ := again.Field("arguments").(map[string]any)
		if args["x-stream-offset"] != int64(1) {
			t.Errorf("it went on at %v, want 1", args["x-stream-offset"])
		}
		seen := map[string]bool{}
		for range 5 {
			c := g.next(t)
			seen[string(c.Body)] = true
			c.end <- nil
		}
		for _, want := range []string{"1", "2", "3", "4", "5"} {
			if !seen[want] {
				t.Errorf("%s did not come again: %v", want, seen)
			}
		}
	})
}

// TestAStreamGoesOnWithWhatWasNotDoneFirst: from an offset that moves, such as next, the
// first delivery of all would be passed over if its session ends before it is done.
func TestAStreamGoesOnWithWhatWasNotDoneFirst(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{Offset: consumer.OffsetNext}, g.handle, aStream())
	f.until("it is subscribed", func() bool { return f.Status().Subscribed })
	f.enqueue("0", "1")
	g.next(t)
	f.cut(f.subscription)
	args, _ := f.renewed().Field("arguments").(map[string]any)
	if args["x-stream-offset"] != int64(0) {
		t.Errorf("it went on at %v, want 0", args["x-stream-offset"])
	}
}

// TestAStreamGoesOnWithWhatCameWhileNobodyWasSubscribed, although nothing had come before: what
// was asked for by the clock is not asked for again by a later one.
func TestAStreamGoesOnWithWhatCameWhileNobodyWasSubscribed(t *testing.T) {
	for name, offset := range map[string]consumer.Offset{"next": consumer.OffsetNext, "none": {}, "interval": consumer.OffsetInterval(10 * time.Second)} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGate()
				f := newMemoryFixture(t, consumer.Config{Offset: offset}, g.handle, aStream(), seldom)
				f.until("it is subscribed", func() bool { return f.Status().Subscribed })
				time.Sleep(time.Minute) // in the bubble
				for _, bodies := range [][]string{{}, {}, {"a"}} {
					f.broker.RefuseConnections()
					f.broker.DropConnections()
					f.until("it is not subscribed", func() bool { return !f.Status().Subscribed })
					f.enqueue(bodies...)
					time.Sleep(time.Minute) // in the bubble
					if err := f.broker.AcceptConnections(); err != nil {
						t.Fatal(err)
					}
					f.until("it is subscribed again", func() bool { return f.Status().Subscribed })
				}
				if c := g.next(t); string(c.Body) != "a" {
					t.Errorf("%q came", c.Body)
				}
			})
		})
	}
}

// TestAStreamGoesOnThoughTheBrokersClockIsBehind, by up to ten seconds: where to go on is told
// by ours, and what comes after a cut has the broker's time. A session that has lived for
// longer would have had what was published in that time, so its next one begins with nothing older.
func TestAStreamGoesOnThoughTheBrokersClockIsBehind(t *testing.T) {
	const behind = 10 * time.Second
	for name, tt := range map[string]struct {
		offset       consumer.Offset
		lived, older time.Duration
	}{
		"next, cut at once":     {consumer.OffsetNext, 0, behind},
		"none, cut at once":     {consumer.Offset{}, 0, behind},
		"interval, cut at once": {consumer.OffsetInterval(10 * time.Second), 0, behind + 10*time.Second},
		"next, cut later":       {consumer.OffsetNext, time.Hour, 0},
		"interval, cut later":   {consumer.OffsetInterval(10 * time.Second), time.Hour, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				began := time.Now()
				f := newMemoryFixture(t, consumer.Config{Offset: tt.offset}, newGate().handle, aStream())
				f.until("it is subscribed", func() bool { return f.Status().Subscribed })
				time.Sleep(tt.lived) // in the bubble
				f.cut(f.subscription)
				args, _ := f.renewed().Field("arguments").(map[string]any)
				got, _ := args["x-stream-offset"].(time.Time)
				if before := began.Sub(got); before < tt.older || before > tt.older+time.Second {
					t.Errorf("it went on %v before it was subscribed, want %v", before, tt.older)
				}
			})
		})
	}
}

// TestAStreamsFailedDeliveryIsHandledAgain: nothing can be given back, and what is
// behind it waits.
func TestAStreamsFailedDeliveryIsHandledAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var bodies []string
		done := make(chan struct{})
		outcomes := []error{errors.New("failed"), consumer.Reject(nil), consumer.Requeue(nil), consumer.Release(nil), nil, nil}
		f := streaming(t, 2, consumer.Config{Offset: consumer.OffsetFirst}, func(_ context.Context, d *consumer.Delivery) error {
			for name, settle := range map[string]func() error{"reject": d.Reject, "requeue": d.Requeue, "release": d.Release} {
				if err := settle(); !errors.Is(err, consumer.ErrStream) {
					t.Errorf("%s: %v", name, err)
				}
			}
			bodies = append(bodies, string(d.Body))
			if len(bodies) == len(outcomes) {
				close(done)
			}
			return outcomes[len(bodies)-1]
		})
		receive(t, done)
		if want := []string{"0", "0", "0", "0", "0", "1"}; !slices.Equal(bodies, want) {
			t.Errorf("handled %v, want %v", bodies, want)
		}
		f.until("both are acked", func() bool { return f.Status().Acked == 2 })
		if s := f.Stats(); s.Failures != 4 || s.Deliveries != 2 || s.Rejected+s.Requeued+s.Released != 0 {
			t.Errorf("%+v", s)
		}
		f.stop()
		if err := f.wait(); err != nil {
			t.Error(err)
		}
		for _, e := range f.received.of("basic.nack", "basic.reject") {
			t.Errorf("the broker was sent %s", settled(e))
		}
	})
}

// TestAStreamsHandlerThatHasAckedIsNotCalledAgain, although it fails then, at once or while
// it is waited for.
func TestAStreamsHandlerThatHasAckedIsNotCalledAgain(t *testing.T) {
	for name, ack := range map[string]func(*consumer.Delivery) error{
		"at once": (*consumer.Delivery).Ack,
		"in a while": func(d *consumer.Delivery) error {
			time.AfterFunc(time.Millisecond, func() { _ = d.Ack() })
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				bodies := make(chan string, 10)
				f := streaming(t, 3, consumer.Config{Offset: consumer.OffsetFirst}, func(_ context.Context, d *consumer.Delivery) error {
					bodies <- string(d.Body)
					if err := ack(d); err != nil {
						t.Error(err)
					}
					return errors.New("failed")
				})
				for _, want := range []string{"0", "1", "2"} {
					if got := receive(t, bodies); got != want {
						t.Errorf("handled %q, want %q", got, want)
					}
				}
				f.until("all are acked", func() bool { return f.Status().Acked == 3 })
				f.stop()
				if err := f.wait(); err != nil {
					t.Error(err)
				}
				if len(bodies) > 0 {
					t.Errorf("%q is handled again", <-bodies)
				}
			})
		})
	}
}

// TestAnOffsetAmongTheArgumentsMakesItAStream, although nothing else tells.
func TestAnOffsetAmongTheArgumentsMakesItAStream(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{}, newGate().handle)
	var bodies []string
	c, stop := f.consumeStream(consumer.Config{Arguments: amqp.Table{"x-stream-offset": "first"}}, func(_ context.Context, d *consumer.Delivery) error {
		if bodies = append(bodies, string(d.Body)); len(bodies) == 1 {
			return errors.New("failed")
		}
		return nil
	})
	f.until("both are acked", func() bool { return c.Status().Acked == 2 })
	f.cut(f.subscription)
	f.until("it is subscribed again", func() bool { s := c.Status(); return s.Sessions == 2 && s.Subscribed })
	stop()
	if want := []string{"0", "0", "1"}; !slices.Equal(bodies, want) {
		t.Errorf("handled %v, want %v", bodies, want)
	}
	if strings.Contains(f.log.String(), "if the queue is a stream") {
		t.Error("it is asked to say that the queue is a stream")
	}
}

// TestAStreamThatNobodyHasCalledOneIsToldOf: what fails there is not handled again.
func TestAStreamThatNobodyHasCalledOneIsToldOf(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{}, newGate().handle)
	c, stop := f.consumeStream(consumer.Config{}, func(context.Context, *consumer.Delivery) error { return nil })
	f.until("it is subscribed", func() bool { return c.Status().Subscribed })
	for _, body := range []string{"2", "3"} {
		f.broker.Queue("s").Enqueue(mqtest.Message{Body: []byte(body)})
	}
	f.until("both are acked", func() bool { return c.Status().Acked == 2 })
	stop()
	if n := strings.Count(f.log.String(), "if the queue is a stream"); n != 1 {
		t.Errorf("it was told of %d times", n)
	}
}

// TestALoggerMayAskTheConsumer while it is told of something: no lock is held.
func TestALoggerMayAskTheConsumer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{}, newGate().handle)
	var c *consumer.Consumer
	ready := make(chan struct{})
	asks := writer(func(line []byte) (int, error) {
		<-ready
		_ = c.Status()
		return f.log.Write(line)
	})
	failed := false
	var stop func()
	c, stop = f.consumeStream(consumer.Config{Logger: slog.New(slog.NewTextHandler(asks, nil))}, func(context.Context, *consumer.Delivery) error {
		if !failed {
			failed = true
			panic("for the log")
		}
		return nil
	})
	close(ready)
	f.until("it is subscribed", func() bool { return c.Stats().Sessions == 1 })
	for _, body := range []string{"2", "3"} {
		f.broker.Queue("s").Enqueue(mqtest.Message{Body: []byte(body)})
	}
	f.until("what did not fail is acked", func() bool { return c.Stats().Acked == 1 })
	stop()
	for _, want := range []string{"subscribed", "if the queue is a stream", "handler panicked"} {
		if !strings.Contains(f.log.String(), want) {
			t.Errorf("not told of: %s", want)
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// consumeStream consumes a stream "s", which holds "0" and "1", and of which the pool does
// not know, until stop.
func (f *fixture) consumeStream(cfg consumer.Config, h consumer.Handler) (c *consumer.Consumer, stop func()) {
	f.t.Helper()
	ch, err := f.pool.Acquire(f.t.Context(), reconnect.Consuming)
	if err != nil {
		f.t.Fatal(err)
	}
	defer ch.Release()
	if _, err := ch.Raw().QueueDeclare("s", true, false, false, false, amqp.Table{"x-queue-type": "stream"}); err != nil {
		f.t.Fatal(err)
	}
	for _, body := range []string{"0", "1"} {
		f.broker.Queue("s").Enqueue(mqtest.Message{Body: []byte(body)})
	}
	cfg.Queue = "s"
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(f.log, nil))
	}
	if c, err = consumer.New(f.pool, cfg); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, h) }()
	return c, func() {
		f.t.Helper()
		cancel()
		if err := receive(f.t, ended); err != nil {
			f.t.Error(err)
		}
	}
}

// TestAStreamsHandlerThatEndsItsGoroutineIsCalledAgain by another worker.
func TestAStreamsHandlerThatEndsItsGoroutineIsCalledAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		calls := 0
		f := streaming(t, 2, consumer.Config{Offset: consumer.OffsetFirst}, func(context.Context, *consumer.Delivery) error {
			if calls++; calls < 3 {
				runtime.Goexit()
			}
			return nil
		})
		f.until("both are acked", func() bool { return f.Status().Acked == 2 })
		if s := f.Status(); calls != 4 || s.Failures != 2 || s.Handling != 0 {
			t.Errorf("%d calls, %+v", calls, s)
		}
	})
}

// TestADrainEndsAStreamThatWaitsToTryAgain: at once, and gives nothing back.
func TestADrainEndsAStreamThatWaitsToTryAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		failed := make(chan struct{}, 100)
		f := streaming(t, 3, consumer.Config{Offset: consumer.OffsetFirst, DrainTimeout: time.Hour}, func(context.Context, *consumer.Delivery) error {
			failed <- struct{}{}
			return errors.New("failed")
		})
		receive(t, failed)
		f.stop()
		if err := f.wait(); err != nil {
			t.Error(err)
		}
		f.unsettled(0)
	})
}

// loseStream has the broker cancel the subscription, and say to the next one that there is
// no stream.
func (f *fixture) loseStream() {
	f.t.Helper()
	missing := f.broker.Inject(mqtest.Fault{
		Point: mqtest.Received, Method: "basic.consume", Count: 1,
		Do: mqtest.CloseChannel(404, "NOT_FOUND - no queue 'q' in vhost '/'"),
	})
	f.cancel()
	f.struck(missing)
}

// beginsAnew tests where the subscription after loseStream begins.
func (f *fixture) beginsAnew() {
	f.t.Helper()
	_, e := f.received.await(f.t, 0, 3, "basic.consume")
	args, _ := e.Field("arguments").(map[string]any)
	if args["x-stream-offset"] != "first" {
		f.t.Errorf("it begins at %v", args["x-stream-offset"])
	}
}

// TestAStreamThatIsGoneBeginsAnew: what comes back under its name is another one.
func TestAStreamThatIsGoneBeginsAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := streaming(t, 3, consumer.Config{Offset: consumer.OffsetNext}, g.handle)
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		f.enqueue("late")
		g.next(t).end <- nil
		f.until("it is acked", func() bool { return f.Status().Acked == 1 })
		f.loseStream()
		f.beginsAnew()
	})
}

// TestAStreamThatIsDeclaredAgainBeginsAnew: the pool has it back before anything is answered by a
// 404. RabbitMQ cancels first, and deletes what it knows of the queue a little later.
func TestAStreamThatIsDeclaredAgainBeginsAnew(t *testing.T) {
	for name, lose := range map[string]func(*fixture){
		"at once": func(f *fixture) { f.queue.Delete() },
		"later": func(f *fixture) {
			f.cancel()
			time.Sleep(300 * time.Millisecond) // in the bubble
			f.queue.Delete()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var handled []string
				f := newMemoryFixture(t, consumer.Config{Offset: consumer.OffsetFirst}, func(_ context.Context, d *consumer.Delivery) error {
					handled = append(handled, string(d.Body))
					return nil
				}, aStream())
				f.enqueue("0", "1", "2")
				f.until("all are acked", func() bool { return f.Status().Acked == 3 })
				lose(f)
				f.until("it is subscribed again", func() bool { s := f.Status(); return s.Subscribed && s.Sessions == 2 })
				f.enqueue("a", "b")
				f.until("all are acked", func() bool { return f.Status().Acked == 5 })
				if want := []string{"0", "1", "2", "a", "b"}; !slices.Equal(handled, want) || f.Stats().Sessions != 2 {
					t.Errorf("handled %q, want %q, in %d sessions", handled, want, f.Stats().Sessions)
				}
			})
		})
	}
}

// TestACancelledStreamThatIsStillThereGoesOn behind what was done, also if the connection
// is lost while that is asked.
func TestACancelledStreamThatIsStillThereGoesOn(t *testing.T) {
	for name, do := range map[string]mqtest.Action{"it is there": mqtest.Pass(), "the connection is lost": mqtest.Cut()} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newMemoryFixture(t, consumer.Config{Offset: consumer.OffsetFirst}, func(context.Context, *consumer.Delivery) error { return nil }, aStream())
				f.enqueue("0", "1", "2")
				f.until("all are acked", func() bool { return f.Status().Acked == 3 })
				asked := f.broker.Inject(mqtest.Fault{
					Point: mqtest.Received, Method: "queue.declare", If: func(e *mqtest.Event) bool { return e.Field("passive") == true },
					Count: 1, Do: do,
				})
				f.cancel()
				args, _ := f.renewed().Field("arguments").(map[string]any)
				if args["x-stream-offset"] != int64(3) || asked.Hits() != 1 {
					t.Errorf("it went on at %v, want 3; asked %d times", args["x-stream-offset"], asked.Hits())
				}
			})
		})
	}
}

// TestAStreamThatCannotBeUsedForAWhileGoesOn: the broker says 404 for that, too.
func TestAStreamThatCannotBeUsedForAWhileGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{Offset: consumer.OffsetFirst}, func(context.Context, *consumer.Delivery) error { return nil }, aStream())
		f.enqueue(numbered(1, 5)...)
		f.until("all are acked", func() bool { return f.Status().Acked == 5 })
		away := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "basic.consume", Count: 1,
			Do: mqtest.CloseChannel(404, "NOT_FOUND - failed to perform operation on stream queue 'q' in vhost '/' due to timeout"),
		})
		f.cut(f.subscription)
		f.until("it is subscribed again", func() bool { s := f.Status(); return s.Subscribed && s.Sessions == 2 })
		args, _ := f.received.of("basic.consume")[2].Field("arguments").(map[string]any)
		if args["x-stream-offset"] != int64(5) || away.Hits() != 1 {
			t.Errorf("it went on at %v after %d refusals, want 5 after 1", args["x-stream-offset"], away.Hits())
		}
	})
}

// TestAHandlerOfAGoneStreamDoesNotSayWhereTheNewOneBegins: it may end long after.
func TestAHandlerOfAGoneStreamDoesNotSayWhereTheNewOneBegins(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := streaming(t, 4, consumer.Config{Offset: consumer.OffsetFirst}, g.handle)
		for range 3 {
			g.next(t).end <- nil
		}
		late := g.next(t)
		f.loseStream()
		late.end <- nil
		f.nextOn(f.subscription, "channel.close") // that of the cancelled subscription
		f.beginsAnew()
	})
}

func TestAStreamWantsAPrefetchAndOneOffset(t *testing.T) {
	t.Parallel()
	f := newFixture(t, consumer.Config{}, newGate().handle, queues(topology.Queue{Name: "q"}, topology.Queue{Name: "s", Type: topology.Stream}))
	for _, cfg := range []consumer.Config{
		{Queue: "q", Offset: consumer.OffsetFirst, Prefetch: consumer.Unlimited},
		{Queue: "q", Offset: consumer.OffsetFirst, Arguments: amqp.Table{"x-stream-offset": "next"}},
		{Queue: "q", Arguments: amqp.Table{"x-stream-offset": "first"}, Prefetch: consumer.Unlimited},
		{Queue: "s", Prefetch: consumer.Unlimited}, // a stream in the pool's topology
	} {
		if _, err := consumer.New(f.pool, cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// TestWhatAStreamDoesNotDoForTheDriverAlone: without a prefetch there is no subscription,
// a nack brings nothing back and is no error, and to get one message costs the connection.
// Here what failed is handled again, on the first connection.
func TestWhatAStreamDoesNotDoForTheDriverAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var handled []string
		f := newMemoryFixture(t, consumer.Config{Offset: consumer.OffsetFirst}, func(_ context.Context, d *consumer.Delivery) error {
			if handled = append(handled, string(d.Body)); len(handled) == 1 {
				return errors.New("failed")
			}
			return nil
		}, aStream())
		f.enqueue("a", "b")
		f.until("both are acked", func() bool { return f.Status().Acked == 2 })
		if want := []string{"a", "a", "b"}; !slices.Equal(handled, want) {
			t.Errorf("handled %q, want %q", handled, want)
		}
		conn, err := amqp.DialConfig(f.broker.URL(), amqp.Config{Dial: f.broker.Dial, Heartbeat: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		closed := conn.NotifyClose(make(chan *amqp.Error, 1))
		consume := func(prefetch int) (*amqp.Channel, <-chan amqp.Delivery, error) {
			ch, err := conn.Channel()
			if err != nil {
				t.Fatal(err)
			}
			if err := ch.Qos(prefetch, 0, false); err != nil {
				t.Fatal(err)
			}
			in, err := ch.Consume("q", "", false, false, false, false, amqp.Table{"x-stream-offset": "first"})
			return ch, in, err
		}
		var told *amqp.Error
		if _, _, err := consume(0); !errors.As(err, &told) || told.Code != amqp.PreconditionFailed {
			t.Errorf("without a prefetch: %v", err)
		}
		ch, in, err := consume(10)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := (<-in).Nack(false, true); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Minute) // in the bubble
		if len(in) != 0 || ch.IsClosed() {
			t.Errorf("after a nack %d came again, the channel is closed: %v", len(in), ch.IsClosed())
		}
		_, _, err = ch.Get("q", true)
		if end := <-closed; err == nil || end == nil || end.Code != amqp.NotImplemented {
			t.Errorf("get: %v, and the connection ended with %v", err, end)
		}
		if n := len(f.received.of("basic.get")); n != 1 || f.Stats().Sessions != 1 {
			t.Errorf("%d gets, %+v", n, f.Stats())
		}
	})
}
