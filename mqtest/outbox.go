package mqtest

import "sync"

// outbox is what waits to be written to a client, in order: frames that the
// broker has sent, and things to be done between them. Putting something in never
// blocks. One goroutine takes it out.
type outbox struct {
	ready chan struct{} // something was put in

	mu       sync.Mutex // guards what follows
	ops      []op
	spare    []op
	free     [][]byte
	size     int           // bytes in ops
	put      uint64        // ops put in so far
	done     uint64        // ops carried out so far
	drained  chan struct{} // not nil: someone waits for size to shrink
	caughtUp chan struct{} // not nil: someone waits for done to reach target
	target   uint64
}

// op is one entry: frames of the broker, or something to be done.
type op struct {
	frames []byte
	do     func()
}

func newOutbox() *outbox { return &outbox{ready: make(chan struct{}, 1)} }

// frames puts in a copy of whole frames of the broker, and tells how many bytes
// wait.
func (o *outbox) frames(b []byte) (size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if last := len(o.ops) - 1; last >= 0 && o.ops[last].do == nil {
		o.ops[last].frames = append(o.ops[last].frames, b...)
	} else {
		var buf []byte
		if n := len(o.free); n > 0 {
			buf, o.free = o.free[n-1], o.free[:n-1]
		}
		o.addLocked(op{frames: append(buf, b...)})
	}
	o.size += len(b)
	return o.size
}

// do puts in something to be done after everything before it was written.
func (o *outbox) do(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addLocked(op{do: f})
}

func (o *outbox) addLocked(x op) {
	o.ops = append(o.ops, x)
	o.put++
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take returns all that waits. It is good until the next call.
func (o *outbox) take() []op {
	o.mu.Lock()
	defer o.mu.Unlock()
	ops := o.ops
	o.ops, o.spare = o.spare[:0], ops
	o.size = 0
	if o.drained != nil {
		close(o.drained)
		o.drained = nil
	}
	return ops
}

// largestSpare bounds what an idle connection holds on to.
const largestSpare = 256 << 10

// handled gives back what take returned.
func (o *outbox) handled(ops []op) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done += uint64(len(ops))
	for i := range ops {
		if b := ops[i].frames; cap(b) > 0 && cap(b) <= largestSpare && len(o.free) < 4 {
			o.free = append(o.free, b[:0])
		}
		ops[i] = op{}
	}
	if o.caughtUp != nil && o.done >= o.target {
		close(o.caughtUp)
		o.caughtUp = nil
	}
}

// full returns what is closed once less waits, nil if less than limit does.
func (o *outbox) full(limit int) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.size < limit {
		return nil
	}
	if o.drained == nil {
		o.drained = make(chan struct{})
	}
	return o.drained
}

// behind returns what is closed once all that is in now has been carried out,
// nil if it is empty. There is room for one who waits.
func (o *outbox) behind() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done == o.put {
		return nil
	}
	if o.caughtUp == nil {
		o.caughtUp = make(chan struct{})
	}
	o.target = o.put
	return o.caughtUp
}
