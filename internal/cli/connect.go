package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mqkit/mqkit/reconnect"
)

// UnreachableError says that there was no connection within --connect-timeout.
type UnreachableError struct {
	Timeout time.Duration
	Default bool // no broker was named
	Cause   error
}

func (e *UnreachableError) Error() string {
	hint := ""
	if e.Default {
		hint = "; start a broker (mqbroker is one for first steps), or name one with -u or AMQP_URL"
	}
	var dial *reconnect.DialError
	if !errors.As(e.Cause, &dial) {
		return fmt.Sprintf("cannot connect: no answer within %s%s", Limit(e.Timeout), hint)
	}
	return fmt.Sprintf("cannot connect within %s: %s%s", Limit(e.Timeout), explainDial(dial), hint)
}

// Unwrap returns what kept it.
func (e *UnreachableError) Unwrap() error { return e.Cause }

// Connect opens a pool, trying for timeout. Its errors are for Explain and
// CodeOf.
func Connect(ctx context.Context, cfg reconnect.Config, timeout time.Duration) (*reconnect.Pool, error) {
	tctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pool, err := reconnect.Open(tctx, cfg)
	switch {
	case err == nil:
		return pool, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w before there was a connection", context.Cause(ctx))
	case tctx.Err() != nil && !reconnect.IsFatal(err):
		return nil, &UnreachableError{Timeout: timeout, Default: slices.Equal(cfg.URLs, []string{defaultURL}), Cause: err}
	default:
		return nil, err
	}
}

// FailLine is the line that ends a run which never came to work.
func FailLine(err error) string {
	var (
		unreachable *UnreachableError
		usage       *UsageError
		dial        *reconnect.DialError
	)
	switch {
	case errors.As(err, &unreachable):
		return unreachable.Error()
	case errors.As(err, &usage):
		return oneLine(usage.Error())
	case errors.As(err, &dial) && CodeOf(err) == ExitUnreachable:
		return "cannot connect: " + Explain(err)
	default:
		return Explain(err)
	}
}
