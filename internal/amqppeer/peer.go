package amqppeer

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
)

// Peer listens on the loopback interface. All methods may be called from any
// goroutine.
type Peer struct {
	listener net.Listener
	version  string
	ended    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	conns   []*Conn
	log     []*Method
	cursor  int           // of Next
	changed chan struct{} // closed and replaced with each entry
	held    map[string]bool
	publish func(*Method)
	closed  bool
}

// Conn is one connection. Its zero Channel is the connection's own.
type Conn struct {
	peer *Peer
	net  net.Conn

	write sync.Mutex // held for a write
	read  sync.Mutex // held while it is paused

	// Guarded by peer.mu.
	channels map[uint16]*channel
}

// channel is what the peer knows of one.
type channel struct {
	confirming bool
	published  uint64
	closing    bool // the peer has closed it: what else arrives is dropped
}

// Method is one method that the peer received.
type Method struct {
	Conn    *Conn
	Channel uint16
	Name    string // such as "basic.publish"

	// Of basic.publish.
	Exchange, RoutingKey string
	Mandatory            bool
	Number               uint64 // confirm number
	Header               []byte // payload of the content header
	MessageID            string
	Body                 string

	// Of basic.ack, basic.nack and basic.reject.
	Tag               uint64
	Multiple, Requeue bool

	// Of basic.consume and basic.cancel.
	Queue, ConsumerTag string
}

// String is short: it is what a failing test prints.
func (m *Method) String() string {
	switch m.Name {
	case "basic.publish":
		return fmt.Sprintf("publish(%d %q)", m.Number, m.Body)
	case "basic.ack", "basic.nack", "basic.reject":
		return fmt.Sprintf("%s(%d multiple=%v requeue=%v)", m.Name, m.Tag, m.Multiple, m.Requeue)
	default:
		return m.Name
	}
}

// Listen starts a peer that says it is RabbitMQ of that version.
func Listen(version string) (*Peer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Peer{listener: l, version: version, changed: make(chan struct{}), held: map[string]bool{}}
	p.ended.Go(p.accept)
	return p, nil
}

// URL is where it listens.
func (p *Peer) URL() string { return "amqp://guest:guest@" + p.listener.Addr().String() + "/" }

// Close ends the peer and its connections.
func (p *Peer) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	conns := slices.Clone(p.conns)
	p.mu.Unlock()
	for _, c := range conns {
		c.Cut()
	}
	p.ended.Wait()
}

// Hold has the peer leave methods of that name unanswered, until Release.
func (p *Peer) Hold(name string) { p.setHeld(name, true) }

// Release has it answer them again; those held stay unanswered, see Answer.
func (p *Peer) Release(name string) { p.setHeld(name, false) }

// OnPublish has f called with each basic.publish before what comes after it on
// its connection is read, as a broker does that looks at each in turn.
func (p *Peer) OnPublish(f func(*Method)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.publish = f
}

func (p *Peer) onPublish() func(*Method) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.publish
}

func (p *Peer) setHeld(name string, held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[name] = held
}

// Next returns the next method received that has one of names, and skips those
// before it.
func (p *Peer) Next(ctx context.Context, names ...string) (*Method, error) {
	for {
		p.mu.Lock()
		for p.cursor < len(p.log) {
			m := p.log[p.cursor]
			p.cursor++
			if slices.Contains(names, m.Name) {
				p.mu.Unlock()
				return m, nil
			}
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the peer waits for %v: %w", names, ctx.Err())
		}
	}
}

// Received returns all methods received so far that have one of names.
func (p *Peer) Received(names ...string) []*Method {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ms []*Method
	for _, m := range p.log {
		if slices.Contains(names, m.Name) {
			ms = append(ms, m)
		}
	}
	return ms
}

func (p *Peer) accept() {
	for {
		nc, err := p.listener.Accept()
		if err != nil {
			return
		}
		c := &Conn{peer: p, net: nc, channels: map[uint16]*channel{}}
		p.mu.Lock()
		closed := p.closed
		p.conns = append(p.conns, c)
		p.mu.Unlock()
		if closed {
			c.Cut()
			return
		}
		p.ended.Go(c.serve)
	}
}

// note puts m into the log and reports whether it is to be answered: not what is
// held, nor what comes on a channel that was closed.
func (p *Peer) note(m *Method) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch := m.Conn.channels[m.Channel]
	if ch == nil || m.Name == "channel.open" {
		ch = &channel{}
		m.Conn.channels[m.Channel] = ch
	}
	switch {
	case ch.closing && m.Name != "channel.close-ok":
		return false
	case m.Name == "confirm.select":
		ch.confirming = true
	case m.Name == "basic.publish" && ch.confirming:
		ch.published++
		m.Number = ch.published
	}
	p.log = append(p.log, m)
	close(p.changed)
	p.changed = make(chan struct{})
	return !p.held[m.Name]
}

// Cut ends the connection without a word.
func (c *Conn) Cut() { _ = c.net.Close() }

// Pause has the peer read nothing more from the connection, so that in the end
// the other side's socket takes nothing more, until resume is called.
func (c *Conn) Pause() (resume func()) {
	c.read.Lock()
	return c.read.Unlock
}

// unpaused waits while the connection is paused.
func (c *Conn) unpaused() {
	c.read.Lock()
	defer c.read.Unlock()
}

// Send writes frames in one piece.
func (c *Conn) Send(frames ...[]byte) {
	c.write.Lock()
	defer c.write.Unlock()
	_, _ = c.net.Write(slices.Concat(frames...)) // an error: the other side is gone, as it will find
}

// serve reads the connection until it ends.
func (c *Conn) serve() {
	defer c.Cut()
	r := bufio.NewReader(c.net)
	var protocol [8]byte
	if _, err := io.ReadFull(r, protocol[:]); err != nil {
		return
	}
	c.Send(method(0, 10, 10, []byte{0, 9}, table("version", c.peer.version), long("PLAIN"), long("en_US")))
	var publish *Method // waits for its content
	var size uint64
	for {
		c.unpaused()
		kind, channel, payload, err := readFrame(r)
		if err != nil {
			return
		}
		switch kind {
		case frameMethod:
			m := decode(payload)
			m.Conn, m.Channel = c, channel
			if m.Name == "basic.publish" {
				publish = m
				continue
			}
			if c.peer.note(m) {
				m.Answer()
			}
		case frameHeader:
			publish.Header = payload
			publish.MessageID = messageID(payload)
			size = binary.BigEndian.Uint64(payload[4:])
		case frameBody:
			publish.Body += string(payload)
		default:
			continue // a heartbeat
		}
		if publish != nil && publish.Header != nil && uint64(len(publish.Body)) == size {
			if f := c.peer.onPublish(); c.peer.note(publish) && f != nil {
				f(publish)
			}
			publish = nil
		}
	}
}

// Answer says what a broker would: yes.
func (m *Method) Answer() {
	reply := func(class, id uint16, fields ...[]byte) {
		m.Conn.Send(method(m.Channel, class, id, fields...))
	}
	switch m.Name {
	case "connection.start-ok":
		reply(10, 30, u16(2047), u32(FrameMax), u16(60))
	case "connection.open":
		reply(10, 41, short(""))
	case "connection.close":
		reply(10, 51)
	case "channel.open":
		reply(20, 11, long(""))
	case "channel.close":
		reply(20, 41)
	case "queue.declare":
		reply(50, 11, short(m.Queue), u32(0), u32(0))
	case "basic.qos":
		reply(60, 11)
	case "basic.consume":
		reply(60, 21, short(m.ConsumerTag))
	case "basic.cancel":
		reply(60, 31, short(m.ConsumerTag))
	case "confirm.select":
		reply(85, 11)
	}
}

// CloseChannel ends the channel on which m came, as a broker does for an
// exception, and drops what else arrives on it.
func (m *Method) CloseChannel(code uint16, text string) {
	m.Conn.Send(m.ChannelClose(code, text))
}

// ChannelClose is the frame of CloseChannel, and drops from now on what arrives
// on the channel.
func (m *Method) ChannelClose(code uint16, text string) []byte {
	m.Conn.peer.mu.Lock()
	defer m.Conn.peer.mu.Unlock()
	m.Conn.channels[m.Channel].closing = true
	return method(m.Channel, 20, 40, u16(code), short(text), u16(60), u16(40))
}

// Ack is the frame that confirms number on the channel on which m came.
func (m *Method) Ack(number uint64, multiple bool) []byte {
	return method(m.Channel, 60, 80, u64(number), bits(multiple))
}

// Nack is the frame that refuses number.
func (m *Method) Nack(number uint64) []byte {
	return method(m.Channel, 60, 120, u64(number), bits(false))
}

// Return is the frames that return m, which is a basic.publish.
func (m *Method) Return() []byte {
	return slices.Concat(
		method(m.Channel, 60, 50, u16(312), short("NO_ROUTE"), short(m.Exchange), short(m.RoutingKey)),
		frame(frameHeader, m.Channel, m.Header),
		frame(frameBody, m.Channel, []byte(m.Body)),
	)
}

// Deliver is the frames of a delivery to m, which is a basic.consume.
func (m *Method) Deliver(tag uint64, body string) []byte {
	return slices.Concat(
		method(m.Channel, 60, 60, short(m.ConsumerTag), u64(tag), bits(false), short(""), short(m.Queue)),
		frame(frameHeader, m.Channel, slices.Concat(u16(60), u16(0), u64(uint64(len(body))), u16(0))),
		frame(frameBody, m.Channel, []byte(body)),
	)
}

// Cancel is the frame by which a broker cancels the subscription m.
func (m *Method) Cancel() []byte {
	return method(m.Channel, 60, 30, short(m.ConsumerTag), bits(true))
}

// Block says that the connection takes no publishes.
func (c *Conn) Block() { c.Send(method(0, 10, 60, short("low on memory"))) }

// Unblock says that it does again.
func (c *Conn) Unblock() { c.Send(method(0, 10, 61)) }
