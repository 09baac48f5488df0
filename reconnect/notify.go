package reconnect

import (
	"log/slog"

	"github.com/mqkit/mqkit/internal/relay"
)

// notifier tells the user of attempts and state changes, in order, from one goroutine
// that holds no lock. It never makes the teller wait.
type notifier struct {
	relay     *relay.Relay[any] // of StateChange and Attempt
	onChange  func(StateChange)
	onAttempt func(Attempt)
	logger    *slog.Logger
}

func newNotifier(cfg *Config) *notifier {
	n := &notifier{onChange: cfg.OnStateChange, onAttempt: cfg.OnAttempt, logger: cfg.Logger}
	n.relay = relay.New(n.take)
	return n
}

func (n *notifier) take(what any) {
	switch what := what.(type) {
	case StateChange:
		n.log(what)
		if n.onChange != nil {
			n.onChange(what)
		}
	case Attempt:
		if n.onAttempt != nil {
			n.onAttempt(what)
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
