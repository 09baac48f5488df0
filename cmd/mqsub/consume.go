package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// consume does what the command says. The error is a usage error: nothing was
// begun.
func consume(ctx context.Context, o *options, stdout, stderr io.Writer) (code int, err error) {
	talk := cli.NewTalk(stderr, "mqsub", o.quiet, o.verbose)
	cfg, err := o.connection.Config(talk, o.queue)
	if err != nil {
		return 0, err
	}
	cfg.First = reconnect.Consuming
	if cli.IsClosed(stdout) {
		return 0, cli.Usagef("stdout is closed, or is the null device opened for reading as well: what is written there would be acked and lost; to throw messages away, open it for writing, as >/dev/null does")
	}

	interrupts := cli.CatchInterrupts(ctx)
	defer interrupts.Stop()
	work, stop := context.WithCancelCause(interrupts.Soft)
	defer stop(nil)
	outage := cli.NewOutage(talk, o.connection.Retry, stop)
	defer outage.Stop()
	cfg.OnStateChange = outage.Observe

	pool, err := cli.Connect(work, cfg, o.connection.ConnectTimeout)
	if err != nil {
		talk.Fail("%s", cli.FailLine(err))
		return cli.CodeOf(err), nil
	}
	s := newSink(stdout, o.pipeBuffered)
	consuming := o.consumerConfig(talk, s)
	c, err := consumer.New(pool, consuming)
	if err != nil {
		pool.CloseNow()
		return 0, &cli.UsageError{Err: err}
	}
	j := &job{
		options:  o,
		talk:     talk,
		pool:     pool,
		consumer: c,
		outage:   outage,
		sink:     s,
		begun:    time.Now(),
		work:     work,
		hard:     interrupts.Hard,
		stop:     stop,
	}
	j.prefetch = uint64(consuming.Prefetch)
	j.holder.ack, j.holder.busy = j.ack, j.busy
	j.active.Store(j.begun.UnixNano())
	if o.connection.Declare == cli.Declare(topology.Stream) {
		j.tellOfStream()
	}
	return j.all(), nil
}

func (o *options) consumerConfig(talk *cli.Talk, s sink) consumer.Config {
	cfg := consumer.Config{
		Queue:        o.queue,
		Workers:      1, // keeps the order
		Prefetch:     s.prefetch(),
		DrainTimeout: max(o.shutdownTimeout, time.Millisecond),
		Logger:       talk.Logger(),
	}
	if o.count > 0 && o.count < uint64(cfg.Prefetch) {
		cfg.Prefetch = int(o.count)
	}
	if o.exchange != "" {
		cfg.Declare = &topology.Queue{Exclusive: true} // the broker names it
		for _, pattern := range o.patterns {
			cfg.Bindings = append(cfg.Bindings, topology.Binding{Exchange: o.exchange, RoutingKey: pattern})
		}
	}
	return cfg
}

// job is one run from its subscription to its summary.
type job struct {
	options  *options
	talk     *cli.Talk
	pool     *reconnect.Pool
	consumer *consumer.Consumer
	outage   *cli.Outage
	sink     sink
	begun    time.Time

	work  context.Context // ends when no more messages are wanted; its cause says why
	hard  context.Context // ends when nothing is to be waited for
	stop  func(error)     // ends work
	write context.Context // ends when even what is being written is given up

	endConsuming func() // has Run drain; after work has ended

	prefetch uint64
	holder   holder

	stream  sync.Once    // tells that the queue is one
	buf     []byte       // handle's
	writing atomic.Bool  // handle runs
	active  atomic.Int64 // when it last returned, Unix nanoseconds

	draining atomic.Int64 // since when the run is to end, Unix nanoseconds; 0 before

	mu     sync.Mutex // guards what follows
	tally  tally
	broken *outputError // the first, after which nothing more is written
}

// tally counts messages.
type tally struct {
	taken       uint64 // written, and acked or about to be
	unacked     uint64 // written, but their session was over: they come again
	redelivered uint64 // of those written, the ones that were given out before
}

var errCount = errors.New("the count is reached")

func (j *job) all() int {
	write, giveUpWriting := context.WithCancelCause(context.Background())
	defer giveUpWriting(nil)
	j.write = write
	ended := make(chan struct{})
	var watchers sync.WaitGroup
	watchers.Go(func() { j.boundWriting(ended, giveUpWriting) })
	watchers.Go(func() { j.watchSubscription(ended) })
	watchers.Go(func() { j.showProgress(ended) })
	watching, stopWatching := context.WithCancel(context.Background())
	watchers.Go(func() {
		j.sink.watch(watching, func() { j.stop(errReaderGone) })
	})

	// Not work itself: its end reaches Run and the holder in any order, and an ack
	// that Run does not know to be one of the last brings another message.
	consuming, cancel := context.WithCancelCause(context.WithoutCancel(j.work))
	defer cancel(nil)
	j.endConsuming = func() { cancel(context.Cause(j.work)) }
	defer context.AfterFunc(j.work, func() {
		j.endConsuming()
		j.holder.release()
	})()
	returned := make(chan error, 1)
	go func() { returned <- j.consumer.Run(consuming, j.handle) }() // ends with Run, or with the process
	var err error
	select {
	case err = <-returned:
	case <-j.hard.Done():
		j.pool.CloseNow()
		err = context.Cause(j.hard)
	case <-j.never(): // there is nothing to drain
		j.pool.CloseNow()
		err = context.Cause(j.work)
	}
	stopWatching()
	close(ended)
	watchers.Wait()
	j.close()
	return j.conclude(err)
}

// never returns a channel that is closed when work ended because there was no
// subscription in time.
func (j *job) never() <-chan struct{} {
	ch := make(chan struct{})
	context.AfterFunc(j.work, func() {
		var u *unsubscribedError
		if errors.As(context.Cause(j.work), &u) && !u.ever {
			close(ch)
		}
	})
	return ch
}

// handle writes one message and acks it.
func (j *job) handle(session context.Context, d *consumer.Delivery) error {
	now := time.Now()
	j.writing.Store(true)
	defer func() {
		j.active.Store(time.Now().UnixNano())
		j.writing.Store(false)
	}()
	j.holder.session(d.ConsumerTag)
	if _, ok := d.StreamOffset(); ok {
		j.tellOfStream()
	}
	if j.wantsNoMore() {
		j.endConsuming()
		return consumer.Release(nil)
	}
	line, err := j.options.output.append(j.buf[:0], d, now)
	if err != nil {
		j.end(fmt.Errorf("cannot write message %s as %s: %w", d.MessageID, j.options.output, err))
		return consumer.Release(err)
	}
	j.buf = line
	if err := j.sink.put(j.write, session, line); err != nil {
		if errors.Is(err, errNotTaken) && j.write.Err() == nil && j.work.Err() == nil {
			j.count(func(t *tally) { t.unacked++ })
			return consumer.Release(err) // its session is over: it comes again
		}
		j.end(j.breakOutput(err)) // or it would come back at once
		return consumer.Release(err)
	}
	var taken uint64
	j.count(func(t *tally) {
		t.taken++
		taken = t.taken
		if d.Redelivered {
			t.redelivered++
		}
	})
	switch n := j.options.count; {
	case n == 0:
	case taken < n && taken+j.prefetch > n && j.work.Err() == nil:
		j.holder.hold(d)
		if j.work.Err() != nil { // it has just released what was held
			j.endConsuming()
			j.holder.release()
		}
		return consumer.Later
	case taken >= n && session.Err() == nil:
		// The last one. The subscription ends before its ack and those held, or
		// the broker would send more.
		j.end(errCount)
	}
	j.ack(d)
	return nil
}

// tellOfStream says where a stream is read from, once.
func (j *job) tellOfStream() {
	j.stream.Do(func() {
		j.talk.Note("queue %q is a stream: what is published from now on comes, not what is in it", j.options.queue)
	})
}

// end ends work, and has Run know it before anything more is settled.
func (j *job) end(cause error) {
	j.stop(cause)
	j.endConsuming()
}

// ack acks what is written.
func (j *job) ack(d *consumer.Delivery) {
	if d.Ack() != nil { // its session is over
		j.count(func(t *tally) {
			t.taken--
			t.unacked++
		})
	}
}

// busy reports whether a message is being written, or waits to be.
func (j *job) busy() bool {
	return j.writing.Load() || j.consumer.Status().Waiting > 0
}

// wantsNoMore reports whether a message may not be written any more: the count
// is reached, or one could not be written, so that what follows it would stand
// behind a piece of it. A signal alone does not say so: before RabbitMQ 4.3 what
// is at hand is better worked through than given back.
func (j *job) wantsNoMore() bool {
	cause := context.Cause(j.work)
	return errors.Is(cause, errCount) || errors.Is(cause, errReaderGone) || j.outputBroken() != nil || j.hasAll()
}

// hasAll reports whether the count is reached, whatever else has ended the run.
func (j *job) hasAll() bool {
	return j.options.count > 0 && j.counts().taken >= j.options.count
}

// breakOutput notes that a message could not be written.
func (j *job) breakOutput(err error) *outputError {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken == nil {
		j.broken = &outputError{err}
	}
	return j.broken
}

func (j *job) outputBroken() *outputError {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken
}

// outputError says that stdout does not take what is written.
type outputError struct{ err error }

func (e *outputError) Error() string {
	if e.isReaders() {
		return e.err.Error()
	}
	return fmt.Sprintf("cannot write the output: %v", e.err)
}

// isReaders reports whether it is the reader's doing: nothing failed.
func (e *outputError) isReaders() bool {
	return errors.Is(e.err, errReaderGone) || errors.Is(e.err, errNotTaken)
}

// Unwrap returns what the system said.
func (e *outputError) Unwrap() error { return e.err }

// boundWriting ends the writing at --shutdown-timeout after the end of work, or
// at a second signal.
func (j *job) boundWriting(ended <-chan struct{}, giveUp context.CancelCauseFunc) {
	select {
	case <-ended:
		return
	case <-j.work.Done():
	}
	j.draining.Store(time.Now().UnixNano())
	timer := time.NewTimer(j.options.shutdownTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		giveUp(errNotTaken)
	case <-j.hard.Done():
		giveUp(errNotTaken)
	}
}

// close hangs up, politely if there is time for it.
func (j *job) close() {
	left := j.options.shutdownTimeout - time.Since(time.Unix(0, j.draining.Load()))
	ctx, cancel := context.WithTimeout(j.hard, max(left, time.Second))
	defer cancel()
	if up, _ := j.outage.Up(); !up {
		cancel()
	}
	j.outage.Stop()
	_ = j.pool.Close(ctx)
}

func (j *job) count(change func(*tally)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.tally)
}

func (j *job) counts() tally {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tally
}
