package reconnect

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// What a Peer needs of AMQP 0-9-1.
const (
	frameMethod    = 1
	frameHeartbeat = 8
	frameEnd       = 0xCE
)

// The methods that scripts name, class and method as one number.
const (
	MConnStart     = 10<<16 | 10
	MConnStartOk   = 10<<16 | 11
	MConnTune      = 10<<16 | 30
	MConnTuneOk    = 10<<16 | 31
	MConnOpen      = 10<<16 | 40
	MConnOpenOk    = 10<<16 | 41
	MConnClose     = 10<<16 | 50
	MConnCloseOk   = 10<<16 | 51
	MConnBlocked   = 10<<16 | 60
	MConnUnblocked = 10<<16 | 61
	MChanOpen      = 20<<16 | 10
	MChanOpenOk    = 20<<16 | 11
	MChanClose     = 20<<16 | 40
	MChanCloseOk   = 20<<16 | 41
	MExDeclare     = 40<<16 | 10
	MExDeclareOk   = 40<<16 | 11
	MQueueDeclare  = 50<<16 | 10
	MQueueDeclOk   = 50<<16 | 11
	MQos           = 60<<16 | 10
	MQosOk         = 60<<16 | 11
)

// Frame is a frame that a Peer received.
type Frame struct {
	Type    byte
	Channel uint16
	Payload []byte
}

// Method is class and method as one number, 0 if f is another kind of frame.
func (f Frame) Method() int {
	if f.Type != frameMethod || len(f.Payload) < 4 {
		return 0
	}
	return int(binary.BigEndian.Uint32(f.Payload))
}

// Long is a long string, where a string is a short one.
type Long string

// PeerConn is the broker's end of one connection, played by a test.
type PeerConn struct {
	net.Conn
	Heartbeat uint16 // what tune proposes, in seconds; 0 leaves it to the client
	StartOk   []byte // the client's connection.start-ok

	in *bufio.Reader
	mu sync.Mutex // one frame at a time is written
}

// NewPeerConn is the peer of what is at the other end of c.
func NewPeerConn(c net.Conn) *PeerConn { return &PeerConn{Conn: c, in: bufio.NewReader(c)} }

// Receive reads one frame.
func (c *PeerConn) Receive() (Frame, error) {
	var head [7]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: head[0], Channel: binary.BigEndian.Uint16(head[1:])}
	p := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
	if _, err := io.ReadFull(c.in, p); err != nil {
		return Frame{}, err
	}
	if p[len(p)-1] != frameEnd {
		return Frame{}, errors.New("a frame without its end")
	}
	f.Payload = p[:len(p)-1]
	return f, nil
}

// Send writes one method. What it fails with, the next Receive tells.
func (c *PeerConn) Send(channel uint16, method int, args ...any) {
	p := binary.BigEndian.AppendUint32(nil, uint32(method))
	for _, a := range args {
		switch a := a.(type) {
		case byte:
			p = append(p, a)
		case uint16:
			p = binary.BigEndian.AppendUint16(p, a)
		case uint32:
			p = binary.BigEndian.AppendUint32(p, a)
		case string:
			p = append(append(p, byte(len(a))), a...)
		case Long:
			p = append(binary.BigEndian.AppendUint32(p, uint32(len(a))), a...)
		default:
			panic(fmt.Sprintf("cannot send a %T", a))
		}
	}
	c.sendFrame(frameMethod, channel, p)
}

// Beat sends a heartbeat.
func (c *PeerConn) Beat() { c.sendFrame(frameHeartbeat, 0, nil) }

func (c *PeerConn) sendFrame(typ byte, channel uint16, payload []byte) {
	out := binary.BigEndian.AppendUint16([]byte{typ}, channel)
	out = binary.BigEndian.AppendUint32(out, uint32(len(payload)))
	out = append(append(out, payload...), frameEnd)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.Write(out)
}

// SendClose closes a channel, or for channel 0 the connection, for a reason.
func (c *PeerConn) SendClose(channel uint16, code uint16, text string) {
	method := MChanClose
	if channel == 0 {
		method = MConnClose
	}
	c.Send(channel, method, code, text, uint16(0), uint16(0))
}

// Start goes as far as start-ok.
func (c *PeerConn) Start() error {
	var header [8]byte
	if _, err := io.ReadFull(c.in, header[:]); err != nil {
		return err
	}
	if string(header[:]) != "AMQP\x00\x00\x09\x01" {
		return fmt.Errorf("protocol header %q", header)
	}
	// server-properties: {"version": "4.3.6"}
	props := Long("\x07versionS\x00\x00\x00\x054.3.6")
	c.Send(0, MConnStart, byte(0), byte(9), props, Long("PLAIN EXTERNAL"), Long("en_US"))
	f, err := c.expect(MConnStartOk)
	c.StartOk = f.Payload
	return err
}

// Handshake goes as far as open-ok.
func (c *PeerConn) Handshake() error {
	if err := c.Start(); err != nil {
		return err
	}
	c.Send(0, MConnTune, uint16(2047), uint32(131072), c.Heartbeat)
	if _, err := c.expect(MConnTuneOk); err != nil {
		return err
	}
	if _, err := c.expect(MConnOpen); err != nil {
		return err
	}
	c.Send(0, MConnOpenOk, "")
	return nil
}

func (c *PeerConn) expect(method int) (Frame, error) {
	f, err := c.Receive()
	if err == nil && f.Method() != method {
		err = fmt.Errorf("received %x, want %x", f.Method(), method)
	}
	return f, err
}

// Serve answers what comes until the connection ends. script, which may be nil,
// sees each frame first and returns true if it has dealt with it.
func (c *PeerConn) Serve(script func(f Frame) bool) {
	for {
		f, err := c.Receive()
		if err != nil {
			return
		}
		if script != nil && script(f) {
			continue
		}
		switch f.Method() {
		case MConnClose:
			c.Send(0, MConnCloseOk)
		case MChanOpen:
			c.Send(f.Channel, MChanOpenOk, Long(""))
		case MChanClose:
			c.Send(f.Channel, MChanCloseOk)
		case MExDeclare:
			c.Send(f.Channel, MExDeclareOk)
		case MQueueDeclare:
			name := f.Payload[7 : 7+int(f.Payload[6])]
			c.Send(f.Channel, MQueueDeclOk, string(name), uint32(0), uint32(0))
		case MQos:
			c.Send(f.Channel, MQosOk)
		}
	}
}

// Announces reports whether the client announced a capability.
func (c *PeerConn) Announces(capability string) bool {
	return bytes.Contains(c.StartOk, []byte(capability+"t\x01"))
}

// Peer is a broker played by a test, on loopback.
type Peer struct {
	Addr string // host:port

	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  []net.Conn
	closed bool
}

// NewPeer listens until the test ends and runs script for each connection, n
// counting from 1, which ends with the script.
func NewPeer(t testing.TB, script func(n int, c *PeerConn)) *Peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return NewPeerOn(t, l, script)
}

// NewPeerOn does the same on l.
func NewPeerOn(t testing.TB, l net.Listener, script func(n int, c *PeerConn)) *Peer {
	t.Helper()
	p := &Peer{Addr: l.Addr().String(), listener: l}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n, ok := p.add(c)
			if !ok {
				return
			}
			p.wg.Go(func() {
				defer func() { _ = c.Close() }()
				script(n, NewPeerConn(c))
			})
		}
	})
	t.Cleanup(p.close)
	return p
}

func (p *Peer) add(c net.Conn) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return 0, false
	}
	p.conns = append(p.conns, c)
	return len(p.conns), true
}

func (p *Peer) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	conns := slices.Clone(p.conns)
	p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	p.wg.Wait()
}

// Accepted is how many connections were made so far.
func (p *Peer) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// CutAll closes every connection, like a broker that is killed.
func (p *Peer) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
}

// URL names the peer, with a user and a password.
func (p *Peer) URL() string { return "amqp://app:hunter2@" + p.Addr + "/" }

// Willing is the script of a peer that agrees to everything.
func Willing(_ int, c *PeerConn) {
	if c.Handshake() == nil {
		c.Serve(nil)
	}
}

// DeadAddr is an address where nobody listens.
func DeadAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Patience bounds what a test waits for and does not expect to wait for.
const Patience = 20 * time.Second

// Await is what arrives on c.
func Await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(Patience):
		t.Fatalf("%s: nothing after %v", what, Patience)
		panic("not reached")
	}
}
