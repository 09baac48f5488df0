package topology

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Binding routes messages from an exchange to a queue, or to another exchange.
// It names what it connects; neither end has to be part of the same topology.
type Binding struct {
	// Exchange is where messages come from. It cannot be the default exchange,
	// which routes to every queue by its name and to nothing else.
	Exchange string

	// Queue is where they go. Only in the bindings that are given to DeclareQueue
	// it can be empty, for the queue that is declared with them.
	Queue string

	// ToExchange is where they go instead of a queue. Defaults to Queue.
	ToExchange string

	// RoutingKey is the key or pattern, at most 255 bytes. Fanout and headers
	// exchanges ignore it. Defaults to the empty key.
	RoutingKey string

	// Arguments are what a headers exchange matches, with x-match in it. Defaults
	// to none.
	Arguments amqp.Table
}

// String names the binding in errors.
func (b Binding) String() string {
	to := fmt.Sprintf("queue %q", b.Queue)
	if b.ToExchange != "" {
		to = fmt.Sprintf("exchange %q", b.ToExchange)
	}
	return fmt.Sprintf("%q to %s with key %q", b.Exchange, to, b.RoutingKey)
}
