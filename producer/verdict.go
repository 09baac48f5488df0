package producer

import (
	"errors"
	"fmt"
	"slices"
)

// Verdict is how a message ended. Every message has exactly one.
type Verdict uint8

// The verdicts.
const (
	// Pending: none yet.
	Pending Verdict = iota

	// Confirmed: the broker has taken the message over and, unless it was sent
	// with AllowUnroutable, put it into at least one queue. Persistent messages
	// in durable queues survive its restart.
	Confirmed

	// Returned: no queue took it. The error is a *ReturnedError.
	Returned

	// Nacked: a queue rejected it (it is full and its overflow is
	// reject-publish) or could not keep it. If the message was routed to several
	// queues, others may have kept it. The error is ErrNacked.
	Nacked

	// Refused: it breaks a rule, and would again. The error is a
	// *RefusedError.
	Refused

	// NotSent: it is certain that the broker never saw it. The error is
	// ErrNotSent.
	NotSent

	// Unknown: bytes of it may have reached the broker and no verdict was
	// received. The error is ErrUnconfirmed.
	Unknown
)

func (v Verdict) String() string {
	switch v {
	case Pending:
		return "pending"
	case Confirmed:
		return "confirmed"
	case Returned:
		return "returned"
	case Nacked:
		return "nacked"
	case Refused:
		return "refused"
	case NotSent:
		return "not sent"
	case Unknown:
		return "unknown"
	default:
		return fmt.Sprintf("verdict(%d)", uint8(v))
	}
}

var (
	// ErrNacked is wrapped when the broker nacked the message, see Nacked.
	ErrNacked = errors.New("nacked by the broker")

	// ErrNotSent is wrapped when it is certain that the broker never saw the
	// message: ctx ended, or the producer was closed, before any of it left.
	ErrNotSent = errors.New("not sent")

	// ErrUnconfirmed is wrapped when the message may have reached the broker
	// and no verdict was received: it may or may not be in a queue.
	ErrUnconfirmed = errors.New("sent, but not confirmed")

	// ErrFull is wrapped, with ErrNotSent, by TryPublish when the in-flight bound leaves
	// no room.
	ErrFull = fmt.Errorf("no room: %w", errNoRoom)

	// ErrPending is what Confirmation.Err returns while there is no verdict.
	ErrPending = errors.New("no verdict yet")

	// ErrClosed is wrapped, with ErrNotSent, after Close has begun.
	ErrClosed = errors.New("the producer is closed")
)

// ReturnedError is the broker's word that no queue took the message.
type ReturnedError struct {
	Code       int    // reply code, 312
	Text       string // reply text, NO_ROUTE
	Exchange   string
	RoutingKey string
}

func (e *ReturnedError) Error() string {
	if e.Exchange == "" {
		return fmt.Sprintf("returned by the broker: %d %s: there is no queue %q", e.Code, e.Text, e.RoutingKey)
	}
	return fmt.Sprintf("returned by the broker: %d %s: exchange %q has no queue bound for routing key %q", e.Code, e.Text, e.Exchange, e.RoutingKey)
}

// RefusedError says which rule this message breaks. Its neighbours did not
// suffer.
type RefusedError struct {
	Field  string // of Message, empty when the broker refused it
	Reason string
	Err    error // what the broker said, a *reconnect.BrokerError, or nil
}

func (e *RefusedError) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("refused: %s %s", e.Field, e.Reason)
	}
	return "refused: " + e.Reason
}

// Unwrap returns what the broker said.
func (e *RefusedError) Unwrap() error { return e.Err }

// PublishError is what Publish, Confirmation.Err and Wait return for every
// verdict but Confirmed. It wraps the error of that verdict, and for NotSent and
// Unknown also the reason, such as the ctx's error.
type PublishError struct {
	MessageID string
	Verdict   Verdict

	// MaybeStored tells that an earlier sending of this message, in a session
	// that was lost, may have reached a queue, whatever the verdict of the last
	// one was.
	MaybeStored bool

	Err error
}

func (e *PublishError) Error() string {
	s := fmt.Sprintf("message %s: %v", e.MessageID, e.Err)
	if e.MaybeStored && e.Verdict != Unknown {
		s += " (an earlier sending of it may have been stored)"
	}
	return s
}

// Unwrap returns the verdict's error.
func (e *PublishError) Unwrap() error { return e.Err }

// VerdictOf reads the verdict from an error of this package; nil is Confirmed,
// an error that is not of this package, and a *BatchError, Pending.
func VerdictOf(err error) Verdict {
	if err == nil {
		return Confirmed
	}
	var batch *BatchError
	if errors.As(err, &batch) {
		return Pending // each has its own
	}
	var pe *PublishError
	if errors.As(err, &pe) {
		return pe.Verdict
	}
	return Pending
}

// SafeToRetry reports whether publishing the message of err again cannot make a
// duplicate: it is certain that no queue has it. That is so of Returned, Refused
// and NotSent, unless an earlier sending may have been stored. A nacked message
// may be in one of several queues, an unknown one anywhere. Of a *BatchError it is true
// if it is of each message that failed.
func SafeToRetry(err error) bool {
	var batch *BatchError
	if errors.As(err, &batch) {
		return !slices.ContainsFunc(batch.Failed, func(f BatchFailure) bool { return !SafeToRetry(f.Err) })
	}
	var pe *PublishError
	if !errors.As(err, &pe) || pe.MaybeStored {
		return false
	}
	switch pe.Verdict {
	case Returned, Refused, NotSent:
		return true
	default:
		return false
	}
}
