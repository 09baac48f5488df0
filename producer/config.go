package producer

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/mqkit/mqkit/reconnect"
)

const (
	defaultMaxInFlight      = 1000
	defaultMaxInFlightBytes = 64 << 20

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
	if len(faults) > 0 {
		return cfg, fmt.Errorf("invalid producer configuration: %w", errors.Join(faults...))
	}
	if cfg.Logger == nil {
		cfg.Logger = pool.Logger()
	}
	return cfg, nil
}
