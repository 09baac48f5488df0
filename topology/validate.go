package topology

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/sendable"
)

// maxShortString is the longest name or routing key that AMQP 0-9-1 can carry, in
// bytes. The driver answers a longer one by breaking the connection.
const maxShortString = 255

// Validate returns every fault of t joined into one error, each of them a
// *Fault, or nil. It looks at nothing but t: an entity that a binding names need
// not be part of it.
//
// A fault is what no supported broker does: 3.10 to 4.3 refuse it (tried on each
// of them), or take it and do something else. What depends on the version is left
// to Lint. A queue without a name is a fault here, because only the session that
// declares it can know what it is called: see Queue.Validate.
func (t Topology) Validate() error {
	var faults []error
	for _, e := range t.Exchanges {
		e.validate(findings{EntityExchange, e.Name, &faults})
	}
	for _, q := range t.Queues {
		f := findings{EntityQueue, q.Name, &faults}
		if q.Name == "" {
			f.add("Name", "a server-named queue is known only to the session that declares it", "give it to a consumer, or name it")
			continue
		}
		q.validate(f)
	}
	for _, b := range t.Bindings {
		f := findings{EntityBinding, b.String(), &faults}
		if b.Queue == "" && b.ToExchange == "" {
			f.add("Queue", "has no destination", "set Queue or ToExchange")
		}
		t.validateBinding(f, b)
	}
	t.validateDuplicates(&faults)
	return errors.Join(faults...)
}

// Validate returns every fault of one queue and of the bindings that are declared
// with it, joined, or nil. Unlike in a Topology the queue can be server-named,
// and an empty Queue in a binding means this one.
func (q Queue) Validate(bindings ...Binding) error {
	var faults []error
	q.validate(findings{EntityQueue, q.Name, &faults})
	for _, b := range bindings {
		f := findings{EntityBinding, b.String(), &faults}
		if b.ToExchange != "" || (b.Queue != "" && b.Queue != q.Name) {
			f.add("Queue", fmt.Sprintf("is declared with queue %q and leads elsewhere", q.Name), "leave Queue empty, or move the binding into the topology")
		}
		Topology{Queues: []Queue{q}}.validateBinding(f, b)
	}
	return errors.Join(faults...)
}

func (e Exchange) validate(f findings) {
	if e.Name == "" {
		f.add("Name", "is empty, which is the default exchange: it is always there and cannot be declared", "")
		return
	}
	checkName(f, "Name", e.Name)
	if e.Passive {
		return
	}
	if own, ok := predeclared[e.Name]; ok {
		if d := differingExchange(own, e); len(d) > 0 {
			f.add(d[0], "is not what the broker declared this exchange with", "set Passive")
		}
		return
	}
	if isBrokersOwn(e.Name) {
		f.add("Name", `the prefix "amq." belongs to the broker, which refuses it`, "take another name, or set Passive to use what is there")
	}
	checkShortString(f, "Kind", string(e.Kind))
	switch kind := e.DeclaredKind(); kind {
	case KindDirect, KindFanout, KindTopic, KindHeaders:
	default:
		if !strings.HasPrefix(string(kind), "x-") {
			f.add("Kind", fmt.Sprintf("%q is no kind of exchange", kind), "use direct, fanout, topic, headers, or a plugin's kind, which begins with x-")
		}
	}
	checkTable(f, e.Arguments)
	if v, ok := e.Arguments[alternateExchangeArgument]; ok {
		if e.AlternateExchange != "" {
			f.add("AlternateExchange", "is also set as "+argumentName(alternateExchangeArgument), "keep one of them")
		} else if problem := text(v); problem != "" {
			f.add(argumentName(alternateExchangeArgument), problem, "")
		}
	}
	checkName(f, "AlternateExchange", e.AlternateExchange)
}

// validateBinding looks at what is the same in a topology and in the bindings of
// one queue.
func (t Topology) validateBinding(f findings, b Binding) {
	if b.Exchange == "" {
		f.add("Exchange", "is empty, which is the default exchange: it cannot be bound, because it routes to every queue by its name already", "name an exchange")
	} else {
		checkName(f, "Exchange", b.Exchange)
	}
	if b.Queue != "" && b.ToExchange != "" {
		f.add("ToExchange", "is set as well as Queue", "make two bindings of it")
	}
	if b.Queue != "" {
		checkName(f, "Queue", b.Queue)
	}
	if b.ToExchange != "" {
		checkName(f, "ToExchange", b.ToExchange)
	}
	checkShortString(f, "RoutingKey", b.RoutingKey)
	checkTable(f, b.Arguments)

	kind := t.kindOf(b.Exchange)
	if v, ok := b.Arguments["x-match"]; ok && kind == KindHeaders {
		if problem := oneOf("all", "any", "all-with-x", "any-with-x")(v); problem != "" {
			f.add(argumentName("x-match"), problem, "")
		}
	}
	if kind != kindLocalRandom {
		return
	}
	if q, ok := t.Queue(b.Queue); ok && q.DeclaredType() != Classic {
		f.add("Queue", fmt.Sprintf("a %s exchange can be bound to classic queues only, and this one is a %s queue", kind, q.DeclaredType()), "set Type: topology.Classic, best with Exclusive")
	}
}

// kindOf returns the kind of an exchange of t or of the broker's own, else "".
func (t Topology) kindOf(exchange string) Kind {
	if e, ok := predeclared[exchange]; ok {
		return e.Kind
	}
	if e, ok := t.Exchange(exchange); ok && (!e.Passive || e.Kind != "") {
		return e.DeclaredKind()
	}
	return ""
}

// validateDuplicates reports each name that has two different definitions.
func (t Topology) validateDuplicates(faults *[]error) {
	m := Topology{}.Merge(t)
	const problem, hint = "is declared twice with different definitions", "keep one of them"
	exchanges := make(map[string]Exchange)
	for _, e := range m.Exchanges {
		first, seen := exchanges[e.Name]
		if !seen {
			exchanges[e.Name] = e
			continue
		}
		findings{EntityExchange, e.Name, faults}.add(strings.Join(differingExchange(first, e), ", "), problem, hint)
	}
	queues := make(map[string]Queue)
	for _, q := range m.Queues {
		first, seen := queues[q.Name]
		if !seen {
			queues[q.Name] = q
			continue
		}
		if q.Name != "" {
			findings{EntityQueue, q.Name, faults}.add(strings.Join(differingQueue(first, q), ", "), problem, hint)
		}
	}
}

// checkName reports what no exchange or queue can be called.
func checkName(f findings, field, name string) {
	checkShortString(f, field, name)
	if strings.ContainsAny(name, "\r\n") {
		f.add(field, "contains a line break, which the broker takes out of names without a word", "take it out")
	}
}

func checkShortString(f findings, field, s string) {
	if len(s) > maxShortString {
		f.add(field, fmt.Sprintf("is %d bytes long and can be %d", len(s), maxShortString), "")
	}
	if !utf8.ValidString(s) {
		f.add(field, "is not valid UTF-8, at which the broker closes the connection", "")
	}
}

// checkTable reports what cannot be sent: the driver or the broker would close the
// connection over it, or refuse the whole table without saying where.
func checkTable(f findings, t amqp.Table) {
	if len(t) > sendable.MaxElements {
		f.add("Arguments", fmt.Sprintf("has %d entries, clients read %d at most", len(t), sendable.MaxElements), "")
		return
	}
	size := 0
	for _, k := range slices.Sorted(maps.Keys(t)) {
		if len(k) > maxShortString {
			f.add("Arguments", fmt.Sprintf("the key %.20q... is %d bytes long and can be %d", k, len(k), maxShortString), "")
		}
		_, n, err := sendable.Value(t[k], 1)
		switch {
		case err != nil:
			f.add(argumentName(k), err.Error(), "")
		case hasGoMap(t[k]):
			f.add(argumentName(k), "a map[string]any cannot be sent, use amqp.Table", "")
		}
		size += 1 + len(k) + n
	}
	if size > sendable.MaxTable {
		f.add("Arguments", fmt.Sprintf("are %d bytes encoded, a frame has room for %d", size, sendable.MaxTable), "")
	}
}

// hasGoMap reports whether v is, or holds, a map that is not an amqp.Table: arguments are
// passed to the driver as they are, and it does not know such maps.
func hasGoMap(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return true
	case amqp.Table:
		for _, x := range v {
			if hasGoMap(x) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasGoMap)
	}
	return false
}
