package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// publish does what the command says. The error is a usage error: nothing was
// begun.
func publish(ctx context.Context, o *options, bodies []string, stdin io.Reader, stderr io.Writer) (code int, err error) {
	talk := cli.NewTalk(stderr, "mqpub", o.quiet, o.verbose)
	template, err := o.message.template()
	if err != nil {
		return 0, err
	}
	template.Exchange, template.RoutingKey = o.exchange, o.routingKey
	if o.queue != "" {
		template.RoutingKey = o.queue
	}
	cfg, err := o.connection.Config(talk, o.queue)
	if err != nil {
		return 0, err
	}
	if len(bodies) > 0 {
		stdin = nil
	}
	if stdin != nil && cli.IsClosed(stdin) {
		return 0, cli.Usagef("stdin is closed, or is the null device opened for writing as well: there are no lines to read; give a BODY, or open it for reading, as </dev/null does")
	}
	failed, err := openFailedFile(o.failed, stdin)
	if err != nil {
		return 0, err
	}

	interrupts := cli.CatchInterrupts(ctx)
	defer interrupts.Stop()
	work, giveUp := context.WithCancelCause(interrupts.Soft)
	defer giveUp(nil)
	outage := cli.NewOutage(talk, o.connection.Retry, giveUp)
	defer outage.Stop()
	cfg.OnStateChange = outage.Observe

	pool, err := cli.Connect(work, cfg, o.connection.ConnectTimeout)
	if err != nil {
		talk.Fail("%s", cli.FailLine(err))
		_ = failed.close()
		return cli.CodeOf(err), nil
	}
	producing := producer.Config{MaxInFlight: o.inFlight, Logger: talk.Logger()}
	if o.confirmTimeout > 0 {
		producing.ConfirmTimeout = max(o.confirmTimeout/3, time.Second) // another channel may get it confirmed
	}
	p, err := producer.New(pool, producing)
	if err != nil {
		pool.CloseNow()
		return 0, err
	}
	j := &job{
		options:  o,
		talk:     talk,
		template: template,
		pool:     pool,
		producer: p,
		outage:   outage,
		failed:   failed,
		work:     work,
		hard:     interrupts.Hard,
		giveUp:   giveUp,
		begun:    time.Now(),
		pending:  make(chan sent, o.inFlight),
		resolved: make(chan struct{}),
	}
	outage.EndsWith(j.progress)
	in := arguments(bodies)
	if stdin != nil {
		if cli.IsTerminal(stdin) {
			talk.Note("reading messages from the terminal, one a line; end with ctrl-d")
			j.typed = true
		}
		in = lines(stdin, o.longestLine, work.Done())
	}
	return j.all(in), nil
}

// job is one run from its first message to its summary. Messages go through two
// stages, each a goroutine: intake hands them to the producer, resolve takes the
// verdicts in the same order. What waits between them is bounded, so a run needs
// the same memory however long its input is.
type job struct {
	options  *options
	talk     *cli.Talk
	template producer.Message
	pool     *reconnect.Pool
	producer *producer.Producer
	outage   *cli.Outage
	failed   *failedFile
	begun    time.Time
	typed    bool // the messages come from a terminal

	work   context.Context // ends when nothing more is to be taken in; its cause says why
	hard   context.Context // ends when nothing is to be waited for
	giveUp func(error)     // ends work

	pending  chan sent
	resolved chan struct{} // closed when every message has its verdict
	tally    tally         // resolve's until then
}

// sent is a message that the producer has, or has refused.
type sent struct {
	line    int
	message producer.Message
	pending *producer.Confirmation // nil if err is the verdict
	lost    bool                   // there is no body, and nothing to keep
	err     error
}

func (j *job) all(in *input) int {
	var watchers, resolver sync.WaitGroup
	watchers.Go(j.abandonWhenAsked)
	watchers.Go(j.showProgress)
	resolver.Go(func() { j.resolve(in.what) })
	taken := j.intake(in)
	close(j.pending)
	resolver.Wait()
	close(j.resolved)
	watchers.Wait()
	j.close()
	return j.conclude(in.what, taken)
}

// intaken is how far intake came.
type intaken struct {
	last     int   // number of the last message that the producer got
	complete bool  // there are no more
	err      error // why the rest could not be read
}

// intake publishes until the input ends or is to be read no further.
func (j *job) intake(in *input) (done intaken) {
	for {
		select {
		case <-j.work.Done():
			return done
		case it, ok := <-in.items:
			if !ok {
				done.complete, done.err = in.complete, in.err
				return done
			}
			s := sent{line: it.line, message: j.template, lost: it.err != nil, err: it.err}
			s.message.Body = it.body
			if !s.lost {
				s.pending, s.err = j.producer.PublishAsync(j.work, s.message)
			}
			if s.err != nil && producer.VerdictOf(s.err) == producer.NotSent {
				j.giveUp(s.err) // if nothing else has ended it, the producer is over
			}
			j.pending <- s
			done.last = it.line
		}
	}
}

// resolve takes the verdicts, in the order of the messages.
func (j *job) resolve(what string) {
	for s := range j.pending {
		if s.pending != nil {
			s.err = j.verdict(s.pending)
		}
		j.tally.add(s.err)
		if s.err == nil {
			continue
		}
		s.message.MessageID = messageID(s)
		kept := ""
		if !s.lost {
			if err := j.failed.keep(&s.message); err != nil {
				kept = "; " + err.Error()
			}
		}
		j.talk.Fail("%s %d: %s%s", what, s.line, reason(s.err, context.Cause(j.work), j.tally.accepted()), kept)
	}
}

// verdict waits for one, at most for --confirm-timeout from when it is the oldest,
// in which time without a connection does not count. A new connection does not start
// it again, or one that is lost each time before the confirm would never end.
func (j *job) verdict(c *producer.Confirmation) error {
	select {
	case <-c.Done():
		return c.Err()
	default:
	}
	limit := j.options.confirmTimeout
	if limit == 0 {
		<-c.Done()
		return c.Err()
	}
	before := j.outage.UpFor()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case <-c.Done():
			return c.Err()
		case <-timer.C:
		}
		left := limit - (j.outage.UpFor() - before)
		if left <= 0 {
			j.giveUp(&confirmTimeoutError{limit: limit, status: j.pool.Status(reconnect.Publishing)})
			<-c.Done()
			return c.Err()
		}
		timer.Reset(max(left, lookAgain)) // left stands still while there is no connection
	}
}

// lookAgain is short beside any --confirm-timeout and costs nothing.
const lookAgain = 10 * time.Millisecond

// progress is how many messages have the broker's answer, and whether any waits for
// one: what a connection is for.
func (j *job) progress() (answers uint64, waiting bool) {
	s := j.producer.Stats()
	return s.Confirmed + s.Returned + s.Nacked + s.Refused, s.InFlight > 0
}

// confirmTimeoutError says that --confirm-timeout has passed.
type confirmTimeoutError struct {
	limit  time.Duration
	status reconnect.Status
}

func (e *confirmTimeoutError) Error() string {
	s := fmt.Sprintf("no confirmation for %s (--confirm-timeout)", cli.Limit(e.limit))
	if e.status.State == reconnect.Blocked {
		s += ": " + e.status.Cause.Error()
	}
	return s
}

// abandonWhenAsked closes the producer over what has no verdict when the run is to
// end: after a signal there is time for --shutdown-timeout, otherwise none.
func (j *job) abandonWhenAsked() {
	select {
	case <-j.resolved:
		return
	case <-j.work.Done():
	}
	cause := context.Cause(j.work)
	var interrupted *cli.Interrupted
	if errors.As(cause, &interrupted) {
		timer := time.NewTimer(j.options.shutdownTimeout)
		defer timer.Stop()
		select {
		case <-j.resolved:
			return
		case <-timer.C:
			cause = fmt.Errorf("%w, and no answer within %s", cause, cli.Limit(j.options.shutdownTimeout))
		case <-j.hard.Done():
			cause = context.Cause(j.hard)
		}
	}
	over, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	_ = j.producer.Close(over)
}

// close hangs up, politely if there is time for it.
func (j *job) close() {
	ctx, cancel := context.WithTimeout(j.hard, j.options.shutdownTimeout)
	defer cancel()
	if up, _ := j.outage.Up(); !up {
		cancel()
	}
	j.outage.Stop()
	_ = j.producer.Close(ctx)
	_ = j.pool.Close(ctx)
}
