package wire_test

import (
	"io"
	"testing"

	"github.com/mqkit/mqkit/internal/wire"
)

// published is what a client sends for one message of 256 bytes.
func published() []byte {
	p := wire.Properties{ContentType: "application/json", DeliveryMode: 2, MessageID: "0197c5a8-4b3f-7000-8000-000000000001"}
	p.Mark()
	m := &wire.BasicPublish{Exchange: "events", RoutingKey: "order.created", Mandatory: true}
	return wire.AppendContent(nil, 1, m, p.Append(nil), make([]byte, 256), 131072)
}

// endless repeats what it holds.
type endless struct {
	bytes []byte
	at    int
}

func (e *endless) Read(b []byte) (n int, err error) {
	for n < len(b) {
		c := copy(b[n:], e.bytes[e.at:])
		n += c
		e.at = (e.at + c) % len(e.bytes)
	}
	return n, nil
}

func BenchmarkReadFrames(b *testing.B) {
	stream := published()
	r := wire.NewReader(&endless{bytes: stream})
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		for range 3 {
			if _, err := r.Next(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkReadPublish(b *testing.B) {
	stream := published()
	r := wire.NewReader(&endless{bytes: stream})
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		method, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := wire.ParseMethod(method.Payload); err != nil {
			b.Fatal(err)
		}
		header, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := wire.ParseHeader(header.Payload); err != nil {
			b.Fatal(err)
		}
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendDeliver(b *testing.B) {
	p := wire.Properties{DeliveryMode: 2}
	p.Mark()
	properties, body := p.Append(nil), make([]byte, 256)
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = wire.AppendContent(out[:0], 1, &wire.BasicDeliver{
			ConsumerTag: "ctag", DeliveryTag: 1, Exchange: "events", RoutingKey: "order.created",
		}, properties, body, 131072)
		_, _ = io.Discard.Write(out)
	}
}

func BenchmarkParseMethod(b *testing.B) {
	for _, m := range []wire.Method{
		&wire.BasicPublish{Exchange: "events", RoutingKey: "order.created"},
		&wire.BasicAck{DeliveryTag: 1, Multiple: true},
		&wire.QueueDeclare{Queue: "q", Arguments: everything()},
	} {
		raw := payload(b, wire.AppendMethod(nil, 1, m))
		b.Run(m.ID().String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := wire.ParseMethod(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseProperties(b *testing.B) {
	p := wire.Properties{ContentType: "application/json", DeliveryMode: 2, MessageID: "0197c5a8-4b3f-7000-8000-000000000001"}
	p.Mark()
	raw := p.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.ParseProperties(raw); err != nil {
			b.Fatal(err)
		}
	}
}
