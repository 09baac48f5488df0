package conformance

import (
	"slices"
	"strings"
)

// Case is one behaviour of a broker.
type Case struct {
	// Name is the subject and what is claimed, as in "queue/passive-missing".
	Name string

	// Run drives the broker. What the broker does is written down by the script,
	// so there is nothing to return.
	Run func(*Script)
}

// Subject is the part of the name before the slash.
func (c Case) Subject() string {
	subject, _, _ := strings.Cut(c.Name, "/")
	return subject
}

// Cases are all cases, by subject in the order of the protocol.
var Cases = slices.Concat(
	handshakeCases,
	connectionCases,
	frameCases,
	exchangeCases,
	queueCases,
	routingCases,
	consumeCases,
	ackCases,
	confirmCases,
	expiryCases,
	limitCases,
	deadLetterCases,
	deliveryLimitCases,
	priorityCases,
	streamCases,
	argumentCases,
	propertyCases,
	formCases,
	replyToCases,
	timeoutCases,
)
