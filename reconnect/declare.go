package reconnect

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

// declare declares the durable topology. Before the first success every error counts, and
// every answer is waited for. Later, what has to do with the topology alone must not keep
// everyone else from working: see redeclare.
func (lf *life) declare(ctx context.Context) error {
	p := lf.link.pool
	t := p.cfg.Topology
	if len(t.Exchanges)+len(t.Queues)+len(t.Bindings) == 0 || p.cfg.NoRedeclare && p.everUp() {
		return nil
	}
	if p.everUp() && !p.cfg.StopOnFatal {
		return lf.redeclare(ctx, entities(t, lf))
	}
	ch, err := lf.channel(ctx)
	if err != nil {
		return err
	}
	err = ch.declare(ctx, t)
	if cerr := ch.close(ctx); err == nil {
		err = cerr
	}
	return err
}

// shortPatience is for a declare once others have cost all of RPCTimeout.
const shortPatience = 500 * time.Millisecond

// redeclare declares what it can. What the broker refuses (somebody deleted a queue and
// made another of its name; a classic queue's node is down) is passed over, and so is what it
// does not answer: it looks for more than a minute for a classic queue whose node was killed,
// and is well. These are waited for no longer than RPCTimeout together, and shortPatience for
// each further one. They are in Status, and are tried again with the next connection, or
// when a session ends because something was missing; but not for leftOutFor what the broker
// has answered by closing the connection (a deprecated feature; its metadata store has no
// majority): nobody would have one for long. An error is about the connection.
//
// Whoever comes while it goes on waits for that, and does not declare it all once more.
func (lf *life) redeclare(ctx context.Context, list []topology.Topology) error {
	select {
	case lf.redeclaring <- struct{}{}:
		defer func() { <-lf.redeclaring }()
		return lf.declareEach(ctx, list)
	default:
	}
	select {
	case lf.redeclaring <- struct{}{}:
		<-lf.redeclaring
		return nil
	case <-lf.conn.gone:
		return lf.lost()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leftOutFor is how long an entity is not declared that has cost the connection: after that
// it may cost another one.
const leftOutFor = 5 * time.Minute

// costlyEntity is what an entity of the topology has cost the pool.
type costlyEntity struct {
	err error
	at  time.Time
}

// leaveOut notes that entity i of the topology has cost the connection.
func (p *Pool) leaveOut(i int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.costly == nil {
		p.costly = map[int]costlyEntity{}
	}
	p.costly[i] = costlyEntity{fmt.Errorf("%w: it has cost the connection, going on without it for %v", err, leftOutFor), time.Now()}
}

// leftOut is why entity i is not to be declared at the moment, or nil.
func (p *Pool) leftOut(i int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.costly[i]; ok && time.Since(c.at) < leftOutFor {
		return c.err
	}
	return nil
}

func (lf *life) declareEach(ctx context.Context, list []topology.Topology) (err error) {
	p := lf.link.pool
	patience := p.cfg.RPCTimeout
	faults := &topologyFaults{lf: lf, alone: !lf.link.serves(lf), list: make([]error, len(list)), answered: make([]bool, len(list))}
	lf.faults.Store(faults)
	var ch *Channel
	for i, entity := range list {
		if err := p.leftOut(i); err != nil {
			faults.pass(i, err)
			continue
		}
		if ch == nil {
			if ch, err = lf.channel(ctx); err != nil {
				return err
			}
		}
		began := time.Now()
		within, cancel := context.WithTimeout(ctx, max(patience, shortPatience))
		err := ch.CallSlow(within, "declare topology", func(raw *amqp.Channel) error {
			err := topology.Declare(ctx, raw, entity)
			faults.answer(i, err) // even if nobody waits any more
			return err
		})
		unanswered := within.Err() != nil
		cancel()
		if err == nil {
			continue
		}
		_ = ch.close(within) // in the background, after the call; if the broker has not
		switch {
		case ctx.Err() != nil || lf.isOver():
			return err
		case unanswered:
			patience -= time.Since(began)
			err = fmt.Errorf("%w: no answer yet, going on without it", err)
		case !isAnswer(err):
			return err
		}
		faults.pass(i, err)
		ch = nil
	}
	faults.tell()
	if ch == nil {
		return nil
	}
	return ch.close(ctx)
}

// isAnswer reports whether an error says something about what was to be declared, and not
// only that the channel or the connection is closed.
func isAnswer(err error) bool { return asBrokerError(err) != nil || IsFatal(err) }

// topologyFaults are what of a topology could not be declared on one connection.
type topologyFaults struct {
	lf    *life
	alone bool // nobody else uses the connection yet

	mu       sync.Mutex // guards what follows
	list     []error    // by entity
	answered []bool
	told     bool
}

// answer takes what the broker has answered, late or not. Too late is what comes when all
// is being declared once more.
func (f *topologyFaults) answer(i int, err error) {
	if err != nil && !isAnswer(err) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// Who is alone on the connection, or has not been answered for so long, is it that
	// cost the connection; else it may have been anybody, and the next declare will tell.
	if late := f.list[i] != nil; f.lf.isOver() && saidOnIt(err) && (f.alone || late) {
		f.lf.link.pool.leaveOut(i, err)
	}
	f.list[i], f.answered[i] = err, true
	if f.told && f.lf.faults.Load() == f && !f.lf.isOver() {
		f.lf.link.setTopologyFault(errors.Join(f.list...))
	}
}

// pass notes why an entity is passed over, unless there is an answer by now.
func (f *topologyFaults) pass(i int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.answered[i] {
		f.list[i] = err
	}
}

// tell has the faults in Status, and the log.
func (f *topologyFaults) tell() {
	f.mu.Lock()
	f.told = true
	err := errors.Join(f.list...)
	f.lf.link.setTopologyFault(err)
	f.mu.Unlock()
	if err != nil {
		f.lf.link.pool.cfg.Logger.Warn("the topology could not be declared again", "role", f.lf.link.role, "error", err)
	}
}

// declare declares t, which is valid, one entity after the other, each a Call of its own: a
// large topology may take long, its single answers may not.
func (c *Channel) declare(ctx context.Context, t topology.Topology) error {
	for _, entity := range entities(t, c.life) {
		err := c.CallSlow(ctx, "declare topology", func(raw *amqp.Channel) error {
			return topology.Declare(ctx, raw, entity)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// entities takes t apart, in the order in which topology.Declare declares it: what is used
// passively is declared first if it is declared at all.
func entities(t topology.Topology, lf *life) (list []topology.Topology) {
	t = topology.Topology{}.Merge(t).For(lf.serverVersion())
	for _, e := range t.Exchanges {
		list = append(list, topology.Topology{Exchanges: []topology.Exchange{e}})
	}
	for _, q := range t.Queues {
		list = append(list, topology.Topology{Queues: []topology.Queue{q}})
	}
	for _, b := range t.Bindings {
		list = append(list, topology.Topology{Bindings: []topology.Binding{b}})
	}
	return list
}
