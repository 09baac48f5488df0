package producer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// TestPublishesWaitWhileTheConnectionIsBlocked: the broker says so when one has begun
// to arrive, and reads nothing more.
func TestPublishesWaitWhileTheConnectionIsBlocked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	lost := f.broker.Inject(loses(1))
	cs := f.publish("1")
	m := f.arrive("1")[0]
	f.struck(lost)
	f.broker.Block("")
	cs = append(cs, f.publish("2")...)
	f.await(reconnect.Blocked, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := f.Publish(ctx, producer.Text("3").ToQueue("q"))
	if producer.VerdictOf(err) != producer.NotSent || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "low on memory") {
		t.Errorf("while blocked: %v", err)
	}
	cs = append(cs, f.publish("4")...)
	f.say(m, ack(1, false)) // confirms still come
	f.verdict(cs[0], producer.Confirmed)
	if n := producer.HandedOver(f.Producer); n != 1 {
		t.Fatalf("%d publishes are on their way, the connection was blocked by the first", n)
	}
	f.stored("1")
	f.broker.Unblock()
	for _, c := range cs {
		f.verdict(c, producer.Confirmed)
	}
	f.stored("1", "2", "4")
}

// TestBlockedEndsWithItsConnection: nobody says unblocked on the next one.
func TestBlockedEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	f.next("confirm.select")
	f.broker.Block("")
	cs := f.publish("1")
	f.await(reconnect.Blocked, 1)
	cs = append(cs, f.publish("2")...)
	f.broker.RefuseConnections()
	conn := f.conn(f.arrive("1")[0])
	conn.Do(mqtest.Cut())
	<-conn.Done()
	f.await(reconnect.Waiting, 1)
	f.broker.Unblock() // the alarm ends while nobody is there to hear of it
	if err := f.broker.AcceptConnections(); err != nil {
		t.Fatal(err)
	}
	for _, c := range cs {
		f.verdict(c, producer.Confirmed)
	}
	f.stored("1", "2")
}

// TestPublishingGoesOnAfterAnAlarmThatOutlastedItsConnection: it is cut while it is
// blocked, the next one is blocked as well, and then the alarm is over.
func TestPublishingGoesOnAfterAnAlarmThatOutlastedItsConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	f.next("confirm.select")
	f.broker.Block("")
	cs := f.publish("1")
	f.await(reconnect.Blocked, 1)
	cs = append(cs, f.publish("2")...)
	f.conn(f.arrive("1")[0]).Do(mqtest.Cut())
	f.await(reconnect.Waiting, 1)
	f.await(reconnect.Blocked, 2)
	f.pending(cs...)
	f.broker.Unblock()
	cs = append(cs, f.publish("3")...)
	for _, c := range cs {
		f.verdict(c, producer.Confirmed)
	}
	f.stored("1", "2", "3")
	if s := f.Stats(); s.Republished != 1 {
		t.Errorf("%+v, want the one that was on its way sent again", s)
	}
}
