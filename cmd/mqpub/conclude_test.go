package main

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/producer"
)

func TestHowARunEndsDecidesItsCode(t *testing.T) {
	t.Parallel()
	var (
		whole   = intaken{last: 9, complete: true}
		cut     = intaken{last: 7}
		none    = intaken{}
		broken  = intaken{last: 7, err: errors.New("cannot read line 8 of stdin: boom")}
		sigint  = &cli.Interrupted{Signal: syscall.SIGINT}
		sigterm = &cli.Interrupted{Signal: syscall.SIGTERM, Twice: true}
		lost    = &cli.LostError{Retry: cli.Retry{For: 30e9}, Cause: errors.New("gone")}
		slow    = &confirmTimeoutError{limit: 30e9}
		full    = errors.New("no space left on device")
		gone    = "the connection was lost for longer than 30s (--retry): gone"
	)
	for _, c := range []struct {
		name     string
		cause    error
		hard     error
		taken    intaken
		verdicts []producer.Verdict
		kept     error
		code     int
		lines    []string
	}{
		{"all confirmed", nil, nil, whole, nil, nil, 0, nil},
		{"one returned", nil, nil, whole, []producer.Verdict{producer.Returned}, nil, 3, nil},
		{"one nacked", nil, nil, whole, []producer.Verdict{producer.Nacked}, nil, 3, nil},
		{"one refused", nil, nil, whole, []producer.Verdict{producer.Refused}, nil, 3, nil},
		{"one unknown for no reason", nil, nil, whole, []producer.Verdict{producer.Unknown}, nil, 5, nil},
		{"lost", lost, nil, cut, []producer.Verdict{producer.Unknown, producer.Returned}, nil, 5, []string{gone + "; nothing after line 7 was published"}},
		{"lost behind the end", lost, nil, whole, []producer.Verdict{producer.NotSent}, nil, 5, []string{gone}},
		{"lost when all was done", lost, nil, whole, nil, nil, 0, nil},
		{"lost when all but a returned one was done", lost, nil, whole, []producer.Verdict{producer.Returned}, nil, 3, nil},
		{"slow", slow, nil, whole, []producer.Verdict{producer.Unknown}, nil, 5, []string{"no confirmation for 30s (--confirm-timeout)"}},
		{"interrupted", sigint, nil, cut, nil, nil, 130, []string{"interrupted (SIGINT); nothing after line 7 was published"}},
		{"interrupted before anything", sigint, nil, none, nil, nil, 130, []string{"interrupted (SIGINT); nothing was published"}},
		{"interrupted, and one returned", sigint, nil, cut, []producer.Verdict{producer.Returned}, nil, 130, []string{"interrupted (SIGINT); nothing after line 7 was published"}},
		{"interrupted too late", sigint, nil, whole, nil, nil, 0, nil},
		{"interrupted while the last are unknown", sigint, nil, whole, []producer.Verdict{producer.Unknown}, nil, 130, []string{"interrupted (SIGINT)"}},
		{"interrupted twice", sigint, sigterm, cut, []producer.Verdict{producer.Unknown}, nil, 143, []string{"interrupted twice (SIGTERM); nothing after line 7 was published"}},
		{"stdin broke", nil, nil, broken, nil, nil, 1, []string{"cannot read line 8 of stdin: boom"}},
		{"stdin broke, and one returned", nil, nil, broken, []producer.Verdict{producer.Returned}, nil, 1, []string{"cannot read line 8 of stdin: boom"}},
		{"not kept", nil, nil, whole, []producer.Verdict{producer.Returned}, full, 1, []string{"not every message could be kept in F: no space left on device"}},
		{"not kept, and lost", lost, nil, whole, []producer.Verdict{producer.Unknown}, full, 5, []string{gone, "not every message could be kept in F: no space left on device"}},
		{"not kept, and interrupted", sigint, nil, cut, []producer.Verdict{producer.NotSent}, full, 1, []string{"interrupted (SIGINT); nothing after line 7 was published", "not every message could be kept in F: no space left on device"}},
		{"the producer ended", failure(producer.NotSent, producer.ErrClosed), nil, cut, []producer.Verdict{producer.NotSent}, nil, 1, []string{"message id: the producer is closed; nothing after line 7 was published"}},
	} {
		j := &job{failed: &failedFile{path: "F", err: c.kept}}
		work, stop := context.WithCancelCause(t.Context())
		hard, stopHard := context.WithCancelCause(t.Context())
		if c.cause != nil {
			stop(c.cause)
		}
		if c.hard != nil {
			stopHard(c.hard)
		}
		j.work, j.hard = work, hard
		for _, v := range c.verdicts {
			j.tally.add(failure(v, nil))
		}
		codes, lines := j.ending("line", c.taken)
		if got := cli.ExitCode(codes...); got != c.code || !slices.Equal(lines, c.lines) {
			t.Errorf("%s: %d of %v, want %d\n got %q\nwant %q", c.name, got, codes, c.code, lines, c.lines)
		}
		stop(nil)
		stopHard(nil)
	}
}
