package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// conclude says how the run ended and returns the exit code.
func (j *job) conclude(what string, taken intaken) int {
	codes, lines := j.ending(what, taken)
	if err := j.failed.close(); err != nil {
		codes, lines = append(codes, cli.ExitFailure), append(lines, err.Error())
	}
	for _, line := range lines {
		j.talk.Fail("%s", line)
	}
	j.hint()
	j.talk.Note("%s", j.summary())
	return cli.ExitCode(codes...)
}

// ending is which exit codes apply, and the lines that say why.
func (j *job) ending(what string, taken intaken) (codes []int, lines []string) {
	fail := func(code int, line string) {
		codes, lines = append(codes, code), append(lines, line)
	}
	cause := context.Cause(j.work)
	rest := ""
	if !taken.complete && taken.err == nil {
		rest = fmt.Sprintf("; nothing after %s %d was published", what, taken.last)
		if taken.last == 0 {
			rest = "; nothing was published"
		}
	}
	var (
		lost        *cli.LostError
		timeout     *confirmTimeoutError
		interrupted *cli.Interrupted
	)
	switch {
	case cause == nil:
	case taken.complete && j.tally.undecided() == 0:
		// Whatever came, it came too late to change anything.
	case errors.As(cause, &lost), errors.As(cause, &timeout):
		fail(cli.ExitLost, cause.Error()+rest)
	case errors.As(cause, &interrupted):
		if twice := context.Cause(j.hard); twice != nil {
			errors.As(twice, &interrupted)
		}
		fail(interrupted.ExitCode(), interrupted.Error()+rest)
	default:
		fail(max(cli.CodeOf(cause), cli.ExitFailure), cli.FailLine(cause)+rest)
	}
	if taken.err != nil {
		fail(cli.ExitFailure, taken.err.Error())
	}
	if err := j.failed.err; err != nil {
		fail(cli.ExitFailure, fmt.Sprintf("not every message could be kept in %s: %v", j.failed.path, err))
	}
	if j.tally.failed() > j.tally.undecided() {
		codes = append(codes, cli.ExitPartial)
	}
	if j.tally.undecided() > 0 && cause == nil {
		codes = append(codes, cli.ExitLost)
	}
	return codes, lines
}

// hint says what to do about messages that were returned.
func (j *job) hint() {
	if j.tally[producer.Returned] == 0 {
		return
	}
	if j.options.queue != "" {
		j.talk.Note("hint: --declare creates the queue %q", j.options.queue)
		return
	}
	j.talk.Note("hint: bind a queue to exchange %q, or let messages go that nobody wants with --allow-unroutable", j.options.exchange)
}

// summary is the last line.
func (j *job) summary() string {
	s := fmt.Sprintf("%d confirmed, %v", j.tally[producer.Confirmed], &j.tally)
	if n := j.pool.Status(reconnect.Publishing).Sessions - 1; n > 0 {
		s += ", " + cli.Count(uint64(n), "reconnect")
	}
	if n := j.producer.Stats().Republished; n > 0 {
		s += fmt.Sprintf(", %d republished", n)
	}
	if j.failed.kept > 0 {
		s += fmt.Sprintf(", %d kept in %s", j.failed.kept, j.failed.path)
	}
	return s + " in " + cli.Seconds(time.Since(j.begun))
}

// progressInterval is slow enough to be read.
const progressInterval = 500 * time.Millisecond

// showProgress tells a terminal how far it is, until all is resolved, but not
// somebody who types there.
func (j *job) showProgress() {
	if j.typed || !j.talk.ShowsProgress() {
		return
	}
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	var before uint64
	for {
		select {
		case <-j.resolved:
			return
		case <-tick.C:
		}
		s := j.producer.Stats()
		rate := float64(s.Confirmed-before) / progressInterval.Seconds()
		before = s.Confirmed
		j.talk.Progress("%d confirmed, %d in flight, %.0f/s, %s", s.Confirmed, s.InFlight, rate, j.pool.Status(reconnect.Publishing).State)
	}
}
