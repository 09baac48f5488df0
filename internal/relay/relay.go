// Package relay tells a callback of things in the order in which they happened, from
// one goroutine that holds no lock, without ever making those wait to whom they happen.
package relay

import "sync"

// Relay hands what it is told to one function, in order. What the function has not taken
// yet waits in memory, without a bound.
type Relay[T any] struct {
	f     func(T)
	ended chan struct{} // closed when the goroutine has returned

	mu      sync.Mutex // guards what follows; not held while f runs
	pending []T
	some    chan struct{} // capacity 1
	closed  bool
}

// New starts a relay to f. It has to be closed.
func New[T any](f func(T)) *Relay[T] {
	r := &Relay[T]{f: f, some: make(chan struct{}, 1), ended: make(chan struct{})}
	go r.run()
	return r
}

// Tell passes v on. It never waits, and may be called with locks held. After Close it
// does nothing.
func (r *Relay[T]) Tell(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.pending = append(r.pending, v)
	r.signalLocked()
}

// Close ends the relay after what is pending was told. It does not wait: see Ended.
func (r *Relay[T]) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.signalLocked()
}

// Ended is closed when everything was told that came before Close.
func (r *Relay[T]) Ended() <-chan struct{} { return r.ended }

func (r *Relay[T]) signalLocked() {
	select {
	case r.some <- struct{}{}:
	default:
	}
}

func (r *Relay[T]) run() {
	defer close(r.ended)
	for range r.some {
		r.mu.Lock()
		pending, closed := r.pending, r.closed
		r.pending = nil
		r.mu.Unlock()
		for _, v := range pending {
			r.f(v)
		}
		if closed {
			return
		}
	}
}
