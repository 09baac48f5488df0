package topology

import (
	"errors"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Topology is a set of exchanges, queues and bindings. It is a plain value: it
// holds no connection and can be copied, compared, merged, written to a file and
// read back. The zero Topology is empty and valid.
type Topology struct {
	Exchanges []Exchange
	Queues    []Queue
	Bindings  []Binding
}

// Merge returns t and others as one topology. What is defined in the same way
// several times is kept once, and a definition replaces a Passive use of the
// same name. Two different definitions of one name are both kept, for Validate
// to report. No slice of the result is shared with t or others.
func (t Topology) Merge(others ...Topology) Topology {
	var m Topology
	for _, o := range append([]Topology{t}, others...) {
		for _, e := range o.Exchanges {
			m.Exchanges = mergeOne(m.Exchanges, e, sameExchange)
		}
		for _, q := range o.Queues {
			m.Queues = mergeOne(m.Queues, q, sameQueue)
		}
		for _, b := range o.Bindings {
			m.Bindings = mergeOne(m.Bindings, b, sameBinding)
		}
	}
	return m
}

// mergeOne appends x to list, or puts it in the place of the entry that it makes
// superfluous, or drops it.
func mergeOne[T any](list []T, x T, same func(have, x T) overlap) []T {
	for i, have := range list {
		switch same(have, x) {
		case overlapKeepFirst:
			return list
		case overlapKeepSecond:
			list[i] = x
			return list
		}
	}
	return append(list, x)
}

// overlap says what two entries of one list have to do with each other.
type overlap int

const (
	overlapNone       overlap = iota // both are needed, or they contradict each other
	overlapKeepFirst                 // the second adds nothing
	overlapKeepSecond                // the second says more than the first
)

func sameExchange(a, b Exchange) overlap {
	if a.Name != b.Name {
		return overlapNone
	}
	return compareDefinitions(a.Passive, b.Passive, len(differingExchange(a, b)) == 0)
}

func sameQueue(a, b Queue) overlap {
	if a.Name != b.Name || a.Name == "" {
		return overlapNone
	}
	return compareDefinitions(a.Passive, b.Passive, len(differingQueue(a, b)) == 0)
}

func sameBinding(a, b Binding) overlap {
	if a.Exchange == b.Exchange && a.Queue == b.Queue && a.ToExchange == b.ToExchange &&
		a.RoutingKey == b.RoutingKey && len(differingKeys(normalTable(a.Arguments), normalTable(b.Arguments))) == 0 {
		return overlapKeepFirst
	}
	return overlapNone
}

func compareDefinitions(aPassive, bPassive, equal bool) overlap {
	switch {
	case bPassive:
		return overlapKeepFirst
	case aPassive:
		return overlapKeepSecond
	case equal:
		return overlapKeepFirst
	}
	return overlapNone
}

// Shared returns the part of t that does not belong to one session: every
// exchange, every queue that is not [Queue.PerSession], and the bindings of
// those. It is what reconnect declares on each new connection.
func (t Topology) Shared() Topology {
	owned := t.perSessionNames()
	var s Topology
	s.Exchanges = append(s.Exchanges, t.Exchanges...)
	for _, q := range t.Queues {
		if !q.PerSession() {
			s.Queues = append(s.Queues, q)
		}
	}
	for _, b := range t.Bindings {
		if b.ToExchange != "" || !owned[b.Queue] {
			s.Bindings = append(s.Bindings, b)
		}
	}
	return s
}

// PerSession returns the part of t that a consumer's session declares on its own
// channel: the queues that are [Queue.PerSession] and their bindings, with the
// auto-delete exchanges that those bindings name, because the broker deletes
// such an exchange along with its last binding.
func (t Topology) PerSession() Topology {
	owned := t.perSessionNames()
	bound := make(map[string]bool)
	var s Topology
	for _, q := range t.Queues {
		if q.PerSession() {
			s.Queues = append(s.Queues, q)
		}
	}
	for _, b := range t.Bindings {
		if b.ToExchange == "" && owned[b.Queue] {
			s.Bindings = append(s.Bindings, b)
			bound[b.Exchange] = true
		}
	}
	for _, e := range t.Exchanges {
		if e.AutoDelete && bound[e.Name] {
			s.Exchanges = append(s.Exchanges, e)
		}
	}
	return s
}

func (t Topology) perSessionNames() map[string]bool {
	names := make(map[string]bool)
	for _, q := range t.Queues {
		if q.PerSession() {
			names[q.Name] = true
		}
	}
	return names
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

// BindingsOf returns the bindings whose destination is the queue of that name.
func (t Topology) BindingsOf(queue string) []Binding {
	var bs []Binding
	for _, b := range t.Bindings {
		if b.ToExchange == "" && b.Queue == queue {
			bs = append(bs, b)
		}
	}
	return bs
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
