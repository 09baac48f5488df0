package topology

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// validate reports the faults of one queue, server-named or not.
func (q Queue) validate(f findings) {
	checkName(f, "Name", q.Name)
	if q.Passive {
		if q.Name == "" {
			f.add("Passive", "a queue without a name cannot be used as it is", "name it")
		}
		return
	}
	if isBrokersOwn(q.Name) {
		f.add("Name", `the prefix "amq." belongs to the broker, which refuses it`, "take another name, or leave it empty to get one from the broker")
	}
	known := slices.Contains(anyType, q.DeclaredType())
	if !known {
		f.add("Type", fmt.Sprintf("%q is no queue type", q.Type), "use quorum, classic or stream")
	}
	q.validateFlags(f)
	q.validateDurations(f)
	checkTable(f, q.Arguments)
	q.validateArguments(f, known)
	q.validateDeadLetters(f)
	q.validateDelayedRetry(f)
}

// validateFlags knows what only classic queues can be.
func (q Queue) validateFlags(f findings) {
	t := q.DeclaredType()
	if t != Quorum && t != Stream {
		return
	}
	const hint = "leave Type out, or set it to topology.Classic"
	if q.Transient {
		f.add("Transient", fmt.Sprintf("a %s queue is always durable", t), hint)
	}
	if q.Exclusive {
		f.add("Exclusive", fmt.Sprintf("a %s queue cannot be exclusive", t), hint)
	}
	if q.AutoDelete {
		f.add("AutoDelete", fmt.Sprintf("a %s queue cannot be auto-delete", t), hint+", or use Expires")
	}
	if q.Name == "" {
		f.add("Name", fmt.Sprintf("a %s queue cannot be named by the broker", t), hint+", or name it")
	}
}

// validateDurations reports what the unit of an argument cannot express: rounding
// would make a TTL of half a millisecond one of 0, which expires everything.
func (q Queue) validateDurations(f findings) {
	for _, d := range []struct {
		field string
		value time.Duration
		unit  time.Duration
		most  time.Duration
	}{
		{"MessageTTL", q.MessageTTL, time.Millisecond, maxExpiry},
		{"Expires", q.Expires, time.Millisecond, maxExpiry},
		{"DelayedRetry.Min", q.DelayedRetry.Min, time.Millisecond, 0},
		{"DelayedRetry.Max", q.DelayedRetry.Max, time.Millisecond, 0},
		{"ConsumerTimeout", q.ConsumerTimeout, time.Millisecond, 0},
		{"MaxAge", q.MaxAge, time.Second, 0},
	} {
		switch {
		case d.value < 0:
			f.add(d.field, fmt.Sprintf("is %v and cannot be negative", d.value), "")
		case d.value%d.unit != 0:
			f.add(d.field, fmt.Sprintf("is %v and has to be a multiple of %v", d.value, d.unit), "")
		case d.most > 0 && d.value > d.most:
			f.add(d.field, fmt.Sprintf("is %v and can be ten years (%v)", d.value, d.most), "")
		}
	}
}

// validateArguments checks what is sent against the table of what is known:
// whether this queue type takes it, and its value.
func (q Queue) validateArguments(f findings, knownType bool) {
	if _, ok := q.Arguments[queueTypeArgument]; ok {
		f.add(argumentName(queueTypeArgument), "is sent from the field Type", "set Type")
	}
	t := q.DeclaredType()
	args := q.DeclareArguments()
	for i := range queueArguments {
		a := &queueArguments[i]
		v, sent := args[a.key]
		if !sent {
			continue
		}
		name := a.name(q)
		if _, twice := q.Arguments[a.key]; twice && a.get != nil && a.get(q) != nil {
			f.add(name, "is also set as "+argumentName(a.key), "keep one of them")
			continue
		}
		if knownType && !a.works(t) {
			if a.other == refusedElsewhere {
				f.add(name, fmt.Sprintf("a %s queue has no %s", t, a.key), "use "+orJoin(a.types))
			}
			continue
		}
		if problem := a.fault(v); problem != "" && !f.has(name) {
			f.add(name, problem, unlimitedHint(a.key))
		}
	}
}

func unlimitedHint(key string) string {
	if key == "x-delivery-limit" {
		return "topology.Unlimited (-1) redelivers for ever"
	}
	return ""
}

// validateDeadLetters knows which settings of dead-lettering need each other.
func (q Queue) validateDeadLetters(f findings) {
	if q.DeadLetterQueue != "" {
		const hint = "DeadLetterQueue goes through the default exchange, use one or the other"
		if q.DeadLetterExchange != "" {
			f.add("DeadLetterQueue", "is set as well as DeadLetterExchange", hint)
		}
		if q.DeadLetterRoutingKey != "" {
			f.add("DeadLetterQueue", "is set as well as DeadLetterRoutingKey", hint)
		}
		checkName(f, "DeadLetterQueue", q.DeadLetterQueue)
	}
	checkName(f, "DeadLetterExchange", q.DeadLetterExchange)
	args := q.DeclareArguments()
	_, named := args["x-dead-letter-exchange"]
	if key, ok := args["x-dead-letter-routing-key"].(string); ok && q.DeadLetterQueue == "" {
		field := queueArgumentsByKey["x-dead-letter-routing-key"].name(q)
		if !named {
			f.add(field, "needs a dead-letter exchange", "set DeadLetterExchange, or DeadLetterQueue for the queue of that name")
		}
		checkShortString(f, field, key)
	}
	if args["x-dead-letter-strategy"] == string(AtLeastOnce) && q.DeclaredType() == Quorum {
		field := queueArgumentsByKey["x-dead-letter-strategy"].name(q)
		const silently = "at-least-once dead-lettering silently becomes at-most-once without "
		if !named {
			f.add(field, silently+"a dead-letter exchange", "set DeadLetterExchange or DeadLetterQueue")
		}
		if args["x-overflow"] != string(RejectPublish) {
			f.add(field, silently+"overflow reject-publish", "set Overflow: topology.RejectPublish")
		}
	}
}

// validateDelayedRetry reports the combinations that the broker takes and does
// not delay by.
func (q Queue) validateDelayedRetry(f findings) {
	args := q.DeclareArguments()
	kind, typed := args["x-delayed-retry-type"]
	least, hasLeast := wholeNumber(args["x-delayed-retry-min"])
	most, hasMost := wholeNumber(args["x-delayed-retry-max"])
	name := func(key string) string { return queueArgumentsByKey[key].name(q) }
	if !typed {
		if hasLeast {
			f.add(name("x-delayed-retry-min"), "delays nothing without x-delayed-retry-type", "use the field DelayedRetry")
		}
		return
	}
	if kind == string(DelayDisabled) {
		return
	}
	switch {
	case args["x-delayed-retry-min"] == nil:
		f.add(name("x-delayed-retry-type"), "delays nothing without a shortest delay", "set DelayedRetry.Min")
	case hasLeast && hasMost && most < least && most > 0:
		f.add(name("x-delayed-retry-max"), fmt.Sprintf("the longest delay (%d ms) is below the shortest (%d ms)", most, least), "")
	}
}

func orJoin(types []QueueType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = "a " + string(t)
	}
	return strings.Join(names, " or ") + " queue"
}
