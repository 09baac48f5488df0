package engine

import (
	"slices"
	"strconv"

	"github.com/mqkit/mqkit/internal/wire"
)

// noTTL is a message or a queue without a time limit.
const noTTL = -1

// message is what was published, shared by every queue it was routed to. It is
// not changed once it is in a queue. Properties stay as bytes, since most of
// them go out as they came in.
type message struct {
	exchange   string // that it is delivered as coming from
	key        string
	cc         *extraKeys // nil for nearly all
	properties []byte
	body       []byte
	deaths     *deaths // nil unless it was dead-lettered
	ttl        int64   // milliseconds, or noTTL
	// deliveryCount is what a dead-lettered message brings along.
	deliveryCount uint32
	priority      int16 // -1: absent
	persistent    bool
}

// extraKeys are the routing keys in a message's headers CC and BCC.
type extraKeys struct {
	all []string // CC, then BCC
	bcc []string
}

// keys returns all routing keys, the publisher's own first.
func (m *message) keys() []string {
	if m.cc == nil {
		return []string{m.key}
	}
	return append([]string{m.key}, m.cc.all...)
}

// entry is a message in one queue: ready, or held by a channel that has not
// settled it.
type entry struct {
	msg     *message
	pos     uint64 // the place in its queue, never reused
	expires int64  // unix milliseconds, 0: never
	queue   *queue

	// While delivered and not settled:
	holder *consumer // nil: fetched by get
	tag    uint64    // delivery tag, on the channel that holds it
	due    int64     // when it has to be settled, unix milliseconds, 0: whenever

	deliveries  uint32 // x-delivery-count: failed deliveries
	acquired    uint32 // x-acquired-count: returns of every kind
	redelivered bool
	released    bool // its time to be settled ran out: the queue has it back already
}

// scan is what routing and storing need to know of a message's properties.
type scan struct {
	ttl        int64
	priority   int16
	persistent bool
	cc         *extraKeys
	replyTo    string
	userID     string
	hasUser    bool
	headers    wire.Table
}

// shortAt steps over a short string.
func shortAt(raw []byte, at int) (string, int, bool) {
	if at >= len(raw) {
		return "", 0, false
	}
	end := at + 1 + int(raw[at])
	if end > len(raw) {
		return "", 0, false
	}
	return string(raw[at+1 : end]), end, true
}

// scanProperties reads the properties of a publish and brings them into the form
// that they go out in: header keys sorted, each once, without BCC. A message
// without headers is left as it is, and nothing is allocated for it.
func scanProperties(raw []byte) (scan, []byte, *Exception) {
	s := scan{ttl: noTTL, priority: -1}
	if len(raw) < 2 {
		if len(raw) == 0 {
			return s, raw, nil
		}
		return parseProperties(raw)
	}
	flags := wire.Flag(raw[0])<<8 | wire.Flag(raw[1])
	if flags&1 != 0 || flags&wire.FlagHeaders != 0 {
		return parseProperties(raw)
	}
	at, ok := 2, true
	skip := func(f wire.Flag) {
		if ok && flags&f != 0 {
			if at < len(raw) {
				at += 1 + int(raw[at])
			} else {
				ok = false
			}
		}
	}
	octet := func(f wire.Flag) (byte, bool) {
		if !ok || flags&f == 0 {
			return 0, false
		}
		if at >= len(raw) {
			ok = false
			return 0, false
		}
		at++
		return raw[at-1], true
	}
	short := func(f wire.Flag) (string, bool) {
		if !ok || flags&f == 0 {
			return "", false
		}
		var v string
		v, at, ok = shortAt(raw, at)
		return v, ok
	}
	skip(wire.FlagContentType)
	skip(wire.FlagContentEncoding)
	if mode, has := octet(wire.FlagDeliveryMode); has {
		s.persistent = mode == 2
	}
	if p, has := octet(wire.FlagPriority); has {
		s.priority = int16(p)
	}
	skip(wire.FlagCorrelationID)
	if flags&wire.FlagReplyTo != 0 {
		s.replyTo, _ = short(wire.FlagReplyTo)
	}
	if v, has := short(wire.FlagExpiration); has {
		var e *Exception
		if s.ttl, e = parseExpiration(v); e != nil {
			return s, nil, e
		}
	}
	if flags&wire.FlagMessageID != 0 {
		skip(wire.FlagMessageID)
	}
	if flags&wire.FlagTimestamp != 0 {
		at += 8
	}
	skip(wire.FlagType)
	if flags&wire.FlagUserID != 0 {
		s.userID, s.hasUser = short(wire.FlagUserID)
	}
	skip(wire.FlagAppID)
	skip(wire.FlagClusterID)
	if !ok || at != len(raw) {
		return parseProperties(raw)
	}
	return s, raw, nil
}

// parseProperties is scanProperties for what has headers, or is malformed.
func parseProperties(raw []byte) (scan, []byte, *Exception) {
	s := scan{ttl: noTTL, priority: -1}
	p, err := wire.ParseProperties(raw)
	if err != nil {
		return s, nil, wireException(err)
	}
	s.persistent = p.Has(wire.FlagDeliveryMode) && p.DeliveryMode == 2
	if p.Has(wire.FlagPriority) {
		s.priority = int16(p.Priority)
	}
	if p.Has(wire.FlagReplyTo) {
		s.replyTo = p.ReplyTo
	}
	if p.Has(wire.FlagUserID) {
		s.userID, s.hasUser = p.UserID, true
	}
	if p.Has(wire.FlagExpiration) {
		var e *Exception
		if s.ttl, e = parseExpiration(p.Expiration); e != nil {
			return s, nil, e
		}
	}
	if !p.Has(wire.FlagHeaders) {
		return s, raw, nil
	}
	var e *Exception
	if s.cc, e = headerRoutes(p.Headers); e != nil {
		return s, nil, e
	}
	p.Headers.Delete("BCC")
	if !sortedTable(p.Headers) {
		p.Headers = sortTable(p.Headers)
	}
	s.headers = p.Headers
	return s, p.Append(nil), nil
}

// parseExpiration reads the property as RabbitMQ does: leading blanks never, a
// sign allowed, nothing behind the number.
func parseExpiration(v string) (int64, *Exception) {
	digits := 0
	for i := range len(v) {
		c := v[i]
		if c >= '0' && c <= '9' {
			digits = i + 1
		} else if i > 0 || (c != '-' && c != '+') {
			break
		}
	}
	if digits == 0 {
		return 0, exceptionf(codePreconditionFailed, "invalid expiration '%s': no_integer", v)
	}
	if rest := v[digits:]; rest != "" {
		return 0, exceptionf(codePreconditionFailed, "invalid expiration '%s': {leftover_string,%s}", v, erlangString(rest))
	}
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case n < 0:
		return 0, exceptionf(codePreconditionFailed, "invalid expiration '%s': {value_negative,%d}", v, n)
	case err != nil || n > maxExpiry:
		return 0, exceptionf(codePreconditionFailed, "invalid expiration '%s': {value_too_large,%s}", v, v)
	}
	return n, nil
}

// headerRoutes reads CC and BCC.
func headerRoutes(headers wire.Table) (*extraKeys, *Exception) {
	var x extraKeys
	for _, name := range [...]string{"CC", "BCC"} {
		v, has := headers.Get(name)
		if !has {
			continue
		}
		routes, isArray := v.(wire.Array)
		if !isArray {
			return nil, exceptionf(codePreconditionFailed,
				"invalid message: {unacceptable_type_in_header,%s,%s}", erlangString(name), typeName(v))
		}
		for _, r := range routes {
			if key, isString := r.(string); isString {
				x.all = append(x.all, key)
				if name == "BCC" {
					x.bcc = append(x.bcc, key)
				}
			}
		}
	}
	if x.all == nil {
		return nil, nil
	}
	return &x, nil
}

func sortedTable(t wire.Table) bool {
	for i := 1; i < len(t); i++ {
		if t[i-1].Key >= t[i].Key {
			return false
		}
	}
	return true
}

// sortTable sorts by key and keeps the first of each.
func sortTable(t wire.Table) wire.Table {
	t = slices.Clone(t)
	slices.SortStableFunc(t, func(a, b wire.Field) int {
		switch {
		case a.Key < b.Key:
			return -1
		case a.Key > b.Key:
			return 1
		}
		return 0
	})
	return slices.CompactFunc(t, func(a, b wire.Field) bool { return a.Key == b.Key })
}

// outgoing returns the properties that a consumer of the entry gets: the
// publisher's, and what the broker has to say about its life.
func (e *entry) outgoing() []byte {
	m := e.msg
	counted := e.queue.kind == quorum && e.acquired > 0
	if m.deaths == nil && !counted && e.queue.kind != stream {
		return m.properties
	}
	var added wire.Table
	if e.queue.kind == stream {
		added = append(added, wire.Field{Key: "x-stream-offset", Value: int64(e.pos)})
	}
	if counted {
		rules := e.queue.vhost.broker.opts.Rules
		if rules == Rules42 {
			added = append(added, wire.Field{Key: "x-delivery-count", Value: int64(e.acquired)})
		} else {
			added = append(added, wire.Field{Key: "x-acquired-count", Value: int64(e.acquired)})
			if e.deliveries > 0 {
				added = append(added, wire.Field{Key: "x-delivery-count", Value: int64(e.deliveries)})
			}
		}
	}
	if m.deaths != nil {
		added = append(added, m.deaths.headers()...)
	}
	properties := m.properties
	if e.queue.kind == stream {
		properties = asStreamed(properties)
	}
	return withHeaders(properties, added)
}

// withHeaders adds fields, which win over those of the same key.
func withHeaders(raw []byte, added wire.Table) []byte {
	p, err := wire.ParseProperties(raw)
	if err != nil {
		return raw // it was parsed when it was published
	}
	p.Headers = sortTable(append(added, p.Headers...))
	p.Flags |= wire.FlagHeaders
	return p.Append(nil)
}

// asStreamed returns properties as they come out of a stream, which keeps
// messages in the form of AMQP 1.0: there every message says whether it is
// durable.
func asStreamed(raw []byte) []byte {
	p, err := wire.ParseProperties(raw)
	if err != nil || p.Has(wire.FlagDeliveryMode) {
		return raw
	}
	p.DeliveryMode = 1
	p.Flags |= wire.FlagDeliveryMode
	return p.Append(nil)
}

// messageID reads the property for the journal.
func messageID(raw []byte) string {
	p, err := wire.ParseProperties(raw)
	if err != nil {
		return ""
	}
	return p.MessageID
}
