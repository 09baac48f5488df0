package reconnect

import (
	"log/slog"
	"sync"
)

// notifier tells the user of state changes, in order, from one goroutine that
// holds no lock. It never makes the teller wait.
type notifier struct {
	f      func(StateChange)
	logger *slog.Logger
	ended  chan struct{} // closed when the goroutine has returned

	mu      sync.Mutex // guards what follows; not held while f runs
	pending []StateChange
	some    chan struct{} // capacity 1
	closed  bool
}

func newNotifier(f func(StateChange), logger *slog.Logger) *notifier {
	n := &notifier{f: f, logger: logger, some: make(chan struct{}, 1), ended: make(chan struct{})}
	go n.run()
	return n
}

func (n *notifier) tell(c StateChange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending = append(n.pending, c)
	n.signalLocked()
}

// close ends the goroutine after what is pending was told.
func (n *notifier) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.signalLocked()
}

func (n *notifier) signalLocked() {
	select {
	case n.some <- struct{}{}:
	default:
	}
}

func (n *notifier) run() {
	defer close(n.ended)
	for range n.some {
		n.mu.Lock()
		changes, closed := n.pending, n.closed
		n.pending = nil
		n.mu.Unlock()
		for _, c := range changes {
			n.log(c)
			if n.f != nil {
				n.f(c)
			}
		}
		if closed {
			return
		}
	}
}

func (n *notifier) log(c StateChange) {
	attrs := []any{"role", c.Role.String(), "from", c.From.String(), "to", c.To.String()}
	if c.Address != "" {
		attrs = append(attrs, "address", c.Address)
	}
	if c.Wait > 0 {
		attrs = append(attrs, "wait", c.Wait)
	}
	if c.Cause != nil {
		attrs = append(attrs, "cause", c.Cause.Error())
	}
	switch {
	case c.To == Waiting || c.To == Failed:
		n.logger.Warn("connection", attrs...)
	case c.From == Idle && c.To == Closed:
		n.logger.Debug("connection", attrs...) // it never was
	default:
		n.logger.Info("connection", attrs...)
	}
}
