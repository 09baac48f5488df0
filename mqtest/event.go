package mqtest

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/mqkit/mqkit/internal/wire"
)

// Point is a moment at which a fault can strike.
type Point uint8

// The moments. A fault whose Point is zero strikes at any of them.
const (
	// Accepted is a new connection from which nothing has been read.
	Accepted Point = iota + 1
	// Received is a method of the client, complete with its content (or a
	// heartbeat), that the broker does not know of yet: not applied.
	Received
	// Applied is a method of the client that the broker has carried out and
	// answered, before the client gets the answer. The event describes the
	// method; actions concern the answer. The answer of a publish is its confirm.
	//
	// A method that the broker refuses is not applied, nor is one that comes behind
	// the close that this was answered with. A method without an answer (a publish
	// where confirms are off, an ack) is seen here on a Broker, as soon as it is
	// applied: of a connection that is blocked, after that. On a Proxy, where nothing
	// tells whether it was, it is never seen here.
	Applied
	// Sending is a method of the broker, complete with its content (or a
	// heartbeat), before the client gets it.
	Sending
)

var pointNames = [...]string{"any", "accepted", "received", "applied", "sending"}

// String returns the point's word.
func (p Point) String() string { return pointNames[p] }

// Event is what happens at a [Point]. Fields that it has no use for are zero.
// It must not be written to; what it holds stays as it is and may be kept.
type Event struct {
	Point   Point
	Conn    int    // connections are numbered from 1, in the order of their arrival
	Channel uint16 // 0: the connection itself
	Method  string // "basic.publish", "heartbeat"; empty at Accepted

	Exchange    string
	RoutingKey  string
	Queue       string // of a deliver: the one that its consumer reads
	ConsumerTag string
	Tag         uint64 // delivery tag; of a confirm that is sent: its number
	Number      uint64 // of a publish, where confirms are on: its number
	MessageID   string
	Body        []byte
	Frames      []byte // as they stand on the wire

	m wire.Method
}

// Field returns a field of the event's method by its name in AMQP, "no-ack" or
// "multiple", and nil if there is none. Field tables come as map[string]any.
func (e *Event) Field(name string) any {
	if e.m == nil {
		return nil
	}
	field := reflect.ValueOf(e.m).Elem().FieldByNameFunc(func(s string) bool { return s == goName(name) })
	if !field.IsValid() {
		return nil
	}
	return plain(field.Interface())
}

// Message returns the message of a method with content, nil of others. It can be
// sent back: Answer(Method{Name: "basic.return", Message: e.Message()}).
func (e *Event) Message() *Message {
	if e.m == nil || !e.m.ID().HasContent() {
		return nil
	}
	u := &unit{raw: e.Frames}
	properties, _ := u.content()
	m := withProperties(properties)
	m.Exchange, m.RoutingKey, m.Body = e.Exchange, e.RoutingKey, e.Body
	m.Redelivered, _ = e.Field("redelivered").(bool)
	return &m
}

// String is short: it is what a failing test prints.
func (e *Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v conn %d", e.Point, e.Conn)
	if e.Channel != 0 {
		fmt.Fprintf(&b, " channel %d", e.Channel)
	}
	if e.Method != "" {
		b.WriteString(" " + e.Method)
	}
	for _, f := range []struct{ name, value string }{
		{"exchange", e.Exchange},
		{"key", e.RoutingKey},
		{"queue", e.Queue},
		{"consumer", e.ConsumerTag},
		{"id", e.MessageID},
	} {
		if f.value != "" {
			fmt.Fprintf(&b, " %s=%q", f.name, f.value)
		}
	}
	if e.Tag != 0 {
		fmt.Fprintf(&b, " tag=%d", e.Tag)
	}
	if e.Number != 0 {
		fmt.Fprintf(&b, " number=%d", e.Number)
	}
	return b.String()
}

// newEvent describes a unit.
func newEvent(point Point, conn int, u *unit) *Event {
	e := &Event{Point: point, Conn: conn, Channel: u.channel, Method: u.name(), Frames: u.raw}
	if u.id == 0 {
		return e
	}
	e.m = u.parse()
	switch m := e.m.(type) {
	case *wire.BasicPublish:
		e.Exchange, e.RoutingKey = m.Exchange, m.RoutingKey
	case *wire.BasicReturn:
		e.Exchange, e.RoutingKey = m.Exchange, m.RoutingKey
	case *wire.BasicDeliver:
		e.Exchange, e.RoutingKey, e.ConsumerTag, e.Tag = m.Exchange, m.RoutingKey, m.ConsumerTag, m.DeliveryTag
	case *wire.BasicGetOk:
		e.Exchange, e.RoutingKey, e.Tag = m.Exchange, m.RoutingKey, m.DeliveryTag
	case *wire.BasicGet:
		e.Queue = m.Queue
	case *wire.BasicConsume:
		e.Queue, e.ConsumerTag = m.Queue, m.ConsumerTag
	case *wire.BasicConsumeOk:
		e.ConsumerTag = m.ConsumerTag
	case *wire.BasicCancel:
		e.ConsumerTag = m.ConsumerTag
	case *wire.BasicCancelOk:
		e.ConsumerTag = m.ConsumerTag
	case *wire.BasicAck:
		e.Tag = m.DeliveryTag
	case *wire.BasicNack:
		e.Tag = m.DeliveryTag
	case *wire.BasicReject:
		e.Tag = m.DeliveryTag
	case *wire.QueueDeclare:
		e.Queue = m.Queue
	case *wire.QueueDeclareOk:
		e.Queue = m.Queue
	case *wire.QueueBind:
		e.Queue, e.Exchange, e.RoutingKey = m.Queue, m.Exchange, m.RoutingKey
	case *wire.QueueUnbind:
		e.Queue, e.Exchange, e.RoutingKey = m.Queue, m.Exchange, m.RoutingKey
	case *wire.QueuePurge:
		e.Queue = m.Queue
	case *wire.QueueDelete:
		e.Queue = m.Queue
	case *wire.ExchangeDeclare:
		e.Exchange = m.Exchange
	case *wire.ExchangeDelete:
		e.Exchange = m.Exchange
	}
	if u.id.HasContent() {
		var properties []byte
		properties, e.Body = u.content()
		if p, err := wire.ParseProperties(properties); err == nil {
			e.MessageID = p.MessageID
		}
	}
	return e
}

// goName turns a name as AMQP writes it into the one of wire's field.
func goName(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "-") {
		switch part {
		case "id":
			b.WriteString("ID")
		case "":
		default:
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// methodIDs are the methods by name.
var methodIDs = sync.OnceValue(func() map[string]wire.ID {
	ids := map[string]wire.ID{}
	for class := range wire.ID(100) {
		for method := range wire.ID(200) {
			if m := wire.New(class<<16 | method); m != nil {
				ids[m.ID().String()] = m.ID()
			}
		}
	}
	return ids
})
