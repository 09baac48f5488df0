package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// ErrStream is returned by Reject, Requeue and Release of a delivery from a stream:
// nothing can be put back into a stream, or taken out of it. The broker would ignore it
// in silence, and in the end send no more.
var ErrStream = errors.New("the queue is a stream: its messages can only be acked")

// Offset is where consuming a stream begins. The zero value is no offset.
type Offset struct {
	value any // as x-stream-offset takes it
	text  string
	ago   time.Duration // of OffsetInterval
	fault string        // why New refuses it
}

// The fixed offsets. A stream is stored in chunks, and what is given out begins with a
// chunk: a few messages before the one that was asked for may come first, but for
// OffsetNumber.
var (
	OffsetFirst = Offset{value: "first", text: "first"} // the oldest message that the stream still has
	OffsetLast  = Offset{value: "last", text: "last"}   // the last chunk; until one has come, that of each session
	OffsetNext  = Offset{value: "next", text: "next"}   // what is published from now on
)

// OffsetNumber begins with the message of that number, or with the oldest one after it. New
// refuses one above math.MaxInt64.
func OffsetNumber(n uint64) Offset {
	o := Offset{value: int64(n), text: strconv.FormatUint(n, 10)} //nolint:gosec // checked below
	if n > math.MaxInt64 {
		o.fault = fmt.Sprintf("OffsetNumber(%d): AMQP allows %d", n, int64(math.MaxInt64))
	}
	return o
}

// OffsetTime begins with the chunk that holds what was published at t. New refuses a time
// before 1970, with which RabbitMQ would pass over all that is in the stream.
func OffsetTime(t time.Time) Offset {
	o := Offset{value: t, text: t.Format(time.RFC3339)}
	if t.Unix() < 0 {
		o.fault = fmt.Sprintf("OffsetTime(%s): is before 1970; OffsetFirst begins with the oldest message", o.text)
	}
	return o
}

// OffsetInterval begins with the chunk that holds what was published so long ago, rounded up
// to a second. New refuses one that is not positive, or leads back to before 1970.
func OffsetInterval(ago time.Duration) Offset {
	seconds := int64(ago / time.Second)
	if ago%time.Second > 0 {
		seconds++
	}
	o := Offset{value: fmt.Sprintf("%ds", seconds), text: ago.String() + " ago", ago: ago}
	if ago > time.Since(time.Unix(0, 0)) {
		o.fault = fmt.Sprintf("OffsetInterval(%v): leads back to before 1970; OffsetFirst begins with the oldest message", ago)
	}
	if ago <= 0 {
		o.fault = fmt.Sprintf("OffsetInterval(%v): must be positive; OffsetNext begins with what is published from now on", ago)
	}
	return o
}

func (o Offset) String() string {
	if o.value == nil {
		return "none"
	}
	return o.text
}

func (o Offset) isZero() bool { return o.value == nil }

// isStream reports whether the queue is known to be a stream.
func (cfg *Config) isStream(pool *reconnect.Pool) bool {
	q, _ := cfg.known(pool)
	return !cfg.Offset.isZero() || q.Type == topology.Stream
}

// clockMargin is how far the broker's clock may be behind ours without anything being passed
// over: the times in a stream are by the broker's.
const clockMargin = 10 * time.Second

// since is what was asked for when a session began to which nothing came, if that is told by
// the clock: it would be another place later. Whatever was published while the broker was
// heard would have come, so only a session that lived for less than clockMargin has the next
// begin with something older.
func (o Offset) since(began, heard time.Time) Offset {
	if !o.isZero() && o != OffsetNext && o.ago == 0 {
		return o
	}
	if t := heard.Add(-clockMargin); t.Before(began) {
		began = t
	}
	return OffsetTime(began.Add(-o.ago))
}

// startAt is where the next session begins.
func (r *run) startAt() Offset {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.offset
}

// goOn has the next session of a stream begin where this one, which ends for cause, has not
// done its work: where nothing had come, at what came since it was subscribed. A stream that
// is gone will be another one, if it comes back, and all that is in it is new; see beginAnew
// too. Only the first call counts: what handlers do after that must not lead back behind a
// newer session.
func (s *session) goOn(cause error) {
	r := s.run
	s.mu.Lock()
	s.progress.advance(&s.ledger)
	p, again := s.progress, s.left
	s.left = true
	s.mu.Unlock()
	if again || !r.stream {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case reconnect.IsMissing(cause):
		r.offset = OffsetFirst
	case p.known:
		r.offset = OffsetNumber(p.next)
	case s.subscribed:
		r.offset = r.offset.since(s.began, time.Now().Add(-s.ch.Quiet()))
	}
}

const (
	// goneWithin is how long it is asked for a stream whose subscription the broker has
	// cancelled: RabbitMQ cancels it first, and then deletes what it knows of the queue.
	goneWithin = 2 * time.Second

	// goneTick is how often.
	goneTick = 50 * time.Millisecond
)

// beginAnew has the next session begin with the first message if the stream, whose
// subscription the broker has cancelled, is gone. That is asked before the session ends, or the
// pool would have declared it again, and on another channel, since the answer ends it. If
// the stream is there (its node was lost, a delivery was overdue), or nothing is answered, the
// session goes on where it was.
func (r *run) beginAnew(stream string) {
	ctx, cancel := context.WithTimeout(r.ctx, goneWithin)
	defer cancel()
	ch, err := r.c.pool.Acquire(ctx, reconnect.Consuming)
	if err != nil {
		return
	}
	defer ch.Release()
	tick := time.NewTicker(goneTick)
	defer tick.Stop()
	for {
		err := ch.CallSlow(ctx, "look for the stream", func(raw *amqp.Channel) error {
			_, err := topology.DeclareQueue(ctx, raw, topology.Queue{Name: stream, Passive: true})
			return err
		})
		switch {
		case reconnect.IsMissing(err):
			r.mu.Lock()
			r.offset = OffsetFirst
			r.mu.Unlock()
			return
		case err != nil:
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// StreamOffset is the number of a message in its stream; ok is false if it does not come
// from one.
func (d *Delivery) StreamOffset() (n uint64, ok bool) {
	v, ok := d.Headers[streamOffset].(int64)
	return uint64(v), ok //nolint:gosec // a stream counts from 0
}

// streamOffset is the argument that says where consuming a stream begins, and the header in
// which its deliveries carry their number.
const streamOffset = "x-stream-offset"

// progress is how far a session has come with a stream: the next one begins where this
// one's work was not done yet. The session's mutex guards it.
type progress struct {
	known   bool
	next    uint64   // offset behind all that is done without a gap
	base    uint64   // tag of offsets[0]
	offsets []uint64 // of what came and is not behind next
}

// add notes a delivery.
func (p *progress) add(tag uint64, d *Delivery) {
	if len(p.offsets) == 0 {
		p.base = tag
	}
	n, _ := d.StreamOffset()
	p.offsets = append(p.offsets, n)
}

// advance moves next behind what the ledger knows to be done.
func (p *progress) advance(l *ledger) {
	for len(p.offsets) > 0 && l.settled(p.base) {
		p.known, p.next = true, p.offsets[0]+1
		p.offsets = p.offsets[1:]
		p.base++
	}
	if !p.known && len(p.offsets) > 0 {
		p.known, p.next = true, p.offsets[0]
	}
}
