package topology

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// isDefinitions reports whether a document is what a broker exports: all of them
// say which version wrote it.
func isDefinitions(root node) bool {
	entries, _ := root.value.([]entry)
	return slices.ContainsFunc(entries, func(e entry) bool {
		return e.key == "rabbit_version" || e.key == "rabbitmq_version" || e.key == "rabbitmq_definition_format"
	})
}

// definitions reads the exchanges, queues and bindings of one virtual host out of
// what a broker exported. Users, permissions, parameters and policies are not
// topology and are left out, and so are the broker's own exchanges and the queues that
// it has named. Keys that a later broker may add are no error.
func (d *decoder) definitions(root node, vhost string) Topology {
	lists := make(map[string][]node)
	single := ""
	for _, e := range d.entries(root, "") {
		switch e.key {
		case "exchanges", "queues", "bindings", "vhosts":
			d.refuseTooLarge(e.value)
			lists[e.key] = d.items(e.value, e.key)
		case "original_vhost_name":
			single = d.text(e.value, e.key)
		}
	}
	vhost, ok := d.chooseVHost(root, lists, vhost, single)
	if !ok {
		return Topology{}
	}
	var t Topology
	each := func(list string, read func(o object)) {
		for i, n := range lists[list] {
			o := object{d: d, path: fmt.Sprintf("%s[%d]", list, i), line: n.line, keys: make(map[string]node)}
			for _, e := range d.entries(n, o.path) {
				o.keys[e.key] = e.value
			}
			if v, has := o.keys["vhost"]; has && d.text(v, o.path+".vhost") != vhost {
				continue
			}
			read(o)
		}
	}
	each("exchanges", func(o object) {
		if e := o.exchange(); e.Name != "" && !isBrokersOwn(e.Name) {
			t.Exchanges = append(t.Exchanges, e)
		}
	})
	each("queues", func(o object) {
		if q := o.queue(); !isBrokersOwn(q.Name) {
			t.Queues = append(t.Queues, q)
		}
	})
	each("bindings", func(o object) {
		if b := o.binding(); b.Exchange != "" && !isBrokersOwn(b.Queue) {
			t.Bindings = append(t.Bindings, b)
		}
	})
	return t
}

// isBrokersOwn reports whether nobody may declare what has that name.
func isBrokersOwn(name string) bool { return strings.HasPrefix(name, "amq.") }

// chooseVHost decides which virtual host is wanted; an export of one virtual host
// says its name once, and not in every entry.
func (d *decoder) chooseVHost(root node, lists map[string][]node, wanted, single string) (string, bool) {
	found := make(map[string]bool)
	if single != "" {
		found[single] = true
	}
	for _, key := range []string{"vhosts", "exchanges", "queues", "bindings"} {
		name := "vhost"
		if key == "vhosts" {
			name = "name"
		}
		for _, n := range lists[key] {
			entries, _ := n.value.([]entry)
			for _, e := range entries {
				if s, ok := e.value.value.(string); ok && e.key == name {
					found[s] = true
				}
			}
		}
	}
	names := slices.Sorted(maps.Keys(found))
	switch {
	case wanted != "" && len(names) > 0 && !found[wanted]:
		d.fail(root.line, "", "has no virtual host %q, only %s", wanted, quotedList(names))
		return "", false
	case wanted == "" && len(names) > 1:
		d.fail(root.line, "", "has several virtual hosts, name one of them in LoadOptions.VHost: %s", quotedList(names))
		return "", false
	case wanted == "" && len(names) == 1:
		return names[0], true
	}
	return wanted, true
}

// maxListed bounds the names in one complaint.
const maxListed = 20

func quotedList(names []string) string {
	var quoted []string
	for _, name := range names[:min(len(names), maxListed)] {
		quoted = append(quoted, strconv.Quote(name))
	}
	s := strings.Join(quoted, ", ")
	if more := len(names) - len(quoted); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// object is one entry of the broker's definitions.
type object struct {
	d    *decoder
	path string
	line int
	keys map[string]node
}

func (o object) text(key string) string {
	n, ok := o.keys[key]
	if !ok {
		o.d.fail(o.line, o.path, "%q is missing", key)
		return ""
	}
	return o.d.text(n, o.path+"."+key)
}

func (o object) flag(key string, absent bool) bool {
	n, ok := o.keys[key]
	if !ok {
		return absent
	}
	return o.d.flag(n, o.path+"."+key)
}

// arguments reads a table; an empty one is exported as {} or, by some versions,
// as [].
func (o object) arguments() amqp.Table {
	n := o.keys["arguments"]
	if list, ok := n.value.([]node); ok && len(list) == 0 {
		return nil
	}
	return o.d.table(n, o.path+".arguments")
}

func (o object) exchange() Exchange {
	e := Exchange{
		Name:       o.text("name"),
		Kind:       Kind(o.text("type")),
		Transient:  !o.flag("durable", true),
		AutoDelete: o.flag("auto_delete", false),
		Internal:   o.flag("internal", false),
		Arguments:  o.arguments(),
	}
	if s, ok := e.Arguments[alternateExchangeArgument].(string); ok && s != "" {
		e.AlternateExchange = s
		delete(e.Arguments, alternateExchangeArgument)
	}
	if len(e.Arguments) == 0 {
		e.Arguments = nil
	}
	return e
}

func (o object) queue() Queue {
	q := Queue{
		Name:       o.text("name"),
		Type:       Classic, // what a queue without the argument is
		Transient:  !o.flag("durable", true),
		Exclusive:  o.flag("exclusive", false),
		AutoDelete: o.flag("auto_delete", false),
		Arguments:  o.arguments(),
	}
	if n, ok := o.keys["type"]; ok {
		q.Type = QueueType(o.d.text(n, o.path+".type"))
	}
	if s, ok := q.Arguments[queueTypeArgument].(string); ok {
		q.Type = QueueType(s)
		delete(q.Arguments, queueTypeArgument)
	}
	q.useFields()
	return q
}

// useFields moves arguments into the fields that say the same. What a field would
// not send in exactly that way stays an argument, because the broker compares.
func (q *Queue) useFields() {
	if q.Arguments["x-dead-letter-exchange"] == "" {
		if s, ok := q.Arguments["x-dead-letter-routing-key"].(string); ok && s != "" {
			q.DeadLetterQueue = s
			delete(q.Arguments, "x-dead-letter-exchange")
			delete(q.Arguments, "x-dead-letter-routing-key")
		}
	}
	sent := q.DeclareArguments()
	for _, a := range queueArguments {
		v, ok := q.Arguments[a.key]
		if !ok || a.set == nil {
			continue
		}
		with := *q
		with.Arguments = maps.Clone(q.Arguments)
		delete(with.Arguments, a.key)
		if a.set(&with, v) && len(differingKeys(sent, with.DeclareArguments())) == 0 {
			*q = with
		}
	}
	if len(q.Arguments) == 0 {
		q.Arguments = nil
	}
}

func (o object) binding() Binding {
	b := Binding{Exchange: o.text("source"), RoutingKey: o.text("routing_key"), Arguments: o.arguments()}
	if to := o.text("destination"); o.text("destination_type") == "exchange" {
		b.ToExchange = to
	} else {
		b.Queue = to
	}
	return b
}
