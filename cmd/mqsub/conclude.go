package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/reconnect"
)

// conclude says how the run ended and returns the exit code. err is what
// Consumer.Run returned.
func (j *job) conclude(err error) int {
	code, line := j.ending(err)
	if line != "" {
		j.talk.Fail("%s", line)
	}
	j.talk.Note("%s", j.summary())
	return code
}

// ending is the exit code, and the line that says why the run ended where that is
// not plain.
func (j *job) ending(err error) (code int, line string) {
	cause := context.Cause(j.work)
	var (
		lost         *cli.LostError
		unsubscribed *unsubscribedError
		idle         *idleError
		interrupted  *cli.Interrupted
	)
	output := j.outputBroken()
	bounded := j.options.count > 0
	short := ""
	if taken := j.counts().taken; bounded && taken < j.options.count {
		short = fmt.Sprintf("; %d of %d messages were taken", taken, j.options.count)
	}
	switch {
	case context.Cause(j.hard) != nil:
		errors.As(context.Cause(j.hard), &interrupted)
		return interrupted.ExitCode(), interrupted.Error() + short
	case errors.Is(cause, errCount), j.hasAll():
		return cli.ExitOK, "" // whatever else came, it came too late to change anything
	case cause == nil:
		return max(cli.CodeOf(err), cli.ExitFailure), cli.FailLine(err) + short
	case errors.As(cause, &lost):
		return cli.ExitLost, lost.Error() + short
	case errors.As(cause, &unsubscribed):
		code := cli.ExitTopology
		refused := cli.CodeOf(unsubscribed.cause) == cli.ExitTopology
		switch {
		case !unsubscribed.ever && !refused: // no answer at all
			code = cli.ExitUnreachable
		case unsubscribed.ever && unsubscribed.again && !refused:
			code = cli.ExitLost
		case unsubscribed.ever && bounded:
			code = cli.ExitShort
		}
		return code, unsubscribed.Error() + short
	case output != nil && !output.isReaders():
		return cli.ExitFailure, output.Error() + short
	case errors.As(cause, &idle):
		if bounded {
			return cli.ExitShort, idle.Error() + short
		}
		return cli.ExitOK, ""
	case errors.As(cause, &interrupted):
		if bounded {
			return interrupted.ExitCode(), interrupted.Error() + short
		}
		return j.drained(err)
	case errors.Is(cause, errReaderGone):
		if bounded {
			return cli.ExitFailure, errReaderGone.Error() + short
		}
		return cli.ExitOK, ""
	default:
		return max(cli.CodeOf(cause), cli.ExitFailure), cli.FailLine(cause) + short
	}
}

// drained tells whether an interrupted run without a bound ended in order.
func (j *job) drained(err error) (code int, line string) {
	var left *consumer.DrainError
	switch {
	case errors.As(err, &left):
		return cli.ExitFailure, fmt.Sprintf("interrupted, and the reader did not take the last message within %s (--shutdown-timeout): it went back to the queue", cli.Limit(j.options.shutdownTimeout))
	case err != nil:
		return cli.ExitFailure, cli.FailLine(err)
	default:
		return cli.ExitOK, ""
	}
}

// summary is the last line.
func (j *job) summary() string {
	t := j.counts()
	if acked := j.consumer.Status().Acked; acked < t.taken { // the last ones did not leave
		t.unacked += t.taken - acked
		t.taken = acked
	}
	s := fmt.Sprintf("%d consumed", t.taken)
	if t.redelivered > 0 {
		s += fmt.Sprintf(", %d of them redelivered", t.redelivered)
	}
	if t.unacked > 0 {
		s += fmt.Sprintf(", %d written but not acked: they come again", t.unacked)
	}
	if n := j.consumer.Status().Released; n > 0 {
		s += fmt.Sprintf(", %d given back", n)
	}
	if n := j.pool.Status(reconnect.Consuming).Sessions - 1; n > 0 {
		s += ", " + cli.Count(uint64(n), "reconnect")
	}
	return s + " in " + cli.Seconds(time.Since(j.begun))
}

// progressInterval is slow enough to be read.
const progressInterval = 500 * time.Millisecond

// showProgress tells a terminal how far it is, if the messages go elsewhere.
func (j *job) showProgress(ended <-chan struct{}) {
	if !j.talk.ShowsProgress() || j.sink.onTerminal() {
		return
	}
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	var before uint64
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		n := j.counts().taken
		rate := float64(n-before) / progressInterval.Seconds()
		before = n
		j.talk.Progress("%d consumed, %.0f/s, %s", n, rate, j.pool.Status(reconnect.Consuming).State)
	}
}
