package engine

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// Which arguments a type of queue knows, in RabbitMQ's order: that is the order
// in which an inequivalent one is found. One that only other types know is
// refused; one that none knows is taken and means nothing.
var (
	classicArgs = []string{
		"x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key",
		"x-max-length", "x-max-length-bytes", "x-max-priority", "x-overflow", "x-queue-mode",
		"x-queue-version", "x-single-active-consumer", "x-queue-type", "x-queue-master-locator",
		"x-queue-leader-locator",
	}
	quorumArgs = []string{
		"x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-expires",
		"x-max-length", "x-max-length-bytes", "x-max-in-memory-length", "x-max-in-memory-bytes",
		"x-overflow", "x-single-active-consumer", "x-queue-type", "x-quorum-initial-group-size",
		"x-delivery-limit", "x-message-ttl", "x-queue-leader-locator", "x-consumer-disconnected-timeout",
		"x-consumer-timeout", "x-delayed-retry-type", "x-delayed-retry-min", "x-delayed-retry-max",
	}
	streamArgs = []string{
		"x-max-length-bytes", "x-queue-type", "x-max-age", "x-stream-max-segment-size-bytes",
		"x-stream-filter-size-bytes", "x-initial-cluster-size", "x-queue-leader-locator",
	}
	classicConsumeArgs = []string{"x-priority"}
	quorumConsumeArgs  = []string{"x-priority", "x-consumer-timeout"}
	streamConsumeArgs  = []string{"x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"}
	exchangeArgs       = []string{"alternate-exchange"}
	headersBindArgs    = []string{"x-match"}

	// What 4.2 does not know yet. It obeys x-consumer-timeout without checking it.
	only43 = []string{
		"x-consumer-disconnected-timeout", "x-consumer-timeout", "x-delayed-retry-type", "x-delayed-retry-min",
		"x-delayed-retry-max",
	}
)

func (k queueKind) args(rules Rules) []string {
	return known([...][]string{classicArgs, quorumArgs, streamArgs}[k], rules)
}

func (k queueKind) consumeArgs(rules Rules) []string {
	return known([...][]string{classicConsumeArgs, quorumConsumeArgs, streamConsumeArgs}[k], rules)
}

// known leaves out what a series does not know.
func known(args []string, rules Rules) []string {
	if rules == Rules43 {
		return args
	}
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return slices.Contains(only43, a) })
}

// argFault is what is wrong with an argument, as RabbitMQ prints the term.
type argFault string

func faultf(format string, args ...any) argFault { return argFault(fmt.Sprintf(format, args...)) }

func checkInteger(v any, _ wire.Table) argFault {
	if _, ok := integer(v); ok {
		return ""
	}
	return faultf(`"expected integer, got %s"`, typeName(v))
}

func checkNotNegative(v any, t wire.Table) argFault {
	if f := checkInteger(v, t); f != "" {
		return f
	}
	if n, _ := integer(v); n < 0 {
		return faultf("{value_negative,%d}", n)
	}
	return ""
}

func checkDuration(v any, t wire.Table) argFault {
	if f := checkNotNegative(v, t); f != "" {
		return f
	}
	if n, _ := integer(v); n > maxExpiry {
		return faultf("{value_too_large,%d}", n)
	}
	return ""
}

func checkPositive(check func(any, wire.Table) argFault) func(any, wire.Table) argFault {
	return func(v any, t wire.Table) argFault {
		if n, ok := integer(v); ok && n == 0 {
			return "{value_zero,0}"
		}
		return check(v, t)
	}
}

func checkString(v any, _ wire.Table) argFault {
	if _, ok := v.(string); ok {
		return ""
	}
	return faultf("{unacceptable_type,%s}", typeName(v))
}

func checkBool(v any, _ wire.Table) argFault {
	if _, ok := v.(bool); ok {
		return ""
	}
	return faultf("{unacceptable_type,%s}", typeName(v))
}

func checkOneOf(fault argFault, words ...string) func(any, wire.Table) argFault {
	return func(v any, t wire.Table) argFault {
		if f := checkString(v, t); f != "" {
			return f
		}
		if !slices.Contains(words, v.(string)) {
			return fault
		}
		return ""
	}
}

func checkQueueType(v any, t wire.Table) argFault {
	if f := checkString(v, t); f != "" {
		return f
	}
	if _, ok := kindOf(v.(string)); !ok {
		return faultf(`"unsupported queue type '%s'"`, v)
	}
	return ""
}

// declareChecks are RabbitMQ's, in its order.
var declareChecks = []struct {
	arg   string
	check func(any, wire.Table) argFault
}{
	{"x-expires", checkPositive(checkDuration)},
	{"x-message-ttl", checkDuration},
	{"x-dead-letter-exchange", checkString},
	{"x-dead-letter-routing-key", func(v any, t wire.Table) argFault {
		if f := checkString(v, t); f != "" {
			return f
		}
		if _, has := t.Get("x-dead-letter-exchange"); !has {
			return "routing_key_but_no_dlx_defined"
		}
		return ""
	}},
	{"x-dead-letter-strategy", checkOneOf("invalid_dlx_strategy", "at-most-once", "at-least-once")},
	{"x-max-length", checkNotNegative},
	{"x-max-length-bytes", checkNotNegative},
	{"x-max-in-memory-length", checkNotNegative},
	{"x-max-in-memory-bytes", checkNotNegative},
	{"x-max-priority", func(v any, t wire.Table) argFault {
		if f := checkNotNegative(v, t); f != "" {
			return f
		}
		if n, _ := integer(v); n > 255 {
			return faultf("{max_value_exceeded,%d}", n)
		}
		return ""
	}},
	{"x-overflow", checkOneOf("invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx")},
	{"x-queue-mode", nil},    // by the rules: see checkMode
	{"x-queue-version", nil}, // and checkVersion
	{"x-single-active-consumer", checkBool},
	{"x-consumer-timeout", checkNotNegative},
	{"x-consumer-disconnected-timeout", checkNotNegative},
	{"x-queue-type", checkQueueType},
	{"x-quorum-initial-group-size", checkPositive(checkNotNegative)},
	{"x-max-age", func(v any, t wire.Table) argFault {
		if f := checkString(v, t); f != "" {
			return f
		}
		if _, ok := parseAge(v.(string)); !ok {
			return "invalid_max_age"
		}
		return ""
	}},
	{"x-stream-max-segment-size-bytes", checkNotNegative},
	{"x-stream-filter-size-bytes", checkNotNegative},
	{"x-initial-cluster-size", checkPositive(checkNotNegative)},
	{"x-queue-leader-locator", checkOneOf("invalid_queue_locator_arg", "client-local", "balanced", "random", "least-leaders")},
}

func checkVersion(rules Rules) func(any, wire.Table) argFault {
	return func(v any, t wire.Table) argFault {
		if f := checkNotNegative(v, t); f != "" {
			return f
		}
		if n, _ := integer(v); n != 2 && (n != 1 || rules == Rules43) {
			return faultf(`"unsupported queue version '%d'"`, n)
		}
		return ""
	}
}

// checkMode is only made before 4.3, where the argument means nothing any more.
func checkMode(rules Rules) func(any, wire.Table) argFault {
	return func(v any, t wire.Table) argFault {
		if rules == Rules43 {
			return ""
		}
		if f := checkString(v, t); f != "" {
			return f
		}
		if v != "default" && v != "lazy" {
			return faultf(`"unsupported queue mode '%s'"`, v)
		}
		return ""
	}
}

var ageForm = regexp.MustCompile(`^([0-9]+)(.*)`)

// parseAge reads a stream's maximum age: a number and Y, M, D, h, m or s.
func parseAge(s string) (time.Duration, bool) {
	m := ageForm.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(m[1], 10, 32)
	units := map[string]time.Duration{
		"Y": 365 * 24 * time.Hour, "M": 30 * 24 * time.Hour, "D": 24 * time.Hour,
		"h": time.Hour, "m": time.Minute, "s": time.Second,
	}
	unit, ok := units[m[2]]
	return time.Duration(n) * unit, err == nil && ok && n > 0
}

// checkDeclare validates a queue's arguments and finds its type.
func (vh *vhost) checkDeclare(name string, args wire.Table) (queueKind, *Exception) {
	rules := vh.broker.opts.Rules
	where := "queue '" + name + "' in vhost '" + vh.name + "'"
	invalid := func(arg string, f argFault) *Exception {
		return exceptionf(codePreconditionFailed, "invalid arg '%s' for %s: %s", arg, where, f)
	}
	if v, has := args.Get("x-queue-type"); has {
		if f := checkQueueType(v, args); f != "" {
			return 0, invalid("x-queue-type", f)
		}
	}
	kind := vh.kindFor(args)
	known := kind.args(rules)
	for _, c := range declareChecks {
		v, has := args.Get(c.arg)
		if !has || !slices.Contains(known, c.arg) {
			continue
		}
		check := c.check
		switch c.arg {
		case "x-queue-mode":
			check = checkMode(rules)
		case "x-queue-version":
			check = checkVersion(rules)
		}
		if f := check(v, args); f != "" {
			if rules == Rules42 && f == "invalid_max_age" {
				return 0, crash()
			}
			return 0, invalid(c.arg, f)
		}
	}
	var elsewhere []string
	for _, k := range []queueKind{classic, quorum, stream} {
		elsewhere = append(elsewhere, k.args(rules)...)
	}
	for _, a := range args {
		if !slices.Contains(known, a.Key) && slices.Contains(elsewhere, a.Key) {
			return 0, exceptionf(codePreconditionFailed, "invalid arg '%s' for %s of queue type %s", a.Key, where, kind.module())
		}
	}
	return kind, nil
}

// kindFor is the type that a declare asks for, or the vhost's own.
func (vh *vhost) kindFor(args wire.Table) queueKind {
	if v, has := args.Get("x-queue-type"); has {
		if s, isString := v.(string); isString && s != "" && s != "undefined" {
			if kind, ok := kindOf(s); ok {
				return kind
			}
		}
	}
	kind, _ := kindOf(vh.defaultType)
	return kind
}

// unknownArgs tells of those that mean nothing to RabbitMQ.
func (vh *vhost) unknownArgs(args wire.Table, known []string) {
	if vh.broker.opts.Unknown == nil {
		return
	}
	for _, a := range args {
		if !slices.Contains(known, a.Key) && strings.HasPrefix(a.Key, "x-") {
			vh.broker.opts.Unknown(a.Key)
		}
	}
}

// unknownBindArgs is unknownArgs of a binding. Those of headers exchanges are what a
// message is compared with; the others compare nothing.
func (vh *vhost) unknownBindArgs(x *exchange, args wire.Table) {
	switch {
	case x.kind != "headers":
		vh.unknownArgs(args, nil)
	case !matchesX(matchingOf(args)):
		vh.unknownArgs(args, headersBindArgs)
	}
}

func inequivalent(arg, where, received, current string) *Exception {
	return exceptionf(codePreconditionFailed, "inequivalent arg '%s' for %s: received %s but current is %s",
		arg, where, received, current)
}

// sameArgument checks that one argument of a redeclare is what it was.
func sameArgument(arg, where string, current, received wire.Table) *Exception {
	was, had := current.Get(arg)
	is, has := received.Get(arg)
	switch {
	case !had && !has:
		return nil
	case had && has:
		_, wasInt := integer(was)
		_, isInt := integer(is)
		if (typeName(was) == typeName(is) || wasInt && isInt) && sameValue(was, is) {
			return nil
		}
		// RabbitMQ drops the types where both are there.
		return inequivalent(arg, where, plainly(is), plainly(was))
	}
	return inequivalent(arg, where, shown(is, has), shown(was, had))
}

func plainly(v any) string {
	if s, isString := v.(string); isString {
		return "'" + s + "'"
	}
	return "'" + erlangTerm(v) + "'"
}
