// Package clitest is what the tests of the commands share: the test binary that is
// the command too, transcripts of a user that run on a broker in the test's own
// process, and such a broker with a topology.
//
//	func TestMain(m *testing.M) { clitest.Main(m, "mqpub", main) }
//
//	func TestScripts(t *testing.T) {
//		t.Parallel()
//		testscript.Run(t, clitest.Scripts())
//	}
//
// # What it guarantees
//
// Each script has a broker to itself, with nothing in it. A test binary that leaves
// goroutines behind fails.
//
// # What it does not
//
// AMQP_URL names a port where nobody answers until a script sets it to $BROKER_URL:
// what is about usage must not depend on a broker.
package clitest
