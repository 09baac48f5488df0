package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/reconnect"
)

// records is a sink that counts what is put and says err.
type records struct {
	file
	puts int
	err  error
}

func (r *records) put(_, _ context.Context, _ []byte) error {
	r.puts++
	return r.err
}

// newJob is a job without a consumer, as handle and the watch see it.
func newJob(t *testing.T, o options) (*job, *records) {
	t.Helper()
	s := &records{}
	j := &job{options: &o, talk: cli.NewTalk(io.Discard, "mqsub", false, false), sink: s, hard: t.Context(), write: t.Context(), prefetch: 4, endConsuming: func() {}}
	j.work, j.stop = context.WithCancelCause(t.Context())
	j.holder.ack, j.holder.busy = j.ack, func() bool { return true }
	t.Cleanup(func() { j.stop(nil) })
	return j, s
}

var sigint = &cli.Interrupted{Signal: syscall.SIGINT}

func TestWhatComesAfterTheEndIsWrittenOnlyIfItMayBe(t *testing.T) {
	t.Parallel()
	full := syscall.ENOSPC
	for _, c := range []struct {
		name   string
		ended  error // the cause
		taken  uint64
		broken error
		puts   int
	}{
		{"going on", nil, 2, nil, 1},
		{"interrupted", sigint, 2, nil, 1}, // before 4.3 that is better than giving it back
		{"idle", &idleError{1e9}, 2, nil, 1},
		{"count", errCount, 3, nil, 0},
		{"interrupted, and then the count", sigint, 3, nil, 0},
		{"reader gone", errReaderGone, 2, nil, 0},
		{"full disk", &outputError{full}, 2, full, 0},
		{"interrupted, and then a full disk", sigint, 2, full, 0},
	} {
		j, s := newJob(t, options{count: 3})
		j.tally.taken = c.taken
		if c.ended != nil {
			j.stop(c.ended)
		}
		if c.broken != nil {
			j.breakOutput(c.broken)
		}
		err := j.handle(t.Context(), &consumer.Delivery{})
		if released := isRelease(err); s.puts != c.puts || released != (c.puts == 0) {
			t.Errorf("%s: %d written, handle says %v", c.name, s.puts, err)
		}
	}
}

func isRelease(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "release") }

func TestWhatCannotBeWrittenIsReleasedAndEndsTheRunUnlessItsSessionIsOver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		err     error
		ended   error
		broken  bool
		unacked uint64
	}{
		{"full disk", syscall.ENOSPC, nil, true, 0},
		{"reader gone", errReaderGone, nil, true, 0},
		{"its session is over", errNotTaken, nil, false, 1},
		{"its session is over while it drains", errNotTaken, sigint, true, 0},
	} {
		j, s := newJob(t, options{})
		s.err = c.err
		if c.ended != nil {
			j.stop(c.ended)
		}
		err := j.handle(t.Context(), &consumer.Delivery{})
		if !isRelease(err) || (j.outputBroken() != nil) != c.broken || (j.work.Err() != nil) != c.broken || j.counts() != (tally{unacked: c.unacked}) {
			t.Errorf("%s: handle says %v, broken %v, ended by %v, %+v", c.name, err, j.outputBroken(), context.Cause(j.work), j.counts())
		}
	}
}

func TestThePrefetchIsNeverMoreThanTheCount(t *testing.T) {
	t.Parallel()
	for count, want := range map[uint64]int{0: filePrefetch, 1: 1, filePrefetch - 1: filePrefetch - 1, filePrefetch: filePrefetch, 1 << 62: filePrefetch} {
		o := &options{count: count, queue: "q"}
		cfg := o.consumerConfig(cli.NewTalk(io.Discard, "mqsub", false, false), newFile(io.Discard))
		if cfg.Prefetch != want || cfg.Workers != 1 {
			t.Errorf("-n %d: prefetch %d, want %d; %d workers", count, cfg.Prefetch, want, cfg.Workers)
		}
	}
}

func TestIdleIsOnlyWhoIsSubscribedAndHasNothingToDo(t *testing.T) {
	t.Parallel()
	now := time.Now()
	long, short := now.Add(-2*time.Second), now.Add(-time.Second/2)
	for _, c := range []struct {
		name   string
		limit  time.Duration
		active time.Time
		status consumer.Status
		writes bool
		want   bool
	}{
		{"nothing came", time.Second, long, consumer.Status{Subscribed: true, Since: long}, false, true},
		{"without a limit", 0, long, consumer.Status{Subscribed: true, Since: long}, false, false},
		{"something came", time.Second, short, consumer.Status{Subscribed: true, Since: long}, false, false},
		{"just subscribed", time.Second, long, consumer.Status{Subscribed: true, Since: short}, false, false},
		{"not subscribed", time.Second, long, consumer.Status{Since: long}, false, false},
		{"one waits", time.Second, long, consumer.Status{Subscribed: true, Since: long, Waiting: 1}, false, false},
		{"the reader is slow", time.Second, long, consumer.Status{Subscribed: true, Since: long}, true, false},
	} {
		j, _ := newJob(t, options{idleTimeout: c.limit})
		j.active.Store(c.active.UnixNano())
		j.writing.Store(c.writes)
		if got := j.isIdle(c.status, now); got != c.want {
			t.Errorf("%s: idle %v", c.name, got)
		}
	}
}

func TestALostSubscriptionEndsTheRunWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	noQueue := &reconnect.BrokerError{Code: 404, Text: "NOT_FOUND - no queue 'q' in vhost '/'"}
	const missing = "there is no queue 'q' in vhost '/': declare it with --declare, or check the name (404)"
	for _, c := range []struct {
		name  string
		retry cli.Retry
		ever  int
		down  bool          // the connection is lost, too
		again int           // how often it was found again before
		after time.Duration // since it was first seen to be missing
		want  string
	}{
		{"a moment", cli.Retry{For: time.Minute}, 1, false, 0, 59 * time.Second, ""},
		{"for too long", cli.Retry{For: time.Minute}, 1, false, 0, time.Minute, "the subscription was lost for longer than 1m (--retry): " + missing},
		{"not to be waited for", cli.Retry{}, 1, false, 0, 0, "the subscription was lost: " + missing},
		{"forever", cli.Retry{Forever: true}, 1, false, 0, time.Hour, ""},
		{"with its connection", cli.Retry{For: time.Minute}, 1, true, 0, time.Hour, ""},
		{"with its connection, again and again", cli.Retry{For: time.Minute}, 1, true, 2, time.Minute, "the subscription was lost for longer than 1m (--retry): " + missing},
		{"with its connection, again and again, a moment", cli.Retry{For: time.Minute}, 1, true, 2, 59 * time.Second, ""},
		{"never there, nor its connection", cli.Retry{Forever: true}, 0, true, 2, 10 * time.Second, "no subscription within 10s (--connect-timeout): " + missing},
		{"never there", cli.Retry{Forever: true}, 0, false, 0, 10 * time.Second, "no subscription within 10s (--connect-timeout): " + missing},
		{"not there yet", cli.Retry{}, 0, false, 0, 9 * time.Second, ""},
	} {
		j, _ := newJob(t, options{connection: cli.Connection{Retry: c.retry, ConnectTimeout: 10 * time.Second}})
		j.outage = cli.NewOutage(j.talk, cli.Retry{Forever: true}, func(error) {})
		j.outage.Observe(reconnect.StateChange{To: reconnect.Connected})
		if c.down {
			j.outage.Observe(reconnect.StateChange{To: reconnect.Waiting, Cause: noQueue})
		}
		var w subscriptionWatch
		lost := consumer.Status{Sessions: c.ever, Cause: noQueue}
		begin := time.Now()
		j.begun = begin
		if c.ever > 0 { // what was lost and found before does not count
			j.watchLoss(&w, consumer.Status{Sessions: 1, Subscribed: true}, 1, begin.Add(-time.Second))
		}
		j.watchLoss(&w, lost, 1, begin)
		if j.work.Err() != nil { // its connection may be found lost in a moment
			t.Errorf("%s: ended at the first look", c.name)
		}
		j.watchLoss(&w, lost, 1+c.again, begin.Add(c.after))
		got := ""
		var e *unsubscribedError
		if cause := context.Cause(j.work); errors.As(cause, &e) {
			got = e.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}
