package topology

import (
	"errors"
	"maps"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Topology is a set of exchanges, queues and bindings. It is a plain value: it
// holds no connection and can be copied, merged, written to a file and read back. The zero Topology is empty and valid.
type Topology struct {
	Exchanges []Exchange
	Queues    []Queue
	Bindings  []Binding
}

// Merge returns t and others as one topology. What is defined in the same way
// several times is kept once, and a definition replaces a Passive use of the
// same name. Two different definitions of one name are both kept, for Validate
// to report. No slice of the result is shared with t or others; arguments are: see Clone.
func (t Topology) Merge(others ...Topology) Topology {
	var m Topology
	exchanges, queues, bindings := make(map[string][]int), make(map[string][]int), make(map[[4]string][]int)
	for _, o := range append([]Topology{t}, others...) {
		for _, e := range o.Exchanges {
			m.Exchanges = mergeOne(m.Exchanges, exchanges, e.Name, e, overlapOfExchanges)
		}
		for _, q := range o.Queues {
			m.Queues = mergeOne(m.Queues, queues, q.Name, q, overlapOfQueues)
		}
		for _, b := range o.Bindings {
			key := [4]string{b.Exchange, b.Queue, b.ToExchange, b.RoutingKey}
			m.Bindings = mergeOne(m.Bindings, bindings, key, b, overlapOfBindings)
		}
	}
	return m
}

// Clone returns a copy of t that shares nothing with it, arguments included.
func (t Topology) Clone() Topology {
	c := Topology{slices.Clone(t.Exchanges), slices.Clone(t.Queues), slices.Clone(t.Bindings)}
	for i := range c.Exchanges {
		c.Exchanges[i].Arguments = cloneTable(c.Exchanges[i].Arguments)
	}
	for i := range c.Queues {
		c.Queues[i].Arguments = cloneTable(c.Queues[i].Arguments)
	}
	for i := range c.Bindings {
		c.Bindings[i].Arguments = cloneTable(c.Bindings[i].Arguments)
	}
	return c
}

func cloneTable(t amqp.Table) amqp.Table {
	c := maps.Clone(t)
	for k, v := range c {
		c[k] = cloneValue(v)
	}
	return c
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case amqp.Table:
		return cloneTable(v)
	case []any:
		list := slices.Clone(v)
		for i := range list {
			list[i] = cloneValue(list[i])
		}
		return list
	case []byte:
		return slices.Clone(v)
	}
	return v
}

// mergeOne appends x to list, or puts it in the place of the entry that it makes
// superfluous, or drops it. at says where in list the entries of a key are: each
// is compared with those of its own key only, for there can be thousands.
func mergeOne[K comparable, T any](list []T, at map[K][]int, key K, x T, compare func(have, x T) overlap) []T {
	for _, i := range at[key] {
		switch compare(list[i], x) {
		case overlapKeepFirst:
			return list
		case overlapKeepSecond:
			list[i] = x
			return list
		}
	}
	at[key] = append(at[key], len(list))
	return append(list, x)
}

// overlap says what two entries of one key have to do with each other.
type overlap int

const (
	overlapNone       overlap = iota // both are needed, or they contradict each other
	overlapKeepFirst                 // the second adds nothing
	overlapKeepSecond                // the second says more than the first
)

func overlapOfExchanges(a, b Exchange) overlap {
	return compareDefinitions(a.Passive, b.Passive, func() bool { return len(differingExchange(a, b)) == 0 })
}

func overlapOfQueues(a, b Queue) overlap {
	if a.Name == "" { // each gets a name of its own
		return overlapNone
	}
	return compareDefinitions(a.Passive, b.Passive, func() bool { return len(differingQueue(a, b)) == 0 })
}

func overlapOfBindings(a, b Binding) overlap {
	if len(differingKeys(normalTable(a.Arguments), normalTable(b.Arguments))) == 0 {
		return overlapKeepFirst
	}
	return overlapNone
}

func compareDefinitions(aPassive, bPassive bool, equal func() bool) overlap {
	switch {
	case bPassive:
		return overlapKeepFirst
	case aPassive:
		return overlapKeepSecond
	case equal():
		return overlapKeepFirst
	}
	return overlapNone
}

// Queue returns the queue of that name and whether there is one.
func (t Topology) Queue(name string) (Queue, bool) {
	for _, q := range t.Queues {
		if q.Name == name {
			return q, true
		}
	}
	return Queue{}, false
}

// Exchange returns the exchange of that name and whether there is one.
func (t Topology) Exchange(name string) (Exchange, bool) {
	for _, e := range t.Exchanges {
		if e.Name == name {
			return e, true
		}
	}
	return Exchange{}, false
}

// Covers reports whether err is the broker's 404 for an exchange or queue that t
// declares, so that declaring t again brings it back. What t only uses (Passive)
// is not covered.
func (t Topology) Covers(err error) bool {
	var reply *amqp.Error
	if !errors.As(err, &reply) || !reply.Server || reply.Code != amqp.NotFound {
		return false
	}
	for _, e := range t.Exchanges {
		if !e.Passive && strings.Contains(reply.Reason, "no exchange '"+e.Name+"' in vhost") {
			return true
		}
	}
	for _, q := range t.Queues {
		if !q.Passive && q.Name != "" && strings.Contains(reply.Reason, "no queue '"+q.Name+"' in vhost") {
			return true
		}
	}
	return false
}
