package consumer

import (
	"fmt"

	"github.com/mqkit/mqkit/reconnect"
)

// mostCareful bounds how many deliveries are asked for one at a time.
const mostCareful = 1000

// errRestored ends a session that was careful for long enough.
var errRestored = fmt.Errorf("%w: nothing has ended the connection for a while, the prefetch is as it was", reconnect.Again)

// beCareful is told what ended a session. If the connection ended for something that was
// said on it, that may be a message that the driver cannot read, and it will come
// again: with each end the broker counts a failed delivery for all that was given out,
// and a quorum queue's delivery limit would throw away good messages with the bad one. So
// one delivery is asked for at a time, until as many are settled as could have been
// given out together, or a handler asks to settle its delivery Later: it may want more of
// them before.
//
// A stream counts nothing. Neither does an auto-delete queue, and that would be deleted with
// all that is in it when the careful subscription ends.
func (r *run) beCareful(cause error) {
	if !reconnect.Inflicted(cause) || r.stream || r.cfg.Declare != nil && r.cfg.Declare.AutoDelete {
		return
	}
	n := int64(mostCareful)
	if p := r.cfg.Prefetch; p > 0 {
		n = min(int64(p), n)
	}
	r.careful.Store(n)
}

func (r *run) isCareful() bool { return r.careful.Load() > 0 }

// wentWell notes that deliveries of a careful session were settled. When that is enough, the
// session is restored.
func (s *session) wentWell(n int) {
	if s.run.careful.Add(-int64(n)) <= 0 {
		s.restore()
	}
}

// restore ends a careful session, for one with the prefetch as it was.
func (s *session) restore() {
	s.once.Do(func() {
		s.run.careful.Store(0)
		close(s.restored)
	})
}
