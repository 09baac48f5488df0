package wire_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"

	"github.com/mqkit/mqkit/internal/wire"
)

// refused fails unless the error says what RabbitMQ would close the connection with.
func refused(t *testing.T, err error) {
	t.Helper()
	var e *wire.FrameError
	if !errors.As(err, &e) || e.Code == 0 || e.Text == "" || len(e.Text) > 255 {
		t.Fatalf("refused with %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	for _, m := range methods() {
		f.Add(wire.AppendMethod(nil, 1, m), uint32(0))
	}
	f.Add(wire.AppendContent(nil, 65535, &wire.BasicPublish{}, []byte{0, 0}, make([]byte, 20_000), 8192), uint32(8192))
	f.Add(wire.Frame{Type: wire.HeartbeatFrame}.Append(nil), uint32(4096))
	f.Add([]byte(wire.ProtocolHeader), uint32(131072))
	f.Add([]byte("\x03\x00\x01\xff\xff\xff\xff"), uint32(0))
	f.Add([]byte("\x03\x00\x01\x00\x00\x00\x01x\xcf"), uint32(0))
	f.Fuzz(func(t *testing.T, stream []byte, frameMax uint32) {
		r := wire.NewReader(bytes.NewReader(stream))
		slow := wire.NewReader(iotest.OneByteReader(bytes.NewReader(stream)))
		r.SetMax(frameMax)
		slow.SetMax(frameMax)
		var again []byte
		for {
			frame, err := r.Next()
			other, otherErr := slow.Next()
			if !reflect.DeepEqual(frame, other) || !reflect.DeepEqual(err, otherErr) {
				t.Fatalf("%+v, %v at once, %+v, %v byte by byte", frame, err, other, otherErr)
			}
			switch {
			case err == nil:
				again = frame.Append(again)
			case errors.Is(err, io.EOF):
				if !bytes.Equal(again, stream) {
					t.Fatalf("%x became %x", stream, again)
				}
				return
			case errors.Is(err, io.ErrUnexpectedEOF):
				return
			default:
				refused(t, err)
				return
			}
			if !bytes.HasPrefix(stream, again) {
				t.Fatalf("%x became %x", stream, again)
			}
		}
	})
}

func FuzzMethod(f *testing.F) {
	for _, m := range methods() {
		f.Add(payload(f, wire.AppendMethod(nil, 1, m)))
	}
	f.Add([]byte("\x00\x3c\x00\x29"))
	f.Add([]byte("\x00\x14\x00\x0a\x01\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := wire.ParseMethod(raw)
		if err != nil {
			refused(t, err)
			return
		}
		// Not always the same bytes: unused bits and the table's L are lost. But what
		// was written once stays as it is.
		written := payload(t, wire.AppendMethod(nil, 1, m))
		if len(written) != len(raw) {
			t.Fatalf("%x became %x", raw, written)
		}
		again, err := wire.ParseMethod(written)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
		if twice := payload(t, wire.AppendMethod(nil, 1, again)); !bytes.Equal(twice, written) {
			t.Fatalf("%x became %x", written, twice)
		}
	})
}

func FuzzTable(f *testing.F) {
	f.Add(wire.AppendTable(nil, everything()))
	for _, field := range everything() {
		f.Add(wire.AppendTable(nil, wire.Table{field}))
	}
	f.Add([]byte("\x00\x00\x00\x0b\x01kL\xff\xff\xff\xff\xff\xff\xff\xfe"))
	f.Add([]byte("\x00\x00\x00\x07\x01kA\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		table, err := wire.ParseTable(raw)
		if err != nil {
			refused(t, err)
			return
		}
		if err := wire.CheckTable(table); err != nil {
			t.Fatal(err)
		}
		written := wire.AppendTable(nil, table)
		if len(written) != len(raw) {
			t.Fatalf("%x became %x", raw, written)
		}
		again, err := wire.ParseTable(written)
		if err != nil || !reflect.DeepEqual(again, table) {
			t.Fatalf("%+v became %+v, %v", table, again, err)
		}
		if twice := wire.AppendTable(nil, again); !bytes.Equal(twice, written) {
			t.Fatalf("%x became %x", written, twice)
		}
	})
}

func FuzzProperties(f *testing.F) {
	all := allProperties()
	f.Add(all.Append(nil))
	for bit := range 14 {
		one := all
		one.Flags = 1 << (15 - bit)
		f.Add(one.Append(nil))
	}
	f.Add([]byte("\x00\x03"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := wire.ParseProperties(raw)
		if err != nil {
			refused(t, err)
			return
		}
		written := p.Append(nil)
		if len(written) != len(raw) {
			t.Fatalf("%x became %x", raw, written)
		}
		if !p.Has(wire.FlagHeaders) && (!bytes.Equal(written[2:], raw[2:]) || written[1] != raw[1]&^3) {
			t.Fatalf("%x became %x", raw, written)
		}
		again, err := wire.ParseProperties(written)
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
		marked := p
		marked.Mark()
		if marked.Flags != p.Flags {
			t.Fatalf("Mark adds to %x: %x", p.Flags, marked.Flags)
		}
	})
}

func FuzzHeader(f *testing.F) {
	all := allProperties()
	for _, h := range []wire.Header{{}, {Class: 60, BodySize: 1}, {Class: 60, BodySize: wire.MaxBodySize, Properties: all.Append(nil)}} {
		f.Add(payload(f, wire.AppendHeader(nil, 1, h)))
	}
	f.Add([]byte("\x00\x3c\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := wire.ParseHeader(raw)
		if err != nil {
			refused(t, err)
			return
		}
		frame := wire.AppendHeader(nil, 1, h)
		if got := frame[7 : len(frame)-1]; !bytes.Equal(got, raw) {
			t.Fatalf("%x became %x", raw, got)
		}
	})
}

// FuzzContent goes the other way: any content, split at any size, is put together
// again from its frames.
func FuzzContent(f *testing.F) {
	f.Add("events", "order.created", []byte("body"), uint32(131072), uint64(1), true)
	f.Add("", "", []byte{}, uint32(0), uint64(1<<63), false)
	f.Add("e", "\xff", make([]byte, 9000), uint32(4096), uint64(0), true)
	f.Fuzz(func(t *testing.T, exchange, key string, body []byte, frameMax uint32, tag uint64, redelivered bool) {
		if len(exchange) > 255 || len(key) > 255 || len(body) > 1<<16 {
			t.Skip("does not fit, or takes too long")
		}
		want := &wire.BasicDeliver{ConsumerTag: key, DeliveryTag: tag, Redelivered: redelivered, Exchange: exchange, RoutingKey: key}
		properties := wire.Properties{Flags: wire.FlagMessageID, MessageID: key}
		r := wire.NewReader(bytes.NewReader(wire.AppendContent(nil, 9, want, properties.Append(nil), body, frameMax)))
		r.SetMax(0)

		var m wire.Method
		var h wire.Header
		var got []byte
		for {
			frame, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || frame.Channel != 9 {
				t.Fatalf("channel %d, %v", frame.Channel, err)
			}
			switch frame.Type {
			case wire.MethodFrame:
				m, err = wire.ParseMethod(frame.Payload)
			case wire.HeaderFrame:
				h, err = wire.ParseHeader(frame.Payload)
			case wire.BodyFrame:
				got = append(got, frame.Payload...)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		p, err := wire.ParseProperties(h.Properties)
		if err != nil || !reflect.DeepEqual(p, properties) || h.Class != 60 || h.BodySize != uint64(len(body)) {
			t.Errorf("header %+v with %+v, %v", h, p, err)
		}
		if !reflect.DeepEqual(m, want) || !bytes.Equal(got, body) {
			t.Errorf("got %+v with %q, want %+v with %q", m, got, want, body)
		}
	})
}
