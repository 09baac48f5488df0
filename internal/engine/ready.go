package engine

import (
	"container/heap"
	"math/bits"
)

// line is a queue of entries in a ring.
type line struct {
	ring []*entry // a power of two long, or nil
	head int
	n    int
}

func (l *line) at(i int) *entry { return l.ring[(l.head+i)&(len(l.ring)-1)] }

func (l *line) push(e *entry) {
	if l.n == len(l.ring) {
		l.resize(max(8, 2*l.n))
	}
	l.ring[(l.head+l.n)&(len(l.ring)-1)] = e
	l.n++
}

func (l *line) pop() *entry {
	e := l.ring[l.head]
	l.ring[l.head] = nil
	l.head = (l.head + 1) & (len(l.ring) - 1)
	l.n--
	if l.n == 0 {
		l.head = 0
		if len(l.ring) > 1024 {
			l.ring = nil
		}
	} else if len(l.ring) > 1024 && l.n <= len(l.ring)/4 {
		l.resize(len(l.ring) / 2)
	}
	return e
}

func (l *line) resize(size int) {
	ring := make([]*entry, size)
	for i := range l.n {
		ring[i] = l.at(i)
	}
	l.ring, l.head = ring, 0
}

// byPos is a heap of entries that came back, by their place in the queue.
type byPos []*entry

func (h byPos) Len() int           { return len(h) }
func (h byPos) Less(i, j int) bool { return h[i].pos < h[j].pos }
func (h byPos) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byPos) Push(e any)        { *h = append(*h, e.(*entry)) }
func (h *byPos) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

// level holds the ready entries of one priority. Those that came back to a
// classic queue stand where they stood before, which is nearly always in front.
type level struct {
	fresh line
	back  byPos
}

func (l *level) len() int { return l.fresh.n + len(l.back) }

func (l *level) peek() *entry {
	switch {
	case len(l.back) == 0:
		return l.fresh.at(0)
	case l.fresh.n == 0 || l.back[0].pos < l.fresh.at(0).pos:
		return l.back[0]
	}
	return l.fresh.at(0)
}

func (l *level) pop() *entry {
	if len(l.back) > 0 && (l.fresh.n == 0 || l.back[0].pos < l.fresh.at(0).pos) {
		return heap.Pop(&l.back).(*entry)
	}
	return l.fresh.pop()
}

// ready is what a queue can deliver: first what came back to a quorum queue, in
// the order in which it came, then the levels from the highest down.
type ready struct {
	levels   []level
	used     [4]uint64 // a bit for each level with entries
	returned line      // quorum queues only
	n        int
	bytes    int64
	twoToOne bool  // 4.2's quorum queues: two of level 1, then one of level 0
	taken    uint8 // how many in a row were of level 1

	manyHeads bool // 4.3's quorum queues: the first of each level may expire
}

func (r *ready) push(e *entry, lvl int) {
	r.levels[lvl].fresh.push(e)
	r.used[lvl>>6] |= 1 << (lvl & 63)
	r.count(e, 1)
}

// giveBack puts an entry where it was before it was delivered.
func (r *ready) giveBack(e *entry, lvl int) {
	heap.Push(&r.levels[lvl].back, e)
	r.used[lvl>>6] |= 1 << (lvl & 63)
	r.count(e, 1)
}

// giveReturned puts an entry behind others that came back, before all the rest.
func (r *ready) giveReturned(e *entry) {
	r.returned.push(e)
	r.count(e, 1)
}

func (r *ready) count(e *entry, by int) {
	r.n += by
	r.bytes += int64(by * len(e.msg.body))
}

func (r *ready) top() int {
	for i := len(r.used) - 1; i >= 0; i-- {
		if r.used[i] != 0 {
			return i<<6 + bits.Len64(r.used[i]) - 1
		}
	}
	return -1
}

// next is the level that comes next, or -1 if all are empty.
func (r *ready) next() int {
	lvl := r.top()
	if r.twoToOne && lvl == 1 && r.taken >= 2 && r.levels[0].len() > 0 {
		return 0
	}
	return lvl
}

// peek is what pop would take.
func (r *ready) peek() *entry {
	if r.returned.n > 0 {
		return r.returned.at(0)
	}
	if lvl := r.next(); lvl >= 0 {
		return r.levels[lvl].peek()
	}
	return nil
}

func (r *ready) pop() *entry {
	var e *entry
	if r.returned.n > 0 {
		e = r.returned.pop()
	} else {
		lvl := r.next()
		if lvl < 0 {
			return nil
		}
		if r.twoToOne {
			if lvl == 1 {
				r.taken++
			} else {
				r.taken = 0
			}
		}
		e = r.popLevel(lvl)
	}
	r.count(e, -1)
	return e
}

func (r *ready) popLevel(lvl int) *entry {
	l := &r.levels[lvl]
	e := l.pop()
	if l.len() == 0 {
		r.used[lvl>>6] &^= 1 << (lvl & 63)
	}
	return e
}

// expired takes the entries out that have outlived their time as they stand at the
// head, or where there are many, at one of the heads: RabbitMQ looks nowhere else.
func (r *ready) expired(now int64, spare *entry) []*entry {
	var out []*entry
	over := func(e *entry) bool { return e != nil && e.expires != 0 && e.expires <= now && e != spare }
	if !r.manyHeads {
		for over(r.peek()) {
			out = append(out, r.pop())
		}
		return out
	}
	for r.returned.n > 0 && over(r.returned.at(0)) {
		out = append(out, r.returned.pop())
	}
	for lvl := len(r.levels) - 1; lvl >= 0; lvl-- {
		if r.used[lvl>>6] == 0 {
			lvl &^= 63
			continue
		}
		for r.levels[lvl].len() > 0 && over(r.levels[lvl].peek()) {
			out = append(out, r.popLevel(lvl))
		}
	}
	for _, e := range out {
		r.count(e, -1)
	}
	return out
}

// nextExpiry is when the first of the heads expires, 0 for never.
func (r *ready) nextExpiry() int64 {
	var first int64
	look := func(e *entry) {
		if e.expires != 0 && (first == 0 || e.expires < first) {
			first = e.expires
		}
	}
	if !r.manyHeads {
		if e := r.peek(); e != nil {
			look(e)
		}
		return first
	}
	if r.returned.n > 0 {
		look(r.returned.at(0))
	}
	for i, set := range r.used {
		for ; set != 0; set &= set - 1 {
			look(r.levels[i<<6+bits.TrailingZeros64(set)].peek())
		}
	}
	return first
}

// all lists the entries in the order in which they would be delivered, more or
// less: 4.2's alternation is not played through.
func (r *ready) all() []*entry {
	out := make([]*entry, 0, r.n)
	for i := range r.returned.n {
		out = append(out, r.returned.at(i))
	}
	for lvl := len(r.levels) - 1; lvl >= 0; lvl-- {
		l := level{back: append(byPos(nil), r.levels[lvl].back...)}
		fresh, i := &r.levels[lvl].fresh, 0
		for i < fresh.n || len(l.back) > 0 {
			if i == fresh.n || len(l.back) > 0 && l.back[0].pos < fresh.at(i).pos {
				out = append(out, heap.Pop(&l.back).(*entry))
				continue
			}
			out = append(out, fresh.at(i))
			i++
		}
	}
	return out
}

func (r *ready) clear() {
	clear(r.levels)
	r.used = [4]uint64{}
	r.returned = line{}
	r.n, r.bytes = 0, 0
}
