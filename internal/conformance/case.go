package conformance

import (
	"slices"
	"strconv"
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

// since has the first series in which the outcome of a case is not the broker's luck,
// where that is not every one: in earlier series it is not played.
var since = map[string]string{
	// Such a queue could fail where it should go, or stay.
	"expires/quorum":                             "4.3",
	"expires/quorum-whoever-looks":               "4.3",
	"expires/quorum-not-while-a-message-is-held": "4.3",
	// Nothing is delayed there, and what comes back may be counted yet or not.
	"retry/delayed-are-not-ready": "4.3",
}

// settled reports whether the outcome of the case is always the same in a series.
func (c Case) settled(series string) bool {
	return since[c.Name] == "" || !before(series, since[c.Name])
}

// before compares series by their numbers: 3.10 comes before 4.0.
func before(a, b string) bool {
	return slices.Compare(numbers(a), numbers(b)) < 0
}

func numbers(series string) (list []int) {
	for part := range strings.SplitSeq(series, ".") {
		n, _ := strconv.Atoi(part)
		list = append(list, n)
	}
	return list
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
