package conformance

import (
	"encoding/binary"
	"regexp"
	"slices"
	"strings"

	"github.com/mqkit/mqkit/internal/wire"
)

// refused says what the broker answers to the first bytes of a client, and
// whether it goes on.
func refused(header string) func(*Script) {
	return func(s *Script) {
		p := s.Dial()
		p.Bytes([]byte(header))
		if first, err := p.reader.Peek(1); err == nil && first[0] == byte(wire.MethodFrame) {
			m, _ := p.next(patience)
			p.say("< %s", m.ID())
			return
		}
		if answer, err := p.reader.ReadProtocolHeader(); err == nil {
			p.say("< %q", answer)
		}
		p.End()
	}
}

// greeted logs in with a change, and writes down all of it that differs from the
// usual, then closes.
func greeted(change func(*Greeting)) func(*Script) {
	return func(s *Script) {
		p := s.Dial()
		before := len(s.lines)
		p.Greet(change)
		s.leaveOutStart(before)
		if p.ended {
			return
		}
		if last := s.lines[len(s.lines)-1]; strings.Contains(last, "connection.close") {
			p.Send(0, &wire.ConnectionCloseOk{})
			p.End()
			return
		}
		p.Alive()
	}
}

// leaveOutStart takes out what differs from one broker to the next: its
// properties, which a case of their own looks at.
func (s *Script) leaveOutStart(from int) {
	s.lines = slices.DeleteFunc(s.lines, func(line string) bool { return strings.Contains(line, "connection.start ") })
	user, password, _ := s.login()
	for i := from; i < len(s.lines); i++ {
		s.lines[i] = offered.ReplaceAllString(s.lines[i], " client-properties={...}")
		s.lines[i] = strings.ReplaceAll(s.lines[i], `\x00`+user+`\x00`+password, `\x00user\x00password`)
	}
}

var offered = regexp.MustCompile(` client-properties=\{capabilities=\{[^}]*\}\}`)

// amqplain is the response of that mechanism: a table without its length.
func amqplain(user, password string) string {
	return string(wire.AppendTable(nil, wire.Table{{Key: "LOGIN", Value: user}, {Key: "PASSWORD", Value: password}})[4:])
}

func withoutFailureClose(g *Greeting) { g.StartOk.ClientProperties = nil }

var handshakeCases = []Case{
	{"handshake/header-of-0-9-1", func(s *Script) {
		p := s.Dial()
		p.Bytes([]byte(wire.ProtocolHeader))
		m, _ := p.next(patience)
		start, ok := m.(*wire.ConnectionStart)
		if !ok {
			return
		}
		mechanisms := strings.Fields(start.Mechanisms) // in no particular order
		slices.Sort(mechanisms)
		p.say("< connection.start %d-%d mechanisms=%q locales=%q", start.VersionMajor, start.VersionMinor, mechanisms, start.Locales)
		for _, f := range start.ServerProperties {
			switch f.Key {
			case "product", "capabilities":
				p.say("%s=%s", f.Key, renderWireField(f.Value))
			default:
				p.say("%s is there", f.Key)
			}
		}
	}},
	{"handshake/tune", func(s *Script) {
		p := s.Dial()
		p.Raw([]byte(wire.ProtocolHeader))
		p.quietly(func() { p.Until("connection.start") })
		user, password, _ := s.login()
		p.quietly(func() {
			p.Send(0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: "\x00" + user + "\x00" + password, Locale: "en_US"})
		})
		p.Until("connection.tune")
	}},
	{"handshake/header-of-1-0", refused("AMQP\x00\x01\x00\x00")},
	{"handshake/header-of-0-9", refused("AMQP\x01\x01\x00\x09")},
	{"handshake/header-of-0-8", refused("AMQP\x01\x01\x08\x00")},
	{"handshake/header-of-0-10", refused("AMQP\x01\x01\x00\x0a")},
	{"handshake/header-of-0-9-2", refused("AMQP\x00\x00\x09\x02")},
	{"handshake/header-of-http", refused("GET / HTTP/1.1\r\n\r\n")},
	{"handshake/header-of-zeros", refused("\x00\x00\x00\x00\x00\x00\x00\x00")},
	{"handshake/header-cut-short", func(s *Script) {
		p := s.Dial()
		p.Bytes([]byte("AMQP\x00"))
		_ = p.conn.(interface{ CloseWrite() error }).CloseWrite()
		p.End()
	}},
	{"handshake/plain", greeted(p091)},
	{"handshake/amqplain", func(s *Script) {
		user, password, _ := s.login()
		p := s.Dial()
		p.quietly(func() {
			p.Greet(func(g *Greeting) { g.StartOk.Mechanism, g.StartOk.Response = "AMQPLAIN", amqplain(user, password) })
		})
		p.Alive()
	}},
	{"handshake/plain-wrong-password", greeted(func(g *Greeting) { g.StartOk.Response = "\x00guest\x00wrong" })},
	{"handshake/plain-wrong-password-without-the-capability", greeted(func(g *Greeting) {
		withoutFailureClose(g)
		g.StartOk.Response = "\x00guest\x00wrong"
	})},
	{"handshake/plain-unknown-user", greeted(func(g *Greeting) { g.StartOk.Response = "\x00nobody\x00wrong" })},
	{"handshake/plain-empty-password", greeted(func(g *Greeting) { g.StartOk.Response = "\x00guest\x00" })},
	{"handshake/plain-malformed", greeted(func(g *Greeting) { g.StartOk.Response = "guest" })},
	{"handshake/amqplain-wrong-password", greeted(func(g *Greeting) {
		g.StartOk.Mechanism, g.StartOk.Response = "AMQPLAIN", amqplain("guest", "wrong")
	})},
	{"handshake/amqplain-malformed", greeted(func(g *Greeting) {
		g.StartOk.Mechanism, g.StartOk.Response = "AMQPLAIN", amqplain("guest", "guest")[:4]
	})},
	{"handshake/amqplain-without-password", greeted(func(g *Greeting) {
		g.StartOk.Mechanism = "AMQPLAIN"
		g.StartOk.Response = string(wire.AppendTable(nil, wire.Table{{Key: "LOGIN", Value: "guest"}})[4:])
	})},
	{"handshake/external-where-it-is-not-offered", greeted(func(g *Greeting) { g.StartOk.Mechanism, g.StartOk.Response = "EXTERNAL", "" })},
	{"handshake/mechanism-unknown", greeted(func(g *Greeting) { g.StartOk.Mechanism = "BOGUS" })},
	{"handshake/mechanism-unknown-without-the-capability", greeted(func(g *Greeting) {
		withoutFailureClose(g)
		g.StartOk.Mechanism = "BOGUS"
	})},
	{"handshake/locale-unknown", greeted(func(g *Greeting) { g.StartOk.Locale = "xx_XX" })},
	{"handshake/channel-max-above-the-broker's", greeted(func(g *Greeting) { g.TuneOk.ChannelMax = 2048 })},
	{"handshake/channel-max-zero", greeted(func(g *Greeting) { g.TuneOk.ChannelMax = 0 })},
	{"handshake/channel-max-small", func(s *Script) {
		p := s.Login(func(g *Greeting) { g.TuneOk.ChannelMax = 2 })
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		p.Call(3, &wire.ChannelOpen{}, "channel.open-ok")
		p.Send(2, &wire.ChannelOpen{})
		p.Closed()
	}},
	{"handshake/frame-max-above-the-broker's", greeted(func(g *Greeting) { g.TuneOk.FrameMax = 131073 })},
	{"handshake/frame-max-zero", greeted(func(g *Greeting) { g.TuneOk.FrameMax = 0 })},
	{"handshake/frame-max-least", greeted(func(g *Greeting) { g.TuneOk.FrameMax = 8192 })},
	{"handshake/frame-max-too-small", greeted(func(g *Greeting) { g.TuneOk.FrameMax = 8191 })},
	{"handshake/frame-max-far-too-small", greeted(func(g *Greeting) { g.TuneOk.FrameMax = 100 })},
	{"handshake/heartbeat-of-the-client", func(s *Script) {
		p := s.Login(func(g *Greeting) { g.TuneOk.Heartbeat = 1 })
		p.Read(1)
	}},
	{"handshake/heartbeat-missing", func(s *Script) {
		p := s.Login(func(g *Greeting) { g.TuneOk.Heartbeat = 1 })
		for !p.ended {
			if _, text := p.next(patience); text != "" && !strings.HasSuffix(text, "heartbeat") {
				p.say("%s", text)
			}
		}
	}},
	{"handshake/vhost-missing", greeted(func(g *Greeting) { g.Open.VirtualHost = "nosuchvhost" })},
	{"handshake/vhost-missing-without-the-capability", greeted(func(g *Greeting) {
		withoutFailureClose(g)
		g.Open.VirtualHost = "nosuchvhost"
	})},
	{"handshake/vhost-empty", greeted(func(g *Greeting) { g.Open.VirtualHost = "" })},
	{"handshake/out-of-order", func(s *Script) {
		p := s.Dial()
		p.Raw([]byte(wire.ProtocolHeader))
		p.quietly(func() { p.Until("connection.start") })
		p.Send(0, &wire.ConnectionOpen{VirtualHost: "/"})
		p.End()
	}},
	{"handshake/first-method-is-not-of-connection", func(s *Script) {
		p := s.Dial()
		p.Raw([]byte(wire.ProtocolHeader))
		p.quietly(func() { p.Until("connection.start") })
		p.Send(1, &wire.ChannelOpen{})
		p.End()
	}},
	{"handshake/second-start-ok", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"})
		p.Closed()
	}},
	{"handshake/second-open", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.ConnectionOpen{VirtualHost: "/"})
		p.Closed()
	}},
	{"handshake/second-tune-ok", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.ConnectionTuneOk{})
		p.Closed()
	}},
	{"handshake/garbage-instead-of-start-ok", func(s *Script) {
		p := s.Dial()
		p.Raw([]byte(wire.ProtocolHeader))
		p.quietly(func() { p.Until("connection.start") })
		p.Bytes([]byte(strings.Repeat("garbage ", 4)))
		p.End()
	}},
	{"handshake/frame-too-large-before-tune", func(s *Script) {
		p := s.Dial()
		p.Raw([]byte(wire.ProtocolHeader))
		p.quietly(func() { p.Until("connection.start") })
		p.Bytes(binary.BigEndian.AppendUint32([]byte{1, 0, 0}, 1<<30))
		p.End()
	}},
}

var connectionCases = []Case{
	{"connection/close", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.ConnectionClose{ReplyCode: 200, ReplyText: "bye"})
		p.Until("connection.close-ok")
		p.Silent()
	}},
	{"connection/close-with-an-error-code", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.ConnectionClose{ReplyCode: 541, ReplyText: "whatever", ClassID: 60, MethodID: 40})
		p.Until("connection.close-ok")
		p.Silent()
	}},
	{"connection/close-ok-out-of-the-blue", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.ConnectionCloseOk{})
		p.Closed()
	}},
	{"connection/close-while-messages-come-in", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Call(1, &wire.QueueDeclare{Queue: q, Durable: true}, "queue.declare-ok")
		for range 3 {
			p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "m")
		}
		p.Send(0, &wire.ConnectionClose{ReplyCode: 200})
		p.Until("connection.close-ok")
		p.Silent()
		s.Channel().Count(q, 3)
	}},
	{"connection/frames-after-an-error-are-dropped", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Send(1, &wire.BasicConsume{Queue: s.Name("nosuch"), ConsumerTag: "t"})
		p.Until("channel.close")
		p.Send(1, &wire.ChannelCloseOk{})
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok") // or it might be overtaken by the close
		p.Send(1, &wire.ChannelOpen{})
		p.Send(1, &wire.QueueDeclare{Queue: q, Durable: true})
		p.Closed()
		s.Channel().Look(q)
	}},
	{"connection/update-secret", func(s *Script) {
		p := s.Peer()
		p.Call(0, &wire.ConnectionUpdateSecret{NewSecret: "new", Reason: "old one expires"}, "connection.update-secret-ok")
		p.Alive()
	}},
	{"connection/blocked-from-a-client", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.ConnectionBlocked{Reason: "no"})
		p.Closed()
	}},
	{"connection/channel-method-on-channel-0", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.ChannelOpen{})
		p.Closed()
	}},
	{"connection/basic-method-on-channel-0", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.BasicQos{PrefetchCount: 1})
		p.Closed()
	}},
	{"connection/connection-method-on-a-channel", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.ConnectionClose{ReplyCode: 200})
		p.Closed()
	}},
	{"connection/server-method-from-a-client", func(s *Script) {
		p := s.Peer()
		p.Send(0, &wire.ConnectionOpenOk{})
		p.Closed()
	}},
	{"channel/open", func(s *Script) {
		p := s.Login(p091)
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		p.Call(2047, &wire.ChannelOpen{}, "channel.open-ok")
	}},
	{"channel/open-twice", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.ChannelOpen{})
		p.Closed()
	}},
	{"channel/not-open", func(s *Script) {
		p := s.Peer()
		p.Send(2, &wire.BasicQos{PrefetchCount: 1})
		p.Closed()
	}},
	{"channel/number-above-the-limit", func(s *Script) {
		p := s.Peer()
		p.Send(2048, &wire.ChannelOpen{})
		p.Read(1)
	}},
	{"channel/close-and-open-again", func(s *Script) {
		p := s.Peer()
		p.Call(1, &wire.ChannelClose{ReplyCode: 200, ReplyText: "bye"}, "channel.close-ok")
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		p.Call(1, &wire.BasicQos{PrefetchCount: 1}, "basic.qos-ok")
	}},
	{"channel/use-after-close", func(s *Script) {
		p := s.Peer()
		p.Call(1, &wire.ChannelClose{ReplyCode: 200, ReplyText: "bye"}, "channel.close-ok")
		p.Send(1, &wire.BasicQos{PrefetchCount: 1})
		p.Closed()
	}},
	{"channel/exception-names-the-method", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.QueueBind{Queue: s.Name("q"), Exchange: s.Name("x"), RoutingKey: "k"})
		p.ChannelClosed(1)
	}},
	{"channel/frames-after-an-exception-are-dropped", func(s *Script) {
		p := s.Peer()
		q := s.QueueName("q")
		p.Send(1, &wire.QueueDeclare{Queue: s.Name("nosuch"), Passive: true})
		p.Send(1, &wire.QueueDeclare{Queue: q, Durable: true})
		p.Publish(1, &wire.BasicPublish{RoutingKey: q}, none, "m")
		p.Send(1, &wire.QueueDeclare{Queue: s.Name("nosuch2"), Passive: true})
		p.Until("channel.close")
		p.Silent()
		p.Send(1, &wire.ChannelCloseOk{})
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
		p.Send(1, &wire.QueueDeclare{Queue: q, Passive: true})
		p.ChannelClosed(1)
	}},
	{"channel/close-crosses-an-exception", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.QueueDeclare{Queue: s.Name("nosuch"), Passive: true})
		p.Until("channel.close")
		p.Call(1, &wire.ChannelClose{ReplyCode: 200}, "channel.close-ok")
		p.Send(1, &wire.ChannelCloseOk{})
		p.Call(1, &wire.ChannelOpen{}, "channel.open-ok")
	}},
	{"channel/other-channels-go-on", func(s *Script) {
		p := s.Peer()
		p.Call(2, &wire.ChannelOpen{}, "channel.open-ok")
		p.Send(1, &wire.QueuePurge{Queue: s.Name("nosuch")})
		p.Until("channel.close")
		p.Call(2, &wire.BasicQos{PrefetchCount: 1}, "basic.qos-ok")
	}},
	{"channel/close-ok-out-of-the-blue", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.ChannelCloseOk{})
		p.Closed()
	}},
	{"channel/flow-stop", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.ChannelFlow{Active: false})
		p.Closed()
	}},
	{"channel/flow-start", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.ChannelFlow{Active: true})
		p.Read(1)
	}},
	{"channel/access-request", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.AccessRequest{Realm: "/data", Active: true})
		p.Read(1)
	}},
	{"channel/server-method-from-a-client", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.QueueDeclareOk{Queue: "q"})
		p.Closed()
	}},
	{"channel/long-text-is-cut-short", func(s *Script) {
		p := s.Peer()
		p.Send(1, &wire.QueueDeclare{Queue: strings.Repeat("n", 255), Passive: true})
		p.ChannelClosed(1)
	}},
}
