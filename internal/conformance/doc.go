// Package conformance is one table of cases that say what a client sees of a
// broker. What RabbitMQ answers to them is recorded in testdata; any other broker
// that claims to behave as RabbitMQ does is held to it:
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, url, "4.3")
//	}
//
// A [Case] is a short script. It drives the broker through [Script], by the real
// driver where the driver can say it and by frames where it cannot, and all that
// comes back is written down as lines of text: replies, the code and text of each
// close, deliveries with their order, key, headers and flags, counts. That
// transcript is compared, nothing else.
//
// # What it guarantees
//
// Expectations are recorded from RabbitMQ and never written by hand:
//
//	AMQP_URL=amqp://127.0.0.1:5672 go test ./internal/conformance -record
//
// records the series that the broker says it is. testdata/4.3.txt has every case;
// the file of another series has those that differ from it. Names are made unique
// for each run and stand in the transcript as the script wrote them, as do times
// and whatever else a broker generates, so a broker can be shared. A case takes
// away what it declared, is bounded in time, and needs no other case.
//
// The [HandCases] need a hand on the broker (an alarm, another vhost) besides its
// URL. They are recorded along if RABBITMQCTL says how to run rabbitmqctl there, as
// in "docker exec NAME rabbitmqctl".
//
// # What it does not
//
// Settings of a broker, users and permissions, restarts and clusters are not among
// the cases.
package conformance
