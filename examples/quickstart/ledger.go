package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/mqkit/mqkit/consumer"
)

// ledger is the books of both sides. An order that was confirmed and not consumed
// is lost, unless consuming was cut short: then it was left in the queue.
type ledger struct {
	mu          sync.Mutex
	seen        []int // by order, how often it was consumed
	total       int   // sightings
	orders      int   // orders seen at least once
	redelivered int   // further sightings of which the broker says: given out before
	atEnd       bool  // the entry behind the last order was seen
	published   int
	confirmed   []bool // by order
	republished uint64
	failure     error // of the first order that was not confirmed
	faults      faults
	cutShort    bool
}

// faults is what happened to the connections.
type faults struct {
	planned, made                 int // cuts
	lostPublishing, lostConsuming int // connections, by whatever
}

// check tells what did not happen.
func (f faults) check() error {
	lost := f.lostPublishing + f.lostConsuming
	switch {
	case f.made != f.planned:
		return fmt.Errorf("%d cuts were planned and %d made: this run proves nothing", f.planned, f.made)
	case lost < f.made:
		return fmt.Errorf("%d cuts were made and %d connections lost: this run proves nothing", f.made, lost)
	default:
		return nil
	}
}

// endID is the entry that is published behind the last order, so that whoever
// gets it has got all copies of all orders.
const endID = -1

// consume is the handler.
func (l *ledger) consume(_ context.Context, o order, d *consumer.Delivery) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.ID == endID {
		l.atEnd = true
		return nil
	}
	if o.ID < 0 || o.ID >= len(l.seen) {
		return consumer.Reject(fmt.Errorf("order %d was never published", o.ID))
	}
	l.total++
	l.seen[o.ID]++
	switch {
	case l.seen[o.ID] == 1:
		l.orders++
	case d.Redelivered:
		l.redelivered++
	}
	return nil
}

// confirm takes down the verdicts of orders 0, 1, 2, ...: nil is confirmed.
func (l *ledger) confirm(verdicts []error, republished uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.published, l.republished = len(verdicts), republished
	l.confirmed = make([]bool, len(verdicts))
	for id, err := range verdicts {
		l.confirmed[id] = err == nil
		if l.failure == nil {
			l.failure = err
		}
	}
}

// consumed returns how many orders came, and how often any came.
func (l *ledger) consumed() (orders, total int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.orders, l.total
}

// complete tells whether all confirmed orders were consumed, all copies of them
// too if the end was published, and the connections suffered what they should.
func (l *ledger) complete(endPublished bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, missing := l.countLocked()
	return missing == 0 && (l.atEnd || !endPublished) && l.faults.check() == nil
}

func (l *ledger) countLocked() (confirmed, missing int) {
	for id, ok := range l.confirmed {
		if ok {
			confirmed++
			if l.seen[id] == 0 {
				missing++
			}
		}
	}
	return confirmed, missing
}

func (l *ledger) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutShort = true
}

func (l *ledger) connections(f faults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = f
}

// check says what is wrong with the books.
func (l *ledger) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	confirmed, missing := l.countLocked()
	switch {
	case missing > 0 && !l.cutShort:
		return fmt.Errorf("%d orders were confirmed and never consumed", missing)
	case confirmed < l.published:
		return fmt.Errorf("%d orders were not confirmed, the first: %w", l.published-confirmed, l.failure)
	default:
		return l.faults.check()
	}
}

// String is the table. A message sent again because its verdict was lost with the
// connection may be stored twice; one whose ack was lost with it is given out
// again.
func (l *ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	confirmed, missing := l.countLocked()
	duplicates := l.total - l.orders
	why := ""
	if duplicates > 0 {
		why = fmt.Sprintf("  (confirm lost, published again: %d; ack lost, given out again: %d)", duplicates-l.redelivered, l.redelivered)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "published   %6d\n", l.published)
	fmt.Fprintf(&b, "confirmed   %6d\n", confirmed)
	fmt.Fprintf(&b, "republished %6d\n", l.republished)
	fmt.Fprintf(&b, "consumed    %6d\n", l.orders)
	fmt.Fprintf(&b, "duplicates  %6d%s\n", duplicates, why)
	fmt.Fprintf(&b, "cuts        %6d  (connections lost: publishing %d, consuming %d)\n", l.faults.made, l.faults.lostPublishing, l.faults.lostConsuming)
	if l.cutShort {
		fmt.Fprintf(&b, "unread      %6d\n", missing)
		missing = 0
	}
	fmt.Fprintf(&b, "lost        %6d\n", missing)
	return b.String()
}
