package conformance

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/wire"
)

// echoed publishes raw properties and says whether they come back byte for byte.
func echoed(p *Peer, queue string, properties []byte) {
	p.say("> properties %q", properties[:min(len(properties), 1000)])
	p.Publish(1, &wire.BasicPublish{RoutingKey: queue}, properties, "m")
	p.Send(1, &wire.BasicGet{Queue: queue, NoAck: true})
	if f, ok := p.frame(patience); !ok || f.Type != wire.MethodFrame {
		p.say("no answer")
		return
	}
	f, ok := p.frame(patience)
	if !ok {
		return
	}
	h, err := wire.ParseHeader(f.Payload)
	if err != nil {
		p.say("header %q", f.Payload)
		return
	}
	text := "as sent"
	if !bytes.Equal(h.Properties, properties) {
		text = fmt.Sprintf("%q", h.Properties)
	}
	p.say("< properties %s", text)
	p.frame(patience)
}

// echo is a case that does that for raw properties.
func echo(properties ...[]byte) func(*Script) {
	return func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		for _, raw := range properties {
			echoed(p, q, raw)
		}
	}
}

func properties(p wire.Properties) []byte {
	if p.Flags == 0 {
		p.Mark()
	}
	return p.Append(nil)
}

// headers is a property list with headers alone.
func headers(t wire.Table) []byte {
	return properties(wire.Properties{Flags: wire.FlagHeaders, Headers: t})
}

// raw is a property list with headers alone, whose table is these bytes.
func rawHeaders(table string) []byte {
	return append([]byte{0x20, 0, 0, 0, 0, byte(len(table))}, table...)
}

var propertyCases = []Case{
	{"properties/none", echo(none)},
	{"properties/all", echo(properties(wire.Properties{
		ContentType: "text/plain", ContentEncoding: "gzip", Headers: wire.Table{{Key: "k", Value: "v"}}, DeliveryMode: 2,
		Priority: 7, CorrelationID: "corr", ReplyTo: "reply", Expiration: "60000", MessageID: "id", Timestamp: 1700000000,
		Type: "type", UserID: "guest", AppID: "app", ClusterID: "cluster",
	}))},
	{"properties/present-but-empty", echo(properties(wire.Properties{
		Flags: wire.FlagContentType | wire.FlagHeaders | wire.FlagPriority | wire.FlagDeliveryMode | wire.FlagMessageID | wire.FlagTimestamp,
	}))},
	{"properties/delivery-modes", echo(
		properties(wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 1}),
		properties(wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 2}),
		properties(wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 3}),
	)},
	{"properties/every-type-of-a-table", echo(headers(wire.Table{
		{Key: "z-order-is-kept", Value: "a"},
		{Key: "bool", Value: true},
		{Key: "no", Value: false},
		{Key: "int8", Value: int8(-8)},
		{Key: "uint8", Value: uint8(8)},
		{Key: "int16", Value: int16(-16)},
		{Key: "uint16", Value: uint16(16)},
		{Key: "int32", Value: int32(-32)},
		{Key: "uint32", Value: uint32(32)},
		{Key: "int64", Value: int64(-64)},
		{Key: "float32", Value: float32(1.5)},
		{Key: "float64", Value: 2.25},
		{Key: "decimal", Value: wire.Decimal{Scale: 2, Value: 12345}},
		{Key: "text", Value: "text"},
		{Key: "bytes", Value: []byte{0, 255}},
		{Key: "time", Value: wire.Timestamp(1700000000)},
		{Key: "void", Value: nil},
		{Key: "array", Value: wire.Array{int32(1), "two", wire.Table{{Key: "three", Value: nil}}, wire.Array{}}},
		{Key: "table", Value: wire.Table{{Key: "inner", Value: wire.Table{}}}},
	}))},
	{"properties/headers-in-order-of-their-keys", echo(
		headers(wire.Table{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "B", Value: "3"}, {Key: "aa", Value: "4"}}),
		headers(wire.Table{{Key: "t", Value: wire.Table{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}}}}),
		headers(wire.Table{{Key: "l", Value: wire.Array{wire.Table{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}}}}}),
	)},
	{"properties/type-L-of-a-table", echo(rawHeaders("\x01kL\x00\x00\x00\x00\x00\x00\x00\x05"))},
	{"properties/true-that-is-not-1", echo(rawHeaders("\x01kt\x07"))},
	{"properties/key-twice", echo(headers(wire.Table{{Key: "k", Value: "one"}, {Key: "k", Value: "two"}}))},
	{"properties/key-empty", echo(headers(wire.Table{{Key: "", Value: "one"}}))},
	{"properties/text-that-is-not-utf-8", echo(headers(wire.Table{{Key: "k", Value: "\xff\xfe"}}))},
	{"properties/decimal-negative", echo(headers(wire.Table{{Key: "k", Value: wire.Decimal{Scale: 1, Value: math.MaxUint32}}}))},
	{"properties/timestamp-far-away", echo(properties(wire.Properties{Timestamp: math.MaxUint64}))},
	{"properties/long-texts", echo(properties(wire.Properties{MessageID: strings.Repeat("m", 255), Headers: wire.Table{{Key: strings.Repeat("k", 128), Value: strings.Repeat("v", 2000)}}}))},
	{"properties/on-quorum", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true, Arguments: wire.Table{{Key: "x-queue-type", Value: "quorum"}}}, "queue.declare-ok")
		p.Call(1, &wire.ConfirmSelect{}, "confirm.select-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, headers(wire.Table{{Key: "z", Value: int8(1)}, {Key: "a", Value: nil}}), "m")
		p.Until("basic.ack")
		p.Call(1, &wire.BasicGet{Queue: q, NoAck: true}, "basic.get-ok")
	}},
	{"properties/unknown-type-of-a-table", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, rawHeaders("\x01kZ\x00"), "m")
		p.Closed()
	}},
	{"properties/cut-short", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, []byte{0x80, 0, 9, 'x'}, "m")
		p.Closed()
	}},
	{"properties/of-the-driver", func(s *Script) {
		ch := s.Channel()
		q := ch.Own("q", nil)
		ch.Put("", q, Msg{
			Body: []byte("full"), ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: 2, Priority: 9, CorrelationId: "c",
			ReplyTo: "r", Expiration: "60000", MessageId: "m", Timestamp: time.Unix(1700000000, 0), Type: "t", AppId: "a",
			Headers: Table{
				"bool": true, "int8": int8(-1), "byte": byte(255), "int16": int16(-2), "int32": int32(-3), "int64": int64(-4),
				"float32": float32(0.5), "float64": 0.25, "decimal": amqp.Decimal{Scale: 1, Value: 15}, "text": "t", "bytes": []byte{1, 2},
				"time": time.Unix(1600000000, 0), "void": nil, "array": []any{int32(1), "x"}, "table": Table{"k": "v"},
			},
		})
		ch.Drain(q)
	}},
	{"properties/server-adds-in-order", func(s *Script) {
		// How the headers of a dead letter stand on the wire.
		p := s.Peer()
		q, dead := s.QueueName("q"), s.QueueName("dead")
		p.Call(1, &wire.QueueDeclare{Queue: dead, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true, Arguments: wire.Table{
			{Key: "x-dead-letter-exchange", Value: ""}, {Key: "x-dead-letter-routing-key", Value: dead},
		}}, "queue.declare-ok")
		p.Send(1, &wire.BasicConsume{Queue: dead, ConsumerTag: "t", NoAck: true})
		p.Until("basic.consume-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, properties(wire.Properties{
			ContentType: "c", Expiration: "50", Headers: wire.Table{{Key: "z", Value: int8(1)}, {Key: "a", Value: "last"}},
		}), "m")
		p.Until("basic.deliver")
	}},
	{"properties/server-adds-in-order-on-quorum", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true, Arguments: wire.Table{{Key: "x-queue-type", Value: "quorum"}}}, "queue.declare-ok")
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, headers(wire.Table{{Key: "z", Value: int8(1)}, {Key: "a", Value: "last"}}), "m")
		p.Call(1, &wire.BasicConsume{Queue: q, ConsumerTag: "t"}, "basic.consume-ok")
		p.Until("basic.deliver")
		p.Send(1, &wire.BasicReject{DeliveryTag: 1, Requeue: true})
		p.Until("basic.deliver")
	}},
}
