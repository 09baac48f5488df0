package integration_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/ledger"
	"github.com/mqkit/mqkit/producer"
)

// account keeps the books of what is published to a queue and consumed from it, by what
// everybody can use, and knows what was confirmed and no consumer is done with yet.
type account struct {
	books     *ledger.Books
	confirmed atomic.Int64
	handled   atomic.Int64 // deliveries that a consumer was done with

	mu      sync.Mutex // guards what follows
	open    map[string]int
	present map[string]string // the present session of each queue's consumer
}

// What is known of a message in account.open.
const wasConfirmed, wasHandled = 1, 2

// newAccount is of one queue. With deadLetters what is rejected there comes to another,
// whose consumer is in the same account.
func newAccount(queue string, deadLetters bool) *account {
	return &account{
		books: &ledger.Books{Queue: queue, DeadLetters: deadLetters},
		open:  map[string]int{}, present: map[string]string{},
	}
}

// meets notes that a message was confirmed, or that a consumer is done with it. It is over
// when both are.
func (a *account) meets(id string, what int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.open[id]
	if before|what == wasConfirmed|wasHandled {
		delete(a.open, id)
	} else {
		a.open[id] = what
	}
}

// missing are those that were confirmed and are not handled yet.
func (a *account) missing() (ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, state := range a.open {
		if state == wasConfirmed {
			ids = append(ids, id)
		}
	}
	return ids
}

// tellMissing names some of what is missing, if the test has failed.
func (a *account) tellMissing(t *testing.T) {
	if ids := a.missing(); t.Failed() {
		t.Logf("%d messages were confirmed and are not handled, such as %v", len(ids), ids[:min(10, len(ids))])
	}
}

// awaitMore waits until n more messages are confirmed.
func (a *account) awaitMore(t *testing.T, n int64, within time.Duration) {
	t.Helper()
	want := a.confirmed.Load() + n
	eventually(t, fmt.Sprintf("%d more messages are confirmed", n), within, func() bool { return a.confirmed.Load() >= want })
}

// publishes has a producer write into the account as well.
func (a *account) publishes(cfg producer.Config) producer.Config {
	attempted, told := cfg.OnAttempt, cfg.OnVerdict
	cfg.OnAttempt = func(what producer.Attempt) {
		a.books.Attempted(ledger.Attempt{ID: what.MessageID, Attempt: what.Number, Session: what.Session, Number: what.Tag})
		if attempted != nil {
			attempted(what)
		}
	}
	cfg.OnVerdict = func(o producer.Outcome) {
		a.books.Told(ledger.Verdict{ID: o.MessageID, Verdict: o.Verdict.String()})
		if o.Verdict == producer.Confirmed {
			a.confirmed.Add(1)
			a.meets(o.MessageID, wasConfirmed)
		}
		if told != nil {
			told(o)
		}
	}
	return cfg
}

// answered is what a call of the producer has returned.
func (a *account) answered(id string, err error) {
	a.books.Answered(ledger.Verdict{ID: id, Verdict: producer.VerdictOf(err).String()})
}

// consumes has a consumer write into the account.
func (a *account) consumes(cfg consumer.Config) consumer.Config {
	cfg.OnDelivery = func(d consumer.Receipt) {
		a.mu.Lock()
		a.present[d.Queue] = d.ConsumerTag
		a.mu.Unlock()
		a.books.Received(ledger.Receipt{ID: d.MessageID, Queue: d.Queue, Session: d.ConsumerTag, Tag: d.Tag, Redelivered: d.Redelivered, Failures: d.Attempt - 1})
	}
	cfg.OnSettlement = func(s consumer.Settlement) {
		a.settled(ledger.Settlement{ID: s.MessageID, Session: s.ConsumerTag, Tag: s.Tag, Done: s.Verdict})
	}
	return cfg
}

// settled is what a consumer has done with a delivery.
func (a *account) settled(s ledger.Settlement) {
	a.books.Settled(s)
	if s.Done != "ack" && s.Done != "reject" {
		return
	}
	a.handled.Add(1)
	if s.Done == "ack" || !a.books.DeadLetters {
		a.meets(s.ID, wasHandled)
	}
}

// judge takes what is in the queues, which nobody consumes any more, and has the books
// judged. In good order the consumers have stopped without an error.
func (a *account) judge(t *testing.T, ch *amqp.Channel, orderly bool, queues ...string) ledger.Report {
	t.Helper()
	for _, name := range queues {
		if session := a.present[name]; orderly && session != "" {
			a.books.Orderly = append(a.books.Orderly, session)
		}
		a.books.Left = append(a.books.Left, left(t, ch, name)...)
	}
	report := ledger.Check(a.books)
	for i, f := range report.Findings {
		if i == 20 {
			t.Errorf("and %d more", len(report.Findings)-i)
			break
		}
		t.Error(f)
	}
	return report
}

// left takes what is in a queue that nobody consumes any more.
func left(t *testing.T, ch *amqp.Channel, queue string) (ids []string) {
	t.Helper()
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil {
			t.Errorf("get what is left in %s: %v", queue, err)
		}
		if err != nil || !ok {
			return ids
		}
		ids = append(ids, d.MessageId)
	}
}
