package mqtest_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
	"github.com/mqkit/mqkit/mqtest"
)

// peer is a client that says exactly what a test has it say.
type peer struct {
	t    testing.TB
	sock net.Conn
	r    *wire.Reader
}

func raw(t testing.TB, s *mqtest.Stage) *peer {
	t.Helper()
	sock, err := s.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sock.Close() })
	_ = sock.SetDeadline(time.Now().Add(within))
	return &peer{t, sock, wire.NewReader(sock)}
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.sock.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) send(channel uint16, m wire.Method) { p.write(wire.AppendMethod(nil, channel, m)) }

// method sends one by its name.
func (p *peer) method(channel uint16, name string, fields map[string]any) {
	p.t.Helper()
	p.send(channel, build(p.t, name, fields))
}

func build(t testing.TB, name string, fields map[string]any) wire.Method {
	t.Helper()
	for n := range wire.ID(100 * 128) { // classes below 100, methods below 128
		m := wire.New(n/128<<16 | n%128)
		if m == nil || m.ID().String() != name {
			continue
		}
		for k, v := range fields {
			k = strings.ToUpper(k[:1]) + k[1:]
			reflect.ValueOf(m).Elem().FieldByName(k).Set(reflect.ValueOf(v))
		}
		return m
	}
	t.Fatalf("no method %q", name)
	return nil
}

func (p *peer) publish(channel uint16, queue, body string) { p.publishID(channel, queue, "", body) }

func (p *peer) publishID(channel uint16, queue, id, body string) {
	p.t.Helper()
	properties := wire.Properties{MessageID: id, DeliveryMode: 2}
	properties.Mark()
	p.write(wire.AppendContent(nil, channel, &wire.BasicPublish{RoutingKey: queue}, properties.Append(nil), []byte(body), 4096))
}

// got is a method that arrived.
type got struct{ wire.Method }

func (g got) String() string {
	s := g.ID().String()
	switch m := g.Method.(type) {
	case *wire.BasicAck:
		return fmt.Sprintf("%s delivery-tag=%d multiple=%v", s, m.DeliveryTag, m.Multiple)
	case *wire.BasicNack:
		return fmt.Sprintf("%s delivery-tag=%d multiple=%v", s, m.DeliveryTag, m.Multiple)
	}
	return s
}

// next returns the next method and what error ended the connection.
func (p *peer) next() (got, error) {
	for {
		f, err := p.r.Next()
		if err != nil {
			return got{}, err
		}
		if f.Type == wire.MethodFrame {
			m, err := wire.ParseMethod(f.Payload)
			return got{m}, err
		}
	}
}

func (p *peer) expect(name string) got {
	p.t.Helper()
	m, err := p.next()
	if err != nil {
		p.t.Fatalf("waiting for %s: %v", name, err)
	}
	if m.ID().String() != name {
		p.t.Fatalf("got %v, want %s", m, name)
	}
	return m
}

// ended reads on until the connection ends, closes its own end, and returns what
// was said last.
func (p *peer) ended() (last string) {
	p.t.Helper()
	defer p.sock.Close()
	for {
		m, err := p.next()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			p.t.Fatal("the connection does not end")
		case errors.Is(err, io.EOF), err != nil:
			return last
		}
		last = m.String()
		if c, ok := m.Method.(*wire.ConnectionClose); ok {
			last = c.ReplyText
		}
	}
}

// open shakes hands.
func (p *peer) open(vhost string) {
	p.t.Helper()
	p.write([]byte(wire.ProtocolHeader))
	p.expect("connection.start")
	p.send(0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"})
	p.expect("connection.tune")
	p.send(0, &wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072})
	p.send(0, &wire.ConnectionOpen{VirtualHost: vhost})
	p.expect("connection.open-ok")
}

// confirming opens channel 1 with confirms and a queue q.
func (p *peer) confirming() {
	p.t.Helper()
	p.open("/")
	p.method(1, "channel.open", nil)
	p.expect("channel.open-ok")
	p.method(1, "confirm.select", nil)
	p.expect("confirm.select-ok")
	p.send(1, &wire.QueueDeclare{Queue: "q", Durable: true})
	p.expect("queue.declare-ok")
}
