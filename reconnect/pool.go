package reconnect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

// Pool keeps a publishing and a consuming connection to a broker. All methods
// may be called from any goroutine.
type Pool struct {
	cfg      Config
	addrs    []*address
	links    [roles]*link
	notifier *notifier

	running context.Context // ends when the connections are to be hung up
	stop    context.CancelFunc

	owners     sync.WaitGroup // the links' goroutines
	background sync.WaitGroup // calls of the driver and the watchers of channels, see begin

	mu       sync.Mutex // guards what follows; held for no call
	closing  context.Context
	cutShort context.CancelFunc // ends closing
	sealed   bool               // no more background goroutines
	closed   chan struct{}      // closed when Close is done; nil before it began
	drains   [roles][]*func(context.Context) error
	draining [roles]bool // the role takes no new users
	closeErr error
	costly   map[int]costlyEntity // by entity of the topology, see leaveOut
}

// Open makes the first connection (Config.First says which) and declares
// Config.Topology on it. It tries until it succeeds, ctx ends, or the broker
// says something fatal: see IsFatal. The error then names every address and
// why. A Pool must be closed.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	cfg, addrs, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	p := &Pool{
		cfg:      cfg,
		addrs:    addrs,
		running:  running,
		stop:     stop,
		notifier: newNotifier(&cfg),
	}
	for role := range roles {
		p.links[role] = newLink(p, role)
	}
	if _, err := p.links[cfg.First].ready(ctx); err != nil {
		p.CloseNow()
		return nil, err
	}
	return p, nil
}

// String is the state of each connection: what is configured holds passwords.
func (p *Pool) String() string {
	states := make([]string, 0, roles)
	for role := range roles {
		states = append(states, fmt.Sprintf("%s %s", role, p.Status(role).State))
	}
	return "reconnect.Pool{" + strings.Join(states, ", ") + "}"
}

// GoString is String.
func (p *Pool) GoString() string { return p.String() }

// Status says how the connection of role is.
func (p *Pool) Status(role Role) Status { return p.links[role].read() }

// Declare declares t, within ctx, on a channel of its own. Exclusive queues
// belong to the connection that declares them, so they are refused here, with a
// *topology.Fault: a consumer declares its own.
func (p *Pool) Declare(ctx context.Context, t topology.Topology) error {
	if err := t.Validate(); err != nil {
		return err
	}
	for _, q := range t.Queues {
		if q.Exclusive && !q.Passive {
			return &topology.Fault{
				Entity: topology.EntityQueue, Name: q.Name, Field: "Exclusive",
				Problem: "it would belong to a connection that others use", Hint: "declare it in consumer.Config.Declare",
			}
		}
	}
	ch, err := p.Acquire(ctx, p.cfg.First)
	if err != nil {
		return err
	}
	defer ch.Release()
	return ch.declare(ctx, t)
}

// Topology returns a copy of Config.Topology.
func (p *Pool) Topology() topology.Topology { return p.cfg.Topology.Clone() }

// Logger returns Config.Logger, or one that discards.
func (p *Pool) Logger() *slog.Logger { return p.cfg.Logger }

// Delete deletes t, within ctx, as topology.Delete does: by default only what is
// empty and unused.
func (p *Pool) Delete(ctx context.Context, t topology.Topology, opt topology.DeleteOptions) error {
	ch, err := p.Acquire(ctx, p.cfg.First)
	if err != nil {
		return err
	}
	defer ch.Release()
	return ch.Call(ctx, "delete topology", func(raw *amqp.Channel) error {
		return topology.Delete(ctx, raw, t, opt)
	})
}

// OnClose has drain called when Close begins, before the connections are hung
// up: those of Consuming first, all at once, then those of Publishing, because
// a handler may publish. A drain must return when its ctx ends. remove takes it
// back. The error is ErrClosed when role is being drained already.
func (p *Pool) OnClose(role Role, drain func(context.Context) error) (remove func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining[role] {
		return nil, ErrClosed
	}
	entry := &drain
	p.drains[role] = append(p.drains[role], entry)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.drains[role] = slices.DeleteFunc(p.drains[role], func(e *func(context.Context) error) bool { return e == entry })
	}, nil
}

// admit is ErrClosed once role is being drained: nobody would drain who comes then.
func (p *Pool) admit(role Role) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining[role] {
		return ErrClosed
	}
	return nil
}

// Close drains the consumers and then the producers of this pool, hangs up, and
// waits for every goroutine. Who begins to use a role when it is being drained gets
// ErrClosed: while the consumers finish, their handlers can still publish. What does not finish before ctx ends is cut off;
// the error says what that was. A ctx that has ended already, as after a signal,
// drains nothing: give Close one of its own. Further calls wait for the first and return
// what it returned. It must not be called from OnStateChange.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	if closed := p.closed; closed != nil {
		p.mu.Unlock()
		select {
		case <-closed:
			return p.closeErr
		case <-ctx.Done():
			return fmt.Errorf("close pool: %w", context.Cause(ctx))
		}
	}
	ctx, p.cutShort = context.WithCancel(ctx)
	defer p.cutShort()
	p.closed = make(chan struct{})
	p.closing = ctx
	p.mu.Unlock()

	var errs []error
	for _, role := range []Role{Consuming, Publishing} {
		errs = append(errs, p.drain(ctx, role)...)
	}
	for _, l := range p.links {
		l.seal()
	}
	p.stop()
	p.owners.Wait()
	for _, l := range p.links {
		if l.read().State != Closed {
			l.become(Closed, nil, ErrClosed, 0) // never started, or failed
		}
	}
	p.mu.Lock()
	p.sealed = true
	p.mu.Unlock()
	p.background.Wait()
	p.notifier.relay.Close()
	select {
	case <-p.notifier.relay.Ended():
	case <-ctx.Done():
		select {
		case <-p.notifier.relay.Ended():
		case <-time.After(farewell): // it may only not have had its turn yet
			errs = append(errs, errors.New("OnStateChange has not returned"))
		}
	}
	p.closeErr = errors.Join(errs...)
	close(p.closed)
	return p.closeErr
}

// CloseNow hangs up at once: nothing is drained, nothing flushed. It waits for
// the goroutines of the pool, but not for an OnStateChange that does not return.
// A Close that is under way is cut short. It must not be called from
// OnStateChange.
func (p *Pool) CloseNow() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.Close(ctx)
	p.mu.Lock()
	cut, closed := p.cutShort, p.closed
	p.mu.Unlock()
	cut()
	<-closed
}

// begin runs f on a goroutine that Close waits for, and reports false once
// Close waits.
func (p *Pool) begin(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sealed {
		return false
	}
	p.background.Go(f)
	return true
}

func (p *Pool) drain(ctx context.Context, role Role) []error {
	p.mu.Lock()
	p.draining[role] = true
	drains := slices.Clone(p.drains[role])
	p.mu.Unlock()
	errs := make([]error, len(drains))
	var wg sync.WaitGroup
	for i, d := range drains {
		wg.Go(func() { errs[i] = (*d)(ctx) })
	}
	wg.Wait()
	return errs
}

// everUp reports whether any connection of the pool was ever made.
func (p *Pool) everUp() bool {
	for _, l := range p.links {
		if l.everUp() {
			return true
		}
	}
	return false
}

func (p *Pool) closingContext() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closing
}
