package topology

import (
	"context"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Declare declares t on ch: exchanges, then queues, then bindings. Declaring what
// exists already with the same definition changes nothing, so it can be repeated.
//
// Declare validates t first and sends nothing if there is a fault. It stops at
// the first error, a *DeclareError, because with it the broker closes the channel
// (for some errors the connection): what came before it stays declared, and the
// rest can be declared on a new channel only.
//
// ctx is looked at between the calls to the broker. One call is not bounded here:
// the driver has no limit for it, and during an alarm the broker may not answer a
// publishing connection at all. reconnect.Pool, which declares its topology
// itself, bounds each call; other callers have to close the channel.
func Declare(ctx context.Context, ch *amqp.Channel, t Topology) error {
	if err := t.Validate(); err != nil {
		return err
	}
	t = Topology{}.Merge(t) // a Passive use is made before the definition otherwise
	for _, e := range t.Exchanges {
		if err := interrupted(ctx, "declare", EntityExchange, e.Name); err != nil {
			return err
		}
		if err := declareExchange(ch, e); err != nil {
			return err
		}
	}
	for _, q := range t.Queues {
		if err := interrupted(ctx, "declare", EntityQueue, q.Name); err != nil {
			return err
		}
		if _, err := declareQueue(ch, q); err != nil {
			return err
		}
	}
	for _, b := range t.Bindings {
		if err := interrupted(ctx, "bind", EntityBinding, b.String()); err != nil {
			return err
		}
		if err := bind(ch, b); err != nil {
			return err
		}
	}
	return nil
}

// DeclareQueue declares one queue and its bindings on ch, as a consumer's session
// does with a queue of its own, and returns its name, which the broker chose if
// q.Name is empty, and how many messages and consumers it had. An empty Queue in
// a binding means this queue. For the rest it is like Declare.
func DeclareQueue(ctx context.Context, ch *amqp.Channel, q Queue, bindings ...Binding) (amqp.Queue, error) {
	if err := q.Validate(bindings...); err != nil {
		return amqp.Queue{}, err
	}
	if err := interrupted(ctx, "declare", EntityQueue, q.Name); err != nil {
		return amqp.Queue{}, err
	}
	declared, err := declareQueue(ch, q)
	if err != nil {
		return amqp.Queue{}, err
	}
	for _, b := range bindings {
		b.Queue = declared.Name
		if err := interrupted(ctx, "bind", EntityBinding, b.String()); err != nil {
			return declared, err
		}
		if err := bind(ch, b); err != nil {
			return declared, err
		}
	}
	return declared, nil
}

func declareExchange(ch *amqp.Channel, e Exchange) error {
	declare, args := ch.ExchangeDeclare, e.DeclareArguments()
	if e.Passive { // the broker compares nothing of it, and the arguments need not be right
		declare, args = ch.ExchangeDeclarePassive, nil
	}
	err := declare(e.Name, string(e.DeclaredKind()), !e.Transient, e.AutoDelete, e.Internal, false, args)
	return explain(err, attempt{op: "declare", entity: EntityExchange, name: e.Name, passive: e.Passive})
}

func declareQueue(ch *amqp.Channel, q Queue) (amqp.Queue, error) {
	declare, args := ch.QueueDeclare, q.DeclareArguments()
	if q.Passive { // as in declareExchange
		declare, args = ch.QueueDeclarePassive, nil
	}
	declared, err := declare(q.Name, !q.Transient, q.AutoDelete, q.Exclusive, false, args)
	return declared, explain(err, attempt{op: "declare", entity: EntityQueue, name: q.Name, passive: q.Passive})
}

func bind(ch *amqp.Channel, b Binding) error {
	args := normalTable(b.Arguments)
	var err error
	if b.ToExchange != "" {
		err = ch.ExchangeBind(b.ToExchange, b.RoutingKey, b.Exchange, false, args)
	} else {
		err = ch.QueueBind(b.Queue, b.RoutingKey, b.Exchange, false, args)
	}
	return explain(err, attempt{op: "bind", entity: EntityBinding, name: b.String()})
}

func unbind(ch *amqp.Channel, b Binding) error {
	args := normalTable(b.Arguments)
	var err error
	if b.ToExchange != "" {
		err = ch.ExchangeUnbind(b.ToExchange, b.RoutingKey, b.Exchange, false, args)
	} else {
		err = ch.QueueUnbind(b.Queue, b.RoutingKey, b.Exchange, args)
	}
	return explain(err, attempt{op: "unbind", entity: EntityBinding, name: b.String()})
}

// interrupted reports that ctx ended before the next call.
func interrupted(ctx context.Context, op string, entity Entity, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, entityName(entity, name), err)
	}
	return nil
}
