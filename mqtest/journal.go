package mqtest

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// Kind is what a [Record] is about.
type Kind uint8

// The kinds.
const (
	ConnectionOpened Kind = iota + 1 // it was accepted
	ConnectionEnded                  // Detail says why
	FromClient                       // a frame, as it was read
	ToClient                         // a frame, as it was written
	FaultStruck                      // Detail says where and what
	QueueEvent                       // Detail says what: of a Broker only
)

var recordKinds = [...]string{"", "opened", "ended", "<-", "->", "fault", "queue"}

// String returns the kind's word.
func (k Kind) String() string { return recordKinds[k] }

// Record is one line of a journal.
type Record struct {
	Seq     uint64 // from 1, without gaps
	At      time.Time
	Kind    Kind
	Conn    int
	Channel uint16
	Frame   []byte // of FromClient and ToClient; see Config.Journal
	Detail  string

	// Of QueueEvent. Detail is one of published, returned, enqueued, refused,
	// confirmed, nacked, delivered, acked, requeued, dead-lettered, dropped, purged,
	// queue-declared, queue-deleted, consumer-added, consumer-removed, restarted.
	Vhost       string
	Queue       string
	Exchange    string
	RoutingKey  string
	MessageID   string
	ConsumerTag string
	Tag         uint64 // delivery tag or confirm number
	Redelivered bool
	Reason      string
	Body        []byte
}

// Method returns the name of the frame's method, "" if it has none.
func (r Record) Method() string {
	if len(r.Frame) < wire.FrameOverhead {
		return ""
	}
	t, _, id := frameOf(r.Frame)
	return (&unit{kind: t, id: id}).name()
}

// String is one line.
func (r Record) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%6d %s", r.Seq, r.At.Format("15:04:05.000000"))
	if r.Conn != 0 {
		fmt.Fprintf(&b, " conn %d", r.Conn)
	}
	if r.Channel != 0 {
		fmt.Fprintf(&b, " ch %d", r.Channel)
	}
	b.WriteString(" " + r.Kind.String())
	if r.Detail != "" {
		b.WriteString(" " + r.Detail)
	}
	switch r.Kind {
	case FromClient, ToClient:
		b.WriteString(" " + frameText(r.Frame))
	case QueueEvent:
		for _, f := range []struct{ name, value string }{
			{"queue", r.Queue},
			{"exchange", r.Exchange},
			{"key", r.RoutingKey},
			{"id", r.MessageID},
			{"consumer", r.ConsumerTag},
			{"reason", r.Reason},
		} {
			if f.value != "" {
				fmt.Fprintf(&b, " %s=%q", f.name, f.value)
			}
		}
		if r.Tag != 0 {
			fmt.Fprintf(&b, " tag=%d", r.Tag)
		}
	}
	return b.String()
}

// shownText bounds what a line shows of a body.
const shownText = 40

func frameText(frame []byte) string {
	size, ok := nextFrame(frame, 0)
	if !ok || size != len(frame) {
		return fmt.Sprintf("%d bytes: %.40q", len(frame), frame)
	}
	t, _, id := frameOf(frame)
	u := unit{kind: t, id: id, raw: frame}
	switch t {
	case wire.MethodFrame:
		m := u.parse()
		if secret, ok := m.(*wire.ConnectionStartOk); ok {
			return "connection.start-ok " + secret.Mechanism // never a password
		}
		if _, ok := m.(*wire.ConnectionUpdateSecret); ok {
			return "connection.update-secret"
		}
		if m == nil {
			return u.name() + " (malformed)"
		}
		text := fmt.Sprintf("%+v", m)
		return u.name() + " " + strings.TrimPrefix(text, "&")
	case wire.HeaderFrame:
		h, err := wire.ParseHeader(u.payload())
		if err != nil {
			return "header (malformed)"
		}
		return fmt.Sprintf("header, body of %d bytes", h.BodySize)
	case wire.BodyFrame:
		return fmt.Sprintf("body %.*q", shownText, u.payload())
	}
	return "heartbeat"
}

// Journal keeps what happened, the newest of it. Reading it takes a copy.
type Journal struct {
	limit int // records kept, 0: all of them

	mu    sync.Mutex // guards what follows
	list  []Record   // a ring once limit is reached
	first int        // index of the oldest
	seq   uint64
	bytes int // of frames and bodies, where there is a limit
	empty int // how many of the oldest have had theirs taken
}

// defaultJournal is how many records a test's broker keeps.
const defaultJournal = 4096

// journalBytes bounds the frames in a journal that has a limit.
const journalBytes = 16 << 20

func newJournal(limit int) *Journal {
	switch {
	case limit == 0:
		limit = defaultJournal
	case limit < 0:
		limit = 0
	}
	return &Journal{limit: limit}
}

// add numbers a record and keeps it. A nil journal keeps nothing.
func (j *Journal) add(r Record) {
	if j == nil {
		return
	}
	r.At = time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	r.Seq = j.seq
	if j.limit == 0 {
		j.list = append(j.list, r)
		return
	}
	j.keepLocked(r)
}

// keepLocked keeps r where there is a limit, and returns how many older records it
// has looked at.
func (j *Journal) keepLocked(r Record) (looked int) {
	size := len(r.Frame) + len(r.Body)
	if size > journalBytes/16 {
		r.Frame, r.Body = r.Frame[:min(len(r.Frame), shownText)], nil
		size = len(r.Frame)
	}
	j.bytes += size
	if len(j.list) < j.limit {
		j.list = append(j.list, r)
	} else {
		old := &j.list[j.first]
		j.bytes -= len(old.Frame) + len(old.Body)
		*old = r
		j.first = (j.first + 1) % j.limit
		j.empty = max(j.empty-1, 0)
	}
	for ; j.bytes > journalBytes; j.empty++ {
		old := &j.list[(j.first+j.empty)%len(j.list)]
		j.bytes -= len(old.Frame) + len(old.Body)
		old.Frame, old.Body = nil, nil
		looked++
	}
	return looked
}

// Records returns what is kept, the oldest first.
func (j *Journal) Records() []Record { return j.Since(0) }

// Since returns what is kept of what came after the record of that number.
func (j *Journal) Since(seq uint64) []Record {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	n := len(j.list)
	if j.seq <= seq {
		return nil
	}
	keep := int(min(uint64(n), j.seq-seq))
	list := make([]Record, 0, keep)
	for i := n - keep; i < n; i++ {
		list = append(list, j.list[(j.first+i)%n])
	}
	return list
}
