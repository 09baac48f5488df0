package engine

import (
	"maps"
	"slices"
	"strings"

	"github.com/mqkit/mqkit/internal/wire"
)

// exchange is what messages are published to.
type exchange struct {
	name, kind                    string
	durable, autoDelete, internal bool
	args                          wire.Table
	alternate                     string
	hasAlternate                  bool

	bindings map[string]*binding   // where it is the source, by identity
	into     map[string]*binding   // where it is the destination, by identity
	direct   map[string][]*binding // a direct exchange's, by key
	topic    *topicNode            // a topic exchange's
	list     []*binding            // fanout's and headers', in the order in which they were made
	order    uint64                // of the bindings made
}

// binding ties a source to a queue or to an exchange.
type binding struct {
	id     string
	source *exchange
	queue  *queue    // nil if it leads to an exchange
	dest   *exchange // nil if it leads to a queue
	key    string
	args   wire.Table
	seq    uint64
}

func (b *binding) durable() bool {
	if b.queue != nil {
		return b.source.durable && b.queue.durable
	}
	return b.source.durable && b.dest.durable
}

// The exchanges that every vhost has.
var predeclared = []struct{ name, kind string }{
	{"", "direct"},
	{"amq.direct", "direct"},
	{"amq.fanout", "fanout"},
	{"amq.topic", "topic"},
	{"amq.headers", "headers"},
	{"amq.match", "headers"},
	{"amq.rabbitmq.trace", "topic"},
}

func newExchange(name, kind string) *exchange {
	return &exchange{
		name: name, kind: kind,
		bindings: map[string]*binding{}, into: map[string]*binding{},
	}
}

// stripCRLF is what RabbitMQ does to names that are declared.
func stripCRLF(name string) string {
	if !strings.ContainsAny(name, "\r\n") {
		return name
	}
	return strings.NewReplacer("\r", "", "\n", "").Replace(name)
}

func checkNotDefault(name string) *Exception {
	if name == "" {
		return NewException(codeAccessRefused, "operation not permitted on the default exchange")
	}
	return nil
}

// ExchangeDeclare creates an exchange, or checks that the one that is there is
// the same.
func (ch *Channel) ExchangeDeclare(m *wire.ExchangeDeclare) *Exception {
	return ch.do(func(vh *vhost) *Exception { return vh.declareExchange(m) })
}

func (vh *vhost) declareExchange(m *wire.ExchangeDeclare) *Exception {
	name := stripCRLF(m.Exchange)
	if m.Passive {
		if e := checkNotDefault(name); e != nil {
			return e
		}
		if vh.exchanges[name] == nil {
			return noExchange(vh.name, name)
		}
		return nil
	}
	switch m.Type {
	case "direct", "fanout", "topic", "headers":
	default:
		return exceptionf(codePreconditionFailed, "unknown exchange type '%s'", m.Type)
	}
	if e := checkNotDefault(name); e != nil {
		return e
	}
	where := "exchange '" + name + "' in vhost '" + vh.name + "'"
	x := vh.exchanges[name]
	if x == nil {
		if strings.HasPrefix(name, "amq.") {
			return exceptionf(codeAccessRefused, "exchange name '%s' contains reserved prefix 'amq.*'", name)
		}
		x = newExchange(name, m.Type)
		if v, has := m.Arguments.Get("alternate-exchange"); has {
			alternate, isString := v.(string)
			if !isString {
				return exceptionf(codePreconditionFailed, "invalid type '%s' for arg 'alternate-exchange' in %s", typeName(v), where)
			}
			x.alternate, x.hasAlternate = alternate, true
		}
		x.durable, x.autoDelete, x.internal, x.args = m.Durable, m.AutoDelete, m.Internal, m.Arguments
		vh.unknownArgs(m.Arguments, exchangeArgs)
		vh.exchanges[name] = x
		return nil
	}
	same := func(arg, received, current string) *Exception {
		if received == current {
			return nil
		}
		return inequivalent(arg, where, "'"+received+"'", "'"+current+"'")
	}
	if e := same("type", m.Type, x.kind); e != nil {
		return e
	}
	for _, f := range []struct {
		arg               string
		received, current bool
	}{{"durable", m.Durable, x.durable}, {"auto_delete", m.AutoDelete, x.autoDelete}, {"internal", m.Internal, x.internal}} {
		if e := same(f.arg, boolWord(f.received), boolWord(f.current)); e != nil {
			return e
		}
	}
	return sameArgument("alternate-exchange", where, x.args, m.Arguments)
}

func boolWord(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// ExchangeDelete deletes an exchange; that it is not there is no error.
func (ch *Channel) ExchangeDelete(m *wire.ExchangeDelete) *Exception {
	return ch.do(func(vh *vhost) *Exception {
		name := stripCRLF(m.Exchange)
		if e := checkNotDefault(name); e != nil {
			return e
		}
		if strings.HasPrefix(name, "amq.") {
			return exceptionf(codeAccessRefused, "deletion of system exchange '%s' in vhost '%s' not allowed", name, vh.name)
		}
		x := vh.exchanges[name]
		if x == nil {
			return nil
		}
		if m.IfUnused && len(x.bindings) > 0 {
			return exceptionf(codePreconditionFailed, "exchange '%s' in vhost '%s' in use", name, vh.name)
		}
		vh.deleteExchange(x)
		return nil
	})
}

func (vh *vhost) deleteExchange(x *exchange) {
	delete(vh.exchanges, x.name)
	for _, b := range x.bindings {
		b.detach()
	}
	for _, b := range slices.Collect(maps.Values(x.into)) {
		vh.unbind(b)
	}
}

// ExchangeBind binds an exchange to another.
func (ch *Channel) ExchangeBind(m *wire.ExchangeBind) *Exception {
	return ch.do(func(vh *vhost) *Exception {
		return vh.bind(ch, m.Source, "", m.Destination, m.RoutingKey, m.Arguments)
	})
}

// ExchangeUnbind removes a binding between exchanges; that it is not there is no
// error.
func (ch *Channel) ExchangeUnbind(m *wire.ExchangeUnbind) *Exception {
	return ch.do(func(vh *vhost) *Exception {
		return vh.removeBinding(ch, m.Source, "", m.Destination, m.RoutingKey, m.Arguments)
	})
}

// QueueBind binds a queue to an exchange. An empty queue name is the one last
// declared on the channel; so is an empty key beside it.
func (ch *Channel) QueueBind(m *wire.QueueBind) *Exception {
	return ch.do(func(vh *vhost) *Exception {
		queue, key, e := ch.expandKey(m.Queue, m.RoutingKey)
		if e != nil {
			return e
		}
		return vh.bind(ch, m.Exchange, queue, "", key, m.Arguments)
	})
}

// QueueUnbind removes a binding; that it is not there is no error.
func (ch *Channel) QueueUnbind(m *wire.QueueUnbind) *Exception {
	return ch.do(func(vh *vhost) *Exception {
		queue, key, e := ch.expandKey(m.Queue, m.RoutingKey)
		if e != nil {
			return e
		}
		return vh.removeBinding(ch, m.Exchange, queue, "", key, m.Arguments)
	})
}

// ends finds what a binding ties together. Without a queue's name the
// destination is an exchange.
func (vh *vhost) ends(source, queueName, destName string) (*exchange, *queue, *exchange, *Exception) {
	source, queueName, destName = stripCRLF(source), stripCRLF(queueName), stripCRLF(destName)
	if queueName == "" {
		if e := checkNotDefault(destName); e != nil {
			return nil, nil, nil, e
		}
	}
	if e := checkNotDefault(source); e != nil {
		return nil, nil, nil, e
	}
	x := vh.exchanges[source]
	if x == nil {
		return nil, nil, nil, noExchange(vh.name, source)
	}
	if queueName != "" {
		q := vh.queues[queueName]
		if q == nil {
			return nil, nil, nil, noQueue(vh.name, queueName)
		}
		return x, q, nil, nil
	}
	dest := vh.exchanges[destName]
	if dest == nil {
		return nil, nil, nil, noExchange(vh.name, destName)
	}
	return x, nil, dest, nil
}

func bindingID(x *exchange, q *queue, dest *exchange, key string, args wire.Table) string {
	to := ""
	if q != nil {
		to = "q" + q.name
	} else {
		to = "x" + dest.name
	}
	return x.name + "\x00" + to + "\x00" + key + "\x00" + string(wire.AppendTable(nil, args))
}

func (vh *vhost) bind(ch *Channel, source, queueName, destName, key string, args wire.Table) *Exception {
	x, q, dest, e := vh.ends(source, queueName, destName)
	if e != nil {
		return e
	}
	if x.kind == "headers" {
		if e := checkMatch(args); e != nil {
			return e
		}
	}
	if q != nil {
		if e := q.checkAccess(ch.conn); e != nil {
			return e
		}
	}
	sorted := sortTable(args)
	b := &binding{source: x, queue: q, dest: dest, key: key, args: sorted}
	b.id = bindingID(x, q, dest, key, sorted)
	if x.bindings[b.id] == nil {
		b.attach()
		vh.unknownBindArgs(x, args)
	}
	return nil
}

func (vh *vhost) removeBinding(ch *Channel, source, queueName, destName, key string, args wire.Table) *Exception {
	x, q, dest, e := vh.ends(source, queueName, destName)
	if e != nil {
		if e.Code == codeNotFound {
			return nil // that is what was asked for
		}
		return e
	}
	b := x.bindings[bindingID(x, q, dest, key, sortTable(args))]
	if b == nil {
		return nil
	}
	if q != nil {
		if e := q.checkAccess(ch.conn); e != nil {
			return e
		}
	}
	vh.unbind(b)
	return nil
}

// unbind removes a binding, and with its last one an auto-delete source.
func (vh *vhost) unbind(b *binding) {
	b.detach()
	if x := b.source; x.autoDelete && len(x.bindings) == 0 && vh.exchanges[x.name] == x {
		vh.deleteExchange(x)
	}
}

func (b *binding) attach() {
	x := b.source
	x.order++
	b.seq = x.order
	x.bindings[b.id] = b
	if b.queue != nil {
		b.queue.bindings[b.id] = b
	} else {
		b.dest.into[b.id] = b
	}
	switch x.kind {
	case "topic":
		if x.topic == nil {
			x.topic = &topicNode{}
		}
		x.topic.add(splitKey(b.key), b)
	case "direct":
		if x.direct == nil {
			x.direct = map[string][]*binding{}
		}
		x.direct[b.key] = append(x.direct[b.key], b)
	default:
		x.list = append(x.list, b)
	}
}

func (b *binding) detach() {
	x := b.source
	delete(x.bindings, b.id)
	if b.queue != nil {
		delete(b.queue.bindings, b.id)
	} else {
		delete(b.dest.into, b.id)
	}
	switch x.kind {
	case "topic":
		x.topic.remove(splitKey(b.key), b)
	case "direct":
		rest := slices.DeleteFunc(x.direct[b.key], func(o *binding) bool { return o == b })
		if len(rest) == 0 {
			delete(x.direct, b.key)
		} else {
			x.direct[b.key] = rest
		}
	default:
		x.list = slices.DeleteFunc(x.list, func(o *binding) bool { return o == b })
	}
}
