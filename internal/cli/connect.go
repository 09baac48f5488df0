package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mqkit/mqkit/reconnect"
)

// UnreachableError says that there was no connection within --connect-timeout.
type UnreachableError struct {
	Timeout time.Duration
	URLs    int
	Cause   error
}

func (e *UnreachableError) Error() string {
	var dial *reconnect.DialError
	if !errors.As(e.Cause, &dial) {
		return fmt.Sprintf("cannot connect: no answer within %s", Limit(e.Timeout))
	}
	return fmt.Sprintf("cannot connect within %s: %s", Limit(e.Timeout), explainDial(dial))
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
		return nil, &UnreachableError{Timeout: timeout, Cause: err}
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
