package producer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

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
