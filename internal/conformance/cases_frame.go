package conformance

import (
	"encoding/binary"
	"strings"

	"github.com/mqkit/mqkit/internal/wire"
)

// method is the payload of a method frame, made by hand.
func method(class, id uint16, arguments ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, class)
	return append(binary.BigEndian.AppendUint16(b, id), arguments...)
}

// header is the payload of a header frame.
func header(class uint16, size uint64, properties []byte) []byte {
	return wire.AppendHeader(nil, 0, wire.Header{Class: class, BodySize: size, Properties: properties})[7:][:12+len(properties)]
}

// wrongFrame sends a frame on channel 1 and reads to the end of the connection.
func wrongFrame(t wire.FrameType, channel uint16, payload []byte) func(*Script) {
	return func(s *Script) {
		p := s.Peer()
		p.Frame(t, channel, payload)
		p.Closed()
	}
}

var frameCases = []Case{
	{"frame/type-unknown", wrongFrame(9, 1, []byte("x"))},
	{"frame/type-zero-on-channel-0", wrongFrame(0, 0, nil)},
	{"frame/end-octet-wrong", func(s *Script) {
		p := s.Peer()
		b := wire.AppendMethod(nil, 1, &wire.BasicQos{PrefetchCount: 1})
		b[len(b)-1] = 0xAB
		p.Bytes(b)
		p.Closed()
	}},
	{"frame/too-large", func(s *Script) {
		p := s.Peer()
		p.Bytes(binary.BigEndian.AppendUint32([]byte{byte(wire.BodyFrame), 0, 1}, 1<<20))
		p.Closed()
	}},
	{"frame/method-unknown", func(s *Script) {
		p := s.Peer()
		p.Frame(wire.MethodFrame, 1, method(60, 41))
		p.Read(1)
	}},
	{"frame/class-unknown", func(s *Script) {
		p := s.Peer()
		p.Frame(wire.MethodFrame, 1, method(99, 10))
		p.Read(1)
	}},
	{"frame/method-unknown-on-channel-0", func(s *Script) {
		p := s.Peer()
		p.Frame(wire.MethodFrame, 0, method(10, 99))
		p.Read(1)
	}},
	{"frame/method-without-arguments", wrongFrame(wire.MethodFrame, 1, method(60, 10, 0))},
	{"frame/method-with-bytes-left-over", wrongFrame(wire.MethodFrame, 1, method(60, 10, 0, 0, 0, 0, 0, 1, 0, 0xFF))},
	{"frame/method-shorter-than-its-number", wrongFrame(wire.MethodFrame, 1, []byte{0, 60})},
	{"frame/name-is-not-utf-8", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.QueueDeclare{Queue: "\xff\xfe", Durable: true})
		p.Closed()
	}},
	{"frame/routing-key-is-not-utf-8", func(s *Script) {
		p := s.Peer()
		x, q := s.ExchangeName("x"), s.QueueName("q")
		p.Call(1, &wire.ExchangeDeclare{Exchange: x, Type: "fanout", Durable: true}, "exchange.declare-ok")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Call(1, &wire.QueueBind{Queue: q, Exchange: x}, "queue.bind-ok")
		p.Publish(1, &wire.BasicPublish{Exchange: x, RoutingKey: "\xff\xfe"}, none, "m")
		p.Call(1, &wire.BasicGet{Queue: q, NoAck: true}, "basic.get-ok")
	}},
	{"frame/heartbeat-on-a-channel", wrongFrame(wire.HeartbeatFrame, 1, nil)},
	{"frame/heartbeat-with-a-payload", wrongFrame(wire.HeartbeatFrame, 0, []byte("x"))},
	{"frame/heartbeat-is-fine", func(s *Script) {
		p := s.Peer()
		p.Frame(wire.HeartbeatFrame, 0, nil)
		p.Alive()
	}},
	{"frame/header-without-a-method", wrongFrame(wire.HeaderFrame, 1, header(60, 3, none))},
	{"frame/body-without-a-method", wrongFrame(wire.BodyFrame, 1, []byte("abc"))},
	{"frame/body-on-channel-0", wrongFrame(wire.BodyFrame, 0, []byte("abc"))},
	{"frame/method-where-a-header-is-due", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.BasicPublish{RoutingKey: "k"})
		p.Send(1, &wire.BasicQos{PrefetchCount: 1})
		p.Closed()
	}},
	{"frame/body-where-a-header-is-due", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.BasicPublish{RoutingKey: "k"})
		p.Frame(wire.BodyFrame, 1, []byte("abc"))
		p.Closed()
	}},
	{"frame/method-where-a-body-is-due", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.BasicPublish{RoutingKey: "k"})
		p.Frame(wire.HeaderFrame, 1, header(60, 3, none))
		p.Send(1, &wire.BasicQos{PrefetchCount: 1})
		p.Closed()
	}},
	{"frame/header-where-a-body-is-due", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.BasicPublish{RoutingKey: "k"})
		p.Frame(wire.HeaderFrame, 1, header(60, 3, none))
		p.Frame(wire.HeaderFrame, 1, header(60, 3, none))
		p.Closed()
	}},
	{"frame/header-of-another-class", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.BasicPublish{RoutingKey: "k"})
		p.Frame(wire.HeaderFrame, 1, header(50, 3, none))
		p.Closed()
	}},
	{"frame/header-cut-short", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.BasicPublish{RoutingKey: "k"})
		p.Frame(wire.HeaderFrame, 1, header(60, 3, none)[:9])
		p.Closed()
	}},
	{"frame/body-longer-than-announced", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Send(1, &wire.BasicPublish{RoutingKey: q})
		p.Frame(wire.HeaderFrame, 1, header(60, 3, none))
		p.Frame(wire.BodyFrame, 1, []byte("abcdef"))
		p.Closed()
	}},
	{"frame/body-in-many-frames", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Send(1, &wire.BasicPublish{RoutingKey: q})
		p.Frame(wire.HeaderFrame, 1, header(60, 6, none))
		for _, part := range []string{"a", "", "bcd", "ef"} {
			p.Frame(wire.BodyFrame, 1, []byte(part))
		}
		p.Call(1, &wire.BasicGet{Queue: q, NoAck: true}, "basic.get-ok")
	}},
	{"frame/contents-of-two-channels-interleave", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(2, &wire.ChannelOpen{}, "channel.open-ok")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Send(1, &wire.BasicPublish{RoutingKey: q})
		p.Send(2, &wire.BasicPublish{RoutingKey: q})
		p.Frame(wire.HeaderFrame, 2, header(60, 2, none))
		p.Frame(wire.HeaderFrame, 1, header(60, 2, none))
		p.Frame(wire.BodyFrame, 2, []byte("22"))
		p.Call(2, &wire.BasicGet{Queue: q, NoAck: true}, "basic.get-ok")
		p.Frame(wire.BodyFrame, 1, []byte("11"))
		p.Call(1, &wire.BasicGet{Queue: q, NoAck: true}, "basic.get-ok")
	}},
	{"frame/large-body-is-cut-by-frame-max", func(s *Script) {
		p := s.Login(func(g *Greeting) { g.TuneOk.FrameMax = 8192 })
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.Raw(wire.AppendContent(nil, 1, &wire.BasicPublish{RoutingKey: q}, none, []byte(strings.Repeat("x", 20000)), 8192))
		p.Send(1, &wire.BasicGet{Queue: q, NoAck: true})
		for n := 0; n < 20000; {
			f, ok := p.frame(patience)
			if !ok {
				return
			}
			p.say("< frame type=%d of %d bytes", f.Type, len(f.Payload))
			if f.Type == wire.BodyFrame {
				n += len(f.Payload)
			}
		}
	}},
	{"frame/frame-above-the-agreed-size", func(s *Script) {
		p := s.Login(func(g *Greeting) { g.TuneOk.FrameMax = 8192 })
		p.quietly(func() { p.Call(1, &wire.ChannelOpen{}, "channel.open-ok") })
		p.Send(1, &wire.BasicPublish{RoutingKey: "k"})
		p.Frame(wire.HeaderFrame, 1, header(60, 10000, none))
		p.Frame(wire.BodyFrame, 1, []byte(strings.Repeat("x", 10000)))
		p.Closed()
	}},
	{"frame/table-of-unknown-type", func(s *Script) {
		p := s.Peer()
		p.Frame(wire.MethodFrame, 1, append(method(50, 10, 0, 0, 1, 'q', 0), 0, 0, 0, 4, 1, 'k', 'Z', 0))
		p.Read(1)
	}},
	{"frame/table-longer-than-the-frame", func(s *Script) {
		p := s.Peer()
		p.Frame(wire.MethodFrame, 1, append(method(50, 10, 0, 0, 1, 'q', 0), 0, 0, 0, 44, 1, 'k', 't', 1))
		p.Closed()
	}},
	{"frame/one-byte-at-a-time", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		p.say("> basic.publish and basic.get, byte by byte")
		b := wire.AppendContent(nil, 1, &wire.BasicPublish{RoutingKey: q}, none, []byte("slow"), 131072)
		b = wire.AppendMethod(b, 1, &wire.BasicGet{Queue: q, NoAck: true})
		for i := range b {
			p.Raw(b[i : i+1])
		}
		p.Until("basic.get-ok")
	}},
}
