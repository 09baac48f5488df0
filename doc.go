// Package mqkit is an AMQP 0-9-1 client toolkit for RabbitMQ: a producer that
// knows the fate of every message, a consumer that never goes silent, and
// topology as a value, on connections that come back by themselves. The code is
// in its packages:
//
//   - [github.com/mqkit/mqkit/reconnect] keeps the connections: it alone dials,
//     retries, and declares a connection dead.
//   - [github.com/mqkit/mqkit/producer] publishes with confirms.
//   - [github.com/mqkit/mqkit/consumer] consumes with manual acks.
//   - [github.com/mqkit/mqkit/topology] describes exchanges, queues and bindings.
//
// Imports point one way: producer and consumer use reconnect, reconnect uses
// topology, and all of them the driver, github.com/rabbitmq/amqp091-go. Its
// channels are within reach wherever the toolkit does not do what is needed.
//
// # What is guaranteed
//
//   - A message for which Publish returned nil was confirmed by the broker and, unless
//     the publisher asked for less, put into a queue.
//   - Every message ends in exactly one verdict: confirmed, returned, nacked,
//     refused, not sent, or unknown. Not sent is certain; unknown is said only
//     when bytes of the message may have left and no answer came.
//   - A message whose verdict was lost with its connection is sent again, with
//     the same message id, before any newer one.
//   - An ack on the wire names a delivery whose handler has finished. A verdict
//     for a delivery of an earlier connection is an error and touches nothing.
//   - A consumer is subscribed, or its Status says why not and it is trying.
//   - mqkit drops no message by default: one whose handler fails goes back to the
//     queue. (RabbitMQ 4.0 to 4.2 count that, up to the queue's delivery limit; see
//     docs/guarantees.md.)
//   - Passwords do not reach an error or a log line.
//   - After Close no goroutine, channel or connection is left.
//
// # What is not
//
// Delivery is at least once. After a lost connection a message may be delivered
// twice, and messages may overtake each other; a consumer tells a repetition by
// the message id. Exactly once takes an idempotent handler.
//
// docs/guarantees.md says where each of these is proven.
package mqkit
