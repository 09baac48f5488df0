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
// given out together.
func (r *run) beCareful(cause error) {
	if !reconnect.Inflicted(cause) || r.stream {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.careful = mostCareful
	if p := r.cfg.Prefetch; p > 0 {
		r.careful = min(p, mostCareful)
	}
}

func (r *run) isCareful() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.careful > 0
}

// wentWell notes that deliveries were settled, and reports whether that is enough.
func (r *run) wentWell(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.careful -= n
	return r.careful <= 0
}
