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

// TestReturnIsSeenBeforeItsConfirm: the broker answers while the sequencer is still
// handing over, and return and ack share a read.
func TestReturnIsSeenBeforeItsConfirm(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	const n = 300
	returned := func(c *producer.Confirmation, body string) {
		t.Helper()
		err := f.verdict(c, producer.Returned)
		var r *producer.ReturnedError
		if !errors.As(err, &r) || r.Code != 312 || r.Text != "NO_ROUTE" || r.RoutingKey != "nowhere" || !producer.SafeToRetry(err) {
			t.Fatalf("message %s: %v", body, err)
		}
	}
	var cs []*producer.Confirmation
	var kept []string
	for i := range n {
		m := producer.Text(fmt.Sprint(i)).ToQueue("q")
		if i%2 == 0 {
			m = m.ToQueue("nowhere")
		} else {
			kept = append(kept, fmt.Sprint(i))
		}
		cs = append(cs, f.message(m))
	}
	for i, c := range cs {
		if i%2 == 0 {
			returned(c, fmt.Sprint(i))
		} else {
			f.verdict(c, producer.Confirmed)
		}
	}
	for range n { // one at a time: nothing comes after it that would have it looked at
		returned(f.message(producer.Text("alone").ToQueue("nowhere")), "alone")
	}
	f.stored(kept...)
}

// TestReturnIsSeenBeforeItsConfirmInALongWindow: the head has no verdict, so that all of
// the window is looked through while returns and confirms come in.
func TestReturnIsSeenBeforeItsConfirmInALongWindow(t *testing.T) {
	t.Parallel()
	const n = 20_000
	f := newFixture(t, producer.Config{MaxInFlight: n})
	lost := f.broker.Inject(loses(1))
	head := f.publish("head")[0]
	f.struck(lost)
	var cs []*producer.Confirmation
	for range n - 1 {
		cs = append(cs, f.message(producer.Text("x").ToQueue("nowhere")))
	}
	for _, c := range cs {
		f.verdict(c, producer.Returned)
	}
	f.pending(head)
	f.say(f.next("basic.publish"), ack(1, false))
	f.verdict(head, producer.Confirmed)
}

func TestReturnsOfEqualMessageIDsAreToldApart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	private := func(m *mqtest.Event) bool {
		return bytes.Contains(frames(m)[1], []byte(producer.CorrelationHeader))
	}
	const n = 20
	var cs []*producer.Confirmation
	for i := range n {
		m := producer.Text(fmt.Sprint(i)).ToQueue("q")
		m.MessageID = "same"
		cs = append(cs, f.message(m))
	}
	ms := f.arrive(numbered(0, n-1)...)
	for i, m := range ms {
		if m.MessageID != "same" {
			t.Fatalf("message %d has id %q", i, m.MessageID)
		}
		if private(m) != (i > 0) {
			t.Errorf("message %d carries the private header: %v", i, private(m))
		}
	}
	f.do(ms[0], giveBack(ms[3]), giveBack(ms[0]), giveBack(ms[17]), mqtest.Answer(ack(n, true)))
	for i, c := range cs {
		want := producer.Confirmed
		if i == 3 || i == 0 || i == 17 {
			want = producer.Returned
		}
		f.verdict(c, want)
	}
	// The id is free again: no private header.
	m := producer.Text("after").ToQueue("q")
	m.MessageID = "same"
	c := f.message(m)
	after := f.arrive("after")[0]
	if private(after) {
		t.Error("an id that is not in flight needs no private header")
	}
	f.say(after, ack(after.Number, false))
	f.verdict(c, producer.Confirmed)
}

// TestAPrivateHeaderEndsWithItsSession: the id is in flight once when the message is sent
// again, and that is what its return is told by.
func TestAPrivateHeaderEndsWithItsSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	same := func(body string) *producer.Confirmation {
		m := producer.Text(body).ToQueue("q")
		m.MessageID = "same"
		return f.message(m)
	}
	first, second := same("1"), same("2")
	ms := f.arrive("1", "2")
	if !bytes.Contains(frames(ms[1])[1], []byte(producer.CorrelationHeader)) {
		t.Fatal("the second does not carry the private header")
	}
	f.say(ms[0], ack(1, false))
	f.verdict(first, producer.Confirmed)
	f.do(ms[0], mqtest.Cut())
	again := f.arrive("2")[0]
	if bytes.Contains(frames(again)[1], []byte(producer.CorrelationHeader)) {
		t.Error("it still carries the private header")
	}
	f.do(again, giveBack(again), mqtest.Answer(ack(again.Number, false)))
	f.verdict(second, producer.Returned)
}

// TestWhatMayBeUnroutableNeedsNoPrivateHeader: nothing of it comes back.
func TestWhatMayBeUnroutableNeedsNoPrivateHeader(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	m := producer.Text("x").ToQueue("nowhere")
	m.MessageID, m.AllowUnroutable = "same", true
	cs := []*producer.Confirmation{f.message(m), f.message(m)}
	second := f.arrive("x", "x")[1]
	if bytes.Contains(frames(second)[1], []byte(producer.CorrelationHeader)) {
		t.Error("it carries one")
	}
	f.say(second, ack(2, true))
	for _, c := range cs {
		f.verdict(c, producer.Confirmed)
	}
}

// TestTheBrokersReturnsOfEqualMessageIDsAreToldApart: a broker gives them back as
// they come, and with all that was in them.
func TestTheBrokersReturnsOfEqualMessageIDsAreToldApart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	const n = 20
	var cs []*producer.Confirmation
	for i := range n {
		m := producer.Text(fmt.Sprint(i)).ToQueue("q")
		if i%3 == 0 {
			m = m.ToQueue("nowhere")
		}
		m.MessageID = "same"
		cs = append(cs, f.message(m))
	}
	f.say(f.arrive(numbered(0, n-1)...)[n-1], ack(n-1, true))
	for i, c := range cs[:n-1] {
		want := producer.Confirmed
		if i%3 == 0 {
			want = producer.Returned
		}
		f.verdict(c, want)
	}
	f.pending(cs[n-1])
}

// TestAReturnOfASessionThatIsLostIsForgotten: the queue is there when the message is sent
// again.
func TestAReturnOfASessionThatIsLostIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	lost := f.broker.Inject(loses(1))
	returned := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.return"})
	c := f.message(producer.Text("early").ToQueue("later"))
	f.verdict(f.publish("other")[0], producer.Confirmed) // with it the return was seen
	f.struck(lost, returned)
	f.pending(c)
	lease, err := f.pool.Acquire(t.Context(), reconnect.Publishing)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lease.Raw().QueueDeclare("later", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	f.broker.DropConnections()
	f.verdict(c, producer.Confirmed)
	if got := f.broker.Queue("later").Bodies(); !slices.Equal(got, []string{"early"}) {
		t.Errorf("stored are %q", got)
	}
	lease.Release()
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

// TestMessagesWhoseConfirmIsOverdueAreSentAgain: a broker may lose sight of them.
// It may not answer the close of that channel either, which has to cost nobody the
// connection.
func TestMessagesWhoseConfirmIsOverdueAreSentAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{ConfirmTimeout: 40 * time.Millisecond}, silent())
	f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "channel.close", Do: mqtest.Drop()})
	cs := f.publish("1", "2", "3")
	first := f.arrive("1", "2", "3")
	f.say(first[1], ack(2, false))
	f.verdict(cs[1], producer.Confirmed)
	last := f.arrive("1", "3")
	if last[0].Conn != first[0].Conn || last[0].Channel == first[0].Channel || len(f.received("channel.close")) == 0 {
		t.Error("they were not sent again on another channel of the same connection")
	}
	last = f.arrive("1", "3") // nothing was confirmed on that session either
	f.say(last[0], ack(2, true))
	f.verdict(cs[0], producer.Confirmed)
	f.verdict(cs[2], producer.Confirmed)
	if n := f.pool.Status(reconnect.Publishing).Sessions; n != 1 {
		t.Errorf("%d connections, want 1", n)
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

// TestOverdueMessagesAreNotSentMoreOftenBecauseOthersAreConfirmed: each waits twice
// as long the next time.
func TestOverdueMessagesAreNotSentMoreOftenBecauseOthersAreConfirmed(t *testing.T) {
	t.Parallel()
	const timeout = 40 * time.Millisecond
	stuck := silent()
	stuck.If = func(e *mqtest.Event) bool { return string(e.Body) == "stuck" }
	f := newFixture(t, producer.Config{ConfirmTimeout: timeout}, stuck)
	f.publish("stuck")
	for began := time.Now(); time.Since(began) < 20*timeout; {
		f.verdict(f.publish("healthy")[0], producer.Confirmed)
	}
	// Sent again after 1, 3, 7 and 15 timeouts, or later.
	if n := f.Stats().Republished; n < 2 || n > 4+4 { // healthy ones that were on their way, too
		t.Errorf("%d messages were sent again", n)
	}
}

// TestNoConfirmIsOverdueWhileTheConnectionIsBlocked: the broker then reads nothing,
// not even the end of the message that had it notice the alarm.
func TestNoConfirmIsOverdueWhileTheConnectionIsBlocked(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	f := newFixture(t, producer.Config{ConfirmTimeout: timeout})
	f.next("confirm.select")
	f.broker.Block("")
	c := f.publish("1")[0]
	f.await(reconnect.Blocked, 1)
	select {
	case <-c.Done():
		t.Errorf("while the broker reads nothing: %v", c.Err())
	case <-time.After(2 * timeout):
	}
	f.stored()
	f.broker.Unblock()
	f.verdict(c, producer.Confirmed)
	if n := f.Stats().Republished; n != 0 {
		t.Errorf("%d messages were sent again", n)
	}
	f.stored("1")
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

func TestOnlyTheCulpritOfAChannelExceptionIsRefused(t *testing.T) {
	t.Parallel()
	for _, confirms := range []bool{true, false} { // of those that are looked at one by one
		t.Run(fmt.Sprintf("confirms=%v", confirms), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, producer.Config{})
			all := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Count: 5, Do: mqtest.Drop()})
			if !confirms {
				f.broker.Inject(silent())
			}
			cs := f.suspects(5, 3)
			m := f.arrive(numbered(1, 5)...)[0]
			f.struck(all)
			f.do(m, mqtest.Answer(ack(1, false)), mqtest.CloseChannel(404, missing))
			// From here on the broker closes the channel for 3 itself.
			err := f.verdict(cs[2], producer.Refused)
			var told *reconnect.BrokerError
			if !errors.As(err, &told) || told.Code != 404 || told.Text != missing || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q does not tell what the broker said", err)
			}
			if !confirms {
				// 2, cleared but not confirmed, is sent again, not as a suspect.
				f.verdict(cs[0], producer.Confirmed)
				f.arrive("2", "3")
				ms := f.arrive("2")
				f.next("basic.qos")
				ms = append(ms, f.arrive("4", "5")...)
				f.next("basic.qos")
				f.pending(cs[1], cs[3], cs[4])
				f.say(ms[0], ack(3, true))
			}
			for _, c := range slices.Delete(slices.Clone(cs), 2, 3) {
				f.verdict(c, producer.Confirmed)
			}
			if s := f.Stats(); s.InFlight != 0 || s.Refused != 1 {
				t.Errorf("%+v", s)
			}
			// On the wire: after the exception one at a time, each looked at
			// before the next; 1, confirmed in time, is not sent again. What came
			// behind 3 before the channel was closed is dropped by the broker.
			wire := text(f.received("basic.publish", "basic.qos", "confirm.select")[1+5:]...)
			wire = strings.Replace(wire, `"3") basic.qos`, `"3")`, 1)
			want := `confirm.select publish(1 "2") basic.qos publish(2 "3") confirm.select publish(1 "4") basic.qos publish(2 "5")` // and a look at 5, which its verdict need not wait for
			if !confirms {
				want = `confirm.select publish(1 "2") basic.qos publish(2 "3") confirm.select publish(1 "2") basic.qos publish(2 "4") basic.qos publish(3 "5") basic.qos`
			}
			if !strings.HasPrefix(wire, want) {
				t.Errorf("on the wire: %s\nwant: %s", wire, want)
			}
		})
	}
}

// TestTheSecondCulpritIsFoundAmongThoseThatAreNoSuspects: what was cleared before the
// first one was found, and is sent again without a verdict, must not be held against the
// second's neighbours, nor the second against it.
func TestTheSecondCulpritIsFoundAmongThoseThatAreNoSuspects(t *testing.T) {
	t.Parallel()
	for _, between := range []bool{true, false} { // a neighbour between the culprits
		t.Run(fmt.Sprintf("between=%v", between), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, producer.Config{})
			bodies := []string{"1", "first", "second"}
			if between {
				bodies = []string{"1", "first", "2", "second"}
			}
			held := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Count: 1, Do: mqtest.Hold()})
			first, second := f.broker.Inject(refuses("first")), f.broker.Inject(refuses("second"))
			lost := f.broker.Inject(silent())
			cs := f.publish(bodies...)
			f.struck(held)
			held.Release()
			for i, c := range cs {
				if bodies[i] == "first" || bodies[i] == "second" {
					f.verdict(c, producer.Refused)
				}
			}
			// Once with all the others, and then each alone.
			if a, b := first.Hits(), second.Hits(); a+b != 3 || lost.Hits() == 0 {
				t.Errorf("%d and %d channels were closed, want 3 in all", a, b)
			}
			lost.Remove()
			f.broker.CloseChannels(320)
			f.verdict(cs[0], producer.Confirmed)
			if between {
				f.verdict(cs[2], producer.Confirmed)
			}
		})
	}
}

// missing is what a broker says of an exchange that is not there.
const missing = "NOT_FOUND - no exchange 'missing' in vhost '/'"

// suspects publishes n messages of which one goes to an exchange that is not there.
func (f *fixture) suspects(n, culprit int) (cs []*producer.Confirmation) {
	f.t.Helper()
	for i := 1; i <= n; i++ {
		m := producer.Text(fmt.Sprint(i)).ToQueue("q")
		if i == culprit {
			m = m.To("missing", "q")
		}
		cs = append(cs, f.message(m))
	}
	return cs
}

func TestNextSuspectWaitsUntilTheOneBeforeIsCleared(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	cs := f.publish("1", "2")
	ms := f.arrive("1", "2")
	lost := f.broker.Inject(unanswered("basic.qos"))
	f.do(ms[0], mqtest.CloseChannel(406, "PRECONDITION_FAILED - test"))
	one := f.arrive("1")[0]
	// Its ack alone clears nothing: the exception may follow for what comes next.
	f.say(one, ack(1, false))
	f.verdict(cs[0], producer.Confirmed)
	look := f.next("basic.qos")
	f.struck(lost)
	if n := len(f.received("basic.publish")); n != 3 {
		t.Fatalf("%d publishes were received before the first was cleared", n)
	}
	f.say(look, mqtest.Method{Name: "basic.qos-ok"})
	two := f.arrive("2")[0]
	f.next("basic.qos") // answered: the window is open again
	more := f.publish("3", "4")
	for _, m := range append([]*mqtest.Event{two}, f.arrive("3", "4")...) {
		f.say(m, ack(m.Number, false))
	}
	for _, c := range append(cs, more...) {
		f.verdict(c, producer.Confirmed)
	}
}

func TestSearchForTheCulpritSurvivesACut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	all := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Count: 5, Do: mqtest.Drop()})
	cs := f.suspects(5, 4)
	m := f.arrive(numbered(1, 5)...)[0]
	f.struck(all)
	one, look := f.broker.Inject(loses(1)), f.broker.Inject(unanswered("basic.qos"))
	f.do(m, mqtest.CloseChannel(404, missing))
	f.arrive("1")
	m = f.next("basic.qos")
	f.struck(one, look)
	f.do(m, mqtest.Cut())
	f.await(reconnect.Waiting, 1)
	for i, c := range cs {
		want := producer.Confirmed
		if i == 3 {
			want = producer.Refused
		}
		f.verdict(c, want)
	}
	var last string
	wire := f.received("basic.publish", "basic.qos", "confirm.select")
	for _, m := range wire[7:] {
		if m.Method == "basic.publish" && last == m.Method {
			t.Fatalf("two were sent without a look between them: %s", text(wire...))
		}
		last = m.Method
	}
	f.stored("1", "1", "2", "3", "5")
}

// TestGivenUpSuspectIsNotSentAgain: its place is the culprit's, though nobody
// waits for it any more.
func TestGivenUpSuspectIsNotSentAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	given := make(chan error, 1)
	go func() { given <- f.Publish(ctx, producer.Text("1").ToQueue("q")) }()
	m := f.arrive("1")[0]
	cs := f.publish("2")
	f.arrive("2")
	cancel()
	if err := ending(t, "Publish", given); producer.VerdictOf(err) != producer.Unknown {
		t.Fatal(err)
	}
	if n := f.Stats().InFlight; n != 2 {
		t.Errorf("%d are in flight: one that was given up holds its place until the end of its session", n)
	}
	f.do(m, mqtest.CloseChannel(404, "NOT_FOUND - test"))
	f.say(f.arrive("2")[0], ack(1, false))
	f.verdict(cs[0], producer.Confirmed)
	if n := f.Stats().InFlight; n != 0 {
		t.Errorf("%d are in flight", n)
	}
}

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

// TestClearedOnceIsASuspectInALaterException: its exchange may have been deleted
// since. A neighbour must not be refused for it.
func TestClearedOnceIsASuspectInALaterException(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	lost := f.broker.Inject(loses(2))
	cs := f.publish("1", "2")
	m := f.arrive("1", "2")[0]
	f.struck(lost)
	lost = f.broker.Inject(loses(2)) // 1 as a suspect, and 1 again
	two := f.broker.Inject(refuses("2"))
	f.do(m, mqtest.CloseChannel(404, "NOT_FOUND - test"))
	f.arrive("1") // cleared, not confirmed
	f.verdict(cs[1], producer.Refused)
	f.arrive("2")
	f.struck(two)
	m = f.arrive("1")[0]
	f.struck(lost)
	third := f.broker.Inject(loses(1))
	cs = append(cs, f.publish("3")...)
	f.arrive("3")
	f.struck(third)
	one := f.broker.Inject(refuses("1"))
	f.do(m, mqtest.CloseChannel(404, "NOT_FOUND - test"))
	f.verdict(cs[2], producer.Confirmed)
	f.verdict(cs[0], producer.Refused)
	f.struck(one)
}
