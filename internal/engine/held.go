package engine

import "slices"

// held are a channel's deliveries that were not settled, by tag. Most are
// settled from the front, or all up to one; what is settled in between leaves a
// hole that is closed once half of all are holes.
type held struct {
	slots []slot
	head  int
	n     int
}

type slot struct {
	tag uint64
	e   *entry // nil: settled
}

func (h *held) push(e *entry) {
	h.slots = append(h.slots, slot{e.tag, e})
	h.n++
}

func (h *held) index(tag uint64) int {
	if h.head < len(h.slots) && h.slots[h.head].tag == tag {
		return h.head
	}
	i, found := slices.BinarySearchFunc(h.slots[h.head:], tag, func(s slot, tag uint64) int {
		switch {
		case s.tag < tag:
			return -1
		case s.tag > tag:
			return 1
		}
		return 0
	})
	if !found || h.slots[h.head+i].e == nil {
		return -1
	}
	return h.head + i
}

// take removes one delivery; nil if it is not held.
func (h *held) take(tag uint64) *entry {
	i := h.index(tag)
	if i < 0 {
		return nil
	}
	e := h.slots[i].e
	h.slots[i].e = nil
	h.n--
	h.tidy()
	return e
}

// takeUpTo removes all deliveries up to one that is held; tag 0 means all.
func (h *held) takeUpTo(tag uint64, into []*entry) ([]*entry, bool) {
	last := len(h.slots) - 1
	if tag != 0 {
		if last = h.index(tag); last < 0 {
			return into, false
		}
	}
	for i := h.head; i <= last; i++ {
		if e := h.slots[i].e; e != nil {
			into = append(into, e)
			h.slots[i].e = nil
			h.n--
		}
	}
	h.head = last + 1
	h.tidy()
	return into, true
}

func (h *held) takeAll() []*entry {
	es, _ := h.takeUpTo(0, nil)
	return es
}

// replace puts another entry in the place of one that is held.
func (h *held) replace(tag uint64, e *entry) {
	if i := h.index(tag); i >= 0 {
		h.slots[i].e = e
	}
}

// merge takes entries back that were taken out.
func (h *held) merge(es []*entry) {
	all := slices.Concat(es, h.takeAll())
	slices.SortFunc(all, func(a, b *entry) int {
		if a.tag < b.tag {
			return -1
		}
		return 1
	})
	for _, e := range all {
		h.push(e)
	}
}

func (h *held) tidy() {
	for h.head < len(h.slots) && h.slots[h.head].e == nil {
		h.head++
	}
	switch {
	case h.head == len(h.slots):
		h.slots, h.head = h.slots[:0], 0
	case len(h.slots) > 64 && h.n < len(h.slots)/2:
		h.slots = slices.DeleteFunc(h.slots, func(s slot) bool { return s.e == nil })
		h.head = 0
	}
}
