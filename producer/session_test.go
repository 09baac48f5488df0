package producer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/amqppeer"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

func TestConfirmOutOfOrderNeedsNoOtherFrame(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	for range 30 {
		cs := f.publish("1", "2", "3", "4")
		ms := f.arrive("1", "2", "3", "4")
		for i := 3; i > 0; i-- { // the second within a sweep interval of the first
			ms[i].Conn.Send(ms[i].Ack(ms[i].Number, false))
		}
		for _, c := range cs[1:] {
			f.verdict(c, producer.Confirmed)
		}
		f.pending(cs[0])
		ms[0].Conn.Send(ms[0].Ack(ms[0].Number, false))
		f.verdict(cs[0], producer.Confirmed)
	}
	if s := f.Stats(); s.InFlight != 0 || s.Confirmed != 120 {
		t.Errorf("%+v", s)
	}
}

// TestReturnIsSeenBeforeItsConfirm: the peer answers while the sequencer is still
// handing over, and return and ack share a read.
func TestReturnIsSeenBeforeItsConfirm(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	const n = 300
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		defer close(done)
		for range n {
			m, err := f.peer.Next(ctx, "basic.publish")
			if err != nil {
				t.Error(err)
				return
			}
			if m.Number%2 == 0 {
				m.Conn.Send(m.Return(), m.Ack(m.Number, false))
			} else {
				m.Conn.Send(m.Ack(m.Number, false))
			}
		}
	}()
	cs := f.publish(numbered(1, n)...)
	<-done
	for i, c := range cs {
		if (i+1)%2 != 0 {
			f.verdict(c, producer.Confirmed)
			continue
		}
		err := f.verdict(c, producer.Returned)
		var r *producer.ReturnedError
		if !errors.As(err, &r) || r.Code != 312 || r.Text != "NO_ROUTE" || r.RoutingKey != "q" || !producer.SafeToRetry(err) {
			t.Fatalf("message %d: %v", i+1, err)
		}
	}
}

func TestReturnsOfEqualMessageIDsAreToldApart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
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
		if private := bytes.Contains(m.Header, []byte(producer.CorrelationHeader)); private != (i > 0) {
			t.Errorf("message %d carries the private header: %v", i, private)
		}
	}
	for _, i := range []int{3, 0, 17} {
		ms[i].Conn.Send(ms[i].Return())
	}
	ms[0].Conn.Send(ms[0].Ack(n, true))
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
	if bytes.Contains(after.Header, []byte(producer.CorrelationHeader)) {
		t.Error("an id that is not in flight needs no private header")
	}
	after.Conn.Send(after.Ack(after.Number, false))
	f.verdict(c, producer.Confirmed)
}

func TestNackedIsToldWhileTheChannelLives(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	cs := f.publish("1", "2", "3")
	ms := f.arrive("1", "2", "3")
	ms[1].Conn.Send(ms[1].Nack(2))
	err := f.verdict(cs[1], producer.Nacked)
	if !errors.Is(err, producer.ErrNacked) || producer.SafeToRetry(err) {
		t.Error(err)
	}
	ms[0].CloseChannel(320, "CONNECTION_FORCED - test")
	for _, m := range f.arrive("1", "3") { // not the nacked one
		m.Conn.Send(m.Ack(m.Number, false))
	}
	f.verdict(cs[0], producer.Confirmed)
	f.verdict(cs[2], producer.Confirmed)
}

// TestFalseConfirmOfAClosedChannelIsNotNacked: the driver says false for all that
// was open, and one read brings the broker's nack and the end of the channel.
func TestFalseConfirmOfAClosedChannelIsNotNacked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	cs := f.publish("1", "2", "3")
	ms := f.arrive("1", "2", "3")
	ms[0].Conn.Send(ms[0].Ack(1, false), ms[0].Nack(2), ms[0].ChannelClose(320, "CONNECTION_FORCED - test"))
	for _, m := range f.arrive("2", "3") {
		m.Conn.Send(m.Ack(m.Number, false))
	}
	for _, c := range cs {
		f.verdict(c, producer.Confirmed)
	}
	if s := f.Stats(); s.Republished != 2 || s.Nacked != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAckThatCameBeforeTheCutCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	cs := f.publish("1", "2")
	ms := f.arrive("1", "2")
	ms[0].Conn.Send(ms[0].Ack(1, false))
	ms[0].Conn.Cut()
	again := f.arrive("2")[0]
	f.await(reconnect.Waiting, 1) // the cut happened
	f.verdict(cs[0], producer.Confirmed)
	f.pending(cs[1])
	again.Conn.Send(again.Ack(again.Number, false))
	f.verdict(cs[1], producer.Confirmed)
}

// TestAckOutOfOrderJustBeforeTheCutCounts: the window was looked through a moment
// before, and nothing comes any more that would have it looked through again.
func TestAckOutOfOrderJustBeforeTheCutCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	cs := f.publish(numbered(1, 41)...)
	m := f.arrive(numbered(1, 41)...)[0]
	m.Conn.Send(m.Ack(41, false))
	f.verdict(cs[40], producer.Confirmed)
	for n := uint64(40); n > 1; n-- {
		m.Conn.Send(m.Ack(n, false))
	}
	m.Conn.Cut()
	for _, c := range cs[1:] {
		f.verdict(c, producer.Confirmed)
	}
	again := f.arrive("1")[0]
	again.Conn.Send(again.Ack(1, false))
	f.verdict(cs[0], producer.Confirmed)
	if n := f.Stats().Republished; n != 1 {
		t.Errorf("%d messages were sent again, want 1", n)
	}
}

// TestMessagesWhoseConfirmIsOverdueAreSentAgain: a broker may lose sight of them.
// It may not answer the close of that channel either, which has to cost nobody the
// connection.
func TestMessagesWhoseConfirmIsOverdueAreSentAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{ConfirmTimeout: 40 * time.Millisecond}, func(p *amqppeer.Peer) { p.Hold("channel.close") })
	cs := f.publish("1", "2", "3")
	first := f.arrive("1", "2", "3")
	first[1].Conn.Send(first[1].Ack(2, false))
	f.verdict(cs[1], producer.Confirmed)
	last := f.arrive("1", "3")
	if last[0].Conn != first[0].Conn || len(f.peer.Received("channel.close")) == 0 {
		t.Error("they were not sent again on another channel of the same connection")
	}
	last = f.arrive("1", "3") // nothing was confirmed on that session either
	last[0].Conn.Send(last[0].Ack(2, true))
	f.verdict(cs[0], producer.Confirmed)
	f.verdict(cs[2], producer.Confirmed)
	if n := f.pool.Status(reconnect.Publishing).Sessions; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestOverdueMessagesAreNotSentMoreOftenBecauseOthersAreConfirmed: each waits twice
// as long the next time.
func TestOverdueMessagesAreNotSentMoreOftenBecauseOthersAreConfirmed(t *testing.T) {
	t.Parallel()
	const timeout = 40 * time.Millisecond
	f := newFixture(t, producer.Config{ConfirmTimeout: timeout}, func(p *amqppeer.Peer) {
		p.OnPublish(func(m *amqppeer.Method) {
			if m.Body != "stuck" {
				m.Conn.Send(m.Ack(m.Number, false))
			}
		})
	})
	f.publish("stuck")
	for began := time.Now(); time.Since(began) < 20*timeout; {
		f.verdict(f.publish("healthy")[0], producer.Confirmed)
	}
	// Sent again after 1, 3, 7 and 15 timeouts, or later.
	if n := f.Stats().Republished; n < 2 || n > 4+4 { // healthy ones that were on their way, too
		t.Errorf("%d messages were sent again", n)
	}
}

// TestNoConfirmIsOverdueWhileTheConnectionIsBlocked: the broker then reads nothing.
func TestNoConfirmIsOverdueWhileTheConnectionIsBlocked(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	f := newFixture(t, producer.Config{ConfirmTimeout: timeout})
	c := f.publish("1")[0]
	m := f.arrive("1")[0]
	m.Conn.Block()
	f.await(reconnect.Blocked, 1)
	select {
	case <-c.Done():
	case <-time.After(2 * timeout):
	}
	m.Conn.Send(m.Ack(1, false))
	f.verdict(c, producer.Confirmed)
	if n := f.Stats().Republished; n != 0 {
		t.Errorf("%d messages were sent again", n)
	}
}

func TestUnresolvedAreSentAgainFirstInOrderAfterACut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	gaveUp, giveUp := context.WithCancel(t.Context())
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
	first := f.peer.Received("basic.publish")
	ack := first[2]
	ack.Conn.Send(ack.Ack(3, false))
	f.verdict(cs[2], producer.Confirmed)
	giveUp()
	err := <-given
	if producer.VerdictOf(err) != producer.Unknown || !errors.Is(err, context.Canceled) || producer.SafeToRetry(err) {
		t.Errorf("given up: %v", err)
	}
	f.peer.Hold("confirm.select")
	ack.Conn.Block() // the next waits in the queue, the one after for the next session
	f.await(reconnect.Blocked, 1)
	newer := f.publish("11")
	ack.Conn.Cut()
	confirm := f.next("confirm.select")
	newer = append(newer, f.publish("12")...)
	confirm.Answer()
	ms := f.arrive("1", "2", "4", "6", "7", "8", "9", "10", "11", "12")
	for i, m := range ms {
		if i < 8 {
			if was := first[slices.IndexFunc(first, func(o *amqppeer.Method) bool { return o.Body == m.Body })]; was.MessageID != m.MessageID || m.MessageID == "" {
				t.Errorf("%v was sent with id %q and again with %q", m, was.MessageID, m.MessageID)
			}
		}
		if m.Number != uint64(i+1) {
			t.Errorf("%v: want number %d", m, i+1)
		}
	}
	ms[0].Conn.Send(ms[0].Nack(1), ms[0].Return()) // MaybeStored is told whatever the verdict
	ms[0].Conn.Send(ms[0].Ack(10, true))
	err = f.verdict(cs[0], producer.Nacked)
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

// culprit has the peer answer as a broker: it closes the channel for one body,
// and confirms the others if confirm says so.
func (f *fixture) culprit(bad string, confirm func() bool) {
	f.peer.OnPublish(func(m *amqppeer.Method) {
		switch {
		case m.Body == bad:
			m.CloseChannel(404, "NOT_FOUND - no exchange 'x' in vhost '/'")
		case confirm():
			m.Conn.Send(m.Ack(m.Number, false))
		}
	})
}

func TestOnlyTheCulpritOfAChannelExceptionIsRefused(t *testing.T) {
	t.Parallel()
	for _, confirms := range []bool{true, false} { // of those that are looked at one by one
		t.Run(fmt.Sprintf("confirms=%v", confirms), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, producer.Config{})
			cs := f.publish(numbered(1, 5)...)
			ms := f.arrive(numbered(1, 5)...)
			ms[0].Conn.Send(ms[0].Ack(1, false))
			var confirming atomic.Bool
			confirming.Store(confirms)
			f.culprit("3", confirming.Load)
			ms[0].CloseChannel(404, "NOT_FOUND - no exchange 'x' in vhost '/'")
			err := f.verdict(cs[2], producer.Refused)
			var told *reconnect.BrokerError
			if !errors.As(err, &told) || told.Code != 404 || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q does not tell what the broker said", err)
			}
			if !confirms {
				// 2, cleared but not confirmed, is sent again, not as a suspect.
				f.verdict(cs[0], producer.Confirmed)
				f.arrive("2", "3")
				ms := f.arrive("2", "4", "5")
				f.next("basic.qos")
				f.pending(cs[1], cs[3], cs[4])
				ms[0].Conn.Send(ms[0].Ack(3, true))
			}
			for _, c := range slices.Delete(slices.Clone(cs), 2, 3) {
				f.verdict(c, producer.Confirmed)
			}
			// On the wire: after the exception one at a time, each looked at
			// before the next; 1, confirmed in time, is not sent again.
			var after []string
			for _, m := range f.peer.Received("basic.publish", "basic.qos", "confirm.select")[1+5:] {
				after = append(after, m.String())
			}
			wire := strings.Join(after, " ")
			want := `confirm.select publish(1 "2") basic.qos publish(2 "3") confirm.select publish(1 "4") basic.qos publish(2 "5") basic.qos`
			if !confirms {
				want = `confirm.select publish(1 "2") basic.qos publish(2 "3") confirm.select publish(1 "2") publish(2 "4") basic.qos publish(3 "5") basic.qos`
			}
			if !strings.HasPrefix(wire, want) {
				t.Errorf("on the wire: %s\nwant: %s", wire, want)
			}
		})
	}
}

func TestNextSuspectWaitsUntilTheOneBeforeIsCleared(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	cs := f.publish("1", "2")
	ms := f.arrive("1", "2")
	f.peer.Hold("basic.qos")
	ms[0].CloseChannel(406, "PRECONDITION_FAILED - test")
	one := f.arrive("1")[0]
	// Its ack alone clears nothing: the exception may follow for what comes next.
	one.Conn.Send(one.Ack(1, false))
	f.verdict(cs[0], producer.Confirmed)
	look := f.next("basic.qos")
	if n := len(f.peer.Received("basic.publish")); n != 3 {
		t.Fatalf("%d publishes were received before the first was cleared", n)
	}
	f.peer.Release("basic.qos")
	look.Answer()
	two := f.arrive("2")[0]
	f.next("basic.qos") // answered: the window is open again
	more := f.publish("3", "4")
	for _, m := range append([]*amqppeer.Method{two}, f.arrive("3", "4")...) {
		m.Conn.Send(m.Ack(m.Number, false))
	}
	for _, c := range append(cs, more...) {
		f.verdict(c, producer.Confirmed)
	}
}

func TestSearchForTheCulpritSurvivesACut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	cs := f.publish(numbered(1, 5)...)
	ms := f.arrive(numbered(1, 5)...)
	f.peer.Hold("basic.qos")
	ms[0].CloseChannel(404, "NOT_FOUND - test")
	f.arrive("1")
	cut := f.next("basic.qos")
	f.peer.Release("basic.qos")
	f.culprit("4", func() bool { return true })
	cut.Conn.Cut()
	f.await(reconnect.Waiting, 1)
	for i, c := range cs {
		want := producer.Confirmed
		if i == 3 {
			want = producer.Refused
		}
		f.verdict(c, want)
	}
	var last string
	for _, m := range f.peer.Received("basic.publish", "basic.qos", "confirm.select")[7:] {
		if m.Name == "basic.publish" && last == m.Name {
			t.Fatalf("two were sent without a look between them: %s", received(f.peer.Received("basic.publish", "basic.qos", "confirm.select")))
		}
		last = m.Name
	}
}

// TestGivenUpSuspectIsNotSentAgain: its place is the culprit's, though nobody
// waits for it any more.
func TestGivenUpSuspectIsNotSentAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { given <- f.Publish(ctx, producer.Text("1").ToQueue("q")) }()
	m := f.arrive("1")[0]
	cs := f.publish("2")
	f.arrive("2")
	cancel()
	if err := <-given; producer.VerdictOf(err) != producer.Unknown {
		t.Fatal(err)
	}
	if n := f.Stats().InFlight; n != 2 {
		t.Errorf("%d are in flight: one that was given up holds its place until the end of its session", n)
	}
	m.CloseChannel(404, "NOT_FOUND - test")
	again := f.arrive("2")[0]
	again.Conn.Send(again.Ack(1, false))
	f.verdict(cs[0], producer.Confirmed)
	if n := f.Stats().InFlight; n != 0 {
		t.Errorf("%d are in flight", n)
	}
}

func TestPublishesWaitWhileTheConnectionIsBlocked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	cs := f.publish("1")
	m := f.arrive("1")[0]
	m.Conn.Block()
	f.await(reconnect.Blocked, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := f.Publish(ctx, producer.Text("2").ToQueue("q"))
	if producer.VerdictOf(err) != producer.NotSent || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "low on memory") {
		t.Errorf("while blocked: %v", err)
	}
	cs = append(cs, f.publish("3")...)
	m.Conn.Send(m.Ack(1, false)) // confirms still come
	f.verdict(cs[0], producer.Confirmed)
	if n := len(f.peer.Received("basic.publish")); n != 1 {
		t.Fatalf("%d publishes were received, the connection is blocked", n)
	}
	m.Conn.Unblock()
	m = f.arrive("3")[0]
	m.Conn.Send(m.Ack(2, false))
	f.verdict(cs[1], producer.Confirmed)
}

// TestBlockedEndsWithItsConnection: nobody says unblocked on the next one.
func TestBlockedEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	conn := f.next("confirm.select").Conn
	conn.Block()
	f.await(reconnect.Blocked, 1)
	cs := f.publish("1")
	conn.Cut()
	m := f.arrive("1")[0]
	m.Conn.Send(m.Ack(1, false))
	f.verdict(cs[0], producer.Confirmed)
}

func TestCloseReportsExactlyTheUnresolved(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{MaxInFlight: 5})
	sent := f.publish("1", "2", "3")
	m := f.arrive("1", "2", "3")[0]
	m.Conn.Send(m.Ack(2, false))
	f.verdict(sent[1], producer.Confirmed)
	m.Conn.Block()
	f.await(reconnect.Blocked, 1)
	queued := f.publish("4", "5", "6")
	waits := make(chan error, 1)
	go func() {
		_, err := f.PublishAsync(t.Context(), producer.Text("7").ToQueue("q"))
		waits <- err
	}()
	f.accepted(7)
	err := f.Close(expired(t))
	var left *producer.UnresolvedError
	if !errors.As(err, &left) || left.NotSent != 3 || left.Unknown != 2 || !errors.Is(err, context.Canceled) {
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
	err = <-waits
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

// accepted waits until n messages were passed to the producer: the last of them
// is on its way to wait for room.
func (f *fixture) accepted(n uint64) {
	f.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); f.Stats().Accepted < n; <-tick.C {
		if time.Now().After(deadline) {
			f.t.Fatalf("%d messages were passed, want %d", f.Stats().Accepted, n)
		}
	}
}

func TestCloseWaitsForTheVerdicts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	cs := f.publish("1", "2")
	ms := f.arrive("1", "2")
	closed := make(chan error, 1)
	go func() { closed <- f.Close(t.Context()) }()
	ms[0].Conn.Send(ms[0].Ack(2, false))
	f.verdict(cs[1], producer.Confirmed)
	select {
	case err := <-closed:
		t.Fatalf("Close returned %v before the last verdict", err)
	default:
	}
	ms[0].Conn.Send(ms[0].Ack(1, false))
	if err := <-closed; err != nil {
		t.Error(err)
	}
	f.verdict(cs[0], producer.Confirmed)
}

func TestFlushWaitsForWhatCameBeforeIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	if err := f.Flush(t.Context()); err != nil {
		t.Errorf("nothing to flush: %v", err)
	}
	f.publish("1", "2", "3")
	ms := f.arrive("1", "2", "3")
	ms[0].Conn.Send(ms[0].Ack(2, false))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := f.Flush(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 messages") {
		t.Errorf("two have no verdict: %v", err)
	}
	flushed := make(chan error, 1)
	go func() { flushed <- f.Flush(t.Context()) }()
	ms[0].Conn.Send(ms[0].Nack(1), ms[0].Ack(3, false))
	if err := <-flushed; err != nil { // whatever the verdict is
		t.Error(err)
	}
}

func TestConfirmationWaitDecidesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	c := f.publish("1")[0]
	m := f.arrive("1")[0]
	if err := c.Wait(expired(t)); !errors.Is(err, context.Canceled) || producer.VerdictOf(err) != producer.Pending {
		t.Errorf("Wait: %v", err)
	}
	f.pending(c)
	m.Conn.Send(m.Ack(1, false))
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
	f := newFixture(t, producer.Config{})
	c := f.publish("1")[0]
	m := f.arrive("1")[0]
	closed := make(chan error, 1)
	go func() { closed <- f.pool.Close(t.Context()) }()
	m.Conn.Send(m.Ack(1, false))
	if err := <-closed; err != nil {
		t.Error(err)
	}
	f.verdict(c, producer.Confirmed)
	if err := f.Publish(t.Context(), producer.Text("2").ToQueue("q")); producer.VerdictOf(err) != producer.NotSent {
		t.Error(err)
	}
}

// TestNotSentIsSaidOfWhatNeverReachedTheKernel: the peer reads nothing, so the
// last that were handed over are still in our buffer when the connection is cut.
func TestNotSentIsSaidOfWhatNeverReachedTheKernel(t *testing.T) {
	t.Parallel()
	const n = 2000
	f := newFixture(t, producer.Config{MaxInFlight: n, MaxInFlightBytes: 1 << 30})
	conn := f.next("confirm.select").Conn
	resume := conn.Pause()
	body := strings.Repeat("x", 14<<10)
	var cs []*producer.Confirmation
	for range n {
		cs = append(cs, f.message(producer.Text(body).ToQueue("q")))
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
		t.Skip("the socket took everything")
	}
	f.peer.Hold("confirm.select")
	conn.Cut()
	resume()
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
	cs := f.publish("1", "2")
	ms := f.arrive("1", "2")
	f.peer.OnPublish(func(m *amqppeer.Method) {
		if m.Body == "2" {
			m.CloseChannel(404, "NOT_FOUND - test")
		}
	})
	ms[0].CloseChannel(404, "NOT_FOUND - test")
	f.arrive("1") // cleared, not confirmed
	f.verdict(cs[1], producer.Refused)
	f.arrive("2")
	ms = f.arrive("1")
	cs = append(cs, f.publish("3")...)
	f.arrive("3")
	f.peer.OnPublish(func(m *amqppeer.Method) {
		if m.Body == "1" {
			m.CloseChannel(404, "NOT_FOUND - test")
		} else {
			m.Conn.Send(m.Ack(m.Number, false))
		}
	})
	ms[0].CloseChannel(404, "NOT_FOUND - test")
	f.verdict(cs[2], producer.Confirmed)
	f.verdict(cs[0], producer.Refused)
}
