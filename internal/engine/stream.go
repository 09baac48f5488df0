package engine

import (
	"slices"
	"sort"

	"github.com/mqkit/mqkit/internal/wire"
)

// segmentSize is where a stream begins a new segment unless told otherwise.
// Retention drops whole segments, never the last one.
const segmentSize = 500_000_000

// streamLog is what a stream holds: messages stay until retention drops them,
// and every consumer reads from where it likes.
type streamLog struct {
	segments []*segment
	next     uint64 // offset
	bytes    int64
}

type segment struct {
	first   uint64
	entries []streamEntry
	bytes   int64
}

type streamEntry struct {
	msg *message
	at  int64 // unix milliseconds
}

func (l *streamLog) len() int { return int(l.next - l.first()) }

func (l *streamLog) first() uint64 {
	if len(l.segments) == 0 {
		return l.next
	}
	return l.segments[0].first
}

func (l *streamLog) append(q *queue, msg *message) {
	limit := int64(segmentSize)
	if v, has := q.args.Get("x-stream-max-segment-size-bytes"); has {
		limit, _ = integer(v)
	}
	now := q.vhost.broker.now()
	n := len(l.segments)
	if n == 0 || l.segments[n-1].bytes >= limit {
		l.segments = append(l.segments, &segment{first: l.next})
		for len(l.segments) > 1 && l.outdated(q, now) {
			l.bytes -= l.segments[0].bytes
			l.segments = slices.Delete(l.segments, 0, 1)
		}
		n = len(l.segments)
	}
	s := l.segments[n-1]
	s.entries = append(s.entries, streamEntry{msg, now})
	s.bytes += int64(len(msg.body) + len(msg.properties))
	l.bytes += int64(len(msg.body) + len(msg.properties))
	l.next++
	q.noteEntry(EventEnqueued, &entry{msg: msg, queue: q, pos: l.next - 1}, "")
}

func (l *streamLog) outdated(q *queue, now int64) bool {
	if q.maxBytes >= 0 && l.bytes > q.maxBytes {
		return true
	}
	es := l.segments[0].entries
	return q.maxAge > 0 && es[len(es)-1].at < now-q.maxAge.Milliseconds()
}

func (l *streamLog) at(offset uint64) streamEntry {
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].first > offset }) - 1
	return l.segments[i].entries[offset-l.segments[i].first]
}

// checkOffset validates x-stream-offset.
func checkOffset(v any, _ wire.Table) argFault {
	s, isString := v.(string)
	if !isString || s == "first" || s == "last" || s == "next" {
		return ""
	}
	if _, ok := parseAge(s); !ok {
		return faultf("{invalid_stream_offset_arg,{longstr,%s}}", erlangBinary(s))
	}
	return ""
}

// notAnOffset tells of values that RabbitMQ's check takes and its reader then
// stumbles over.
func notAnOffset(args wire.Table) bool {
	v, has := args.Get("x-stream-offset")
	if !has {
		return false
	}
	switch v.(type) {
	case string, wire.Timestamp:
		return false
	}
	_, isInteger := integer(v)
	return !isInteger
}

// start is the offset that a consumer begins at: a word, an offset, a time, or
// how long ago.
func (l *streamLog) start(args wire.Table, now int64) uint64 {
	v, has := args.Get("x-stream-offset")
	if !has {
		return l.next
	}
	since := func(at int64) uint64 {
		n := sort.Search(l.len(), func(i int) bool { return l.at(l.first()+uint64(i)).at >= at })
		return l.first() + uint64(n)
	}
	switch v := v.(type) {
	case string:
		switch v {
		case "first":
			return l.first()
		case "last":
			return max(l.first(), l.next-min(l.next, 1))
		case "next":
			return l.next
		}
		age, _ := parseAge(v)
		return since(now - age.Milliseconds())
	case wire.Timestamp:
		return since(int64(v) * 1000)
	}
	n, _ := integer(v)
	return uint64(max(n, 0))
}

// runStream gives every consumer what it has not seen, as far as its prefetch
// goes.
func (q *queue) runStream() {
	for _, c := range slices.Clone(q.turn) {
		for {
			c.cursor = max(c.cursor, q.log.first())
			if c.cursor >= q.log.next || !c.ready() {
				break
			}
			e := &entry{msg: q.log.at(c.cursor).msg, queue: q, pos: c.cursor}
			c.cursor++
			q.deliver(c, e)
		}
	}
}
