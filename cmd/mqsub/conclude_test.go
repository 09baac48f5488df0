package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/reconnect"
)

func TestHowARunEndsDecidesItsCode(t *testing.T) {
	t.Parallel()
	var (
		sigterm = &cli.Interrupted{Signal: syscall.SIGTERM, Twice: true}
		lost    = &cli.LostError{Retry: cli.Retry{For: 30e9}, Cause: errors.New("gone")}
		noQueue = &reconnect.BrokerError{Code: 404, Text: "NOT_FOUND - no queue 'q' in vhost '/'"}
		missing = "there is no queue 'q' in vhost '/': declare it with --declare, or check the name (404)"
		full    = &outputError{errors.New("write /dev/stdout: no space left on device")}
		undone  = &consumer.DrainError{Released: 1}
		short   = "; 2 of 5 messages were taken"
	)
	for _, c := range []struct {
		name          string
		cause         error
		hard          error
		broken        *outputError
		returned      error
		taken         uint64
		unbounded     int
		unboundedLine string
		bounded       int
		boundedLine   string
		boundedOnly   bool
	}{
		{name: "count", cause: errCount, taken: 5, boundedOnly: true, bounded: 0},
		{name: "count, and then idle", cause: &idleError{5e9}, taken: 5, boundedOnly: true, bounded: 0},
		{name: "count, and then interrupted", cause: sigint, taken: 5, boundedOnly: true, bounded: 0},
		{name: "count, and then lost", cause: lost, taken: 5, boundedOnly: true, bounded: 0},
		{name: "count, and then interrupted twice", cause: sigint, hard: sigterm, taken: 5, boundedOnly: true, bounded: 143, boundedLine: "interrupted twice (SIGTERM)"},
		{name: "idle", cause: &idleError{60e9}, taken: 2, unbounded: 0, bounded: 8, boundedLine: "nothing came for 1m (--idle-timeout)" + short},
		{name: "interrupted", cause: sigint, taken: 2, unbounded: 0, bounded: 130, boundedLine: "interrupted (SIGINT)" + short},
		{
			name: "interrupted, reader stuck", cause: sigint, returned: undone, taken: 2,
			unbounded: 1, unboundedLine: "interrupted, and the reader did not take the last message within 0s (--shutdown-timeout): it went back to the queue",
			bounded: 130, boundedLine: "interrupted (SIGINT)" + short,
		},
		{name: "twice", cause: sigint, hard: sigterm, taken: 2, unbounded: 143, unboundedLine: "interrupted twice (SIGTERM)", bounded: 143, boundedLine: "interrupted twice (SIGTERM)" + short},
		{name: "reader gone", cause: errReaderGone, taken: 2, unbounded: 0, bounded: 1, boundedLine: "the reader of the output has gone" + short},
		{name: "reader gone, seen by a write", cause: &outputError{errReaderGone}, taken: 2, unbounded: 0, bounded: 1, boundedLine: "the reader of the output has gone" + short},
		{name: "reader gone while it drains", cause: sigint, broken: &outputError{errReaderGone}, taken: 2, unbounded: 0, bounded: 130, boundedLine: "interrupted (SIGINT)" + short},
		{
			name: "full disk while it drains", cause: sigint, broken: full, taken: 2,
			unbounded: 1, unboundedLine: "cannot write the output: write /dev/stdout: no space left on device",
			bounded: 1, boundedLine: "cannot write the output: write /dev/stdout: no space left on device" + short,
		},
		{
			name: "full disk", cause: full, broken: full, taken: 2,
			unbounded: 1, unboundedLine: "cannot write the output: write /dev/stdout: no space left on device",
			bounded: 1, boundedLine: "cannot write the output: write /dev/stdout: no space left on device" + short,
		},
		{
			name: "lost", cause: lost, taken: 2,
			unbounded: 5, unboundedLine: "the connection was lost for longer than 30s (--retry): gone",
			bounded: 5, boundedLine: "the connection was lost for longer than 30s (--retry): gone" + short,
		},
		{
			name: "no queue", returned: fmt.Errorf("consume: %w", noQueue), taken: 2,
			unbounded: 7, unboundedLine: missing, bounded: 7, boundedLine: missing + short,
		},
		{
			name: "queue deleted", cause: &unsubscribedError{limit: 1e9, cause: noQueue, ever: true}, taken: 2,
			unbounded: 7, unboundedLine: "the subscription was lost for longer than 1s (--retry): " + missing,
			bounded: 8, boundedLine: "the subscription was lost for longer than 1s (--retry): " + missing + short,
		},
		{
			name: "never subscribed", cause: &unsubscribedError{limit: 1e9, cause: noQueue}, taken: 2,
			unbounded: 7, unboundedLine: "no subscription within 1s (--connect-timeout): " + missing,
			bounded: 7, boundedLine: "no subscription within 1s (--connect-timeout): " + missing + short,
		},
		{
			name: "never subscribed, and the connection refused again", cause: &unsubscribedError{limit: 1e9, cause: &reconnect.DialError{Attempts: []reconnect.Attempt{{Address: "h:1", Err: errors.New("refused")}}}}, taken: 2,
			unbounded: 4, unboundedLine: "no subscription within 1s (--connect-timeout): h:1: refused",
			bounded: 4, boundedLine: "no subscription within 1s (--connect-timeout): h:1: refused" + short,
		},
		{
			name: "each subscription costs the connection", cause: &unsubscribedError{limit: 1e9, cause: errors.New("gone"), ever: true, again: true}, taken: 2,
			unbounded: 5, unboundedLine: "the subscription was lost for longer than 1s (--retry): gone",
			bounded: 5, boundedLine: "the subscription was lost for longer than 1s (--retry): gone" + short,
		},
		{
			name: "queue gone after a restart", cause: &unsubscribedError{limit: 1e9, cause: noQueue, ever: true, again: true}, taken: 2,
			unbounded: 7, unboundedLine: "the subscription was lost for longer than 1s (--retry): " + missing,
			bounded: 8, boundedLine: "the subscription was lost for longer than 1s (--retry): " + missing + short,
		},
		{name: "anything", returned: errors.New("boom"), taken: 2, unbounded: 1, unboundedLine: "boom", bounded: 1, boundedLine: "boom" + short},
	} {
		for _, count := range []uint64{0, 5} {
			if c.boundedOnly && count == 0 {
				continue
			}
			j := &job{options: &options{count: count}, tally: tally{taken: c.taken}, broken: c.broken}
			work, stop := context.WithCancelCause(t.Context())
			hard, stopHard := context.WithCancelCause(t.Context())
			if c.cause != nil {
				stop(c.cause)
			}
			if c.hard != nil {
				stopHard(c.hard)
			}
			j.work, j.hard = work, hard
			code, line := j.ending(c.returned)
			wantCode, wantLine := c.unbounded, c.unboundedLine
			if count > 0 {
				wantCode, wantLine = c.bounded, c.boundedLine
			}
			if code != wantCode || line != wantLine {
				t.Errorf("%s with -n %d: %d, want %d\n got %q\nwant %q", c.name, count, code, wantCode, line, wantLine)
			}
			stop(nil)
			stopHard(nil)
		}
	}
}
