package engine

import "time"

// Rules says whose behaviour is kept where the series differ.
type Rules uint8

// The series.
const (
	Rules43 Rules = iota // RabbitMQ 4.3
	Rules42              // RabbitMQ 4.0 to 4.2; held to recordings of 4.0
)

// String returns the series.
func (r Rules) String() string {
	if r == Rules42 {
		return "4.2"
	}
	return "4.3"
}

// DefaultMaxMessageSize is RabbitMQ's from 4.0 on.
const DefaultMaxMessageSize = 16 << 20

// DefaultConsumerTimeout is RabbitMQ's: how long a delivery may stay unsettled.
const DefaultConsumerTimeout = 30 * time.Minute

// defaultDeliveryLimit is a quorum queue's, where its arguments name none.
const defaultDeliveryLimit = 20

// Options are a broker's settings. The zero value is RabbitMQ 4.3 as it is
// installed, with the vhost "/".
type Options struct {
	// Rules is the series to be like. Defaults to 4.3.
	Rules Rules
	// Vhosts are there from the start. Defaults to "/".
	Vhosts []string
	// DenyTransientQueues refuses queues that are neither durable nor exclusive,
	// as deprecated_features.permit.transient_nonexcl_queues = false does.
	DenyTransientQueues bool
	// MaxMessageSize is the largest body in bytes. Defaults to 16 MiB.
	MaxMessageSize int
	// ConsumerTimeout is how long a delivery may stay unsettled. By 4.3 rules its
	// consumer is cancelled then, if the queue is a quorum queue; other types have
	// no timeout. By 4.2 rules its channel is closed at the next full minute,
	// whatever the queue. Defaults to 30 minutes; negative means for ever.
	ConsumerTimeout time.Duration
	// Unknown is told of each x- argument of a declare, a bind or a consume that
	// RabbitMQ takes and ignores. Called under the lock. Defaults to nobody.
	Unknown func(arg string)
	// Event is told of everything that happens to a message and to what holds
	// it, in order, under the lock: it must not call back. Defaults to nobody.
	Event func(Event)
}

func (o Options) withDefaults() Options {
	if len(o.Vhosts) == 0 {
		o.Vhosts = []string{"/"}
	}
	if o.MaxMessageSize == 0 {
		o.MaxMessageSize = DefaultMaxMessageSize
	}
	if o.ConsumerTimeout == 0 {
		o.ConsumerTimeout = DefaultConsumerTimeout
	}
	return o
}
