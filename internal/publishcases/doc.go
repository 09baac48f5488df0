// Package publishcases is what a producer promises of a message's verdict, played on a
// broker behind a stage that does the harm. It is run on mqtest and, through
// mqtest.Proxy, on RabbitMQ:
//
//	publishcases.Run(t, func(t *testing.T) publishcases.Stand {
//		return publishcases.Stand{Stage: mqtest.NewProxy(t, url).Stage, Direct: url, Largest: 16 << 20, ...}
//	})
//
// # What it guarantees
//
// A case that passes has had its fault: the stage has counted it, or the connection's
// state has told it. What was stored was counted by the broker, past the stage.
//
// # What it does not
//
// The order of single frames, and what a scripted broker says that RabbitMQ never would,
// is tested in package producer.
package publishcases
