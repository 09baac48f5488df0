// Package consumer consumes a queue of RabbitMQ with manual acks, and never goes
// silent.
//
//	c, err := consumer.New(pool, consumer.Config{Queue: "orders", Workers: 8})
//	if err != nil {
//		return err
//	}
//	err = c.Run(ctx, consumer.JSON(func(ctx context.Context, o Order, d *consumer.Delivery) error {
//		return store(ctx, o) // nil acks; an error gives it back after a pause
//	}))
//
// # What it guarantees
//
// A message is acked only after its handler returned nil (or called Ack). None
// is dropped by mqkit by default: a handler that fails or panics gets the message
// again, after a pause. RabbitMQ 4.0 to 4.2 count that as a failed delivery, and have a
// delivery limit of 20 for quorum queues by default: what is beyond it is dropped if
// the queue has no dead-letter exchange.
//
// Whatever ends the subscription (a lost connection, a channel error, a deleted
// queue, a broker's cancel, an overdue ack), it subscribes again; Status says at
// each moment whether it is subscribed, and if not, why.
//
// Each delivery is settled once, on the session it came from. A verdict that
// comes after the end of that session is ErrStale and touches nothing: the
// broker gives the message out again.
//
// When Run's ctx ends, handlers finish and their acks reach the broker before
// Run returns; what no handler had begun goes back uncounted (before RabbitMQ
// 4.3, where nothing goes back uncounted, it is worked through).
//
// A service that only consumes sets reconnect.Config.First to
// reconnect.Consuming; then it has one connection.
//
// # What it does not
//
// At least once, not exactly once: after a lost session a message whose handler
// had finished can come again. Use MessageID, or make handlers idempotent.
package consumer
