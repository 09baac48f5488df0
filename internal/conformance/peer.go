package conformance

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// Peer is a client made of frames, for what the driver cannot say: "peer1" and so
// on in the transcript, with ">" before what it sends and "<" before what it gets.
type Peer struct {
	s      *Script
	name   string
	conn   net.Conn
	reader *wire.Reader
	ended  bool
}

// Dial opens a socket to the broker and sends nothing.
func (s *Script) Dial() *Peer {
	u, err := url.Parse(s.url)
	if err != nil {
		panic(err) // Play has parsed it
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "5672")
	}
	conn, err := s.dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	p := &Peer{s: s, name: fmt.Sprintf("peer%d", len(s.peers)+1), conn: conn, reader: wire.NewReader(conn)}
	p.reader.SetMax(0)
	s.peers = append(s.peers, p)
	return p
}

// Peer is a Peer that has logged in, with channel 1 open. None of that is in the
// transcript.
func (s *Script) Peer() *Peer {
	p := s.Login(p091)
	p.quietly(func() {
		p.Send(1, &wire.ChannelOpen{})
		p.Until("channel.open-ok")
	})
	return p
}

// Login is a Peer that has logged in; change may alter what it says on the way.
func (s *Script) Login(change func(*Greeting)) *Peer {
	p := s.Dial()
	p.quietly(func() { p.Greet(change) })
	return p
}

func p091(*Greeting) {}

// Greeting is what a client says to get in.
type Greeting struct {
	Header  string
	StartOk wire.ConnectionStartOk
	TuneOk  wire.ConnectionTuneOk
	Open    wire.ConnectionOpen
}

// Greet sends header, start-ok, tune-ok and open, as far as the broker goes along.
func (p *Peer) Greet(change func(*Greeting)) {
	user, password, vhost := p.s.login()
	g := Greeting{
		Header: wire.ProtocolHeader,
		StartOk: wire.ConnectionStartOk{
			ClientProperties: wire.Table{{Key: "capabilities", Value: wire.Table{
				{Key: "authentication_failure_close", Value: true},
				{Key: "consumer_cancel_notify", Value: true},
				{Key: "basic.nack", Value: true},
				{Key: "publisher_confirms", Value: true},
				{Key: "connection.blocked", Value: true},
			}}},
			Mechanism: "PLAIN", Response: "\x00" + user + "\x00" + password, Locale: "en_US",
		},
		TuneOk: wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072},
		Open:   wire.ConnectionOpen{VirtualHost: vhost},
	}
	change(&g)
	p.Raw([]byte(g.Header))
	if !p.Until("connection.start") {
		return
	}
	p.Send(0, &g.StartOk)
	if !p.Until("connection.tune") {
		return
	}
	p.Send(0, &g.TuneOk)
	p.Send(0, &g.Open)
	p.Until("connection.open-ok")
}

// login is what the URL of the broker says.
func (s *Script) login() (user, password, vhost string) {
	u, err := url.Parse(s.url)
	if err != nil {
		panic(err) // Play has parsed it
	}
	user, password = "guest", "guest"
	if u.User != nil {
		user = u.User.Username()
		password, _ = u.User.Password()
	}
	return user, password, s.norm.vhost
}

// quietly keeps what do does out of the transcript.
func (p *Peer) quietly(do func()) {
	lines := p.s.lines
	do()
	if p.ended {
		return // not as it should go
	}
	p.s.lines = lines
}

func (p *Peer) say(format string, args ...any) {
	p.s.Say("%s %s", p.name, fmt.Sprintf(format, args...))
}

// Raw sends bytes as they are. What the socket says to that shows when reading.
func (p *Peer) Raw(b []byte) { _, _ = p.conn.Write(b) }

// Bytes is Raw with the bytes in the transcript.
func (p *Peer) Bytes(b []byte) {
	p.say("> %q", b)
	p.Raw(b)
}

// Frame sends a frame.
func (p *Peer) Frame(t wire.FrameType, channel uint16, payload []byte) {
	p.say("> frame type=%d channel=%d %s", t, channel, renderText(string(payload)))
	p.Raw(wire.Frame{Type: t, Channel: channel, Payload: payload}.Append(nil))
}

// Send sends a method.
func (p *Peer) Send(channel uint16, m wire.Method) {
	p.say("> %d %s", channel, renderMethod(m))
	p.Raw(wire.AppendMethod(nil, channel, m))
}

// Publish sends basic.publish with its content in one write.
func (p *Peer) Publish(channel uint16, m *wire.BasicPublish, properties []byte, body string) {
	p.say("> %d %s %s", channel, renderMethod(m), renderText(body))
	p.Raw(wire.AppendContent(nil, channel, m, properties, []byte(body), 131072))
}

// none is a property list with nothing in it.
var none = []byte{0, 0}

// next returns what arrives next: a method with its content, if it has one, or
// something else, as text. The method is nil if it is something else. Text is ""
// when nothing arrives in time.
func (p *Peer) next(limit time.Duration) (wire.Method, string) {
	f, ok := p.frame(limit)
	if !ok {
		return nil, ""
	}
	if f.Type != wire.MethodFrame {
		if f.Type == wire.HeartbeatFrame {
			return nil, fmt.Sprintf("< %d heartbeat", f.Channel)
		}
		return nil, fmt.Sprintf("< frame type=%d channel=%d %q", f.Type, f.Channel, f.Payload)
	}
	m, err := wire.ParseMethod(f.Payload)
	if err != nil {
		return nil, fmt.Sprintf("< frame that is no method: %q", f.Payload)
	}
	text := fmt.Sprintf("< %d %s", f.Channel, renderMethod(m))
	if m.ID().HasContent() {
		text += " " + p.content(limit)
	}
	return m, text
}

func (p *Peer) content(limit time.Duration) string {
	f, ok := p.frame(limit)
	if !ok || f.Type != wire.HeaderFrame {
		return "without a header"
	}
	h, err := wire.ParseHeader(f.Payload)
	if err != nil {
		return fmt.Sprintf("header %q", f.Payload)
	}
	var body []byte
	for uint64(len(body)) < h.BodySize {
		if f, ok = p.frame(limit); !ok || f.Type != wire.BodyFrame {
			return fmt.Sprintf("%d of %d bytes of body", len(body), h.BodySize)
		}
		body = append(body, f.Payload...)
	}
	return renderText(string(body)) + renderRawProperties(h.Properties)
}

func (p *Peer) frame(limit time.Duration) (wire.Frame, bool) {
	if p.ended {
		return wire.Frame{}, false
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(limit))
	f, err := p.reader.Next()
	if err == nil {
		return f, true
	}
	var fault *wire.FrameError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
	case errors.As(err, &fault):
		head, _ := p.reader.Peek(8)
		p.say("< %q, which is no frame", head)
		p.ended = true
	case errors.Is(err, io.ErrUnexpectedEOF):
		p.ended = true
		p.say("< end of the stream, inside a frame")
	default: // io.EOF, or a reset where bytes of ours had not been read
		p.ended = true
		p.say("< end of the stream")
	}
	return wire.Frame{}, false
}

// Until reads up to the method of that name. It returns false if that does not
// come, or a close comes instead.
func (p *Peer) Until(name string) bool {
	for {
		m, text := p.next(patience)
		if text == "" {
			if !p.ended {
				p.say("no %s within %v", name, patience)
			}
			return false
		}
		p.say("%s", text)
		if m == nil {
			continue
		}
		got := m.ID().String()
		if got == name {
			return true
		}
		if got == "connection.close" || got == "channel.close" {
			return false
		}
	}
}

// Call sends a method and reads up to the answer of that name.
func (p *Peer) Call(channel uint16, m wire.Method, answer string) {
	p.Send(channel, m)
	p.Until(answer)
}

// Read reads n methods.
func (p *Peer) Read(n int) {
	for range n {
		_, text := p.next(patience)
		if text == "" {
			if !p.ended {
				p.say("nothing within %v", patience)
			}
			return
		}
		p.say("%s", text)
	}
}

// Silent says that nothing arrives, or what does.
func (p *Peer) Silent() {
	for {
		_, text := p.next(silence)
		if text == "" {
			if !p.ended {
				p.say("< nothing")
			}
			return
		}
		p.say("%s", text)
	}
}

// ChannelClosed reads up to channel.close, answers it, and looks whether the
// connection goes on.
func (p *Peer) ChannelClosed(channel uint16) {
	p.Until("channel.close")
	p.Send(channel, &wire.ChannelCloseOk{})
	p.Alive()
}

// Alive says that the connection goes on, by use of a channel.
func (p *Peer) Alive() {
	p.Send(9, &wire.ChannelOpen{})
	if p.Until("channel.open-ok") {
		p.Send(9, &wire.ChannelClose{ReplyCode: 200, ReplyText: "bye"})
		p.Until("channel.close-ok")
	}
}

// Closed reads up to connection.close, answers it, and reads to the end.
func (p *Peer) Closed() {
	if p.Until("connection.close") {
		p.Send(0, &wire.ConnectionCloseOk{})
	}
	p.End()
}

// End reads to the end of the stream.
func (p *Peer) End() {
	for !p.ended {
		_, text := p.next(patience)
		if text != "" {
			p.say("%s", text)
		} else if !p.ended {
			p.say("no end of the stream within %v", patience)
			return
		}
	}
}
