// Package proof plays a publisher and a consumer against a broker that breaks, and has
// package ledger judge what they and the broker have written down. It has tests alone:
//
//	go test ./internal/proof
//
// # What it guarantees
//
// One script (declare, publish, among it what is unroutable and what is nacked, consume
// with every verdict and a panic) is played once for each cut: at each boundary of a
// frame and inside each frame, in both directions, before and after the broker has
// applied it. Each run keeps every promise, comes to its end, and leaves nothing behind.
//
// # What it does not
//
// The broker is mqtest, in memory, in a bubble of testing/synctest: what a disk, a
// network and RabbitMQ itself do is for the integration tests.
package proof
