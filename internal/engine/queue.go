package engine

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

type queueKind uint8

const (
	classic queueKind = iota
	quorum
	stream
)

func (k queueKind) String() string { return [...]string{"classic", "quorum", "stream"}[k] }

// module is RabbitMQ's own name for the type, which its texts show.
func (k queueKind) module() string {
	return [...]string{"rabbit_classic_queue", "rabbit_quorum_queue", "rabbit_stream_queue"}[k]
}

func kindOf(word string) (queueKind, bool) {
	switch word {
	case "classic", "":
		return classic, true
	case "quorum":
		return quorum, true
	case "stream":
		return stream, true
	}
	return classic, false
}

// settings are what a queue's arguments say.
type settings struct {
	ttl, expires       int64 // milliseconds; noTTL
	maxLength          int64 // -1: none
	maxBytes           int64
	overflow           string
	deadLetter         bool
	deadLetterExchange string
	deadLetterKey      string
	hasDeadLetterKey   bool
	atLeastOnce        bool // dead-letters so
	singleActive       bool
	deliveryLimit      int64 // -1: none
	consumerTimeout    time.Duration
	retryKind          string // "", all, failed, returned
	retryMin, retryMax int64  // milliseconds
	maxAge             time.Duration
}

type queue struct {
	vhost               *vhost
	name                string
	kind                queueKind
	durable, autoDelete bool
	owner               *Conn // exclusive to it
	args                wire.Table
	settings

	ready        ready
	nextPos      uint64
	fresh        *entry // came in last: it is not expired before it was offered
	unacked      int
	unackedBytes int64
	holders      int        // of a quorum queue: gets that are not settled, and cancelled consumers that hold something
	delayed      []*delayed // held by delayed retry, by time
	stuck        []*stuck   // dead letters that have not arrived
	asideBytes   int64      // of delayed and stuck
	worker       *Channel   // what dead letters are published from that are sent at least once
	log          *streamLog // a stream's

	consumers []*consumer // all, in the order in which they came
	turn      []*consumer // those that can take something, next first
	exclusive *consumer   // that nobody may stand beside
	active    *consumer   // the single active one
	had       bool        // consumers, ever
	blocked   map[*Channel]bool

	bindings map[string]*binding // where it is the destination

	lastUse                   int64
	expiry, ttlTimer, retryer timer
	stuckTimer                timer
	round                     uint64 // of routing that it was last found in
	dirty, deleted            bool
	requeued                  bool // something came back since it ran
	timed                     bool // something in it expires, or did
}

func (q *queue) String() string { return "queue '" + q.name + "' in vhost '" + q.vhost.name + "'" }

// checkAccess refuses what belongs to another connection.
func (q *queue) checkAccess(c *Conn) *Exception {
	if q.owner == nil || q.owner == c {
		return nil
	}
	return q.locked()
}

func (q *queue) locked() *Exception {
	return exceptionf(codeResourceLocked, "cannot obtain exclusive access to locked %s. It could be originally "+
		"declared on another connection or the exclusive property value does not match that of the original declaration.", q)
}

const transientDenied = "Feature `transient_nonexcl_queues` is deprecated.\n" +
	"Its use is not permitted per the configuration (overriding the default, which is permitted):\n" +
	"    \"deprecated_features.permit.transient_nonexcl_queues = false\"\n" +
	"Its use will not be permitted by default in a future minor RabbitMQ version and the feature will be removed " +
	"from a future major RabbitMQ version; actual versions to be determined.\n" +
	"To continue using this feature when it is not permitted by default, set the following parameter in your configuration:\n" +
	"    \"deprecated_features.permit.transient_nonexcl_queues = true\""

// QueueDeclare creates a queue, or checks that the one that is there is the same.
func (ch *Channel) QueueDeclare(m *wire.QueueDeclare) (*wire.QueueDeclareOk, *Exception) {
	var ok *wire.QueueDeclareOk
	e := ch.do(func(vh *vhost) *Exception {
		var e *Exception
		ok, e = ch.declareQueue(vh, m)
		return e
	})
	return ok, e
}

func (ch *Channel) declareQueue(vh *vhost, m *wire.QueueDeclare) (*wire.QueueDeclareOk, *Exception) {
	name := stripCRLF(m.Queue)
	if strings.HasPrefix(m.Queue, replyToName) {
		if name != replyToName && vh.broker.replies[name] == nil {
			return nil, noQueue(vh.name, name)
		}
		ch.lastQueue = name
		return &wire.QueueDeclareOk{Queue: name, ConsumerCount: 1}, nil
	}
	if m.Passive {
		q := vh.queues[name]
		if q == nil {
			return nil, noQueue(vh.name, name)
		}
		if e := q.checkAccess(ch.conn); e != nil {
			return nil, e
		}
		return ch.declared(q), nil
	}
	args := m.Arguments
	durable := m.Durable && !m.Exclusive
	switch { // as RabbitMQ's augment_declare_args
	case vh.defaultType == "" || vh.defaultType == classic.String():
	case durable && !m.AutoDelete:
		args = withType(args, vh.defaultType)
	default: // no other type can be that
		args = withType(args, classic.String())
	}
	switch {
	case name == "":
		if kind := vh.kindFor(args); kind != classic {
			return nil, exceptionf(codePreconditionFailed, "Cannot declare a server-named queue for type %s", kind.module())
		}
		name = vh.broker.newName("amq.gen-")
	case strings.HasPrefix(name, "amq."):
		return nil, exceptionf(codeAccessRefused, "queue name '%s' contains reserved prefix 'amq.*'", name)
	}
	var owner *Conn
	if m.Exclusive {
		owner = ch.conn
	}
	if q := vh.queues[name]; q != nil {
		if e := q.sameAs(durable, m.AutoDelete, owner, args); e != nil {
			return nil, e
		}
		return ch.declared(q), nil
	}
	where := "queue '" + name + "' in vhost '" + vh.name + "'"
	if v, has := args.Get("x-dead-letter-exchange"); has {
		if _, isString := v.(string); !isString {
			return nil, exceptionf(codePreconditionFailed, "invalid type '%s' for arg 'x-dead-letter-exchange' in %s", typeName(v), where)
		}
	}
	kind, e := vh.checkDeclare(name, args)
	if e != nil {
		return nil, e
	}
	if vh.broker.opts.DenyTransientQueues && !durable && owner == nil {
		return nil, NewException(codeInternalError, transientDenied)
	}
	if kind != classic {
		bad := ""
		switch {
		case m.AutoDelete:
			bad = "auto-delete"
		case owner != nil:
			bad = "exclusive-owner"
		case !durable:
			bad = "non-durable"
		}
		if bad != "" {
			return nil, exceptionf(codePreconditionFailed, "invalid property '%s' for %s", bad, where)
		}
	}
	vh.unknownArgs(args, kind.args(vh.broker.opts.Rules))
	q := vh.newQueue(name, kind, durable, m.AutoDelete, owner, args)
	vh.broker.note(Event{Kind: EventQueueDeclared, Conn: ch.conn.info.Name, Channel: ch.number, Vhost: vh.name, Queue: name})
	return ch.declared(q), nil
}

// declared answers a declare: it counts as a use, but not to rabbit_fifo, and names
// the queue that an empty name means from now on.
func (ch *Channel) declared(q *queue) *wire.QueueDeclareOk {
	ch.lastQueue = q.name
	if q.kind != quorum {
		q.used()
	}
	return &wire.QueueDeclareOk{Queue: q.name, MessageCount: uint32(q.readyCount()), ConsumerCount: uint32(q.consumerCount())}
}

func (vh *vhost) newQueue(name string, kind queueKind, durable, autoDelete bool, owner *Conn, args wire.Table) *queue {
	q := &queue{
		vhost: vh, name: name, kind: kind, durable: durable, autoDelete: autoDelete, owner: owner, args: args,
		bindings: map[string]*binding{},
	}
	q.settings = readSettings(kind, args, vh.broker.opts)
	if q.atLeastOnce {
		q.worker = newPublisher()
	}
	levels := 1
	switch {
	case kind == quorum && vh.broker.opts.Rules == Rules42:
		levels, q.ready.twoToOne = 2, true
	case kind == quorum:
		levels, q.ready.manyHeads = 32, true
	case kind == classic:
		if v, has := args.Get("x-max-priority"); has {
			n, _ := integer(v)
			levels = int(n) + 1
		}
	case kind == stream:
		q.log = &streamLog{}
	}
	q.ready.levels = make([]level, levels)
	vh.queues[name] = q
	if owner != nil {
		owner.exclusive[q] = struct{}{}
	}
	q.used()
	return q
}

func readSettings(kind queueKind, args wire.Table, o Options) settings {
	number := func(arg string, otherwise int64) int64 {
		if v, has := args.Get(arg); has {
			if n, ok := integer(v); ok {
				return n
			}
		}
		return otherwise
	}
	word := func(arg string) (string, bool) {
		v, _ := args.Get(arg)
		s, ok := v.(string)
		return s, ok
	}
	s := settings{
		ttl: number("x-message-ttl", noTTL), expires: number("x-expires", noTTL),
		maxLength: number("x-max-length", -1), maxBytes: number("x-max-length-bytes", -1),
		deliveryLimit: -1, consumerTimeout: o.ConsumerTimeout,
	}
	s.overflow, _ = word("x-overflow")
	s.deadLetterExchange, s.deadLetter = word("x-dead-letter-exchange")
	s.deadLetterKey, s.hasDeadLetterKey = word("x-dead-letter-routing-key")
	if v, has := args.Get("x-single-active-consumer"); has {
		s.singleActive, _ = v.(bool)
	}
	if n := number("x-consumer-timeout", -1); n >= 0 {
		s.consumerTimeout = time.Duration(n) * time.Millisecond
	}
	if age, has := word("x-max-age"); has {
		s.maxAge, _ = parseAge(age)
	}
	if kind != quorum {
		return s
	}
	how, _ := word("x-dead-letter-strategy")
	s.atLeastOnce = how == "at-least-once" && s.deadLetter && s.overflow == "reject-publish"
	s.deliveryLimit = max(-1, number("x-delivery-limit", defaultDeliveryLimit))
	if o.Rules == Rules43 {
		how, _ := word("x-delayed-retry-type")
		least := number("x-delayed-retry-min", 0)
		if (how == "all" || how == "failed" || how == "returned") && least > 0 {
			s.retryKind, s.retryMin = how, least
			if s.retryMax = number("x-delayed-retry-max", least); s.retryMax <= 0 {
				s.retryMax = least
			}
		}
	}
	return s
}

// sameAs checks a redeclare.
func (q *queue) sameAs(durable, autoDelete bool, owner *Conn, args wire.Table) *Exception {
	if q.owner != owner {
		return q.locked()
	}
	if q.durable != durable {
		return inequivalent("durable", q.String(), "'"+boolWord(durable)+"'", "'"+boolWord(q.durable)+"'")
	}
	if q.autoDelete != autoDelete {
		return inequivalent("auto_delete", q.String(), "'"+boolWord(autoDelete)+"'", "'"+boolWord(q.autoDelete)+"'")
	}
	was := withType(q.args, q.kind.String())
	args = withType(args, classic.String())
	for _, arg := range q.kind.args(q.vhost.broker.opts.Rules) {
		if e := sameArgument(arg, q.String(), was, args); e != nil {
			return e
		}
	}
	return nil
}

// withType adds the type to arguments that do not say it.
func withType(args wire.Table, kind string) wire.Table {
	if _, has := args.Get("x-queue-type"); has {
		return args
	}
	return append(slices.Clone(args), wire.Field{Key: "x-queue-type", Value: kind})
}

// QueuePurge drops what is ready, and counts it.
func (ch *Channel) QueuePurge(m *wire.QueuePurge) (*wire.QueuePurgeOk, *Exception) {
	ok := &wire.QueuePurgeOk{}
	e := ch.do(func(vh *vhost) *Exception {
		q, e := ch.find(m.Queue)
		if e != nil {
			return e
		}
		if q.kind == stream {
			return exceptionf(codeNotImplemented, "queue.purge not supported by stream queues %s", q)
		}
		ok.MessageCount = uint32(q.purge())
		return nil
	})
	return ok, e
}

func (q *queue) purge() int {
	n := q.ready.n + len(q.delayed) + len(q.stuck)
	if q.vhost.broker.opts.Event != nil {
		for _, e := range q.ready.all() {
			q.noteEntry(EventPurged, e, "")
		}
		for _, d := range q.delayed {
			q.noteEntry(EventPurged, d.entry, "")
		}
		for _, s := range q.stuck {
			q.noteEntry(EventPurged, s.entry, "")
		}
	}
	q.ready.clear()
	q.delayed, q.stuck, q.asideBytes = nil, nil, 0
	q.retryer.stop()
	q.stuckTimer.stop()
	q.touch()
	return n
}

// QueueDelete deletes a queue, and counts what was in it; that it is not there
// is no error. It calls answer under the lock, before it cancels consumers of the same
// channel.
func (ch *Channel) QueueDelete(m *wire.QueueDelete, answer func(*wire.QueueDeleteOk)) *Exception {
	return ch.do(func(vh *vhost) *Exception {
		name, e := ch.expandQueue(stripCRLF(m.Queue))
		if e != nil {
			return e
		}
		q := vh.queues[name]
		if q == nil {
			answer(&wire.QueueDeleteOk{})
			return nil
		}
		if e := q.checkAccess(ch.conn); e != nil {
			return e
		}
		if q.kind == quorum && (m.IfUnused || m.IfEmpty) {
			flag := "if-unused"
			if !m.IfUnused {
				flag = "if-empty"
			}
			return exceptionf(codeNotImplemented, "cannot delete %s. queue.delete operations with %s flag set are not "+
				"supported by quorum queues", q, flag)
		}
		if q.kind == classic && m.IfEmpty && q.ready.n > 0 {
			return exceptionf(codePreconditionFailed, "%s not empty", q)
		}
		if q.kind == classic && m.IfUnused && len(q.consumers) > 0 {
			return exceptionf(codePreconditionFailed, "%s in use", q)
		}
		n := uint32(q.ready.n) // of a stream none
		ch.deleting = true
		q.delete("deleted")
		ch.deleting = false
		answer(&wire.QueueDeleteOk{MessageCount: n})
		for _, tag := range ch.ended {
			ch.sink.Cancel(tag)
		}
		ch.ended = nil
		return nil
	})
}

// delete removes a queue with its messages and bindings and ends its consumers.
// What channels hold of it they may still settle: it makes no difference.
func (q *queue) delete(reason string) {
	if q.deleted {
		return
	}
	q.deleted = true
	delete(q.vhost.queues, q.name)
	if q.owner != nil {
		delete(q.owner.exclusive, q)
	}
	q.stopTimers()
	for _, b := range slices.Collect(maps.Values(q.bindings)) {
		q.vhost.unbind(b)
	}
	for _, c := range slices.Clone(q.consumers) {
		delete(c.ch.consumers, c.tag)
		c.gone = true
		q.noteConsumer(EventConsumerRemoved, c, "deleted")
		c.ch.cancelled(c.tag)
	}
	for ch := range q.blocked {
		delete(ch.enqueued, q)
	}
	if q.worker != nil {
		q.worker.unblock()
	}
	q.consumers, q.turn, q.active, q.exclusive, q.blocked = nil, nil, nil, nil, nil
	q.vhost.broker.note(Event{Kind: EventQueueDeleted, Vhost: q.vhost.name, Queue: q.name, Reason: reason})
	q.ready.clear()
	q.delayed, q.stuck, q.log = nil, nil, nil
}

// readyCount is what declare and delete count.
func (q *queue) readyCount() int {
	if q.log != nil {
		return q.log.len()
	}
	return q.ready.n
}

// consumerCount is what declare counts: of a quorum queue's consumers those that
// it serves, and who else holds a message.
func (q *queue) consumerCount() int {
	switch {
	case q.kind == stream:
		return 0
	case q.kind == quorum && q.singleActive:
		return min(1, len(q.consumers))
	}
	return len(q.consumers) + q.holders
}
