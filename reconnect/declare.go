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
const shortPatience = 100 * time.Millisecond

// redeclare declares what it can. What the broker refuses (somebody deleted a queue and
// made another of its name) is passed over, and so is what it does not answer: it looks for
// more than a minute for a classic queue whose node was killed, and is well. All these
// together are waited for no longer than RPCTimeout. They are in Status, and
// are tried again with the next connection, or when a session ends because something was
// missing. An error is about the connection.
func (lf *life) redeclare(ctx context.Context, list []topology.Topology) (err error) {
	patience := lf.link.pool.cfg.RPCTimeout
	faults := &topologyFaults{lf: lf, list: make([]error, len(list)), answered: make([]bool, len(list))}
	var ch *Channel
	for i, entity := range list {
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
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil || lf.conn.reason() != nil:
			_ = ch.close(ctx)
			return err
		case unanswered: // the call ends the channel when it ends
			patience -= time.Since(began)
			err = fmt.Errorf("%w: no answer yet, going on without it", err)
		case IsFatal(err):
			_ = ch.close(ctx) // if the broker has not
		default:
			_ = ch.close(ctx)
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

// topologyFaults are what of a topology could not be declared on one connection.
type topologyFaults struct {
	lf *life

	mu       sync.Mutex // guards what follows
	list     []error    // by entity
	answered []bool
	told     bool
}

// answer takes what the broker has answered, late or not. An error that only says that the
// channel or the connection is closed is no answer.
func (f *topologyFaults) answer(i int, err error) {
	if err != nil && !IsFatal(err) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list[i], f.answered[i] = err, true
	if f.told && !f.lf.isOver() {
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
	defer f.mu.Unlock()
	f.told = true
	err := errors.Join(f.list...)
	if err != nil {
		f.lf.link.pool.cfg.Logger.Warn("the topology could not be declared again", "role", f.lf.link.role, "error", err)
	}
	f.lf.link.setTopologyFault(err)
}

// declare declares t one entity after the other, each a Call of its own: a large
// topology may take long, its single answers may not.
func (c *Channel) declare(ctx context.Context, t topology.Topology) error {
	if err := t.Validate(); err != nil {
		return err
	}
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
