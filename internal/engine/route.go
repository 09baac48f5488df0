package engine

import (
	"strings"

	"github.com/mqkit/mqkit/internal/wire"
)

// route finds the queues that a message published to x belongs in, each once.
// The slice is good until the next call.
func (vh *vhost) route(x *exchange, m *message, headers wire.Table) []*queue {
	b := vh.broker
	b.routed = b.routed[:0]
	b.round++
	if x.name == "" {
		vh.routeDefault(m)
		return b.routed
	}
	vh.routeFrom(x, m, headers)
	// The exchanges that were reached, each once, the first too.
	for i := 0; i < len(b.reached); i++ {
		vh.routeFrom(b.reached[i], m, headers)
	}
	clear(b.reached)
	b.reached = b.reached[:0]
	clear(b.seenExchanges)
	return b.routed
}

func (vh *vhost) routeDefault(m *message) {
	vh.routeQueue(vh.queues[m.key])
	if m.cc != nil {
		for _, key := range m.cc.all {
			vh.routeQueue(vh.queues[key])
		}
	}
}

func (vh *vhost) routeQueue(q *queue) {
	if q == nil || q.round == vh.broker.round {
		return
	}
	q.round = vh.broker.round
	vh.broker.routed = append(vh.broker.routed, q)
}

func (vh *vhost) routeBinding(b *binding) {
	if b.queue != nil {
		vh.routeQueue(b.queue)
		return
	}
	vh.reach(b.source, b.dest)
}

// reach notes an exchange that a message goes on to. Where it goes to itself, or
// in a circle, it goes once.
func (vh *vhost) reach(from, to *exchange) {
	br := vh.broker
	if br.seenExchanges == nil {
		br.seenExchanges = map[*exchange]bool{}
	}
	if len(br.seenExchanges) == 0 {
		br.seenExchanges[from] = true
	}
	if !br.seenExchanges[to] {
		br.seenExchanges[to] = true
		br.reached = append(br.reached, to)
	}
}

func (vh *vhost) routeFrom(x *exchange, m *message, headers wire.Table) {
	matched := false
	switch x.kind {
	case "direct":
		matched = vh.routeDirect(x, m.key)
		if m.cc != nil {
			for _, key := range m.cc.all {
				matched = vh.routeDirect(x, key) || matched
			}
		}
		if x.name == "" {
			vh.routeDefault(m) // reached as an alternate
		}
	case "fanout":
		for _, b := range x.list {
			matched = true
			vh.routeBinding(b)
		}
	case "topic":
		for _, key := range m.keys() {
			vh.broker.topicRound++
			match := topicMatch{words: splitKey(key), round: vh.broker.topicRound, found: func(b *binding) {
				matched = true
				vh.routeBinding(b)
			}}
			match.at(x.topic, 0)
		}
	case "headers":
		for _, b := range x.list {
			if matchHeaders(b.args, headers) {
				matched = true
				vh.routeBinding(b)
			}
		}
	}
	if !matched && x.hasAlternate {
		if alternate := vh.exchanges[x.alternate]; alternate != nil {
			vh.reach(x, alternate)
		}
	}
}

func (vh *vhost) routeDirect(x *exchange, key string) bool {
	bs := x.direct[key]
	for _, b := range bs {
		vh.routeBinding(b)
	}
	return len(bs) > 0
}

// topicNode is a word in the tree of a topic exchange's binding keys.
type topicNode struct {
	next map[string]*topicNode
	ends []*binding // that end here

	// Of a "#": in that round it was gone on from at this word and all later ones.
	round uint64
	from  int
}

// splitKey cuts a key into its words; the empty key has none.
func splitKey(key string) []string {
	if key == "" {
		return nil
	}
	return strings.Split(key, ".")
}

func (n *topicNode) add(words []string, b *binding) {
	for _, w := range words {
		if n.next == nil {
			n.next = map[string]*topicNode{}
		}
		child := n.next[w]
		if child == nil {
			child = &topicNode{}
			n.next[w] = child
		}
		n = child
	}
	n.ends = append(n.ends, b)
}

// remove takes a binding out and tells whether the node is of no use any more.
func (n *topicNode) remove(words []string, b *binding) bool {
	if len(words) == 0 {
		for i, o := range n.ends {
			if o == b {
				n.ends = append(n.ends[:i], n.ends[i+1:]...)
				break
			}
		}
	} else if child := n.next[words[0]]; child != nil && child.remove(words[1:], b) {
		delete(n.next, words[0])
	}
	return len(n.ends) == 0 && len(n.next) == 0
}

// topicMatch is one routing key on its way through a tree.
type topicMatch struct {
	words []string
	round uint64
	found func(*binding)
	steps int // nodes that were looked at
}

// at calls found for each binding below n that fits the words from i on, some of
// them more than once: "*" stands for one word, "#" for any number. It is linear in
// the nodes and in the words.
func (m *topicMatch) at(n *topicNode, i int) {
	if n == nil {
		return
	}
	m.steps++
	if i == len(m.words) {
		for _, b := range n.ends {
			m.found(b)
		}
	} else {
		word := m.words[i]
		m.at(n.next[word], i+1)
		// A routing key may hold the word "*" or "#": that is a word too.
		if word != "*" {
			m.at(n.next["*"], i+1)
		}
	}
	if rest := n.next["#"]; rest != nil {
		m.afterHash(rest, i)
	}
}

// afterHash goes on behind a "#" that may end before the word i or any later one. A
// key such as "a.a.a" reaches the node in many ways; what another way has been
// through is not gone through again, or their number would grow exponentially with
// each "#" of a binding, under the broker's one lock.
func (m *topicMatch) afterHash(n *topicNode, i int) {
	end := len(m.words) + 1
	if n.round == m.round {
		end = n.from
	}
	if i >= end {
		return
	}
	n.round, n.from = m.round, i
	for ; i < end; i++ {
		m.at(n, i)
	}
}

// checkMatch validates a binding to a headers exchange.
func checkMatch(args wire.Table) *Exception {
	v, has := args.Get("x-match")
	if !has {
		return nil
	}
	how, isString := v.(string)
	if !isString {
		return exceptionf(codePreconditionFailed,
			"Invalid x-match field type %s (value %s); expected longstr", typeName(v), erlangTerm(v))
	}
	switch how {
	case "all", "any", "all-with-x", "any-with-x":
		return nil
	}
	return exceptionf(codePreconditionFailed,
		"Invalid x-match field value %s; expected all, any, all-with-x, or any-with-x", erlangBinary(how))
}

// matchingOf is how a binding's arguments say that headers are to be compared.
func matchingOf(args wire.Table) string {
	if v, has := args.Get("x-match"); has {
		how, _ := v.(string)
		return how
	}
	return "all"
}

// matchesX tells whether headers that begin with x- count too.
func matchesX(how string) bool { return strings.HasSuffix(how, "-with-x") }

// matchHeaders compares a message's headers with a binding's arguments. Those
// that begin with x- count only if the binding says so.
func matchHeaders(args, headers wire.Table) bool {
	how := matchingOf(args)
	anyOf, withX := strings.HasPrefix(how, "any"), matchesX(how)
	for _, a := range args {
		if a.Key == "x-match" || !withX && strings.HasPrefix(a.Key, "x-") {
			continue
		}
		v, has := headers.Get(a.Key)
		fits := has && (a.Value == nil || sameValue(a.Value, v))
		if anyOf && fits {
			return true
		}
		if !anyOf && !fits {
			return false
		}
	}
	return !anyOf
}
