package topology

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// ErrKept is what errors.Is finds when Delete left something in place because
// deleting it would have cost messages or cut off a consumer.
var ErrKept = errors.New("kept")

// DeleteOptions says what Delete may destroy. The zero value destroys nothing
// that is in use.
type DeleteOptions struct {
	// DiscardMessages deletes queues with the messages in them. Defaults to keeping
	// a queue that is not empty, or that cannot tell whether it is.
	DiscardMessages bool

	// InUse deletes exchanges that have bindings which are not in the topology
	// and, together with DiscardMessages, queues that have consumers: no broker
	// tells how much these have not settled. Defaults to keeping them.
	InUse bool
}

// Delete deletes what t declares, in reverse: queues with their bindings, then
// the other bindings, then exchanges. What is Passive in t, and the broker's own
// exchanges, are left alone, and what does not exist is no error.
//
// Unless opts allows everything, Delete first looks at all queues and deletes
// nothing if one has to be kept: those errors are joined, each of them is
// ErrKept, and the channel stays open. To look, it declares each queue as t
// defines it, so that a queue with another definition is not deleted either (a
// *DeclareError, which closes the channel), and one that does not exist is made,
// and stays if Delete goes no further. It also needs the permission to read: an
// empty quorum queue is asked for a message, because its message count is 0 when
// its leader is slow. A message that comes is given back, which before RabbitMQ
// 4.3 counts as a failed delivery.
//
// Some queues do not tell whether they are empty. A stream is deleted only with
// both options, and so is a quorum queue with a single active consumer that seems
// empty; one with a delayed retry only with DiscardMessages, because messages
// that wait for their retry are not counted. Nor are dead letters that an
// AtLeastOnce queue still has because the place for them does not take them:
// they are lost with the queue.
//
// There is a gap between looking and deleting. For a classic queue the broker
// closes it; for a quorum queue it cannot (it answers if-empty and if-unused by
// closing the connection), so that a message that arrives in the gap is lost: stop
// the publishers first. So is one that was taken by basic.get and is not yet
// settled.
//
// ctx, errors and the time of one call are as in Declare.
func Delete(ctx context.Context, ch *amqp.Channel, t Topology, opts DeleteOptions) error {
	if err := t.Validate(); err != nil {
		return err
	}
	t = Topology{}.Merge(t)
	if err := inspect(ctx, ch, t, opts); err != nil {
		return err
	}
	deleted := make(map[string]bool)
	for _, q := range t.Queues {
		if q.Passive {
			continue
		}
		if err := interrupted(ctx, "delete", EntityQueue, q.Name); err != nil {
			return err
		}
		if err := deleteQueue(ch, q, opts); err != nil {
			return err
		}
		deleted[q.Name] = true
	}
	for _, b := range t.Bindings {
		if b.ToExchange == "" && deleted[b.Queue] {
			continue
		}
		if err := interrupted(ctx, "unbind", EntityBinding, b.String()); err != nil {
			return err
		}
		if err := unbind(ch, b); err != nil {
			return err
		}
	}
	for _, e := range t.Exchanges {
		if e.Passive || isBrokersOwn(e.Name) {
			continue
		}
		if err := interrupted(ctx, "delete", EntityExchange, e.Name); err != nil {
			return err
		}
		err := ch.ExchangeDelete(e.Name, !opts.InUse, false)
		if err := explain(err, attempt{op: "delete", entity: EntityExchange, name: e.Name}); err != nil {
			return err
		}
	}
	return nil
}

// inspect joins an ErrKept for each queue that opts does not allow to delete.
func inspect(ctx context.Context, ch *amqp.Channel, t Topology, opts DeleteOptions) error {
	if opts.DiscardMessages && opts.InUse {
		return nil
	}
	var kept []error
	for _, q := range t.Queues {
		if q.Passive {
			continue
		}
		if err := interrupted(ctx, "delete", EntityQueue, q.Name); err != nil {
			return err
		}
		reason, err := reasonToKeep(ch, q, opts)
		if err != nil {
			return err
		}
		if reason != "" {
			kept = append(kept, &DeclareError{Op: "delete", Entity: EntityQueue, Name: q.Name, Cause: CauseKept, Err: ErrKept, advice: "kept: " + reason})
		}
	}
	return errors.Join(kept...)
}

func reasonToKeep(ch *amqp.Channel, q Queue, opts DeleteOptions) (string, error) {
	if q.DeclaredType() == Stream {
		return "a stream does not tell whether it is empty and unused: set DiscardMessages and InUse to delete it", nil
	}
	a := attempt{op: "delete", entity: EntityQueue, name: q.Name}
	args := q.DeclareArguments()
	quorum := q.DeclaredType() == Quorum
	look := func() (amqp.Queue, error) {
		found, err := ch.QueueDeclare(q.Name, !q.Transient, q.AutoDelete, q.Exclusive, false, args)
		return found, explain(err, a)
	}
	found, err := look()
	if err != nil {
		return "", err
	}
	if quorum && found.Messages == 0 && found.Consumers == 0 {
		// This proves nothing: it is also the answer when the leader took longer than
		// 250 ms. A get waits for the leader, and the next look comes when it is awake.
		if args["x-single-active-consumer"] == true { // a get is refused
			return "a quorum queue with a single active consumer does not tell for certain that it is empty and unused: set DiscardMessages and InUse to delete it", nil
		}
		message, ok, err := ch.Get(q.Name, false)
		if err != nil {
			return "", explain(err, a)
		}
		if ok {
			if err := message.Nack(false, true); err != nil {
				return "", explain(err, a)
			}
			if opts.DiscardMessages {
				return "its leader was too slow to tell its consumers: try again, or set InUse", nil
			}
			return "it holds messages: set DiscardMessages to lose them", nil
		}
		if found, err = look(); err != nil {
			return "", err
		}
	}
	retry, delayed := args["x-delayed-retry-type"]
	switch {
	case found.Consumers > 0 && !opts.InUse:
		return fmt.Sprintf("it has %s: set InUse and DiscardMessages to delete it all the same", count(found.Consumers, "consumer")), nil
	case opts.DiscardMessages:
		return "", nil
	case found.Messages > 0:
		return fmt.Sprintf("it holds %s: set DiscardMessages to lose them", count(found.Messages, "message")), nil
	case found.Consumers > 0:
		return fmt.Sprintf("it has %s, and does not tell what is delivered and not settled: set DiscardMessages to lose that", count(found.Consumers, "consumer")), nil
	case quorum && delayed && retry != string(DelayDisabled):
		return "it does not count the messages that wait for their retry: set DiscardMessages to lose them", nil
	}
	return "", nil
}

func deleteQueue(ch *amqp.Channel, q Queue, opts DeleteOptions) error {
	// Only for classic queues does the broker do what these flags say: a quorum
	// queue answers 540 on the connection, a stream ignores them and is gone.
	classic := q.DeclaredType() == Classic
	ifUnused := classic && (!opts.InUse || !opts.DiscardMessages)
	ifEmpty := classic && !opts.DiscardMessages
	_, err := ch.QueueDelete(q.Name, ifUnused, ifEmpty, false)
	return explain(err, attempt{op: "delete", entity: EntityQueue, name: q.Name})
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
