package ledger

import (
	"sync"
	"time"
)

// Attempt is one message as the publisher handed it to a connection.
type Attempt struct {
	ID      string
	Attempt int    // 1 for the first
	Session uint64 // of the publisher, from 1
	Number  uint64 // of its confirm in that session
}

// Verdict is what the publisher was told of a message in the end; pending is none.
type Verdict struct {
	ID      string
	Verdict string // confirmed, returned, nacked, refused, not sent or unknown
}

// Receipt is one delivery as the consumer got it.
type Receipt struct {
	ID          string
	Queue       string
	Session     string // of the consumer: its consumer tag
	Tag         uint64
	Redelivered bool
	Failures    int // that the broker has counted; only asked for where its book is there
}

// Settlement is what the consumer did with a delivery.
type Settlement struct {
	ID      string
	Session string
	Tag     uint64
	Done    string // ack, reject, requeue or release; stale if its session was over
}

// Finish is the moment at which a handler was done with a delivery. It is only asked for
// where the broker's book is there.
type Finish struct {
	Session string
	Tag     uint64
	At      time.Time
}

// Event is a line of the broker's book: what happened to a message or was said of it.
type Event struct {
	At          time.Time // by the clock of Finish
	Kind        Kind
	Conn        int
	Channel     uint16
	Queue       string
	ID          string
	Session     string // the consumer tag
	Tag         uint64 // delivery tag or confirm number
	Multiple    bool   // of what was said: all up to Tag
	Redelivered bool
	Reason      string
}

// Kind is what an Event tells.
type Kind string

// The kinds. What is said is said on the wire.
const (
	Published    Kind = "published" // taken from a client
	Stored       Kind = "enqueued"
	Delivered    Kind = "delivered"
	Acked        Kind = "acked"
	Requeued     Kind = "requeued"      // Reason is rejected, released, closed or timeout
	DeadLettered Kind = "dead-lettered" // out of Queue; the one that it goes to has Stored it
	Dropped      Kind = "dropped"
	Purged       Kind = "purged"
	SaidAck      Kind = "said ack"
	SaidNack     Kind = "said nack"
	SaidReturn   Kind = "said return"
)

// Books are the ledgers of one run. Those who write may write at the same time; they
// must have ended before Check.
type Books struct {
	mu          sync.Mutex // guards what follows
	told        map[string]bool
	late        []Attempt // of what had its verdict already
	attempts    []Attempt
	verdicts    []Verdict
	answers     []Verdict
	receipts    []Receipt
	settlements []Settlement
	finishes    []Finish

	// Queue is the one that all messages are published to.
	Queue string

	// Events is the broker's book, in its order; nil if there is none.
	Events []Event

	// DeadLetters: what is rejected goes to a dead-letter queue, whose consumer writes into
	// these books too. A reject is then not the end of a message.
	DeadLetters bool

	// Left are the ids of the messages that are in queues when all is over.
	Left []string

	// Orderly are the consumer's sessions that were closed in good order: what was acked there
	// the broker has.
	Orderly []string
}

// Attempted writes an attempt down. It and Told are called in the order in which things
// happened.
func (b *Books) Attempted(a Attempt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempts = append(b.attempts, a)
	if b.told[a.ID] {
		b.late = append(b.late, a)
	}
}

// Told writes a verdict down.
func (b *Books) Told(v Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.verdicts = append(b.verdicts, v)
	if b.told == nil {
		b.told = map[string]bool{}
	}
	b.told[v.ID] = true
}

// Answered writes down the verdict in the error that a caller got of a message.
func (b *Books) Answered(v Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers = append(b.answers, v)
}

// Received writes a delivery down.
func (b *Books) Received(r Receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.receipts = append(b.receipts, r)
}

// Settled writes a settlement down.
func (b *Books) Settled(s Settlement) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settlements = append(b.settlements, s)
}

// Finished writes down that a handler was done.
func (b *Books) Finished(f Finish) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finishes = append(b.finishes, f)
}
