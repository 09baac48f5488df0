package engine

import (
	"slices"

	"github.com/mqkit/mqkit/internal/wire"
)

// pendingConfirms are verdicts on publishes that the client has not been told.
type pendingConfirms struct {
	acks, nacks []uint64
	batch       bool
}

// ConfirmSelect has every publish from here on confirmed.
func (ch *Channel) ConfirmSelect(*wire.ConfirmSelect) *Exception {
	return ch.do(func(*vhost) *Exception {
		if ch.tx != nil {
			return NewException(codePreconditionFailed, "cannot switch from tx to confirm mode")
		}
		ch.confirms = true
		return nil
	})
}

// BatchConfirms says who decides when confirms are sent. Off, as it is at first,
// each publish is confirmed by itself before Publish returns. On, they wait for
// FlushConfirms, and go out as RabbitMQ sends what has piled up: one ack for all
// up to a number, the rest singly. A server turns it on for each channel and
// flushes when the input of the connection is drained for now, before it writes
// anything else that the client could take for an answer to a later method:
// that is, before each reply and at the end of each read.
func (ch *Channel) BatchConfirms(on bool) {
	ch.broker.enter()
	defer ch.broker.leave()
	ch.pending.batch = on
	ch.flushConfirms()
}

// FlushConfirms sends the confirms that BatchConfirms holds back.
func (ch *Channel) FlushConfirms() {
	ch.broker.enter()
	defer ch.broker.leave()
	ch.flushConfirms()
}

func (ch *Channel) confirm(number uint64, nack bool) {
	kind := EventConfirmed
	if nack {
		kind = EventNacked
		ch.pending.nacks = append(ch.pending.nacks, number)
	} else {
		ch.pending.acks = append(ch.pending.acks, number)
	}
	if ch.broker.opts.Event != nil {
		ch.broker.note(Event{
			Kind: kind, Conn: ch.conn.info.Name, Channel: ch.number, Vhost: ch.conn.vhost.name, Tag: number,
		})
	}
	if !ch.pending.batch {
		ch.flushConfirms()
	}
}

func (ch *Channel) flushConfirms() {
	p := &ch.pending
	if ch.closed || len(p.acks)+len(p.nacks) == 0 {
		return
	}
	if len(p.acks) == 1 {
		ch.sink.Confirm(p.acks[0], false, false)
	} else {
		ch.coalesce(p.acks, p.nacks, false)
	}
	// RabbitMQ says "multiple" even of a single nack, if nothing before it is open.
	ch.coalesce(p.nacks, p.acks, true)
	p.acks, p.nacks = p.acks[:0], p.nacks[:0]
}

// coalesce sends the numbers before the first of the others as one.
func (ch *Channel) coalesce(numbers, others []uint64, nack bool) {
	if len(numbers) == 0 {
		return
	}
	n := len(numbers)
	if len(others) > 0 {
		n, _ = slices.BinarySearch(numbers, others[0])
	}
	if n > 0 {
		ch.sink.Confirm(numbers[n-1], true, nack)
	}
	for _, number := range numbers[n:] {
		ch.sink.Confirm(number, false, nack)
	}
}
