package topology

import (
	"context"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// ErrKept is what errors.Is finds when Delete left something in place because
// deleting it would have cost messages or cut off a consumer.
var ErrKept = errors.New("kept")

// DeleteOptions says what Delete may destroy. The zero value destroys nothing
// that is in use.
type DeleteOptions struct {
	// DiscardMessages deletes queues with the messages in them. Defaults to keeping
	// a queue that is not empty.
	DiscardMessages bool

	// InUse deletes queues that have consumers, and exchanges that have bindings
	// which are not in the topology. Defaults to keeping them.
	InUse bool
}

// Delete deletes what t declares, in reverse: queues with their bindings, then
// the other bindings, then exchanges. What is Passive in t, and the broker's own
// exchanges, are left alone, and what does not exist is no error.
//
// Unless opts allows everything, Delete first looks at all queues and touches
// nothing if one has to be kept: those errors are joined, each of them is
// ErrKept, and the channel stays open. To look, it declares each queue as t
// defines it, so that a queue with another definition is not deleted either (a
// *DeclareError, which closes the channel), and one that does not exist is made
// for a moment. It also needs the permission to read: an empty quorum queue is
// asked for a message, because its message count is 0 when its leader is slow.
//
// There is a gap between looking and deleting. For a classic queue the broker
// closes it; for a quorum queue it cannot (it answers if-empty and if-unused by
// closing the connection), so that a message that arrives in the gap is lost: stop
// the publishers first. A stream tells neither its messages nor its consumers, and
// is deleted only with both options. A message that was delivered and is not yet
// settled counts as long as its consumer is there, and not after a basic.get.
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
		if e.Passive || strings.HasPrefix(e.Name, "amq.") {
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
	found, err := ch.QueueDeclare(q.Name, !q.Transient, q.AutoDelete, q.Exclusive, false, q.DeclareArguments())
	if err != nil {
		return "", explain(err, a)
	}
	if found.Consumers > 0 && !opts.InUse {
		return fmt.Sprintf("it has %s: set InUse to delete it all the same", count(found.Consumers, "consumer")), nil
	}
	if opts.DiscardMessages {
		return "", nil
	}
	if found.Messages > 0 {
		return fmt.Sprintf("it holds %s: set DiscardMessages to lose them", count(found.Messages, "message")), nil
	}
	if q.DeclaredType() == Quorum && found.Consumers == 0 && q.DeclareArguments()["x-single-active-consumer"] != true {
		// A count of 0 proves nothing here: it is also the answer when the leader took
		// longer than 250 ms. A get waits for the leader. (It is refused where there
		// is a single active consumer.)
		message, ok, err := ch.Get(q.Name, false)
		if err != nil {
			return "", explain(err, a)
		}
		if ok {
			if err := message.Nack(false, true); err != nil {
				return "", explain(err, a)
			}
			return "it holds messages: set DiscardMessages to lose them", nil
		}
	}
	return "", nil
}

func deleteQueue(ch *amqp.Channel, q Queue, opts DeleteOptions) error {
	// Only for classic queues does the broker do what these flags say: a quorum
	// queue answers 540 on the connection, a stream ignores them and is gone.
	atomic := q.DeclaredType() == Classic
	_, err := ch.QueueDelete(q.Name, atomic && !opts.InUse, atomic && !opts.DiscardMessages, false)
	return explain(err, attempt{op: "delete", entity: EntityQueue, name: q.Name})
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
