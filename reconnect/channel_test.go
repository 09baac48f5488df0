package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestAnAnswerThatDoesNotComeWithinRPCTimeoutCostsTheConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t, answersWithin(20*time.Second))
		lost := lf.broker.Inject(unanswered("queue.declare"))
		ch := lf.channel()
		began := time.Now()
		err := ch.Call(limited(t), "declare q", declare)
		wantAfter(t, began, 20*time.Second)
		wantText(t, err, "declare q", "no answer from the broker within 20s")
		for _, want := range []error{reconnect.ErrLost, reconnect.ErrRPCTimeout} {
			if !errors.Is(err, want) || !errors.Is(ch.Err(), want) {
				t.Errorf("Call: %v; Err: %v; want both to wrap %v", err, ch.Err(), want)
			}
		}
		synctest.Wait()
		if s := lf.status(); s.State != reconnect.Waiting || !errors.Is(s.Cause, reconnect.ErrRPCTimeout) {
			t.Errorf("status %+v", s)
		}
		if hits(lost) != 1 || len(lf.broker.Connections()) != 0 {
			t.Errorf("%d answers were lost, %d connections are left", hits(lost), len(lf.broker.Connections()))
		}
	})
}

// TestAnAbandonedChannelWhoseCloseIsNotAnsweredCostsNobodyTheConnection: others use it.
func TestAnAbandonedChannelWhoseCloseIsNotAnsweredCostsNobodyTheConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t, answersWithin(20*time.Second))
		unheard := lf.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "channel.close", Do: mqtest.Drop()})
		ch := lf.channel()
		ch.Abandon()
		began := time.Now()
		if err := ch.Close(limited(t)); err != nil {
			t.Error(err)
		}
		wantAfter(t, began, 0)
		after(time.Minute)
		lf.alive()
		if err := lf.channel().Call(limited(t), "declare q", declare); err != nil {
			t.Error(err)
		}
		if hits(unheard) != 1 {
			t.Errorf("%d closes were not answered", hits(unheard))
		}
	})
}

func TestBeingBlockedStopsTheClockOfAnAnswer(t *testing.T) {
	tests := []struct {
		name          string
		block, length time.Duration
	}{
		{"for long", time.Second, time.Hour},
		{"and over before the limit", time.Second, 18 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				lf := newLife(t, answersWithin(20*time.Second))
				lost := lf.broker.Inject(unanswered("queue.declare"))
				ch, conn := lf.channel(), lf.conn()
				unblocked := make(chan time.Time, 1)
				go func() {
					after(tt.block)
					conn.Block("")
					after(tt.length)
					conn.Unblock()
					unblocked <- time.Now()
				}()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
				defer cancel()
				err := ch.Call(ctx, "declare q", declare)
				wantAfter(t, <-unblocked, 20*time.Second)
				if !errors.Is(err, reconnect.ErrRPCTimeout) {
					t.Errorf("Call: %v", err)
				}
				if c := lf.await(t, reconnect.Blocked); c.At.Sub(lf.told()[1].At) != tt.block || hits(lost) != 1 {
					t.Errorf("%v at %v, %d answers were lost", c, c.At, hits(lost))
				}
			})
		})
	}
}

func TestTheEndOfACtxEndsTheCallersWaitAndThenOnlyItsChannel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		late := lf.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "queue.declare", Do: mqtest.Hold()})
		closed := lf.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "channel.close"})
		ch, other := lf.channel(), lf.channel()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := ch.Call(ctx, "declare q", declare)
		wantAfter(t, began, time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || strings.Count(err.Error(), "declare q: ") != 1 {
			t.Errorf("Call: %v", err)
		}
		lf.struck(late)
		synctest.Wait()
		if ch.Err() != nil || hits(closed) != 0 {
			t.Fatalf("before the answer: channel %v, %d channels closed", ch.Err(), hits(closed))
		}
		lf.alive()
		// Nobody else suffers.
		if err := other.Call(limited(t), "qos", qos); err != nil {
			t.Errorf("another channel: %v", err)
		}
		// A second call waits for its turn, as long as its own ctx allows.
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := ch.Call(short, "again", declare); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call behind it: %v", err)
		}
		late.Release()
		lf.struck(closed)
		asked := lf.methods("queue.declare")
		if got := lf.methods("channel.close")[0].Channel; len(asked) != 1 || got != asked[0].Channel {
			t.Errorf("channel %d was closed, want that of %v", got, asked)
		}
		await(t, ch.Done(), "the end of the channel")
		if !errors.Is(ch.Err(), reconnect.ErrLost) || other.Err() != nil || hits(closed) != 1 {
			t.Errorf("channel %v, other %v, %d closed", ch.Err(), other.Err(), hits(closed))
		}
		lf.alive()
	})
}

// TestAShortCtxOnADeclareHarmsNoOtherConsumer of that connection: none of its
// deliveries is counted as failed.
func TestAShortCtxOnADeclareHarmsNoOtherConsumer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const queue, held, calls = "work", 5, 20
		lf := newLife(t)
		if err := lf.pool.Declare(limited(t), topology.Topology{Queues: []topology.Queue{{Name: queue}}}); err != nil {
			t.Fatal(err)
		}
		ch := lf.channel()
		raw := ch.Raw()
		deliveries, err := raw.Consume(queue, "bystander", false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range held {
			if err := raw.PublishWithContext(t.Context(), "", queue, false, false, amqp.Publishing{Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		unsettled := make([]amqp.Delivery, held)
		for i := range unsettled {
			unsettled[i] = await(t, deliveries, "a delivery")
		}
		slow := lf.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "queue.declare", Queue: "slow", Do: mqtest.Delay(time.Second)})
		for range calls {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			began := time.Now()
			err := lf.pool.Declare(ctx, topology.Topology{Queues: []topology.Queue{{Name: "slow"}}})
			cancel()
			wantAfter(t, began, time.Millisecond)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Declare: %v", err)
			}
		}
		after(time.Minute)
		if n := hits(slow); n != calls {
			t.Errorf("%d declares were slow", n)
		}
		lf.alive()
		if ch.Err() != nil || len(deliveries) != 0 {
			t.Errorf("the bystander: %v, and %d deliveries more", ch.Err(), len(deliveries))
		}
		if s := lf.pool.Stats().Consuming; s.Channels-s.Kept != 1 {
			t.Errorf("%+v: want the bystander's channel alone", s)
		}
		// Each now fails once, and has done so only once.
		for _, d := range unsettled {
			if err := d.Reject(true); err != nil {
				t.Error(err)
			}
		}
		for range held {
			if d := await(t, deliveries, "a message that was given back"); d.Headers["x-delivery-count"] != int64(1) {
				t.Errorf("it has failed %v times", d.Headers["x-delivery-count"])
			}
		}
	})
}

func TestAnAbandonedChannelOpenIsClosedWhenItsAnswerComes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		late := lf.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "channel.open", Do: mqtest.Hold()})
		closed := lf.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "channel.close"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := lf.pool.Acquire(ctx, reconnect.Consuming); !errors.Is(err, context.DeadlineExceeded) || strings.Count(err.Error(), "open channel: ") != 1 {
			t.Fatalf("Acquire: %v", err)
		}
		synctest.Wait()
		if hits(late) != 1 || hits(closed) != 0 {
			t.Errorf("%d answers are late, %d channels closed", hits(late), hits(closed))
		}
		late.Release()
		lf.struck(closed)
		synctest.Wait()
		if n := len(lf.conn().Channels()); n != 0 {
			t.Errorf("%d channels are left", n)
		}
		lf.alive()
	})
}

func TestACallWithADeadCtxSaysNothingToTheBroker(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		ch := lf.channel()
		for range 20 { // its turn and the end of its ctx are both there: it may take either
			if err := ch.Call(expired(t), "declare q", func(*amqp.Channel) error { t.Error("it was made"); return nil }); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		}
		if err := ch.Call(limited(t), "declare q", declare); err != nil {
			t.Errorf("the channel's turn was not given back: %v", err)
		}
		if n := len(lf.methods("queue.declare")); n != 1 {
			t.Errorf("%d declares", n)
		}
	})
}

func TestAChannelThatTheBrokerClosedSaysWhyAndIsAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		refused := lf.broker.Inject(refusesOnChannel("queue.declare", 406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type'"))
		ch := lf.channel()
		err := ch.Call(limited(t), "declare q", declare)
		await(t, ch.Done(), "the end of the channel")
		wantBroker(t, "Call", err, 406, true)
		wantBroker(t, "Err", ch.Err(), 406, true)
		wantText(t, err, "declare q: the broker said 406 PRECONDITION_FAILED")
		if !errors.Is(ch.Err(), reconnect.ErrLost) || !ch.Alone() {
			t.Errorf("Err %v, alone %v", ch.Err(), ch.Alone())
		}
		lf.alive()
		if err := ch.Call(limited(t), "again", declare); !errors.Is(err, reconnect.ErrLost) {
			t.Errorf("a call on a dead channel: %v", err)
		}
		if err := ch.Close(limited(t)); err != nil {
			t.Errorf("closing a dead channel: %v", err)
		}
		if hits(refused) != 1 || len(lf.methods("channel.close")) != 0 {
			t.Errorf("%d declares refused; %v", hits(refused), lf.methods())
		}
	})
}

// TestWhatACallMakesOfTheBrokersWordIsNotLost: the session's ctx ends with the
// channel, perhaps before f has returned.
func TestWhatACallMakesOfTheBrokersWordIsNotLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		refused := lf.broker.Inject(refusesOnChannel("queue.declare", 404, "NOT_FOUND - no exchange 'x'"))
		ch := lf.channel()
		session, end := context.WithCancelCause(t.Context())
		go func() {
			<-ch.Done()
			end(ch.Err())
		}()
		err := ch.Call(session, "declare", func(raw *amqp.Channel) error {
			err := declare(raw)
			<-session.Done()
			synctest.Wait()
			return fmt.Errorf("bind x to q: %w", err)
		})
		wantText(t, err, "declare: bind x to q: ")
		wantBroker(t, "Call", err, 404, true)
		var drivers *amqp.Error
		if !errors.As(err, &drivers) || drivers.Code != 404 {
			t.Errorf("%v, want the driver's 404", err)
		}
		lf.struck(refused)
	})
}

func TestNobodyWaitsForACloseWhileBlocked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		closed := lf.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "channel.close"})
		ch := lf.channel()
		lf.conn().Block("")
		lf.await(t, reconnect.Blocked)
		began := time.Now()
		if err := ch.Close(limited(t)); err != nil {
			t.Errorf("%v", err)
		}
		ch.Release()
		wantAfter(t, began, 0)
		after(time.Minute)
		if hits(closed) != 0 || ch.Err() != nil {
			t.Errorf("while blocked, %d channels were closed: %v", hits(closed), ch.Err())
		}
		lf.conn().Unblock()
		await(t, ch.Done(), "the end of the channel")
		if hits(closed) != 1 {
			t.Errorf("%d channels were closed", hits(closed))
		}
	})
}

func TestBarriersAreCalledUntilTheChannelIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		ch, other := lf.channel(), lf.channel()
		var calls int // the reader's, read when the bubble is idle
		ch.OnBarrier(func() { calls++ })
		call := func(ch *reconnect.Channel) int {
			synctest.Wait()
			before := calls
			if err := ch.Call(limited(t), "qos", qos); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return calls - before
		}
		if call(other) == 0 {
			t.Error("no barrier after an answer")
		}
		if err := ch.Close(limited(t)); err != nil {
			t.Fatal(err)
		}
		await(t, ch.Done(), "the end of the channel")
		if n := call(other); n != 0 {
			t.Errorf("%d barriers of a channel that is over", n)
		}
		ch.OnBarrier(func() { calls++ })
		if n := call(other); n != 0 {
			t.Errorf("%d barriers of a channel that was over before", n)
		}
	})
}
