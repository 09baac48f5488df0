package topology

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// QueueType is the kind of storage behind a queue.
type QueueType string

// The queue types of RabbitMQ.
const (
	Quorum  QueueType = "quorum"  // replicated, durable; the default where it is allowed
	Classic QueueType = "classic" // on one node
	Stream  QueueType = "stream"  // a replicated log that consuming does not empty
)

// Overflow is what a full queue does with one message more.
type Overflow string

// What a full queue can do. RejectPublishDLX works on classic queues only: a
// quorum queue takes the argument and drops its oldest message all the same.
const (
	DropHead         Overflow = "drop-head"          // drops or dead-letters its oldest message; the broker's default
	RejectPublish    Overflow = "reject-publish"     // nacks the new message
	RejectPublishDLX Overflow = "reject-publish-dlx" // nacks the new message and dead-letters it
)

// DeadLetterStrategy is how a quorum queue hands on its dead letters.
type DeadLetterStrategy string

// How dead letters travel. AtLeastOnce needs a dead-letter exchange and
// Overflow: RejectPublish as well; without them the broker silently does
// AtMostOnce, so Validate asks for all three.
const (
	AtMostOnce  DeadLetterStrategy = "at-most-once"  // a dead letter can be lost on the way; the broker's default
	AtLeastOnce DeadLetterStrategy = "at-least-once" // kept until the target queue has confirmed it
)

// Unlimited is the DeliveryLimit of a queue that redelivers for ever. RabbitMQ
// before 4.0 takes it for a limit of 0, and drops every message that comes back:
// there it must not be sent, see [Topology.For]. What is given back to a quorum queue
// without a limit goes to its end, so that its log can be cut off; with one it goes
// back to its place (RabbitMQ's guide to quorum queues, "Repeated Requeues").
const Unlimited = -1

// DelayedRetryType is which requeued deliveries a quorum queue delays.
type DelayedRetryType string

// Which deliveries are delayed. What is returned (by nack with requeue) is not
// counted and so stays at the shortest delay and never meets the delivery limit;
// DelayReturned and DelayAll also delay what a draining consumer gives back.
const (
	DelayFailed   DelayedRetryType = "failed"   // rejected with requeue, or its channel or connection was lost
	DelayReturned DelayedRetryType = "returned" // nacked with requeue
	DelayAll      DelayedRetryType = "all"
	DelayDisabled DelayedRetryType = "disabled"
)

// DelayedRetry makes a quorum queue of RabbitMQ 4.3 or newer wait before it
// delivers a failed message again: min(Min times the number of failures, Max).
// Older brokers take the arguments in silence and retry at once. The zero value
// sends nothing.
type DelayedRetry struct {
	// Type defaults to DelayFailed when Min or Max is set.
	Type DelayedRetryType
	// Min is the delay after the first failure, in whole milliseconds. There is no
	// delay at all without it.
	Min time.Duration
	// Max is the longest delay, in whole milliseconds. Defaults to Min.
	Max time.Duration
}

// Queue is a queue to declare. Queue{Name: "q"} is a durable quorum queue. What
// the fields mean to the broker is in its own documentation of queue arguments;
// a field left at its zero value is not sent, and the broker's default applies.
type Queue struct {
	// Name is the queue's name, at most 255 bytes. Empty lets the broker choose
	// one (amq.gen-...), which only a consumer's session can use, see PerSession.
	Name string

	// Type defaults to Quorum, and to Classic where the broker allows nothing
	// else: for a queue that is Transient, Exclusive or AutoDelete, or has no name.
	// It is always sent, because the broker's own default can be changed.
	Type QueueType

	// Transient makes a queue that a broker restart removes. Defaults to durable.
	// RabbitMQ is phasing out transient queues that are not Exclusive.
	Transient bool

	// Exclusive makes a queue that belongs to one connection and goes with it.
	// Defaults to shared.
	Exclusive bool

	// AutoDelete makes the broker delete the queue, with its messages, when its
	// last consumer goes. Defaults to staying.
	AutoDelete bool

	// Passive uses the queue as it is: nothing is declared or compared, it only has
	// to exist. The other fields then only describe it. Defaults to declaring it.
	Passive bool

	// DeadLetterExchange gets the messages that were rejected, expired, or pushed
	// out. Defaults to none: they are dropped.
	DeadLetterExchange string

	// DeadLetterRoutingKey replaces the routing key of dead letters. Defaults to
	// keeping theirs.
	DeadLetterRoutingKey string

	// DeadLetterQueue sends dead letters straight into the queue of that name,
	// through the default exchange. Instead of the two fields above.
	DeadLetterQueue string

	// DeadLetterStrategy defaults to AtMostOnce. Quorum queues only.
	DeadLetterStrategy DeadLetterStrategy

	// MessageTTL is how long a message may wait, in whole milliseconds. Defaults to
	// for ever. (For a TTL of 0 use Arguments.)
	MessageTTL time.Duration

	// Expires is how long the queue may be unused before the broker deletes it, in
	// whole milliseconds. Defaults to for ever.
	Expires time.Duration

	// MaxLength is the largest number of ready messages. Defaults to no limit.
	MaxLength int64

	// MaxLengthBytes is the largest sum of ready bodies, or the size of a stream.
	// Defaults to no limit.
	MaxLengthBytes int64

	// Overflow defaults to DropHead.
	Overflow Overflow

	// DeliveryLimit is how many failed deliveries a message of a quorum queue
	// survives; after the next one it is dead-lettered or dropped. Zero sends
	// nothing: 20 since RabbitMQ 4.0, no limit before. Unlimited sends -1, or nothing
	// where [Queue.For] has seen to it. (For a limit of 0 use Arguments.)
	DeliveryLimit int64

	// MaxPriority makes a classic queue with that many priorities, 1 to 255.
	// Defaults to none. A quorum queue knows priorities by itself since RabbitMQ
	// 4.0, and refuses this.
	MaxPriority uint8

	// SingleActiveConsumer gives all deliveries to one consumer at a time. Defaults
	// to all consumers.
	SingleActiveConsumer bool

	// DelayedRetry defaults to none: a requeued message comes back at once.
	DelayedRetry DelayedRetry

	// ConsumerTimeout is how long a delivery may stay unsettled, in whole
	// milliseconds. Defaults to the broker's setting, 30 minutes.
	ConsumerTimeout time.Duration

	// MaxAge is how long a stream keeps its messages, in whole seconds. Defaults to
	// for ever.
	MaxAge time.Duration

	// MaxSegmentBytes is the size of a stream's segment files, at most 3 GB: what a
	// stream drops, it drops by the segment. Defaults to 500 MB.
	MaxSegmentBytes int64

	// Arguments are sent as they are, besides what the fields above say. A Go int
	// is sent as a 64-bit integer. Defaults to none.
	Arguments amqp.Table
}

// PerSession reports whether the queue belongs to one consumer's session: it is
// exclusive, auto-delete or server-named, so that it does not outlive what
// declared it, and is declared again by each new session.
func (q Queue) PerSession() bool {
	return q.Name == "" || (!q.Passive && (q.Exclusive || q.AutoDelete))
}

// DeclaredType is the type that is sent to the broker: Type, or its default.
func (q Queue) DeclaredType() QueueType {
	switch {
	case q.Type != "":
		return q.Type
	case q.Transient || q.Exclusive || q.AutoDelete || q.Name == "":
		return Classic
	}
	return Quorum
}

// DeadLetters reports whether the definition names a place for dead letters. A
// policy on the broker can name one without it.
func (q Queue) DeadLetters() bool {
	_, named := q.DeclareArguments()["x-dead-letter-exchange"]
	return named
}

// DeclareArguments returns the table that is sent in queue.declare, with the
// queue type in it.
func (q Queue) DeclareArguments() amqp.Table {
	args := normalTable(q.Arguments)
	args[queueTypeArgument] = string(q.DeclaredType())
	for _, a := range queueArguments {
		if a.get == nil {
			continue
		}
		if v := a.get(q); v != nil {
			args[a.key] = v
		}
	}
	return args
}

// differingQueue returns the names of what differs between two definitions.
func differingQueue(a, b Queue) []string {
	var d []string
	if a.Transient != b.Transient {
		d = append(d, "Transient")
	}
	if a.Exclusive != b.Exclusive {
		d = append(d, "Exclusive")
	}
	if a.AutoDelete != b.AutoDelete {
		d = append(d, "AutoDelete")
	}
	return append(d, differingKeys(a.DeclareArguments(), b.DeclareArguments())...)
}
