package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/topology"
)

// TestServerCancelKeepsTheChannel: what is not overdue can still be settled there.
func TestServerCancelKeepsTheChannel(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{Workers: 2, DrainTimeout: patience}, g.handle)
	old := f.subscription
	f.enqueue("a", "b", "waits")
	a, b := g.next(t), g.next(t)
	if a.Tag != 1 {
		a, b = b, a
	}
	f.waiting(1)
	f.cancel()
	if m := f.settlement("basic.nack(3 multiple=false requeue=true)"); m.Channel != old.Channel {
		t.Errorf("released on channel %d", m.Channel)
	}
	renewed := f.renewed()
	if renewed.Channel == old.Channel || renewed.ConsumerTag == old.ConsumerTag || renewed.Conn != old.Conn {
		t.Errorf("channel %d tag %s; before %d %s", renewed.Channel, renewed.ConsumerTag, old.Channel, old.ConsumerTag)
	}
	if a.ctx.Err() != nil {
		t.Errorf("the handler's ctx has ended: %v", context.Cause(a.ctx))
	}
	// Tags of both channels at once; those of the old one are acked one by one,
	// because an overdue one among them is void.
	b.end <- nil
	if m := f.settlement("basic.ack(2 multiple=false requeue=false)"); m.Channel != old.Channel {
		t.Errorf("the late ack went to channel %d", m.Channel)
	}
	again := g.next(t) // on the new one
	if string(again.Body) != "waits" || again.Tag != 1 {
		t.Errorf("the new subscription gets %q with tag %d", again.Body, again.Tag)
	}
	again.end <- nil
	if m := f.settlement("basic.ack(1 multiple=false requeue=false)"); m.Channel != renewed.Channel {
		t.Errorf("the new ack went to channel %d", m.Channel)
	}
	a.end <- nil
	if m := f.settlement("basic.ack(1 multiple=false requeue=false)"); m.Channel != old.Channel {
		t.Errorf("the late ack went to channel %d", m.Channel)
	}
	if m := f.next("channel.close"); m.Channel != old.Channel {
		t.Errorf("channel %d was closed, want the old one, when its handlers had finished", m.Channel)
	}
	f.until("the queue is empty", func() bool { return f.queue.Len() == 0 })
}

// TestServerCancelEndsMultipleAcks: the tag of one, or one below it, may be void.
func TestServerCancelEndsMultipleAcks(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{FlushInterval: never, Workers: 3}, g.handle)
	f.enqueue("a", "b", "c")
	calls := map[uint64]*call{}
	for range 3 {
		c := g.next(t)
		calls[c.Tag] = c
	}
	for tag := range uint64(2) {
		if err := calls[tag+1].Ack(); err != nil {
			t.Error(err)
		}
	}
	f.unsettled(0)
	f.cancel()
	f.settlement("basic.ack(1 multiple=false requeue=false)")
	f.settlement("basic.ack(2 multiple=false requeue=false)")
}

// TestOverdueDeliveryComesAgainAndItsLateAckHarmsNothing: the broker has taken it
// back, and the subscription with it.
func TestOverdueDeliveryComesAgainAndItsLateAckHarmsNothing(t *testing.T) {
	t.Parallel()
	first, second, end := make(chan *consumer.Delivery, 1), make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	f := newFixture(t, consumer.Config{Workers: 2, DrainTimeout: patience}, func(_ context.Context, d *consumer.Delivery) error {
		switch calls.Add(1) {
		case 1:
			first <- d
			<-end
		case 2:
			close(second)
		}
		return nil
	}, queues(topology.Queue{Name: "q", ConsumerTimeout: 50 * time.Millisecond}))
	f.enqueue("a")
	d := receive(t, first)
	old := f.subscription
	for old.ConsumerTag != d.ConsumerTag { // on a busy machine it may have been overdue before
		old = f.next("basic.consume")
	}
	f.nextOn(old, "basic.cancel") // the broker keeps the consumer until it is told
	receive(t, second)
	close(end)
	if got, want := settled(f.nextOn(old, settlements...)), fmt.Sprintf("basic.ack(%d multiple=false requeue=false)", d.Tag); got != want {
		t.Errorf("the late verdict is %s, want %s", got, want)
	}
	f.nextOn(old, "channel.close") // by the client
	f.until("the queue is empty", func() bool { return f.queue.Len() == 0 })
	f.until("it is subscribed", func() bool { s := f.Status(); return s.Subscribed && s.Sessions > 1 })
	if strings.Contains(f.log.String(), "session lost") {
		t.Errorf("the log is %s", f.log)
	}
}

// TestCutIsNotTakenForACancel: with its channel the driver closes also the
// notification of a cancel.
func TestCutIsNotTakenForACancel(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	f := newFixture(t, consumer.Config{OrderBy: func(*consumer.Delivery) string {
		<-goOn // holds the session until the driver has closed all
		return ""
	}}, func(context.Context, *consumer.Delivery) error { return nil })
	f.enqueue("a")
	f.waiting(1)
	f.cut(f.subscription)
	f.next("connection.open") // the cut was seen
	close(goOn)
	f.renewed()
	if s := f.log.String(); strings.Contains(s, "cancelled the subscription") || !strings.Contains(s, "session lost") {
		t.Errorf("the log is %s", s)
	}
}

// TestADrainWritesWhatIsFinishedOnAnOldChannelAtOnce: it waits for nothing there, as it
// does for the answer to a cancel of its own.
func TestADrainWritesWhatIsFinishedOnAnOldChannelAtOnce(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{Workers: 2, DrainTimeout: patience}, g.handle)
	f.enqueue("a", "b")
	a, b := g.next(t), g.next(t)
	old := f.subscription
	f.cancel()
	f.renewed()
	f.stop()
	f.next("basic.cancel")
	a.end <- nil
	if m := f.settlement(fmt.Sprintf("basic.ack(%d multiple=false requeue=false)", a.Tag)); m.Channel != old.Channel {
		t.Errorf("the ack went to channel %d", m.Channel)
	}
	b.end <- nil
	if err := f.wait(); err != nil {
		t.Error(err)
	}
	f.contains()
}

// TestADrainGivesBackWhatStillRunsOnAnOldChannel at its deadline, says so, and does not
// return before the broker has it.
func TestADrainGivesBackWhatStillRunsOnAnOldChannel(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, consumer.Config{DrainTimeout: time.Second}, g.handle)
	f.enqueue("a")
	a := g.next(t)
	old := f.subscription
	f.cancel()
	f.renewed()
	closing := f.hold(old.Conn, "channel.close-ok")
	f.stop()
	if err := a.cause(t); !errors.Is(err, consumer.ErrStale) {
		t.Errorf("the handler's ctx ended with %v", err)
	}
	if m := f.settlement("basic.nack(1 multiple=false requeue=true)"); m.Channel != old.Channel {
		t.Errorf("the release went to channel %d", m.Channel)
	}
	closing.await(2)
	select {
	case <-f.ended:
		t.Errorf("Run returned %v before its channels were closed", f.err)
	default:
		closing.release()
	}
	var left *consumer.DrainError
	if err := f.wait(); !errors.As(err, &left) || left.Released != 1 || left.Running != 0 {
		t.Errorf("Run returned %v, want one given back", err)
	}
	f.contains("a")
}

// TestRunWaitsForItsOldChannels: what was written there last is known to the broker only
// when it has answered the close.
func TestRunWaitsForItsOldChannels(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGate()
		f := newMemoryFixture(t, consumer.Config{DrainTimeout: time.Second}, g.handle)
		f.enqueue("a")
		g.next(t)
		old := f.subscription
		f.cancel()
		f.until("it is subscribed again", func() bool { return f.Status().Sessions == 2 && f.Status().Subscribed })
		const late = 3 * time.Second
		slow := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Conn: old.Conn, Channel: old.Channel, Method: "channel.close-ok", Count: 1, Do: mqtest.Delay(late)})
		began := time.Now()
		f.stop()
		var left *consumer.DrainError
		if err := f.wait(); !errors.As(err, &left) {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(began); took < late || slow.Hits() != 1 {
			t.Errorf("it returned after %v, %d were late", took, slow.Hits())
		}
	})
}

// TestAConsumeThatTakesAMinuteCostsNoConnection: for a classic queue whose node was killed
// the broker takes 68 s to say that it is not there.
func TestAConsumeThatTakesAMinuteCostsNoConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, consumer.Config{}, newGate().handle)
		slow := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "basic.consume", Count: 2,
			Do: mqtest.Delay(68 * time.Second).Then(mqtest.CloseChannel(404, "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout")),
		})
		f.cancel()
		time.Sleep(135 * time.Second) // in the bubble
		if s := f.Status(); s.Subscribed || brokersCode(s.Cause) != 404 || slow.Hits() != 2 {
			t.Errorf("%d were slow, then: %s", slow.Hits(), s)
		}
		f.until("it is subscribed again", func() bool { return f.Status().Subscribed })
		if list := f.received.of("connection.open"); len(list) != 1 {
			t.Errorf("there were %d connections", len(list))
		}
	})
}

// TestWhatWaitedComesBeforeTheRestAfterAServerCancel: one worker keeps the order, however
// long the broker takes to answer. The next subscription waits for what the old one gives back.
func TestWhatWaitedComesBeforeTheRestAfterAServerCancel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var got []string
		f := newMemoryFixture(t, consumer.Config{Prefetch: 20}, func(_ context.Context, d *consumer.Delivery) error {
			got = append(got, string(d.Body))
			time.Sleep(10 * time.Millisecond) // in the bubble
			return nil
		})
		late := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Sending, Method: "basic.cancel-ok", Count: 1, Do: mqtest.Delay(200 * time.Millisecond),
		})
		f.enqueue(numbered(0, 99)...)
		f.until("some are handled", func() bool { return f.Stats().Acked > 5 })
		f.cancel()
		f.until("all are settled", func() bool { return f.queue.Len() == 0 })
		f.stop()
		if err := f.wait(); err != nil {
			t.Error(err)
		}
		if want := numbered(0, 99); !slices.Equal(got, want) {
			t.Errorf("they came as %v", got)
		}
		if s := f.Stats(); late.Hits() != 1 || s.Sessions != 2 {
			t.Errorf("%d answers were late, %+v", late.Hits(), s)
		}
	})
}

// TestACancelThatIsNotAnsweredKeepsNoConsumerAway: the next subscription waits for that only
// so long.
func TestACancelThatIsNotAnsweredKeepsNoConsumerAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		handled := make(chan string, 1)
		f := newMemoryFixture(t, consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
			handled <- string(d.Body)
			return nil
		})
		lost := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.cancel-ok", Count: 1, Do: mqtest.Drop()})
		f.until("it is subscribed", func() bool { return f.Status().Subscribed })
		began := time.Now()
		f.cancel()
		f.until("Status says why it is not subscribed", func() bool {
			s := f.Status()
			return !s.Subscribed && s.Cause != nil && strings.Contains(s.Cause.Error(), "cancelled the subscription") && s.Since.Equal(began)
		})
		f.renewed()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it was away for %v", took)
		}
		f.enqueue("x")
		if got := receive(t, handled); got != "x" || lost.Hits() != 1 {
			t.Errorf("it got %q, %d answers were lost", got, lost.Hits())
		}
	})
}
