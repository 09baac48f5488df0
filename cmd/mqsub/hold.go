package main

import (
	"sync"
	"time"

	"github.com/mqkit/mqkit/consumer"
)

const (
	// holdQuiet is how long nothing has to come until what is held is acked after
	// all: the queue has no more, so an ack brings none, as a rule.
	holdQuiet = 2 * time.Second

	// holdLongest bounds it for readers that take long: the broker wants its acks,
	// after 30 minutes by default.
	holdLongest = 30 * time.Second
)

// holder keeps acks back near the end of -n: each would bring another message,
// which would only be given back, out of its order.
type holder struct {
	ack  func(*consumer.Delivery)
	busy func() bool // a message is being written, or waits to be

	mu    sync.Mutex // guards what follows
	held  []*consumer.Delivery
	since time.Time // when the first of held was
	timer *time.Timer
}

// hold keeps the ack of d back.
func (h *holder) hold(d *consumer.Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.held) == 0 {
		h.since = time.Now()
	}
	h.held = append(h.held, d)
	if h.timer == nil {
		h.timer = time.AfterFunc(holdQuiet, h.look)
	} else {
		h.timer.Reset(holdQuiet)
	}
}

// look is called by the timer.
func (h *holder) look() {
	h.mu.Lock()
	wait := h.busy() && time.Since(h.since) < holdLongest
	if wait {
		h.timer.Reset(holdQuiet)
	}
	h.mu.Unlock()
	if !wait {
		h.release()
	}
}

// release acks what is held.
func (h *holder) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
	}
	for _, d := range h.held {
		h.ack(d)
	}
	h.held = h.held[:0]
}

// session lets go of what is held of another session than that of tag: it was
// lost, and comes again.
func (h *holder) session(tag string) {
	h.mu.Lock()
	lost := len(h.held) > 0 && h.held[0].ConsumerTag != tag
	h.mu.Unlock()
	if lost {
		h.release()
	}
}
