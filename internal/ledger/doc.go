// Package ledger judges what a publisher, a consumer and a broker have written down by
// the promises of docs/guarantees.md. It reads ledgers alone, and shares no code with
// what it judges:
//
//	report := ledger.Check(books)
//	for _, f := range report.Findings { ... }
//
// # What it guarantees
//
// A run without findings kept these promises, which have these numbers in findings:
//
//  1. What was confirmed and not returned was put into a queue, and from there it was
//     given to a consumer who was done with it, or it left by a rule of the topology, or
//     it is there still. No dead letter was lost on its way.
//  2. Nothing was seen that was not published.
//  3. A verdict was said only if the broker said it of the last sending, in that session,
//     of that number; every message has exactly one, which is also what its caller got,
//     and was never sent after it.
//  4. An ack on the wire names a delivery whose handler had finished before, with an ack;
//     what was rejected there, a handler had rejected. What was acked in a session that was
//     closed in good order is in no queue.
//  5. Not sent was said only of what the broker never got; unknown only of what was
//     handed to a connection.
//  6. Every sighting of a message but the first has a cause. With the broker's book it
//     is told exactly, and so is how often the message had failed before; without, at
//     least one must be admissible.
//  7. A message that was returned and not stored by another sending was not confirmed,
//     and not seen.
//  8. What was sent again went in its old order, before anything newer.
//
// That nothing is left running after Close is for the test to see.
//
// # What it does not
//
// All messages are published to one queue, by one publisher, each under an id of its own.
//
// Without the broker's book, as on RabbitMQ, promise 4, and of 3, 5 and 7 what the
// broker said and got, cannot be judged, only what was seen. Of 1 the rules of the
// topology cannot either: give the queue none, or read the queue that it dead-letters to.
package ledger
