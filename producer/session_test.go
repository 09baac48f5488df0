package producer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

func TestConfirmOutOfOrderNeedsNoOtherFrame(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	for range 30 {
		cs := f.publish("1", "2", "3", "4")
		ms := f.arrive("1", "2", "3", "4")
		for i := 3; i > 0; i-- { // each within a sweep interval of the one before
			f.say(ms[i], ack(ms[i].Number, false))
			f.verdict(cs[i], producer.Confirmed)
		}
		f.pending(cs[0])
		f.say(ms[0], ack(ms[0].Number, false))
		f.verdict(cs[0], producer.Confirmed)
	}
	if s := f.Stats(); s.InFlight != 0 || s.Confirmed != 120 {
		t.Errorf("%+v", s)
	}
}

func TestNackedIsToldWhileTheChannelLives(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	nacks := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Skip: 1, Count: 1, Do: mqtest.Nack()})
	lost := f.broker.Inject(loses(2))
	cs := f.publish("1", "2", "3")
	m := f.arrive("1", "2", "3")[0]
	err := f.verdict(cs[1], producer.Nacked)
	if !errors.Is(err, producer.ErrNacked) || producer.SafeToRetry(err) {
		t.Error(err)
	}
	f.struck(nacks, lost)
	f.pending(cs[0], cs[2])
	f.do(m, mqtest.CloseChannel(320, "CONNECTION_FORCED - test"))
	f.arrive("1", "3") // not the nacked one
	f.verdict(cs[0], producer.Confirmed)
	f.verdict(cs[2], producer.Confirmed)
	f.stored("1", "3", "1", "3")
}

// TestFalseConfirmOfAClosedChannelIsNotNacked: the driver says false for all that
// was open, and one read brings the broker's nack and the end of the channel.
func TestFalseConfirmOfAClosedChannelIsNotNacked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	lost := f.broker.Inject(loses(3))
	cs := f.publish("1", "2", "3")
	m := f.arrive("1", "2", "3")[0]
	f.struck(lost)
	f.do(m, mqtest.Answer(ack(1, false), nack(2)), mqtest.CloseChannel(320, "CONNECTION_FORCED - test"))
	f.arrive("2", "3")
	for _, c := range cs {
		f.verdict(c, producer.Confirmed)
	}
	if s := f.Stats(); s.Republished != 2 || s.Nacked != 0 {
		t.Errorf("%+v", s)
	}
	f.stored("1", "2", "3", "2", "3")
}

func TestAckThatCameBeforeTheCutCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	cs := f.publish("1", "2")
	m := f.arrive("1", "2")[0]
	f.do(m, mqtest.Answer(ack(1, false)), mqtest.Cut())
	again := f.arrive("2")[0]
	f.await(reconnect.Waiting, 1) // the cut happened
	f.verdict(cs[0], producer.Confirmed)
	f.pending(cs[1])
	f.say(again, ack(again.Number, false))
	f.verdict(cs[1], producer.Confirmed)
}

// TestAckOutOfOrderJustBeforeTheCutCounts: the window was looked through a moment
// before, and nothing comes any more that would have it looked through again.
func TestAckOutOfOrderJustBeforeTheCutCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	const rounds = 20
	for range rounds {
		cs := f.publish(numbered(1, 5)...)
		ms := f.arrive(numbered(1, 5)...)
		f.say(ms[4], ack(ms[4].Number, false))
		f.verdict(cs[4], producer.Confirmed)
		f.do(ms[0], mqtest.Answer(ack(ms[3].Number, false), ack(ms[2].Number, false), ack(ms[1].Number, false)), mqtest.Cut())
		for _, c := range cs[1:] {
			f.verdict(c, producer.Confirmed)
		}
		m := f.arrive("1")[0]
		f.say(m, ack(m.Number, false))
		f.verdict(cs[0], producer.Confirmed)
	}
	if n := f.Stats().Republished; n != rounds {
		t.Errorf("%d messages were sent again, want %d", n, rounds)
	}
}

// TestASessionThatWasGivenUpGivesNoVerdicts: its channel is still open, and what is said to
// the next one concerns the same messages.
func TestASessionThatWasGivenUpGivesNoVerdicts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{ConfirmTimeout: 40 * time.Millisecond})
	f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "channel.close", Do: mqtest.Drop()})
	lost := f.broker.Inject(loses(1))
	unheard := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.return", Count: 1, Do: mqtest.Drop()})
	c := f.message(producer.Text("x").ToQueue("nowhere"))
	f.struck(lost, unheard)
	f.verdict(c, producer.Returned)
	if ms := f.received("basic.publish"); len(ms) < 2 || ms[0].Conn != ms[1].Conn || ms[0].Channel == ms[1].Channel {
		t.Errorf("it was not sent again on another channel of the same connection: %s", text(ms...))
	}
}

// TestAConfirmThatComesWhileItsMessageIsHandedOverIsSeen: nothing else comes that would
// have it looked at.
func TestAConfirmThatComesWhileItsMessageIsHandedOverIsSeen(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "heartbeat", Do: mqtest.Drop()})
	confirm := f.next("confirm.select")
	c := f.message(producer.Bytes(bytes.Repeat([]byte("x"), 2*large)).ToQueue("q"))
	f.handed()
	f.say(confirm, ack(1, false)) // a broker that is quicker than it can be
	select {
	case <-c.Done():
		f.verdict(c, producer.Confirmed)
	case <-time.After(15 * time.Second): // the silence ends the connection a little later
		t.Error("it has no verdict")
	}
}

// TestASessionThatIsGivenUpEndsAlthoughThereIsMoreToSend: the queue is so long that it
// would take the session far longer than the timeout to hand it over.
func TestASessionThatIsGivenUpEndsAlthoughThereIsMoreToSend(t *testing.T) {
	t.Parallel()
	const n = 20_000
	fresh, left := 0, make(chan int, 1)
	f := newFixture(t, producer.Config{MaxInFlight: n, ConfirmTimeout: 10 * time.Millisecond, OnAttempt: func(a producer.Attempt) {
		if a.Number == 1 {
			fresh++
			return
		}
		select {
		case left <- n - fresh:
		default:
		}
	}}, unanswered("confirm.select"), silent())
	confirm := f.next("confirm.select")
	for range n {
		f.message(producer.Text("x").ToQueue("q"))
	}
	f.say(confirm, mqtest.Method{Name: "confirm.select-ok"})
	select {
	case unsent := <-left:
		if unsent == 0 {
			t.Error("the session has sent all that there was")
		}
	case <-time.After(patience):
		t.Error("nothing is sent again")
	}
	f.pool.CloseNow()
}

func TestUnresolvedAreSentAgainFirstInOrderAfterACut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	gaveUp, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	given := make(chan error, 1)
	var cs []*producer.Confirmation
	for i := 1; i <= 10; i++ {
		if i == 5 {
			go func() { given <- f.Publish(gaveUp, producer.Text("5").ToQueue("q")) }()
			f.arrive("1", "2", "3", "4", "5")
			cs = append(cs, nil)
			continue
		}
		cs = append(cs, f.publish(fmt.Sprint(i))...)
	}
	f.arrive(numbered(6, 10)...)
	first := f.received("basic.publish")
	f.say(first[2], ack(3, false))
	f.verdict(cs[2], producer.Confirmed)
	giveUp()
	err := ending(t, "Publish", given)
	if producer.VerdictOf(err) != producer.Unknown || !errors.Is(err, context.Canceled) || producer.SafeToRetry(err) {
		t.Errorf("given up: %v", err)
	}
	f.block(first[0]) // the next waits in the queue, the one after for the next session
	newer := f.publish("11")
	lost := f.broker.Inject(unanswered("confirm.select"))
	f.do(first[0], mqtest.Cut())
	confirm := f.next("confirm.select")
	f.struck(lost)
	newer = append(newer, f.publish("12")...)
	f.say(confirm, mqtest.Method{Name: "confirm.select-ok"})
	ms := f.arrive("1", "2", "4", "6", "7", "8", "9", "10", "11", "12")
	for i, m := range ms {
		if i < 8 {
			if was := first[slices.IndexFunc(first, func(o *mqtest.Event) bool { return string(o.Body) == string(m.Body) })]; was.MessageID != m.MessageID || m.MessageID == "" {
				t.Errorf("%s was sent with id %q and again with %q", text(m), was.MessageID, m.MessageID)
			}
		}
		if m.Number != uint64(i+1) || m.Conn == first[0].Conn {
			t.Errorf("%s on connection %d: want number %d on another than the first", text(m), m.Conn, i+1)
		}
	}
	f.do(ms[0], mqtest.Answer(nack(1)), giveBack(ms[0])) // MaybeStored is told whatever the verdict
	err = f.verdict(cs[0], producer.Nacked)
	f.say(ms[0], ack(10, true))
	var pe *producer.PublishError
	if !errors.As(err, &pe) || !pe.MaybeStored || !strings.Contains(err.Error(), "earlier sending") {
		t.Errorf("%v does not tell of the earlier sending", err)
	}
	for _, c := range slices.Concat(cs[1:2], cs[3:4], cs[5:], newer) {
		f.verdict(c, producer.Confirmed)
	}
	if s := f.Stats(); s.Republished != 8 || s.InFlight != 0 || s.Unknown != 1 {
		t.Errorf("%+v", s)
	}
}
