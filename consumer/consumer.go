package consumer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/relay"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// Consumer consumes one queue. All methods may be called from any goroutine.
type Consumer struct {
	pool *reconnect.Pool
	cfg  Config

	stats stats
	named named // serve's alone, of which one runs at a time

	mu  sync.Mutex // guards run
	run *run       // the present or last Run
}

// ErrRunning is returned by Run while another Run of the same Consumer goes on.
var ErrRunning = errors.New("the consumer runs already")

// New checks cfg. Nothing is consumed before Run.
func New(pool *reconnect.Pool, cfg Config) (*Consumer, error) {
	if pool == nil {
		return nil, errors.New("a consumer needs a pool: see reconnect.Open")
	}
	cfg, err := cfg.withDefaults(pool)
	if err != nil {
		return nil, err
	}
	return &Consumer{pool: pool, cfg: cfg}, nil
}

// run is one call of Run: what survives its sessions.
type run struct {
	c       *Consumer
	cfg     Config
	ctx     context.Context
	handler Handler
	lanes   []*lane
	seed    maphash.Seed
	workers sync.WaitGroup
	lingers sync.WaitGroup
	ended   chan struct{}
	result  error // of Run, once ended is closed
	unclean error // of the drain

	deadLetters bool
	stream      bool
	quorum      bool              // it is known to be a quorum queue
	classic     bool              // it is known to be a classic one
	observers   *relay.Relay[any] // of Receipt and Settlement; nil without observers
	deadline    context.Context   // ends Config.DrainTimeout after ctx, or when Pool.Close has no more time
	expire      func()            // ends it
	active      atomic.Int64      // handlers that run
	overdue     atomic.Int64      // of these, the ones that do not heed HandlerTimeout
	careful     atomic.Int64      // deliveries that are to be settled before more than one is asked for, see beCareful
	trouble     atomic.Bool       // inARow is not 0

	mu          sync.Mutex // guards what follows
	running     bool
	session     *session // the present subscription
	cause       error    // why there is none
	since       time.Time
	sessions    int
	failures    uint64
	lastFailure error
	inARow      int
	settled     [release + 1]uint64
	releasedAt  int // given back at a drain's deadline
	lateErr     error
	offset      Offset
}

// Run consumes until ctx ends, calling h for each delivery from Config.Workers
// goroutines. Whatever ends a subscription (a lost connection, a channel error,
// a deleted queue, a broker's cancel) it subscribes again; meanwhile Status says
// why it is not subscribed. A fatal error (see reconnect.IsFatal) before the
// first subscription, such as a queue that does not exist, ends Run.
//
// When ctx ends, or the pool is closed, Run drains: deliveries that no handler
// has begun go back to the queue, running handlers have Config.DrainTimeout to
// finish, their verdicts are written. Then it returns nil; or a *DrainError if
// some did not finish; or another error if the broker has not said, within 5 s, that it
// has all verdicts: then some of these messages may come again. So may those whose
// connection is lost while it drains, which is no error. A Run that begins when the pool
// is being closed returns reconnect.ErrClosed.
func (c *Consumer) Run(ctx context.Context, h Handler) error {
	if h == nil {
		return errors.New("consumer: Run needs a handler")
	}
	return c.consume(ctx, h, c.cfg)
}

// consume is Run with a configuration of its own.
func (c *Consumer) consume(ctx context.Context, h Handler, cfg Config) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline, end := context.WithCancelCause(context.WithoutCancel(ctx))
	queue, declared := cfg.known(c.pool)
	declared = declared && !queue.Passive // that says nothing of its type
	r := &run{
		c: c, cfg: cfg, ctx: ctx, handler: h,
		deadline:    deadline,
		expire:      func() { end(errDrained) },
		ended:       make(chan struct{}),
		deadLetters: cfg.DeadLetters || queue.DeadLetters(),
		stream:      cfg.isStream(c.pool),
		quorum:      declared && queue.DeclaredType() == topology.Quorum,
		classic:     declared && queue.DeclaredType() == topology.Classic,
		offset:      c.cfg.Offset,
		running:     true,
		since:       time.Now(),
		cause:       errors.New("the broker has not answered the subscription yet"),
	}
	defer r.expire()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(cfg.DrainTimeout, r.expire) })()
	if err := c.begin(r); err != nil {
		return err
	}
	forget, err := c.pool.OnClose(reconnect.Consuming, func(closing context.Context) error { return r.poolCloses(closing, cancel) })
	if err != nil {
		r.over(err)
		return err
	}
	defer forget()
	defer func() {
		r.result = err
		close(r.ended)
	}()
	if cfg.OnDelivery != nil || cfg.OnSettlement != nil {
		r.observers = relay.New(cfg.observe)
		defer func() {
			r.observers.Close()
			<-r.observers.Ended()
		}()
	}
	r.startWorkers()
	err = c.pool.Run(ctx, reconnect.Consuming, r.serve, r.sessionEnded)
	asked := ctx.Err() != nil
	cancel(err)
	r.lingers.Wait()
	r.closeLanes()
	running := r.stopWorkers()
	r.over(errors.New("Run has returned"))
	if asked {
		return r.drainError(running)
	}
	return err // the broker's or the pool's word, not ctx's
}

// begin makes r the present Run.
func (c *Consumer) begin(r *run) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != nil && c.run.isRunning() {
		return ErrRunning
	}
	c.run = r
	return nil
}

// poolCloses drains r in the time that Pool.Close has.
func (r *run) poolCloses(closing context.Context, cancel context.CancelCauseFunc) error {
	if deadline, ok := closing.Deadline(); ok {
		time.AfterFunc(max(time.Until(deadline)-drainReserve, leastDrain), r.expire)
	} else if closing.Err() != nil {
		time.AfterFunc(leastDrain, r.expire)
	}
	cancel(reconnect.ErrClosed)
	select {
	case <-r.ended:
		var left *DrainError
		if errors.As(r.result, &left) || r.unclean != nil {
			return fmt.Errorf("drain the consumer of queue %q: %w", r.cfg.Queue, r.result)
		}
		return nil
	case <-closing.Done():
		return fmt.Errorf("drain the consumer of queue %q: %w", r.cfg.Queue, context.Cause(closing))
	}
}

// drainError is what was not finished in all sessions, with the handlers that still run.
func (r *run) drainError(running int) error {
	n, late := r.leftLate()
	var left *DrainError
	switch {
	case errors.As(r.unclean, &left):
		left.Released += n
		left.Running = running
	case n > 0 || running > 0:
		late = errors.Join(&DrainError{Released: n, Running: running}, late)
	}
	return errors.Join(r.unclean, late)
}

const (
	drainReserve = 200 * time.Millisecond // is kept of Pool.Close's ctx for closing the channel
	leastDrain   = time.Millisecond       // is taken although that ctx has no time left
)

// workerGrace is how long Run waits for handlers whose ctx has just ended.
const workerGrace = 100 * time.Millisecond

func (r *run) closeLanes() {
	for _, l := range r.lanes {
		l.close()
	}
}

// stopWorkers waits for the workers, but for those whose handler does not heed its ctx only
// until the drain's deadline, and returns how many of these there are.
func (r *run) stopWorkers() int {
	done := make(chan struct{})
	go func() {
		r.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return 0
	case <-r.deadline.Done():
	}
	select {
	case <-done:
		return 0
	case <-time.After(workerGrace):
		return int(r.active.Load())
	}
}

// serve is the session function: subscribe, hand out deliveries, and end in one
// of three ways: drained, lost, or cancelled by the broker.
func (r *run) serve(ctx context.Context, ch *reconnect.Channel) error {
	s := newSession(r, ch)
	in, cancels, err := s.subscribe(ctx)
	if err != nil {
		s.end(err)
		return err
	}
	s.subscribed = true
	r.subscribed(s)
	ch.Ready()
	go s.settler() // ends before serve, or linger, does
	for {
		select {
		case raw, ok := <-in:
			if ok {
				s.take(&raw)
				continue
			}
		case <-s.restored:
			return r.leave(s, in, errRestored)
		case <-ctx.Done():
		}
		break
	}
	select {
	case _, ok := <-cancels:
		if ok { // else the driver has closed it with the channel
			s.gone = true
			return r.leave(s, in, reconnect.Missing(s.queue, errCancelled))
		}
	default:
	}
	if r.ctx.Err() != nil && ch.Err() == nil {
		return r.drained(s, in)
	}
	<-ch.Done() // the driver closes in a moment before it says so
	s.end(ch.Err())
	<-s.settlerDone
	return ch.Err()
}

func (r *run) drained(s *session, in <-chan amqp.Delivery) error {
	err := s.drain(in)
	<-s.settlerDone
	if err != nil {
		r.unclean = err
		return backoff.Permanent(err)
	}
	return context.Cause(r.ctx)
}

// leave leaves the channel to the handlers that still run on it. Run's next session takes
// another one, once the old subscription has ended and what waited is given back: a second
// exclusive one would be refused, and what waited would come behind what the second one gets.
func (r *run) leave(s *session, in <-chan amqp.Delivery, cause error) error {
	s.mu.Lock()
	s.noMultiple = true // overdue tags may be void
	s.mu.Unlock()
	s.setDraining()
	s.setCancelled()
	s.goOn(cause)
	r.unsubscribed(cause)
	s.ch.Keep()
	waited, givenBack := time.After(leaveTimeout), make(chan struct{})
	r.lingers.Go(func() { s.linger(in, givenBack) })
	if s.gone && r.stream {
		r.beginAnew(s.queue)
	}
	select {
	case <-givenBack:
	case <-r.ctx.Done():
	case <-waited:
	}
	if err := s.ch.Err(); err != nil {
		r.beCareful(err) // what came before the subscription's end has ended the connection
	}
	return cause
}

// take hands a delivery to the workers.
func (s *session) take(raw *amqp.Delivery) {
	d := s.receive(raw)
	if d == nil {
		return
	}
	if _, ok := d.Headers[streamOffset]; ok && d.Tag == 1 && !s.run.stream {
		s.run.cfg.Logger.Warn("a delivery with an offset: if the queue is a stream, say so by Config.Offset or in the pool's topology, or what fails is not handled again", "queue", s.queue)
	}
	s.run.dispatch(d)
}

// subscribe sets the session up: prefetch, what it owns, consume.
func (s *session) subscribe(ctx context.Context) (<-chan amqp.Delivery, <-chan string, error) {
	cfg := &s.run.cfg
	prefetch := max(cfg.Prefetch, 0) // AMQP's 0 is unlimited
	if s.careful {
		prefetch = 1
	}
	err := s.ch.Call(ctx, "set prefetch", func(raw *amqp.Channel) error { return raw.Qos(prefetch, 0, false) })
	if err != nil {
		return nil, nil, err
	}
	s.queue = cfg.Queue
	if cfg.Declare != nil {
		if err := s.declareOwn(ctx); err != nil {
			return nil, nil, err
		}
	}
	args := amqp.Table{}
	for k, v := range cfg.Arguments {
		args[k] = v
	}
	if cfg.Priority != 0 {
		args[consumerPriority] = int64(cfg.Priority)
	}
	if o := s.run.startAt(); !o.isZero() {
		args[streamOffset] = o.value
	}
	s.tag = "mqkit-" + uuid.NewString() // never one twice on a channel: the broker closes the connection
	cancels := s.ch.Raw().NotifyCancel(make(chan string, 1))
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	// Not ctx: a consume that is given up half done has its channel closed, and
	// every delivery that came meanwhile counted as failed. A ctx that has ended by
	// the answer is a drain.
	alive, stop := s.whileAlive(s.run.deadline)
	defer stop()
	var in <-chan amqp.Delivery
	err = s.ch.CallSlow(alive, fmt.Sprintf("consume queue %q", s.queue), func(raw *amqp.Channel) (err error) {
		in, err = raw.Consume(s.queue, s.tag, false, cfg.Exclusive, false, false, args)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return in, cancels, nil
}
