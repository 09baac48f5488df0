package ledger_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/ledger"
)

// run is one that was kept to every promise: a and b are sent, a is given out twice
// because its session ended, b is sent twice because its verdict was lost, c is
// returned, d is nacked, e was never sent, f is unknown.
func run() (attempts []ledger.Attempt, verdicts []ledger.Verdict, receipts []ledger.Receipt, settlements []ledger.Settlement, events []ledger.Event) {
	attempts = []ledger.Attempt{
		{"a", 1, 1, 1}, {"b", 1, 1, 2}, {"b", 2, 2, 1}, {"c", 1, 2, 2}, {"d", 1, 2, 3}, {"f", 1, 2, 4},
	}
	for _, v := range []string{"a confirmed", "b confirmed", "c returned", "d nacked", "e not sent", "f unknown"} {
		verdicts = append(verdicts, ledger.Verdict{ID: v[:1], Verdict: v[2:]})
	}
	receipts = []ledger.Receipt{
		{ID: "a", Queue: "q", Session: "s", Tag: 1},
		{ID: "a", Queue: "q", Session: "t", Tag: 1, Redelivered: true, Failures: 1},
		{ID: "b", Queue: "q", Session: "t", Tag: 2},
		{ID: "b", Queue: "q", Session: "t", Tag: 3},
	}
	for _, r := range receipts[1:] {
		settlements = append(settlements, ledger.Settlement{ID: r.ID, Session: r.Session, Tag: r.Tag, Done: "ack"})
	}
	settlements = append(settlements, ledger.Settlement{ID: "a", Session: "s", Tag: 1, Done: "stale"})
	publisher := func(kind ledger.Kind, channel uint16, tag uint64, id string) ledger.Event {
		return ledger.Event{Kind: kind, Conn: 1, Channel: channel, Tag: tag, ID: id}
	}
	consumer := func(kind ledger.Kind, session string, tag uint64, id string, redelivered bool) ledger.Event {
		return ledger.Event{Kind: kind, Conn: 2, Channel: 1, Queue: "q", Session: session, Tag: tag, ID: id, Redelivered: redelivered, Reason: "closed"}
	}
	stored := func(id string) ledger.Event { return ledger.Event{Kind: ledger.Stored, Queue: "q", ID: id} }
	events = []ledger.Event{
		publisher(ledger.Published, 1, 1, "a"), stored("a"), publisher(ledger.SaidAck, 1, 1, ""),
		consumer(ledger.Delivered, "s", 1, "a", false), consumer(ledger.Requeued, "s", 1, "a", false),
		publisher(ledger.Published, 1, 2, "b"), stored("b"), // its confirm is lost
		publisher(ledger.Published, 2, 1, "b"), stored("b"), publisher(ledger.Published, 2, 2, "c"), publisher(ledger.SaidReturn, 2, 0, "c"),
		{Kind: ledger.SaidAck, Conn: 1, Channel: 2, Tag: 2, Multiple: true},
		publisher(ledger.Published, 2, 3, "d"), publisher(ledger.SaidNack, 2, 3, ""),
		consumer(ledger.Delivered, "t", 1, "a", true), consumer(ledger.Delivered, "t", 2, "b", false), consumer(ledger.Delivered, "t", 3, "b", false),
		consumer(ledger.Acked, "t", 1, "a", true), consumer(ledger.Acked, "t", 2, "b", false), consumer(ledger.Acked, "t", 3, "b", false),
	}
	return attempts, verdicts, receipts, settlements, events
}

// began is when all happens.
var began = time.Unix(1, 0)

func TestEachPromiseThatIsBrokenIsFound(t *testing.T) {
	t.Parallel()
	type books struct {
		attempts    []ledger.Attempt
		verdicts    []ledger.Verdict
		late        []ledger.Attempt // after the verdicts
		answers     []ledger.Verdict
		receipts    []ledger.Receipt
		settlements []ledger.Settlement
		events      []ledger.Event
		left        []string
		orderly     []string
		deadLetters bool
		finished    time.Time // what was acked; zero: it was not
	}
	without := func(kind ledger.Kind, n int) func(*books) {
		return func(b *books) {
			i := 0
			b.events = slices.DeleteFunc(b.events, func(e ledger.Event) bool {
				if e.Kind == kind {
					i++
				}
				return e.Kind == kind && i == n
			})
		}
	}
	verdict := func(id, v string) func(*books) {
		return func(b *books) {
			for i := range b.verdicts {
				if b.verdicts[i].ID == id {
					b.verdicts[i].Verdict, b.answers[i].Verdict = v, v
				}
			}
		}
	}
	// In place of a's ack: it was rejected, and came to another queue.
	rejected := func(said string) func(*books) {
		return func(b *books) {
			without(ledger.Acked, 1)(b)
			b.events = append(b.events,
				ledger.Event{Kind: ledger.Stored, Queue: "dead", ID: "a"},
				ledger.Event{Kind: ledger.DeadLettered, Queue: "q", ID: "a", Reason: "rejected"})
			b.settlements[0].Done = said
			b.left = []string{"a"}
		}
	}
	blind := func(change func(*books)) func(*books) { return func(b *books) { b.events = nil; change(b) } }
	noReceipt := func(b *books) { b.receipts = b.receipts[2:] }
	for _, x := range []struct {
		name     string
		change   func(*books)
		promises []int
	}{
		{"nothing", func(*books) {}, nil},
		{"nothing, and no book of the broker", blind(func(*books) {}), nil},
		{"confirmed and in no queue", func(b *books) {
			b.events = slices.DeleteFunc(b.events, func(e ledger.Event) bool { return e.Kind == ledger.Stored && e.ID == "a" })
		}, []int{1, 6, 7}},
		{"confirmed and never seen", blind(noReceipt), []int{1}},
		{"confirmed, and nobody was done with it", blind(func(b *books) { b.settlements[0].Done = "stale" }), []int{1}},
		{"acked, and still there", func(b *books) { b.left = []string{"a"} }, []int{1}},
		{"acked in good order, and still there", blind(func(b *books) {
			b.left, b.orderly = []string{"a"}, []string{"t"}
		}), []int{4}},
		{"acked in a session that was lost, and still there", blind(func(b *books) { b.left, b.orderly = []string{"a"}, []string{"u"} }), nil},
		{"acked in good order, and a second copy is there", blind(func(b *books) { b.left, b.orderly = []string{"b"}, []string{"t"} }), nil},
		{"acked in good order, and there as a dead letter", blind(func(b *books) {
			b.left, b.orderly, b.deadLetters = []string{"a"}, []string{"t"}, true
		}), nil},
		{"not acked, and gone", without(ledger.Acked, 3), []int{1}},
		{"seen and not published", func(b *books) { b.receipts = append(b.receipts, ledger.Receipt{ID: "x", Session: "t", Tag: 9}) }, []int{2}},
		{"in a queue and not published", blind(func(b *books) { b.left = []string{"x"} }), []int{2}},
		{"confirmed without the broker's word", without(ledger.SaidAck, 1), []int{3}},
		{"confirmed by another session's number", func(b *books) {
			for i := range b.events {
				if b.events[i].Kind == ledger.SaidAck && !b.events[i].Multiple {
					b.events[i].Channel = 2
				}
			}
		}, []int{3}},
		{"confirmed by the word on its first sending", func(b *books) {
			for i := range b.events {
				if b.events[i].Kind == ledger.SaidAck && b.events[i].Multiple {
					b.events[i].Multiple = false
				}
			}
			b.events = append(b.events, ledger.Event{Kind: ledger.SaidAck, Conn: 1, Channel: 1, Tag: 2})
		}, []int{3}},
		{"confirmed, and of its first session the broker has got nothing", func(b *books) {
			for i := range b.attempts {
				a := &b.attempts[i]
				a.Session++
				if a.ID == "a" || a.ID == "b" {
					a.Attempt++
				}
			}
			b.attempts = append([]ledger.Attempt{{"a", 1, 1, 1}, {"b", 1, 1, 2}}, b.attempts...)
		}, nil},
		{"returned in another session", func(b *books) {
			for i := range b.events {
				if b.events[i].Kind == ledger.SaidReturn {
					b.events[i].Channel = 1
				}
			}
		}, []int{3}},
		{"returned, and not confirmed", func(b *books) {
			for i := range b.events {
				if b.events[i].Kind == ledger.SaidAck && b.events[i].Multiple {
					b.events[i].Tag = 1
				}
			}
		}, []int{3}},
		{"nacked without the broker's word", verdict("f", "nacked"), []int{3}},
		{"returned without the broker's word", verdict("b", "returned"), []int{3}},
		{"no verdict", func(b *books) { b.verdicts, b.answers = b.verdicts[1:], b.answers[1:] }, []int{3}},
		{"two verdicts", func(b *books) { b.verdicts = append(b.verdicts, b.verdicts[0]) }, []int{3}},
		{"sent again after its verdict", blind(func(b *books) { b.late = []ledger.Attempt{{"f", 2, 3, 1}} }), []int{3}},
		{"called confirmed, and its caller got an error", func(b *books) { b.answers[0].Verdict = "unknown" }, []int{3}},
		{"answered, and without a verdict", func(b *books) { b.answers[4].ID = "g" }, []int{3}},
		{"acked, and its handler has said nothing", func(b *books) { b.settlements = b.settlements[1:] }, []int{1, 4}},
		{"acked a moment before its handlers had finished", func(b *books) { b.finished = began.Add(1) }, []int{4, 4, 4}},
		{"acked when its handlers had finished", func(b *books) {
			b.finished = began.Add(1)
			for i := range b.events {
				b.events[i].At = b.finished
			}
		}, nil},
		{"acked, and its handlers have never finished", func(b *books) { b.finished = time.Time{} }, []int{4, 4, 4}},
		{"rejected by its handler, and acked", func(b *books) { b.settlements[0].Done = "reject" }, []int{4}},
		{"rejected, and dead-lettered", rejected("reject"), nil},
		{"acked by its handler, and dead-lettered", rejected("ack"), []int{4}},
		{"acked by its handler, and dropped", func(b *books) {
			without(ledger.Acked, 1)(b)
			b.events = append(b.events, ledger.Event{Kind: ledger.Dropped, Queue: "q", ID: "a", Reason: "rejected"})
		}, []int{4}},
		{"dead-lettered, and lost on the way", func(b *books) {
			rejected("reject")(b)
			without(ledger.Stored, 4)(b)
			b.left = nil
		}, []int{1}},
		{"dead-lettered twice, and rejected once", func(b *books) {
			rejected("reject")(b)
			b.events = append(b.events, b.events[len(b.events)-2:]...)
			b.left = []string{"a", "a"}
		}, []int{1, 4}},
		{"settled twice", func(b *books) { b.settlements = append(b.settlements, b.settlements[1]) }, []int{4}},
		{"not sent, and the broker got it", verdict("d", "not sent"), []int{5}},
		{"unknown, and handed to no connection", verdict("e", "unknown"), []int{5}},
		{"not sent, and seen", blind(verdict("a", "not sent")), []int{5}},
		{"not sent, and in a queue", blind(func(b *books) { verdict("d", "not sent")(b); b.left = []string{"d"} }), []int{5}},
		{"returned, and seen", blind(verdict("a", "returned")), []int{7}},
		{"returned, and in a queue", blind(func(b *books) { b.left = []string{"c"} }), []int{7}},
		{"returned, and stored by another sending", blind(verdict("b", "returned")), nil},
		{"stored more often than sent", func(b *books) {
			b.events = append(b.events, ledger.Event{Kind: ledger.Stored, Queue: "q", ID: "a"})
			b.left = []string{"a"}
		}, []int{6}},
		{"given out twice", func(b *books) {
			b.receipts = append(b.receipts, ledger.Receipt{ID: "a", Queue: "q", Session: "t", Tag: 4, Redelivered: true})
		}, []int{6}},
		{"given out twice, and no book of the broker", blind(func(b *books) {
			b.receipts = append(b.receipts, ledger.Receipt{ID: "b", Queue: "q", Session: "t", Tag: 4})
		}), []int{6}},
		{"given out again in the same session", blind(func(b *books) {
			b.receipts[1].Session, b.settlements[0].Session = "s", "s"
			b.receipts[1].Tag, b.settlements[0].Tag = 2, 2
		}), []int{6}},
		{"given out again and again in its second session", blind(func(b *books) {
			for tag := range uint64(2) {
				b.receipts = append(b.receipts, ledger.Receipt{ID: "a", Queue: "q", Session: "t", Tag: 4 + tag, Redelivered: true})
			}
		}), []int{6, 6}},
		{"rejected, and its reject was not taken", blind(func(b *books) {
			b.settlements[3].Done = "reject"
		}), nil},
		{"rejected, its reject was not taken, and rejected again", blind(func(b *books) {
			b.deadLetters = true
			b.settlements[0].Done, b.settlements[3].Done = "reject", "reject"
			b.receipts = append(b.receipts, ledger.Receipt{ID: "a", Queue: "dead", Session: "dead", Tag: 1, Redelivered: true})
			b.settlements = append(b.settlements, ledger.Settlement{ID: "a", Session: "dead", Tag: 1, Done: "ack"})
		}), nil},
		{"rejected, and seen in the dead-letter queue", blind(func(b *books) {
			b.deadLetters = true
			b.settlements[0].Done = "reject"
			b.receipts = append(b.receipts, ledger.Receipt{ID: "a", Queue: "dead", Session: "dead", Tag: 1, Redelivered: true})
			b.settlements = append(b.settlements, ledger.Settlement{ID: "a", Session: "dead", Tag: 1, Done: "ack"})
		}), nil},
		{"rejected, and the dead-letter queue's consumer was first to write", blind(func(b *books) {
			b.deadLetters = true
			b.settlements[0].Done = "reject"
			b.receipts = slices.Insert(b.receipts, 0, ledger.Receipt{ID: "a", Queue: "dead", Session: "dead", Tag: 1})
			b.settlements = append(b.settlements, ledger.Settlement{ID: "a", Session: "dead", Tag: 1, Done: "ack"})
		}), nil},
		{"rejected in the dead-letter queue alone", blind(func(b *books) {
			b.deadLetters = true
			b.receipts = append(b.receipts, ledger.Receipt{ID: "a", Queue: "dead", Session: "dead", Tag: 1})
			b.settlements = append(b.settlements, ledger.Settlement{ID: "a", Session: "dead", Tag: 1, Done: "reject"})
		}), []int{6}},
		{"seen in the dead-letter queue alone", blind(func(b *books) {
			b.deadLetters = true
			for i := range 2 {
				b.receipts[i].Queue = "dead"
			}
		}), []int{6, 6}},
		{"stored in another queue than it was published to", func(b *books) {
			for i := range b.events {
				if b.events[i].Kind == ledger.Stored && b.events[i].ID == "a" {
					b.events[i].Queue = "dead"
				}
			}
		}, []int{6, 6}},
		{"rejected, and lost behind the dead-letter queue", blind(func(b *books) {
			b.deadLetters = true
			b.settlements[0].Done = "reject"
		}), []int{1}},
		{"in the dead-letter queue without a reject", blind(func(b *books) {
			b.deadLetters = true
			b.receipts = append(b.receipts, ledger.Receipt{ID: "a", Queue: "dead", Session: "dead", Tag: 1, Redelivered: true})
		}), []int{6}},
		{"released by nobody", func(b *books) {
			for i := range b.events {
				if b.events[i].Kind == ledger.Requeued {
					b.events[i].Reason = "rejected"
				}
			}
		}, []int{6}},
		{"a failure that was not counted", func(b *books) { b.receipts[1].Failures = 0 }, []int{6}},
		{"counted, and only released", func(b *books) {
			for i := range b.events {
				if b.events[i].Kind == ledger.Requeued {
					b.events[i].Reason = "released"
				}
			}
		}, []int{6}},
		{"the failures of one copy told of the other", func(b *books) {
			b.events = b.events[:len(b.events)-2]
			for tag := range uint64(2) {
				back := ledger.Event{Kind: ledger.Requeued, Queue: "q", ID: "b", Session: "t", Tag: 2 + tag, Reason: []string{"released", "closed"}[tag]}
				b.events = append(b.events, back)
			}
			b.settlements[1].Done = "release"
			for tag := range uint64(2) {
				e := ledger.Event{At: began, Kind: ledger.Delivered, Queue: "q", ID: "b", Session: "u", Tag: 1 + tag, Redelivered: true}
				b.events = append(b.events, e)
				e.Kind = ledger.Acked
				b.events = append(b.events, e)
				b.receipts = append(b.receipts, ledger.Receipt{ID: "b", Queue: "q", Session: "u", Tag: 1 + tag, Redelivered: true, Failures: 1 - int(tag)})
				b.settlements = append(b.settlements, ledger.Settlement{ID: "b", Session: "u", Tag: 1 + tag, Done: "ack"})
			}
		}, []int{6, 6}},
		{"returned and confirmed", verdict("c", "confirmed"), []int{1, 7}},
		{"sent again behind something newer", func(b *books) {
			b.attempts[2], b.attempts[3] = ledger.Attempt{"c", 1, 2, 1}, ledger.Attempt{"b", 2, 2, 2}
		}, []int{3, 3, 3, 5, 8}}, // the broker's book tells of another order
		{"sent again in the same session", func(b *books) { b.attempts[2].Session, b.attempts[2].Number = 1, 3 }, []int{3, 3, 3, 5, 8, 8}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			var b books
			b.attempts, b.verdicts, b.receipts, b.settlements, b.events = run()
			b.answers, b.finished = slices.Clone(b.verdicts), began
			for i := range b.events {
				b.events[i].At = began
			}
			x.change(&b)
			all := &ledger.Books{Queue: "q", Events: b.events, Left: b.left, Orderly: b.orderly, DeadLetters: b.deadLetters}
			for _, a := range b.attempts {
				all.Attempted(a)
			}
			for _, v := range b.verdicts {
				all.Told(v)
			}
			for _, v := range b.answers {
				all.Answered(v)
			}
			for _, a := range b.late {
				all.Attempted(a)
			}
			for _, r := range b.receipts {
				all.Received(r)
			}
			for _, s := range b.settlements {
				all.Settled(s)
				if s.Done == "ack" && !b.finished.IsZero() {
					all.Finished(ledger.Finish{Session: s.Session, Tag: s.Tag, At: b.finished})
				}
			}
			report := ledger.Check(all)
			var got []int
			for _, f := range report.Findings {
				got = append(got, f.Promise)
			}
			if fmt.Sprint(got) != fmt.Sprint(x.promises) {
				t.Errorf("found %v, want %v:\n%v", got, x.promises, report.Findings)
			}
		})
	}
}
