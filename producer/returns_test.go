package producer_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

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
