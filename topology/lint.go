package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Lint returns what the broker takes from t and what is probably a mistake all
// the same, or depends on the broker's version. It cannot see policies, which can
// for example give a queue the dead-letter exchange that is missed here. What is
// Passive is not looked at. Faults are not repeated, see Validate.
func (t Topology) Lint() []Warning {
	var ws []Warning
	for _, e := range t.Exchanges {
		if e.Passive || predeclared[e.Name].Name != "" {
			continue
		}
		add := adder(&ws, EntityExchange, e.Name)
		t.lintExchange(add, e)
	}
	for _, q := range t.Queues {
		if q.Passive {
			continue
		}
		add := adder(&ws, EntityQueue, q.Name)
		q.lintType(add)
		q.lintArguments(add)
		t.lintDeadLetters(add, q)
	}
	for _, b := range t.Bindings {
		t.lintBinding(adder(&ws, EntityBinding, b.String()), b)
	}
	return ws
}

func adder(ws *[]Warning, entity Entity, name string) func(field, problem, hint string) {
	return func(field, problem, hint string) {
		*ws = append(*ws, Warning{Entity: entity, Name: name, Field: field, Problem: problem, Hint: hint})
	}
}

type addWarning func(field, problem, hint string)

func (t Topology) lintExchange(add addWarning, e Exchange) {
	if kind := e.DeclaredKind(); strings.HasPrefix(string(kind), "x-") {
		add("Kind", fmt.Sprintf("%s is not built into every broker, and one that lacks it refuses it", kind), "enable its plugin on each node")
	}
	if e.AlternateExchange != "" && !t.knowsExchange(e.AlternateExchange) {
		add("AlternateExchange", fmt.Sprintf("nothing here declares %q, and while it is missing unrouted messages are dropped", e.AlternateExchange), "add it to the topology, Passive if another program declares it")
	}
	for _, k := range slices.Sorted(maps.Keys(e.Arguments)) {
		if k == alternateExchangeArgument || strings.HasPrefix(string(e.Kind), "x-") {
			continue
		}
		add(argumentName(k), fmt.Sprintf("a %s exchange ignores it", e.DeclaredKind()), "")
	}
}

// lintType warns of what a queue type means for what is stored in it.
func (q Queue) lintType(add addWarning) {
	if q.Transient && !q.Exclusive {
		add("Transient", "transient queues that are not exclusive are deprecated: a broker can deny them, which closes the connection (541)", "make it durable, or Exclusive")
	}
	args := q.DeclareArguments()
	switch q.DeclaredType() {
	case Quorum:
		limit, limited := args["x-delivery-limit"]
		if !limited && !q.DeadLetters() {
			add("DeliveryLimit", "the default is 20 since RabbitMQ 4.0, and with no dead-letter exchange a message that failed 21 times is dropped", "set DeadLetterExchange or DeadLetterQueue, or a DeliveryLimit")
		}
		if n, _ := wholeNumber(limit); limited && n == Unlimited {
			add("DeliveryLimit", "RabbitMQ before 4.0 takes -1 for 0 and drops or dead-letters a message at its first failure", "leave it unset there: it is unlimited by default")
		}
		if args["x-overflow"] == string(RejectPublishDLX) {
			add(queueArgumentsByKey["x-overflow"].name(q), "a quorum queue takes reject-publish-dlx for drop-head and drops its oldest messages", "use RejectPublish")
		}
		if kind, ok := args["x-delayed-retry-type"]; ok && kind != string(DelayDisabled) {
			add("DelayedRetry", "RabbitMQ before 4.3 ignores it and redelivers at once, in a hot loop", "use it on 4.3 and newer only")
		}
	case Stream:
		_, aged := args["x-max-age"]
		_, sized := args["x-max-length-bytes"]
		if !aged && !sized {
			add("MaxAge", "a stream without a limit grows until the disk is full", "set MaxAge or MaxLengthBytes")
		}
	case Classic:
	}
}

// lintArguments warns of arguments that have no effect, or that some brokers
// refuse.
func (q Queue) lintArguments(add addWarning) {
	args, t := q.DeclareArguments(), q.DeclaredType()
	for _, k := range slices.Sorted(maps.Keys(args)) {
		a, known := queueArgumentsByKey[k]
		switch {
		case k == queueTypeArgument:
		case k == "x-ha-policy":
			add(argumentName(k), "mirrored queues are gone since RabbitMQ 4.0, and the argument never worked on a queue since 3.0", "use a quorum queue")
		case !known:
			add(argumentName(k), "no broker acts on it by itself: unknown arguments are taken without a word", "check the spelling, unless a plugin knows it")
		case !a.works(t) && a.other == dependsElsewhere:
			add(a.name(q), fmt.Sprintf("RabbitMQ 4.3 refuses it on a %s queue with 406", t), "use a quorum queue, or leave it out")
		case !a.works(t) && a.other == ignoredElsewhere:
			add(a.name(q), fmt.Sprintf("a %s queue ignores it", t), "use "+orJoin(a.types))
		case !a.works(t):
		case k == "x-queue-leader-locator" && args[k] != "client-local" && args[k] != "balanced":
			add(a.name(q), fmt.Sprintf("%v is deprecated: newer brokers take it for balanced", args[k]), "use balanced")
		case k == "x-queue-mode":
			add(a.name(q), "classic queues ignore it since RabbitMQ 3.12", "leave it out")
		case k == "x-max-in-memory-length" || k == "x-max-in-memory-bytes":
			add(a.name(q), "quorum queues ignore it since RabbitMQ 3.10", "leave it out")
		case k == "x-queue-version" && equalValue(args[k], int64(1)):
			add(a.name(q), "RabbitMQ 4.3 refuses version 1 with 406", "leave it out")
		case k == "x-queue-master-locator":
			add(a.name(q), "RabbitMQ 4.3 denies it, which closes the connection (541)", "use x-queue-leader-locator")
		}
	}
}

// lintDeadLetters warns of dead letters that would go nowhere: the broker checks
// the place only when a message goes there, and then drops it.
func (t Topology) lintDeadLetters(add addWarning, q Queue) {
	if q.DeadLetterQueue != "" {
		if t.comesBack(q) {
			add("DeadLetterQueue", "what dead-letters by age or length, without being rejected on the way, comes back to this queue, and the broker drops it", "end the circle in a queue that has neither MessageTTL nor MaxLength")
		}
		if _, ok := t.Queue(q.DeadLetterQueue); !ok {
			add("DeadLetterQueue", fmt.Sprintf("nothing here declares %q, and while it is missing dead letters are lost or stuck", q.DeadLetterQueue), "add it to the topology, Passive if another program declares it")
		}
		return
	}
	name, _ := q.DeclareArguments()["x-dead-letter-exchange"].(string)
	if name == "" {
		return
	}
	field := queueArgumentsByKey["x-dead-letter-exchange"].name(q)
	switch e, declared := t.Exchange(name); {
	case !t.knowsExchange(name):
		add(field, fmt.Sprintf("nothing here declares %q, and while it is missing dead letters are lost or stuck", name), "add it to the topology, Passive if another program declares it")
	case declared && !e.Passive && !t.routes(name):
		add(field, fmt.Sprintf("nothing here is bound to %q, so dead letters are lost or stuck", name), "bind a queue to it")
	}
}

// longestCircle bounds the time that comesBack takes; nobody builds a longer one by
// mistake.
const longestCircle = 8

// comesBack reports whether dead letters of q can come back to it without anybody
// having rejected them on the way.
func (t Topology) comesBack(q Queue) bool {
	at := q
	for range longestCircle {
		if at.Passive || at.DeadLetterQueue == "" || !at.deadLettersByItself() {
			return false
		}
		next, ok := t.Queue(at.DeadLetterQueue)
		if !ok || next.Name == q.Name {
			return ok
		}
		at = next
	}
	return false
}

// deadLettersByItself reports whether a message need not be rejected for it.
func (q Queue) deadLettersByItself() bool {
	args := q.DeclareArguments()
	_, aged := args["x-message-ttl"]
	_, long := args["x-max-length"]
	_, large := args["x-max-length-bytes"]
	return aged || (long || large) && args["x-overflow"] != string(RejectPublish)
}

// lintBinding warns of bindings that cannot match what they seem to match.
func (t Topology) lintBinding(add addWarning, b Binding) {
	kind := t.kindOf(b.Exchange)
	if kind == KindDirect && isPattern(b.RoutingKey) {
		add("RoutingKey", fmt.Sprintf("a direct exchange takes %q literally, not as a pattern", b.RoutingKey), "use a topic exchange")
	}
	if _, ok := b.Arguments["x-match"]; ok && (kind == KindDirect || kind == KindFanout || kind == KindTopic) {
		add(argumentName("x-match"), fmt.Sprintf("a %s exchange ignores it", kind), "use a headers exchange")
	}
	if kind == KindHeaders && len(headersToMatch(b.Arguments)) == 0 {
		add("Arguments", "name no header to match", "")
	}
}

// isPattern reports whether a word of the key is * or #.
func isPattern(key string) bool {
	for word := range strings.SplitSeq(key, ".") {
		if word == "*" || word == "#" {
			return true
		}
	}
	return false
}

// headersToMatch returns the keys that a headers exchange looks at.
func headersToMatch(args amqp.Table) []string {
	match, _ := args["x-match"].(string)
	var keys []string
	for k := range args {
		if k != "x-match" && (!strings.HasPrefix(k, "x-") || strings.HasSuffix(match, "-with-x")) {
			keys = append(keys, k)
		}
	}
	return keys
}

// knowsExchange reports whether the exchange is here or the broker's own.
func (t Topology) knowsExchange(name string) bool {
	_, here := t.Exchange(name)
	_, own := predeclared[name]
	return here || own
}

// routes reports whether a binding of t leads away from the exchange.
func (t Topology) routes(exchange string) bool {
	return slices.ContainsFunc(t.Bindings, func(b Binding) bool { return b.Exchange == exchange })
}
