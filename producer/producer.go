package producer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/mqkit/mqkit/internal/relay"
	"github.com/mqkit/mqkit/reconnect"
)

// Producer publishes messages and knows the fate of each. All methods may be
// called from any goroutine; the messages of one goroutine are sent in the order
// of its calls.
type Producer struct {
	pool    *reconnect.Pool
	cfg     Config
	stats   stats
	frame   atomic.Int64 // frame_max of the last connection
	cancel  context.CancelCauseFunc
	ended   chan struct{} // closed when the sequencer has ended
	unwatch func()        // ends failFast
	closing sync.Once
	work    chan struct{} // capacity 1: there is something to send
	largest atomic.Int64  // body that the broker takes, as it said of a larger one; 0 if it did not

	observers *relay.Relay[any] // of Attempt and Outcome; nil without observers

	idle chan struct{} // closed when Close has begun and nothing is in flight

	// mu guards what follows. It is taken on the driver's reader goroutine, so
	// it is held for no call that could wait.
	mu       sync.Mutex
	queue    fifo            // what is to be sent, in order
	waiting  []*Confirmation // for room in the bound, in order
	inFlight int             // messages that hold a place in the bound
	bytes    int
	session  *session // the present one
	sessions uint64   // how many there were
	away     error    // why nothing can be sent at the moment; only with FailFast
	over     error    // why nothing is accepted any more
	stopped  bool     // Close has begun
	forget   func()   // takes Close off the pool's list
}

// New starts a producer on pool. It has to be closed, by its own Close or with
// the pool. While the pool closes its producers, and after that, the error is
// reconnect.ErrClosed.
func New(pool *reconnect.Pool, cfg Config) (*Producer, error) {
	if pool == nil {
		return nil, errors.New("a producer needs a pool: see reconnect.Open")
	}
	cfg, err := cfg.withDefaults(pool)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	p := &Producer{
		pool:   pool,
		cfg:    cfg,
		cancel: cancel,
		ended:  make(chan struct{}),
		work:   make(chan struct{}, 1),
		idle:   make(chan struct{}),
	}
	p.frame.Store(defaultFrameMax)
	p.unwatch = func() {}
	p.mu.Lock() // the pool may begin to close: its Close waits here
	defer p.mu.Unlock()
	if p.forget, err = pool.OnClose(reconnect.Publishing, p.Close); err != nil {
		cancel(err)
		return nil, err
	}
	if cfg.OnAttempt != nil || cfg.OnVerdict != nil {
		p.observers = relay.New(p.cfg.observe)
	}
	if cfg.FailFast {
		p.failFastLocked()
	}
	go p.run(ctx)
	return p, nil
}

// run is the sequencer's goroutine, session after session.
func (p *Producer) run(ctx context.Context) {
	defer close(p.ended)
	err := p.pool.Run(ctx, reconnect.Publishing, p.serve, func(err error) {
		p.cfg.Logger.Warn("publishing session ended", "error", err)
	})
	if err == nil {
		err = ErrClosed
	}
	p.finish(err)
	p.unwatch()
	if p.observed() {
		p.observers.Close()
	}
}

// Publish sends m and waits for its verdict. Nil means: the broker has
// confirmed it and, unless m.AllowUnroutable, routed it to a queue. While the
// connection is lost or blocked Publish waits as long as ctx allows, with a ctx
// that never ends for ever; with Config.FailFast it fails at once instead.
//
// When ctx ends first, the message is given up: if none of it was handed to the
// connection the error wraps ErrNotSent, otherwise ErrUnconfirmed, and it is
// never written again. Every error is a *PublishError; see Verdict for what
// each means, and SafeToRetry.
func (p *Producer) Publish(ctx context.Context, m Message) error {
	c, err := p.PublishAsync(ctx, m)
	if err != nil {
		return err
	}
	return p.await(ctx, c)
}

// await waits for the verdict of c, which is given up when ctx ends.
func (p *Producer) await(ctx context.Context, c *Confirmation) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		p.withdraw(c, p.why(ctx))
		<-c.done
		return c.err
	}
}

// PublishAsync sends m without waiting for its verdict, which the Confirmation
// tells. ctx bounds only the wait for room in the in-flight bound; when it ends
// first, or m breaks a rule, the error is a *PublishError and there is no
// Confirmation.
func (p *Producer) PublishAsync(ctx context.Context, m Message) (*Confirmation, error) {
	c, err := p.prepare(m)
	if err != nil {
		return nil, err
	}
	if err := p.admit(ctx, c, p.enqueue); err != nil {
		return nil, err
	}
	return c, nil
}

// TryPublish is PublishAsync that never waits: when as many messages or bytes are in
// flight as the bound allows, the error wraps ErrFull and ErrNotSent, and there is no
// Confirmation.
func (p *Producer) TryPublish(m Message) (*Confirmation, error) {
	c, err := p.prepare(m)
	if err != nil {
		return nil, err
	}
	if err := p.admit(context.Background(), c, turnAway); err != nil {
		return nil, err
	}
	return c, nil
}

// prepare makes a Confirmation of m, unless m breaks a rule.
func (p *Producer) prepare(m Message) (*Confirmation, error) {
	var began time.Time
	if p.observed() {
		began = time.Now()
	}
	if m.MessageID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, p.reject(m, NotSent, fmt.Errorf("%w: make a message id: %w", ErrNotSent, err), began)
		}
		m.MessageID = id.String()
	}
	headers, headerSize, err := check(&m)
	if err == nil && headerSize > int(p.frame.Load()) {
		err = headerTooLarge(headerSize, int(p.frame.Load()))
	}
	if err == nil {
		err = p.checkSize(len(m.Body))
	}
	if err != nil {
		return nil, p.reject(m, Refused, err, began)
	}
	return &Confirmation{
		p:          p,
		exchange:   m.Exchange,
		routingKey: m.RoutingKey,
		mandatory:  !m.AllowUnroutable,
		pub:        m.publishing(headers),
		headerSize: headerSize,
		size:       len(m.Body) + headerSize,
		began:      began,
		done:       make(chan struct{}),
	}, nil
}

// reject counts a message that never got a Confirmation.
func (p *Producer) reject(m Message, v Verdict, err error, began time.Time) error {
	p.stats.accepted.Add(1)
	p.stats.count(v)
	err = &PublishError{MessageID: m.MessageID, Verdict: v, Err: err}
	p.outcome(Outcome{MessageID: m.MessageID, Exchange: m.Exchange, RoutingKey: m.RoutingKey, Bytes: len(m.Body), Verdict: v, Err: err}, began)
	return err
}

// Flush waits until every message accepted before it has its verdict, whatever
// that is, at most until ctx ends.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	open := p.openLocked()
	p.mu.Unlock()
	for i, c := range open {
		select {
		case <-c.done:
		case <-ctx.Done():
			left := 0
			for _, c := range open[i:] {
				if !isDone(c.done) {
					left++
				}
			}
			if left > 0 {
				return fmt.Errorf("flush: %d messages have no verdict yet: %w", left, p.why(ctx))
			}
		}
	}
	return nil
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// UnresolvedError is returned by a Close whose ctx ended: so many messages got
// the verdict NotSent, so many Unknown. Each one's own Confirmation or Publish
// tells which.
type UnresolvedError struct {
	NotSent int
	Unknown int
	Cause   error
}

func (e *UnresolvedError) Error() string {
	return fmt.Sprintf("close producer: %d messages were not sent, %d were sent but not confirmed: %v", e.NotSent, e.Unknown, e.Cause)
}

// Unwrap returns why Close waited no longer.
func (e *UnresolvedError) Unwrap() error { return e.Cause }

// Close takes no more messages, waits until those accepted have their verdicts,
// and ends the producer. When ctx ends first, the rest get NotSent or Unknown
// and the error is an *UnresolvedError. A further call waits too, and its ctx can
// cut the first one short.
func (p *Producer) Close(ctx context.Context) error {
	p.closing.Do(p.stopIntake)
	var err error
	select {
	case <-p.idle:
	case <-p.ended:
	case <-ctx.Done():
		err = p.abandon(p.why(ctx))
	}
	p.cancel(ErrClosed)
	<-p.ended
	if p.observed() {
		select {
		case <-p.observers.Ended():
		case <-ctx.Done():
		}
	}
	return err
}

// stopIntake refuses what comes or waits, and has idle closed when nothing is in
// flight.
func (p *Producer) stopIntake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
	if p.over == nil {
		p.over = ErrClosed
	}
	p.refuseWaitingLocked(ErrClosed)
	p.stopped = true
	if p.inFlight == 0 {
		close(p.idle)
	}
}

// abandon gives every open message up and says how many there were of each
// verdict.
func (p *Producer) abandon(cause error) error {
	p.mu.Lock()
	open := p.openLocked()
	for _, c := range open {
		p.withdrawLocked(c, cause)
	}
	p.mu.Unlock()
	e := &UnresolvedError{Cause: cause}
	for _, c := range open {
		<-c.done
		switch c.Verdict() {
		case NotSent:
			e.NotSent++
		case Unknown:
			e.Unknown++
		}
	}
	if e.NotSent+e.Unknown == 0 {
		return nil
	}
	return e
}

// finish ends everything that is open when the sequencer has ended.
func (p *Producer) finish(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over == nil {
		p.over = fmt.Errorf("%w: %w", ErrClosed, cause)
	}
	p.refuseWaitingLocked(p.over)
	for _, c := range p.openLocked() {
		c.giveUpLocked(cause)
		p.settleLocked(c)
	}
}

// why is the reason that ctx gives, with what keeps the connection, if anything
// does.
func (p *Producer) why(ctx context.Context) error {
	cause := context.Cause(ctx)
	if s := p.pool.Status(reconnect.Publishing); s.State != reconnect.Connected {
		if s.Cause != nil {
			return fmt.Errorf("%w: the publishing connection is %s (%w)", cause, s.State, s.Cause)
		}
		return fmt.Errorf("%w: the publishing connection is %s", cause, s.State)
	}
	return cause
}
