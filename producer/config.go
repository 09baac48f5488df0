package producer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mqkit/mqkit/reconnect"
)

const (
	defaultMaxInFlight      = 1000
	defaultMaxInFlightBytes = 64 << 20
	defaultConfirmTimeout   = 30 * time.Second

	// mostInFlight bounds what a session keeps ready for returns: about 250 bytes
	// for each message that can be in flight.
	mostInFlight = 100_000
)

// Config bounds a producer. Its zero value works.
type Config struct {
	// MaxInFlight is how many messages may be admitted and not have the
	// broker's verdict yet; further publishes wait. At most 100,000. Defaults to
	// 1000.
	MaxInFlight int

	// MaxInFlightBytes bounds the same in bytes of body and headers. A larger
	// message is let through alone. Defaults to 64 MiB.
	MaxInFlightBytes int

	// ConfirmTimeout is how long a message that was sent may wait for its verdict
	// on a connection that is neither lost nor blocked. Then its channel is given up,
	// and what has no verdict is sent again on another: a broker that lost sight of
	// a message would never confirm it (see docs/guarantees.md). If nothing at all was
	// confirmed on the connection in that time, and reconnect.Config.URLs has several
	// addresses, the connection is given up for one to another: its node may be cut off
	// from the others. A message that waits
	// in vain waits twice as long the next time, up to an hour. A broker that was only
	// slow has duplicates then. At least 10 ms. Defaults to 30 s; negative means to
	// wait for ever.
	ConfirmTimeout time.Duration

	// MaxMessageSize is how many bytes a body may have; a larger one is refused before
	// anything of it is sent. Defaults to 0: whatever the broker takes (16 MiB as
	// RabbitMQ 4 is installed). What it does not take it says once, for a message that
	// is then refused after some detours; what is larger still is refused here
	// until the next connection.
	MaxMessageSize int

	// FailFast has messages fail at once, with ErrNotSent, that would have to wait for a
	// connection that is lost or blocked; those that wait for their turn then fail as
	// well. What has been sent already is not given up: see NoRepublish. Defaults to
	// false: they wait as long as their ctx allows.
	FailFast bool

	// NoRepublish has a message whose verdict was lost with its session end as
	// ErrUnconfirmed, if anything of it may have left. Defaults to false: it is sent
	// again on the next session, and may then be there twice.
	NoRepublish bool

	// OnAttempt is called with every hand-over of a message to the connection, and
	// OnVerdict with every verdict, in the order in which they happen, from one goroutine
	// of the producer that holds no lock. While one blocks, those after it wait in
	// memory, and Close waits; nothing else does. They must not call Close, and a panic in
	// them ends the process.
	OnAttempt func(Attempt)
	OnVerdict func(Outcome)

	// Logger gets sessions that ended at Warn. Defaults to the pool's.
	Logger *slog.Logger
}

func (cfg Config) withDefaults(pool *reconnect.Pool) (Config, error) {
	var faults []error
	for _, n := range []struct {
		name string
		v    *int
		or   int
	}{
		{"MaxInFlight", &cfg.MaxInFlight, defaultMaxInFlight},
		{"MaxInFlightBytes", &cfg.MaxInFlightBytes, defaultMaxInFlightBytes},
		{"MaxMessageSize", &cfg.MaxMessageSize, 0},
	} {
		switch {
		case *n.v < 0:
			faults = append(faults, fmt.Errorf("%s is %d: must not be negative", n.name, *n.v))
		case *n.v == 0:
			*n.v = n.or
		}
	}
	if cfg.MaxInFlight > mostInFlight {
		faults = append(faults, fmt.Errorf("MaxInFlight is %d: at most %d, a returned message must find room at once for each", cfg.MaxInFlight, mostInFlight))
	}
	if cfg.ConfirmTimeout == 0 {
		cfg.ConfirmTimeout = defaultConfirmTimeout
	}
	if cfg.ConfirmTimeout > 0 && cfg.ConfirmTimeout < leastConfirmTimeout {
		faults = append(faults, fmt.Errorf("ConfirmTimeout is %v: at least %v, or every message is sent again and again", cfg.ConfirmTimeout, leastConfirmTimeout))
	}
	if len(faults) > 0 {
		return cfg, fmt.Errorf("invalid producer configuration: %w", errors.Join(faults...))
	}
	if cfg.Logger == nil {
		cfg.Logger = pool.Logger()
	}
	return cfg, nil
}
