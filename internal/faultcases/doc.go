// Package faultcases is one table of what goes wrong between a client and its
// broker, by the table of package mqtest's documentation: which fault, what the
// bare driver sees of it, and what is in the queue afterwards. It is run on mqtest
// and, through mqtest.Proxy, on RabbitMQ:
//
//	faultcases.Run(t, func(t *testing.T) faultcases.Stand {
//		return faultcases.Stand{Stage: mqtest.NewProxy(t, url).Stage, Direct: url}
//	})
//
// # What it guarantees
//
// A case that passes has had its fault: Hits says so. What it says of the queue was
// read from the broker itself, past the stage, behind everything that the stage had
// passed on. A Direct broker may be shared: queues have names of their own and are
// taken away.
//
// # What it does not
//
// What a broker alone can show (an alarm, a restart, an ack that is counted before
// the connection is cut) and what the driver never shows (how confirms are batched)
// is tested in mqtest.
package faultcases
