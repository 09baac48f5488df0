package amqpserver_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// client is a client whose frames a test writes one by one.
type client struct {
	t      *testing.T
	conn   *amqpserver.Conn
	broker *engine.Broker

	mu    sync.Mutex
	bytes []byte
	calls int // of out
	ended []error

	seen func(frames []byte) // called by out, if it is set before anything is sent
}

// header is what a client of 0-9-1 opens with.
var header = [8]byte([]byte(wire.ProtocolHeader))

// capabilities are those of a client that wants to be told everything.
var capabilities = wire.Table{{Key: "capabilities", Value: wire.Table{
	{Key: "authentication_failure_close", Value: true},
	{Key: "connection.blocked", Value: true},
	{Key: "consumer_cancel_notify", Value: true},
}}}

// accept returns a client that has sent nothing.
func accept(t *testing.T, cfg amqpserver.Config) *client {
	t.Helper()
	if cfg.Broker == nil {
		cfg.Broker = engine.New(engine.Options{})
		t.Cleanup(cfg.Broker.Close)
	}
	c := &client{t: t, broker: cfg.Broker}
	c.conn = amqpserver.NewConn(cfg, func(frames []byte) {
		if c.seen != nil {
			c.seen(frames)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.ended) > 0 {
			t.Error("frames after the end")
		}
		c.calls++
		c.bytes = append(c.bytes, frames...)
	}, func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended = append(c.ended, err)
	})
	t.Cleanup(func() {
		c.conn.Gone(nil)
		if len(c.ended) != 1 {
			t.Errorf("end was called %d times", len(c.ended))
		}
	})
	return c
}

// open returns a client whose connection is open, with its first n channels.
func open(t *testing.T, cfg amqpserver.Config, n uint16) *client {
	t.Helper()
	c := accept(t, cfg)
	c.login()
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072}, &wire.ConnectionOpen{VirtualHost: "/"})
	c.expect(0, &wire.ConnectionOpenOk{})
	for ch := uint16(1); ch <= n; ch++ {
		c.send(ch, &wire.ChannelOpen{})
		c.expect(ch, &wire.ChannelOpenOk{})
	}
	return c
}

// login goes as far as tune.
func (c *client) login() {
	c.t.Helper()
	c.conn.Start(header)
	c.send(0, startOk("PLAIN", "\x00guest\x00guest", capabilities))
	if got := c.words(); len(got) != 2 || !strings.HasPrefix(got[1], "0 connection.tune ") {
		c.t.Fatalf("login was answered with %q", got)
	}
}

func startOk(mechanism, response string, properties wire.Table) *wire.ConnectionStartOk {
	return &wire.ConnectionStartOk{ClientProperties: properties, Mechanism: mechanism, Response: response, Locale: "en_US"}
}

// frame returns a method's frame.
func frame(channel uint16, m wire.Method) wire.Frame {
	b := wire.AppendMethod(nil, channel, m)
	return wire.Frame{Type: wire.MethodFrame, Channel: channel, Payload: b[7 : len(b)-1]}
}

// contentHeader returns the header frame of a message without properties.
func contentHeader(channel uint16, size uint64) wire.Frame {
	b := wire.AppendHeader(nil, channel, wire.Header{Class: 60, BodySize: size, Properties: []byte{0, 0}})
	return wire.Frame{Type: wire.HeaderFrame, Channel: channel, Payload: b[7 : len(b)-1]}
}

func body(channel uint16, s string) wire.Frame {
	return wire.Frame{Type: wire.BodyFrame, Channel: channel, Payload: []byte(s)}
}

func (c *client) send(channel uint16, methods ...wire.Method) {
	for _, m := range methods {
		c.conn.Handle(frame(channel, m))
	}
}

func (c *client) sendFrames(frames ...wire.Frame) {
	for _, f := range frames {
		c.conn.Handle(f)
	}
}

func (c *client) publish(channel uint16, m *wire.BasicPublish, text string) {
	c.send(channel, m)
	c.sendFrames(contentHeader(channel, uint64(len(text))))
	if text != "" {
		c.sendFrames(body(channel, text))
	}
}

// words returns what has come since it was last asked, a frame a string.
func (c *client) words() []string {
	c.t.Helper()
	c.mu.Lock()
	b := c.bytes
	c.bytes = nil
	c.mu.Unlock()
	var words []string
	r := wire.NewReader(bytes.NewReader(b))
	r.SetMax(0)
	for {
		f, err := r.Next()
		if err != nil {
			if r.Buffered() > 0 {
				c.t.Fatalf("the client cannot read this: %v", err)
			}
			return words
		}
		words = append(words, describe(c.t, f))
	}
}

func describe(t *testing.T, f wire.Frame) string {
	switch f.Type {
	case wire.MethodFrame:
		m, err := wire.ParseMethod(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return word(f.Channel, m)
	case wire.HeaderFrame:
		h, err := wire.ParseHeader(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d header %d", f.Channel, h.BodySize)
	case wire.BodyFrame:
		return fmt.Sprintf("%d body %s", f.Channel, f.Payload)
	default:
		return fmt.Sprintf("%d heartbeat", f.Channel)
	}
}

func word(channel uint16, m wire.Method) string {
	return fmt.Sprintf("%d %s %+v", channel, m.ID(), m)
}

// expect compares what has come with methods on one channel, and nothing else.
func (c *client) expect(channel uint16, methods ...wire.Method) {
	c.t.Helper()
	var want []string
	for _, m := range methods {
		want = append(want, word(channel, m))
	}
	c.expectWords(want...)
}

func (c *client) expectWords(want ...string) {
	c.t.Helper()
	if got := c.words(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		c.t.Fatalf("the client got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// end returns what the connection has ended with, and whether it has.
func (c *client) end() (ended bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ended) == 0 {
		return false, nil
	}
	return true, c.ended[0]
}

func (c *client) wantEnd() error {
	c.t.Helper()
	ended, err := c.end()
	if !ended {
		c.t.Fatal("the connection goes on")
	}
	return err
}

// closed is a connection.close in the name of a method.
func closed(code uint16, text string, m wire.Method) *wire.ConnectionClose {
	cl := &wire.ConnectionClose{ReplyCode: code, ReplyText: text}
	if m != nil {
		cl.ClassID, cl.MethodID = m.ID().Class(), m.ID().Method()
	}
	return cl
}
