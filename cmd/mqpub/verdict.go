package main

import (
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// tally counts verdicts.
type tally [producer.Unknown + 1]uint64

func (t *tally) add(err error) { t[producer.VerdictOf(err)]++ }

// failed is how many were not confirmed.
func (t *tally) failed() uint64 {
	var n uint64
	for v, count := range t {
		if producer.Verdict(v) != producer.Confirmed {
			n += count
		}
	}
	return n
}

// undecided is how many the broker has said nothing about.
func (t *tally) undecided() uint64 {
	return t[producer.NotSent] + t[producer.Unknown]
}

// accepted reports whether the broker has taken any, if only to give it back.
func (t *tally) accepted() bool {
	return t[producer.Confirmed]+t[producer.Returned]+t[producer.Nacked] > 0
}

// String is "3 failed (2 returned, 1 unknown)".
func (t *tally) String() string {
	s := fmt.Sprintf("%d failed", t.failed())
	var parts []string
	for v := producer.Returned; v <= producer.Unknown; v++ {
		if t[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %v", t[v], v))
		}
	}
	if len(parts) > 0 {
		s += " (" + strings.Join(parts, ", ") + ")"
	}
	return s
}

// messageID is the id under which it was published.
func messageID(s sent) string {
	if s.pending != nil {
		return s.pending.MessageID()
	}
	var e *producer.PublishError
	if errors.As(s.err, &e) {
		return e.MessageID
	}
	return s.message.MessageID
}

// reason is the verdict and why, for one line. ended is why the run has ended, if
// it has: the reason of what has no answer. accepted tells that the broker has
// taken messages of this run.
func reason(err, ended error, accepted bool) string {
	var (
		e        *producer.PublishError
		returned *producer.ReturnedError
		refused  *producer.RefusedError
		broker   *reconnect.BrokerError
	)
	if !errors.As(err, &e) {
		return err.Error()
	}
	text := ""
	switch {
	case errors.As(err, &returned) && returned.Exchange == "":
		text = fmt.Sprintf("there is no queue %q", returned.RoutingKey)
	case errors.As(err, &returned):
		text = fmt.Sprintf("exchange %q has no queue bound for routing key %q", returned.Exchange, returned.RoutingKey)
	case e.Verdict == producer.Nacked:
		text = "a queue did not take it"
	case errors.As(err, &refused) && errors.As(err, &broker):
		text = cli.Explain(broker)
	case errors.As(err, &refused):
		text = strings.TrimPrefix(cli.Explain(refused), "refused: ")
	default:
		text = because(e, ended)
	}
	s := fmt.Sprintf("%v: %s", e.Verdict, text)
	// An earlier sending was refused, too, if it is the message's own fault, or if
	// none was ever taken, as by an exchange that does not exist.
	refusedBefore := e.Verdict == producer.Refused && (!accepted || broker != nil && broker.Code == amqp.PreconditionFailed)
	if e.MaybeStored && e.Verdict != producer.Unknown && !refusedBefore {
		s += " (but an earlier sending of it may be in a queue)"
	}
	return s
}

func because(e *producer.PublishError, ended error) string {
	var (
		lost        *cli.LostError
		timeout     *confirmTimeoutError
		interrupted *cli.Interrupted
	)
	for _, err := range []error{e, ended} {
		switch {
		case errors.As(err, &lost):
			return lost.Error()
		case errors.As(err, &timeout):
			return timeout.Error()
		case errors.As(err, &interrupted):
			return interrupted.Error()
		}
	}
	return cli.Explain(e.Err)
}
