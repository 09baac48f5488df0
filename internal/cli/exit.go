package cli

import (
	"fmt"
	"slices"
)

// The exit codes. Scripts depend on them: they are listed in each tool's help.
const (
	ExitOK          = 0
	ExitFailure     = 1 // a runtime error not below
	ExitUsage       = 2 // flags, an unreadable file, a bad URL
	ExitPartial     = 3 // some messages were returned, nacked or refused
	ExitUnreachable = 4 // never connected
	ExitLost        = 5 // connected, and lost for too long; some outcomes are unknown
	ExitTopology    = 7 // a queue or exchange is missing or differs, or no permission
	ExitShort       = 8 // ended before the count that was asked for

	ExitInterrupted = 128 // plus the signal's number
)

// precedence says which code is told when several apply, the first one first.
// An interruption, which has no fixed number, comes before what it may have
// caused and after what went wrong by itself.
var precedence = []int{
	ExitUsage, ExitUnreachable, ExitTopology, ExitLost, ExitFailure, interruption, ExitShort, ExitPartial,
}

const interruption = -1

// ExitCode returns the one of codes that takes precedence, ExitOK if there are
// none.
func ExitCode(codes ...int) int {
	worst, at := ExitOK, len(precedence)
	for _, code := range codes {
		if i := rank(code); i < at {
			worst, at = code, i
		}
	}
	return worst
}

// rank is the place of a code in precedence; ExitOK and what is not known come
// last.
func rank(code int) int {
	if code > ExitInterrupted {
		code = interruption
	}
	if i := slices.Index(precedence, code); i >= 0 {
		return i
	}
	return len(precedence)
}

// UsageError is a wrong flag, an impossible combination, or a file that cannot
// be used.
type UsageError struct {
	Err error
}

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef returns a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{Err: fmt.Errorf(format, args...)} }
