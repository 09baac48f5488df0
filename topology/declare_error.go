package topology

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Cause sorts what went wrong while declaring or deleting, by what can be done
// about it.
type Cause int

// The causes. Unavailable and Locked can pass by themselves; the others stay
// until the topology or the broker is changed.
const (
	CauseOther        Cause = iota // none of the below; also a channel that was closed already
	CauseInequivalent              // 406: it exists with another definition
	CauseInvalid                   // 406, 503: the broker refuses the definition, or a limit is reached
	CauseNotFound                  // 404: it does not exist
	CauseAccess                    // 403: no permission, or the name belongs to the broker
	CauseLocked                    // 405: another connection owns it exclusively
	CauseDeprecated                // 541: a deprecated feature that this broker denies
	CauseUnavailable               // 541: the broker's metadata store has no majority at the moment; 404: the queue's node or leader is away
	CauseKept                      // Delete kept it, see ErrKept
)

// String returns the cause in one or two words.
func (c Cause) String() string {
	switch c {
	case CauseInequivalent:
		return "inequivalent"
	case CauseInvalid:
		return "invalid"
	case CauseNotFound:
		return "not found"
	case CauseAccess:
		return "access refused"
	case CauseLocked:
		return "locked"
	case CauseDeprecated:
		return "deprecated"
	case CauseUnavailable:
		return "unavailable"
	case CauseKept:
		return "kept"
	}
	return "other"
}

// DeclareError says which exchange, queue or binding could not be declared, bound
// or deleted, why, and what to do. It wraps the driver's *amqp.Error, so that
// errors.As finds the broker's own words.
type DeclareError struct {
	Op     string // declare, bind, unbind or delete
	Entity Entity
	Name   string // of the exchange or queue; for a binding what String says
	Cause  Cause
	Code   int // the AMQP reply code; 0 if the broker did not answer

	// Argument, Have and Want are set for CauseInequivalent: the first argument or
	// property that differs (the broker names no other), what exists, and what was
	// asked for. "none" stands for an argument that is not there. The broker cuts its
	// text at 255 bytes: after a long name Have ends in three dots or is empty.
	Argument, Have, Want string

	Err error // what the driver returned

	passive bool
	advice  string // overrides the sentence of Cause
}

// Error is one line: what was attempted, what is in the way, and the way out.
func (e *DeclareError) Error() string {
	return e.Op + " " + entityName(e.Entity, e.Name) + ": " + e.sentence()
}

// Unwrap returns what the driver returned.
func (e *DeclareError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrKept) true for CauseKept.
func (e *DeclareError) Is(target error) bool { return target == ErrKept && e.Cause == CauseKept }

func entityName(entity Entity, name string) string {
	switch {
	case entity == EntityBinding:
		return name
	case name == "":
		return "server-named " + string(entity)
	}
	return string(entity) + " " + strconv.Quote(name)
}

// attempt is what was sent when an error came back.
type attempt struct {
	op      string
	entity  Entity
	name    string
	passive bool
}

// explain sorts an error of the driver. Only what the broker itself said is
// sorted: the driver makes up codes of its own for a lost connection.
func explain(err error, a attempt) error {
	if err == nil {
		return nil
	}
	e := &DeclareError{Op: a.op, Entity: a.entity, Name: a.name, Err: err, passive: a.passive}
	var reply *amqp.Error
	if !errors.As(err, &reply) || !reply.Server {
		return e
	}
	e.Code = reply.Code
	text := brokerText(reply.Reason)
	switch reply.Code {
	case amqp.PreconditionFailed:
		e.Cause = CauseInvalid
		switch {
		case e.parseInequivalent(text):
			e.Cause = CauseInequivalent
		case a.op == "delete" && (strings.HasSuffix(text, " in use") || strings.HasSuffix(text, " not empty")):
			e.Cause = CauseKept
		}
	case amqp.CommandInvalid: // an unknown kind of exchange, before 4.0
		e.Cause = CauseInvalid
	case amqp.NotFound:
		e.Cause = CauseUnavailable
		if strings.HasPrefix(text, "no ") { // "no queue 'q' in vhost '/'"; else it is there
			e.Cause = CauseNotFound
		}
	case amqp.AccessRefused:
		e.Cause = CauseAccess
	case amqp.ResourceLocked:
		e.Cause = CauseLocked
	case amqp.InternalError:
		switch {
		case strings.Contains(text, "is deprecated"):
			e.Cause = CauseDeprecated
		case strings.Contains(text, "timed out") || strings.Contains(text, "timeout"):
			e.Cause = CauseUnavailable
		}
	}
	return e
}

// parseInequivalent reads "inequivalent arg 'ARG' for queue 'NAME' in vhost
// 'VHOST': received WANT but current is HAVE". The reply text is cut at 255 bytes.
func (e *DeclareError) parseInequivalent(text string) bool {
	rest, ok := strings.CutPrefix(text, "inequivalent arg '")
	if !ok {
		return false
	}
	e.Argument, rest, _ = strings.Cut(rest, "' for ")
	_, rest, _ = strings.Cut(rest, e.Name)
	_, rest, _ = strings.Cut(rest, "': received ")
	const between = " but current is "
	i := strings.LastIndex(rest, between)
	if strings.HasPrefix(rest, "none"+between) { // what follows can be any text
		i = len("none")
	}
	if i >= 0 {
		e.Want, e.Have = brokerValue(rest[:i]), brokerValue(rest[i+len(between):])
	}
	return true
}

// brokerValue takes the value out of "'v'", "the value 'v' of type 't'" or "none".
// The last value of a text that was cut ends in three dots, as the text does.
func brokerValue(s string) string {
	if v, ok := strings.CutPrefix(s, "the value "); ok {
		s = v
		if i := strings.LastIndex(v, "' of "); i >= 0 {
			s = v[:i+1]
		}
	}
	if v, ok := strings.CutPrefix(s, "'"); ok {
		return strings.TrimSuffix(v, "'")
	}
	return s
}

// brokerText takes the code's name off the front and makes one line of the rest.
func brokerText(reason string) string {
	if _, text, ok := strings.Cut(reason, " - "); ok {
		reason = text
	}
	return strings.Join(strings.Fields(reason), " ")
}

func (e *DeclareError) sentence() string {
	if e.advice != "" {
		return e.advice
	}
	var reply *amqp.Error
	if !errors.As(e.Err, &reply) {
		return e.Err.Error()
	}
	text := brokerText(reply.Reason)
	switch e.Cause {
	case CauseInequivalent:
		return e.inequivalentSentence()
	case CauseInvalid:
		return fmt.Sprintf("the broker refuses it: %s (%d)", text, e.Code)
	case CauseNotFound:
		if e.passive {
			return "it does not exist, and Passive only uses what is there: declare it without Passive, or create it first (404)"
		}
		return fmt.Sprintf("%s: add it to the topology, or create it first (404)", text)
	case CauseAccess:
		return e.accessSentence(text)
	case CauseLocked:
		return "another connection owns it exclusively, or it was declared with the other value of Exclusive: it goes when that connection does, so try again, or let the broker choose a name (405)"
	case CauseDeprecated:
		if strings.Contains(text, "transient_nonexcl_queues") {
			return "this broker denies transient queues that are not exclusive: declare it without Transient, or set Exclusive (541)"
		}
		return fmt.Sprintf("this broker denies a deprecated feature, leave it out: %s (541)", text)
	case CauseUnavailable:
		if e.Code == amqp.NotFound {
			return fmt.Sprintf("it is there, and cannot be used at the moment: try again (404: %s)", text)
		}
		return fmt.Sprintf("the broker's metadata store does not answer, as when a cluster has lost its majority: try again (541: %s)", text)
	case CauseKept:
		return fmt.Sprintf("kept: %s: %s (406)", text, e.wayToDelete(text))
	}
	return fmt.Sprintf("%s (%d)", text, reply.Code)
}

func (e *DeclareError) inequivalentSentence() string {
	var difference string
	switch {
	case e.Have == "" && e.Want == "":
		difference = fmt.Sprintf("it exists with another %s", e.Argument)
	case e.Argument == "durable" && e.Have == "false" && e.Entity == EntityQueue:
		difference = "it exists as a transient queue, as pika and other clients declare one by default, and was asked for as a durable one (durable is false, not true)"
	case e.Have == "none":
		difference = fmt.Sprintf("it exists without %s, and %q was asked for", e.Argument, e.Want)
	case e.Want == "none":
		difference = fmt.Sprintf("it exists with %s %q, and was asked for without", e.Argument, e.Have)
	default:
		difference = fmt.Sprintf("it exists with %s %q, and %q was asked for", e.Argument, e.Have, e.Want)
	}
	if e.Op == "delete" {
		return difference + ": define it as it is, or set DiscardMessages and InUse to delete it whatever it is (406)"
	}
	lost := "its messages are lost"
	if e.Entity == EntityExchange {
		lost = "its bindings are lost"
	}
	return difference + ": set Passive to use it as it is, take another name, or delete it first (" + lost + ") (406)"
}

// wayToDelete is what to do when the broker keeps what had looked free.
func (e *DeclareError) wayToDelete(text string) string {
	switch {
	case e.Entity == EntityExchange:
		return "something is bound to it that is not in the topology, set InUse"
	case strings.HasSuffix(text, " not empty"):
		return "a message has come meanwhile, stop its publishers or set DiscardMessages"
	}
	return "a consumer has come meanwhile, stop it or set DiscardMessages and InUse"
}

func (e *DeclareError) accessSentence(text string) string {
	if strings.Contains(text, "access to ") && strings.Contains(text, " refused for user ") {
		return text + ": grant it with rabbitmqctl set_permissions (403)"
	}
	return fmt.Sprintf("the broker refuses it: %s (403)", text)
}
