package producer

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// sweepInterval is how often at most the whole window is looked through for
// confirms that came out of order; in order they are seen at once.
const sweepInterval = time.Millisecond

// window holds what a session has sent, in the order of its confirm numbers.
// Resolved entries are nil.
type window struct {
	list []*Confirmation
	head int
}

func (w *window) push(c *Confirmation) { w.list = append(w.list, c) }

// entries returns what is left, with nils.
func (w *window) entries() []*Confirmation { return w.list[w.head:] }

// trim drops the nils at the head.
func (w *window) trim() {
	for w.head < len(w.list) && w.list[w.head] == nil {
		w.head++
	}
	w.list, w.head = compact(w.list, w.head)
}

// compact drops what is before head when that is much, and keeps nothing of it alive.
func compact(list []*Confirmation, head int) ([]*Confirmation, int) {
	switch {
	case head == len(list):
		return list[:0], 0
	case head >= 1024 && head*2 >= len(list):
		n := copy(list, list[head:])
		clear(list[n:])
		return list[:n], 0
	default:
		return list, head
	}
}

// resolve is called at the barrier: on the driver's reader goroutine, when it
// has dispatched all that has arrived.
func (s *session) resolve() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.resolveLocked()
}

// look is called by the timer.
func (s *session) look() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.armed = false
	s.resolveLocked()
}

// resolveLocked gives verdicts to what is confirmed at the head of the window,
// and now and then anywhere in it.
func (s *session) resolveLocked() {
	if s.over {
		return
	}
	entries := s.window.entries()
	n := 0
	for n < len(entries) && (entries[n] == nil || entries[n].isConfirmed()) {
		n++
	}
	if n == len(entries) {
		s.settleLocked(entries)
		return
	}
	now := time.Now()
	if wait := sweepInterval - now.Sub(s.swept); wait > 0 {
		s.settleLocked(entries[:n])
		// Nothing else may come that would have it looked at again.
		if s.sweep == nil {
			s.sweep = time.AfterFunc(wait, s.look)
		} else if !s.armed {
			s.sweep.Reset(wait)
		}
		s.armed = true
		return
	}
	s.swept = now
	s.settleLocked(entries)
}

// resolveAllLocked looks through the whole window.
func (s *session) resolveAllLocked() {
	if !s.over {
		s.settleLocked(s.window.entries())
	}
}

func (c *Confirmation) isConfirmed() bool {
	return c.deferred != nil && isDone(c.deferred.Done())
}

// settleLocked gives verdicts to those of entries that are confirmed. A return is
// dispatched before its confirm, so those that are confirmed are looked up first and the
// returns taken then: none can be missing.
func (s *session) settleLocked(entries []*Confirmation) {
	s.ready = s.ready[:0]
	for i, c := range entries {
		if c != nil && c.isConfirmed() {
			s.ready = append(s.ready, i)
		}
	}
	if len(s.ready) == 0 {
		return
	}
	s.takeReturnsLocked()
	confirmed := false
	for _, i := range s.ready {
		c := entries[i]
		switch {
		case c.deferred.Acked() && c.returned != nil:
			c.tellLocked(Returned, c.returned)
		case c.deferred.Acked():
			c.tellLocked(Confirmed, nil)
		case s.ch.Raw().IsClosed():
			// The driver says false for every confirm that it will never
			// get; it marks the channel closed before.
			continue
		default:
			c.tellLocked(Nacked, ErrNacked)
		}
		entries[i] = nil
		delete(s.byID, c.wireID)
		s.progress, confirmed = true, true
		s.p.settleLocked(c)
	}
	if confirmed {
		s.ch.NoteConfirm()
	}
	s.window.trim()
}

// takeReturnsLocked empties the channel of returns. The driver closes it when
// the session ends; what it holds can still be read.
func (s *session) takeReturnsLocked() {
	for {
		select {
		case r, ok := <-s.returns:
			if !ok {
				return
			}
			if c := s.byID[returnID(r)]; c != nil {
				c.returned = &ReturnedError{Code: int(r.ReplyCode), Text: r.ReplyText, Exchange: r.Exchange, RoutingKey: r.RoutingKey}
			}
		default:
			return
		}
	}
}

func returnID(r amqp.Return) string {
	if id, ok := r.Headers[correlationHeader].(string); ok {
		return "c" + id
	}
	return "m" + r.MessageId
}
