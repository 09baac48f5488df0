package consumer

import (
	"context"
	"fmt"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// named is a queue that the broker has named for a session. The next Run takes it up too.
type named struct {
	name string
	on   *reconnect.Channel
}

// declareOwn declares Config.Declare with its bindings. One that the broker names lives as
// long as its connection: a session that follows another on the same one takes up its queue,
// with all that is in it. To declare another would leave that one bound, and nobody would
// consume it.
func (s *session) declareOwn(ctx context.Context) error {
	r := s.run
	own := r.cfg.Declare.For(s.ch.ServerVersion())
	again := own.Name == "" && r.c.named.name != "" && s.ch.Shares(r.c.named.on)
	if again {
		own = topology.Queue{Name: r.c.named.name, Passive: true}
	}
	var name atomic.Value // the call may go on when ctx ends
	err := s.ch.CallSlow(ctx, "declare the subscription's queue", func(raw *amqp.Channel) error {
		q, err := topology.DeclareQueue(ctx, raw, own, r.cfg.Bindings...)
		name.Store(q.Name)
		return err
	})
	s.queue, _ = name.Load().(string)
	switch {
	case again && s.queue == "" && reconnect.IsMissing(err):
		r.c.named = named{}
		// Somebody has deleted it, or it went with the last Run. Not wrapped, since what
		// is missing is fatal for a first session.
		return fmt.Errorf("%w: %s", reconnect.Again, err.Error())
	case again && s.queue == "": // it may be there
	case r.cfg.Declare.Name == "":
		r.c.named = named{s.queue, s.ch}
	}
	return err
}
