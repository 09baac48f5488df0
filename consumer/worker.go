package consumer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// lane is what one worker, or all of them together, has to do, in order.
type lane struct {
	mu     sync.Mutex
	some   sync.Cond
	list   []*Delivery
	head   int
	closed bool
}

func newLane() *lane {
	l := &lane{}
	l.some.L = &l.mu
	return l
}

func (l *lane) push(d *Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, d)
	l.some.Signal()
}

// pop waits for the next delivery; nil when the lane is closed.
func (l *lane) pop() *Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.head == len(l.list) && !l.closed {
		l.some.Wait()
	}
	if l.closed {
		return nil
	}
	d := l.list[l.head]
	l.list[l.head] = nil
	l.head++
	if l.head == len(l.list) {
		l.list, l.head = l.list[:0], 0
	} else if l.head >= 1024 && l.head*2 >= len(l.list) {
		n := copy(l.list, l.list[l.head:])
		clear(l.list[n:])
		l.list, l.head = l.list[:n], 0
	}
	return d
}

// forget drops what came on s.
func (l *lane) forget(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(slices.Delete(l.list, 0, l.head), func(d *Delivery) bool { return d.session == s })
	l.head = 0
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.some.Broadcast()
}

// startWorkers starts the workers of a run. They outlive sessions: a handler
// that still runs for a lost one holds its worker, so that never more than
// Config.Workers run.
func (r *run) startWorkers() {
	n := 1
	if r.cfg.OrderBy != nil {
		n = r.cfg.Workers
	}
	for range n {
		r.lanes = append(r.lanes, newLane())
	}
	r.seed = maphash.MakeSeed()
	for i := range r.cfg.Workers {
		l := r.lanes[i%n]
		r.workers.Go(func() { r.work(l, nil) })
	}
}

// dispatch gives d to a worker.
func (r *run) dispatch(d *Delivery) {
	if r.cfg.OrderBy == nil {
		r.lanes[0].push(d)
		return
	}
	key := maphash.String(r.seed, r.key(d))
	r.lanes[key%uint64(len(r.lanes))].push(d)
}

// key asks OrderBy; a panic of it must not end the process, and the message is
// still to be handled.
func (r *run) key(d *Delivery) (key string) {
	defer func() {
		if p := recover(); p != nil {
			r.cfg.Logger.Error("OrderBy panicked", "queue", d.Queue, "message", d.MessageID, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return r.cfg.OrderBy(d)
}

// work is one worker. A handler that ends its goroutine (runtime.Goexit) ends
// only that: another worker takes its place, and what it is to handle again, d.
func (r *run) work(l *lane, d *Delivery) {
	returned := false
	defer func() {
		if !returned {
			r.workers.Go(func() { r.work(l, d) })
		}
	}()
	for {
		if d == nil {
			if d = l.pop(); d == nil {
				returned = true
				return
			}
			if !d.session.begin(d) {
				d = nil
				continue
			}
		}
		r.attempt(&d)
	}
}

var errGoexit = errors.New("the handler ended its goroutine")

// attempt runs the handler once and settles *p by what it returns. It becomes nil unless
// the handler is to be run again for the same delivery, as it is for a stream's.
func (r *run) attempt(p **Delivery) {
	d := *p
	err := errGoexit
	panicked := false
	var stack []byte
	r.active.Add(1)
	defer func() {
		r.active.Add(-1)
		if p := recover(); p != nil {
			panicked, stack = true, debug.Stack()
			err = fmt.Errorf("panic: %v", p) // not wrapped: a decision that is thrown is none
		}
		if again := r.settle(d, err, panicked, stack); !again {
			*p = nil
		}
	}()
	ctx, done := r.limited(d)
	defer done()
	err = r.handler(ctx, d)
}

// limited is the ctx of d's handler. done has to be called when that has returned.
func (r *run) limited(d *Delivery) (ctx context.Context, done func()) {
	if r.cfg.HandlerTimeout < 0 {
		return d.session.handlers, func() {}
	}
	ctx, cancel := context.WithTimeoutCause(d.session.handlers, r.cfg.HandlerTimeout, ErrHandlerTimeout)
	late := func() bool { return errors.Is(context.Cause(ctx), ErrHandlerTimeout) }
	forget := context.AfterFunc(ctx, func() {
		if late() {
			r.overdue.Add(1)
			r.cfg.Logger.Warn("handler takes too long", "queue", d.Queue, "message", d.MessageID, "limit", r.cfg.HandlerTimeout)
		}
	})
	return ctx, func() {
		if !forget() && late() {
			r.overdue.Add(-1)
		}
		cancel()
	}
}

// settle does what the handler's outcome asks for, and reports whether that is to call it
// again.
func (r *run) settle(d *Delivery, err error, panicked bool, stack []byte) (again bool) {
	s := d.session
	if err == nil {
		r.succeeded()
		s.finish(d, ack)
		return false
	}
	if errors.Is(err, Later) {
		r.succeeded()
		s.later(d)
		return false
	}
	s.fail(d, err)
	var chosen *decision
	if errors.As(err, &chosen) {
		if !r.stream {
			r.cfg.Logger.Debug("delivery settled by its handler", "verdict", chosen.verdict.String(), "message", d.MessageID, "reason", err)
			s.finish(d, chosen.verdict)
			return false
		}
		if errors.Is(err, errLeft) {
			s.finish(d, undecided)
			return false
		}
		err = fmt.Errorf("%w: %w", err, ErrStream)
	}
	if s.handlers.Err() != nil {
		// It was told that it works for nothing: no failure of the handler.
		r.cfg.Logger.Debug("handler stopped", "queue", d.Queue, "message", d.MessageID, "error", err, "cause", context.Cause(s.handlers))
		s.finish(d, undecided)
		return false
	}
	wait := r.failed(err)
	attrs := []any{"queue", d.Queue, "message", d.MessageID, "error", err}
	if panicked {
		r.c.stats.panics.Add(1)
		attrs = append(attrs, "stack", string(stack))
		r.cfg.Logger.Error("handler panicked", attrs...)
	} else {
		r.cfg.Logger.Warn("handler failed", attrs...)
	}
	switch {
	case r.stream:
		if s.hold(d, wait) {
			return true
		}
		s.finish(d, undecided)
	case errors.Is(err, ErrUndecodable) && r.deadLetters:
		s.finish(d, reject)
	default:
		s.pause(d, wait)
	}
	return false
}

// pauseAfter is how long what failed is held back after n failures in a row.
func pauseAfter(n int) time.Duration {
	d := pauseFirst
	for ; n > 1 && d < pauseLongest; n-- {
		d *= 2
	}
	return min(d, pauseLongest)
}
