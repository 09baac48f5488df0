// Package amqppeer is the broker's side of AMQP 0-9-1 for the tests of producer,
// consumer and the tools: it answers what it is not told to hold, notes every method that
// it receives, in order, and says exactly what a test has it say, at the moment
// and in the pieces that the test chooses.
//
// It is no broker: it keeps no queue and checks no rule. It stands in until
// there is mqtest, which replaces it.
package amqppeer
