package consumer

// ledger knows what became of each delivery of one channel. Tags count from 1
// without a gap, because a session's channel has one subscription and no get.
// It is a plain value; session.mu guards it.
type ledger struct {
	last    uint64 // tag of the newest delivery
	base    uint64 // tag of entries[0]
	entries []entry
	singles []write // verdicts other than ack that are not written yet
	acks    int     // acks that are not written yet
	open    int     // deliveries without a verdict
}

type entry struct {
	verdict verdict
	written bool
}

// write is one settlement as it goes onto the wire.
type write struct {
	tag      uint64
	verdict  verdict
	multiple bool
	covers   int // deliveries settled by it
}

// amount is how many settlements there are. Final are those after which a message does not
// come again: without them it would.
type amount struct {
	writes int // on the wire
	final  int
}

func amountOf(ws []write) amount {
	a := amount{writes: len(ws)}
	for _, w := range ws {
		if w.verdict == ack || w.verdict == reject {
			a.final++
		}
	}
	return a
}

// add notes a delivery, and reports false if it is not the next one: what an ack for
// several would cover is not known then.
func (l *ledger) add(tag uint64) bool {
	if tag != l.last+1 {
		return false
	}
	l.last = tag
	if len(l.entries) == 0 {
		l.base = tag
	}
	l.entries = append(l.entries, entry{})
	l.open++
	return true
}

// settle notes a verdict and reports whether it is the first.
func (l *ledger) settle(tag uint64, v verdict) bool {
	if tag < l.base || tag-l.base >= uint64(len(l.entries)) {
		return false // written and forgotten
	}
	e := &l.entries[tag-l.base]
	if e.verdict != undecided {
		return false
	}
	e.verdict = v
	l.open--
	if v == ack {
		l.acks++
	} else {
		l.singles = append(l.singles, write{tag: tag, verdict: v, covers: 1})
	}
	return true
}

// settled reports whether tag has its verdict.
func (l *ledger) settled(tag uint64) bool {
	return tag < l.base || l.entries[tag-l.base].verdict != undecided
}

// pending is how many verdicts wait to be written.
func (l *ledger) pending() int { return len(l.singles) + l.acks }

// due is what a flush would bring, at most.
func (l *ledger) due(noMultiple bool) amount {
	a := amountOf(l.singles)
	a.final += l.acks
	prefix := true
	for i, acked := 0, 0; acked < l.acks; i++ {
		e := l.entries[i]
		prefix = prefix && e.verdict != undecided
		if e.verdict == ack && !e.written {
			if acked++; acked == 1 || !prefix || noMultiple {
				a.writes++
			}
		}
	}
	return a
}

// flush appends to ws what is to be written now, and counts it as written.
//
// Verdicts other than ack come first, each on its own. Then one ack, multiple
// if it is for several, covers the prefix in which everything is finished. Its
// tag is the highest there that is itself acked and not written: RabbitMQ
// answers 406 for a tag that it no longer holds, and then acks nothing; that the
// prefix has rejected ones among it, written before, does no harm. What is acked
// beyond an unfinished delivery is acked on its own, so that nothing finished
// waits for what is not. What the prefix ends with that is to be released goes last, as
// one nack: many on their own may be lost when the channel closes, see mostUnproven. With
// noMultiple each goes on its own.
func (l *ledger) flush(ws []write, noMultiple bool) []write {
	prefix, acked := 0, -1 // acked: the last of the prefix to be acked
	for ; prefix < len(l.entries) && l.entries[prefix].verdict != undecided; prefix++ {
		if e := l.entries[prefix]; e.verdict == ack && !e.written {
			acked = prefix
		}
	}
	var tail write // what the prefix ends with
	if !noMultiple {
		tail = l.releasedAmong(acked+1, prefix)
	}
	for _, w := range l.singles {
		if i := int(w.tag - l.base); tail.covers < 2 || w.verdict != release || i <= acked || i >= prefix {
			l.entries[i].written = true
			ws = append(ws, w)
		}
	}
	l.singles = l.singles[:0]

	count := 0
	for i := range l.entries[:acked+1] {
		if e := &l.entries[i]; !e.written {
			if noMultiple {
				ws = append(ws, write{tag: l.base + uint64(i), verdict: ack, covers: 1})
			}
			count++
		}
	}
	if count > 0 && !noMultiple {
		ws = append(ws, write{tag: l.base + uint64(acked), verdict: ack, multiple: count > 1, covers: count})
	}
	l.acks -= count
	for i := prefix; l.acks > 0 && i < len(l.entries); i++ {
		if e := &l.entries[i]; e.verdict == ack && !e.written {
			ws = append(ws, write{tag: l.base + uint64(i), verdict: ack, covers: 1})
			e.written = true
			l.acks--
		}
	}
	if tail.covers > 1 {
		ws = append(ws, tail)
	}
	l.base += uint64(prefix)
	l.entries = append(l.entries[:0], l.entries[prefix:]...)
	return ws
}

// releasedAmong returns the write that releases what is to be released, and is not yet,
// of entries[from:to], among which nothing is to be acked.
func (l *ledger) releasedAmong(from, to int) write {
	w := write{verdict: release, multiple: true}
	for i := from; i < to; i++ {
		if e := l.entries[i]; e.verdict == release && !e.written {
			w.tag = l.base + uint64(i)
			w.covers++
		}
	}
	return w
}

// releaseRest appends to ws, after a flush, the release of everything that has no
// verdict yet: by one multiple nack, which leaves alone what is settled already.
func (l *ledger) releaseRest(ws []write) []write {
	last, count := -1, 0
	for i := range l.entries {
		if l.entries[i].verdict == undecided {
			last = i
			count++
		}
	}
	if count == 0 {
		return ws
	}
	ws = append(ws, write{tag: l.base + uint64(last), verdict: release, multiple: count > 1, covers: count})
	l.base += uint64(len(l.entries)) // all settled: a handler may still ask
	l.entries, l.open = l.entries[:0], 0
	return ws
}
