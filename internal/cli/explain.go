package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// CodeOf is the exit code for an error that ended a run.
func CodeOf(err error) int {
	var (
		usage       *UsageError
		fault       *topology.Fault
		declare     *topology.DeclareError
		broker      *reconnect.BrokerError
		dial        *reconnect.DialError
		lost        *LostError
		unreachable *UnreachableError
		interrupted *Interrupted
	)
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage), errors.As(err, &fault), errors.Is(err, reconnect.ErrConfig):
		return ExitUsage
	case errors.As(err, &interrupted):
		return interrupted.ExitCode()
	case errors.As(err, &lost):
		return ExitLost
	case errors.As(err, &declare) && declare.Code != 0:
		return ExitTopology
	case errors.As(err, &dial), errors.As(err, &unreachable):
		return ExitUnreachable
	case errors.As(err, &broker) && aboutTopology(broker):
		return ExitTopology
	default:
		return ExitFailure
	}
}

// aboutTopology reports whether the broker refused something for what is, or is
// not, declared or permitted.
func aboutTopology(e *reconnect.BrokerError) bool {
	switch e.Code {
	case amqp.AccessRefused, amqp.NotFound, amqp.ResourceLocked, amqp.PreconditionFailed, amqp.NotAllowed, amqp.NotImplemented:
		return true
	default:
		return false
	}
}

// Explain is an error as one line for somebody who typed a command: what is
// wrong, and what to do about it. The library's own errors speak to programmers.
func Explain(err error) string {
	var (
		declare *topology.DeclareError
		dial    *reconnect.DialError
		broker  *reconnect.BrokerError
	)
	switch {
	case err == nil:
		return "no reason given"
	case errors.As(err, &declare) && declare.Code != 0:
		return explainDeclare(declare)
	case errors.As(err, &dial):
		return explainDial(dial)
	case errors.As(err, &broker):
		return explainReply(broker)
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	default:
		text := strings.TrimPrefix(err.Error(), reconnect.ErrConfig.Error()+": ")
		text = strings.TrimPrefix(text, "connect: ") // the system call
		text = withoutExceptions(text)
		return oneLine(strings.TrimSuffix(text, ": EOF"))
	}
}

// explainDial names each address and why.
func explainDial(e *reconnect.DialError) string {
	parts := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		parts[i] = a.Address + ": " + Explain(a.Err)
	}
	return strings.Join(parts, "; ")
}

// exception is how the driver writes an error of its own or of the broker.
var exception = regexp.MustCompile(`Exception \(-?\d+\) Reason: "`)

// withoutExceptions takes the reason out of what the driver calls an exception, and
// out of one that it has wrapped in another: Exception (501) Reason: "Exception (502)
// Reason: \"..."". What stands before and behind it stays.
func withoutExceptions(text string) string {
	for {
		at := exception.FindStringIndex(text)
		if at == nil {
			return text
		}
		before, rest := text[:at[0]], text[at[1]-1:]
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return text // it was cut off
		}
		reason, _ := strconv.Unquote(quoted)
		text = before + reason + rest[len(quoted):]
	}
}

// explainReply says a reply of the broker in words that a person can act on.
func explainReply(e *reconnect.BrokerError) string {
	text := replyText(withoutExceptions(e.Text))
	switch {
	case e.Code == amqp.AccessRefused && strings.Contains(e.Text, "Login was refused"):
		return "the broker refuses the login: wrong user or password, or a user that may log in from the broker's machine only (403)"
	case e.Code == amqp.NotFound && strings.HasPrefix(text, "no queue "):
		return fmt.Sprintf("there is %s: declare it with --declare, or check the name (404)", text)
	case e.Code == amqp.NotFound && strings.HasPrefix(text, "no exchange "):
		return fmt.Sprintf("there is %s: create it first, or check the name (404)", text)
	case e.Code == amqp.AccessRefused && strings.Contains(text, "refused for user"):
		return fmt.Sprintf("%s: grant it with rabbitmqctl set_permissions (403)", text)
	case e.Code == amqp.NotAllowed && strings.HasPrefix(text, "vhost ") && strings.HasSuffix(text, " not found"):
		return fmt.Sprintf("the broker has no %s: check --vhost or the end of the url (530)", strings.TrimSuffix(text, " not found"))
	default:
		return fmt.Sprintf("the broker says: %s (%d)", text, e.Code)
	}
}

// replyText takes the code's name off the front: NOT_FOUND - no queue ...
func replyText(s string) string {
	if _, text, ok := strings.Cut(s, " - "); ok {
		s = text
	}
	return strings.Join(strings.Fields(s), " ")
}

// explainDeclare does for the flags what DeclareError.Error does for the fields.
func explainDeclare(e *topology.DeclareError) string {
	what := fmt.Sprintf("cannot %s %s %q", e.Op, e.Entity, e.Name)
	if e.Entity == topology.EntityBinding {
		what = "cannot " + e.Op + " " + e.Name
	}
	text := ""
	var reply *amqp.Error
	if errors.As(e.Err, &reply) {
		text = replyText(withoutExceptions(reply.Reason))
	}
	switch e.Cause {
	case topology.CauseInequivalent:
		return fmt.Sprintf("%s: it exists and differs (%s): leave --declare out to use it as it is, take another name, or delete it first (%d)", what, difference(e), e.Code)
	case topology.CauseNotFound:
		return fmt.Sprintf("%s: there is %s: create it first, or check the name (%d)", what, text, e.Code)
	case topology.CauseAccess:
		if strings.Contains(text, "refused for user") {
			text += ": grant it with rabbitmqctl set_permissions"
		}
		return fmt.Sprintf("%s: %s (%d)", what, text, e.Code)
	case topology.CauseLocked:
		return fmt.Sprintf("%s: another connection owns it exclusively (%d)", what, e.Code)
	default:
		return fmt.Sprintf("%s: %s (%d)", what, text, e.Code)
	}
}

// difference names the first argument that differs: the broker names no other.
func difference(e *topology.DeclareError) string {
	switch {
	case e.Argument == "durable" && e.Have == "false":
		return "it is transient, and --declare makes a durable one"
	case e.Have == "none":
		return fmt.Sprintf("it has no %s, asked for was %s", e.Argument, e.Want)
	case e.Want == "none":
		return fmt.Sprintf("its %s is %s, asked for was none", e.Argument, e.Have)
	case e.Have == "" && e.Want == "":
		return "in " + e.Argument
	default:
		return fmt.Sprintf("its %s is %s, asked for was %s", e.Argument, e.Have, e.Want)
	}
}
