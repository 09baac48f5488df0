package mqtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TB is the part of testing.TB that is used here: *testing.T, *testing.B and
// *testing.F are one.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Stage is what stands between clients and a broker, and what a [Broker] and a
// [Proxy] have in common: the port, the connections on it, the faults, the
// journal. A scenario that takes a *Stage runs on both.
//
// All methods may be called from any goroutine.
type Stage struct {
	connect func(*conn) (upstream, error)
	rules   rules
	journal *Journal
	tls     *tls.Config // nil: none
	memory  bool        // no port: Dial is the only way in
	user    *url.Userinfo
	vhost   string // as in a URL

	serving sync.WaitGroup // a goroutine per connection, and the listener's

	running sync.Mutex // held for what stops or starts as a whole; guards stopped
	stopped bool       // nobody has been let in since

	mu       sync.Mutex // guards what follows
	addr     string
	listener net.Listener // nil: refusing
	open     bool
	closed   bool
	conns    map[int]*conn
	last     int // number of the last connection
}

// ErrClosed is returned by what needs a Broker or Proxy that has not been closed.
var ErrClosed = errors.New("mqtest: closed")

// URL returns where clients connect to. It stays the same for good.
func (s *Stage) URL() string {
	scheme := "amqp"
	if s.tls != nil {
		scheme = "amqps"
	}
	u := url.URL{Scheme: scheme, User: s.user, Host: s.Addr()}
	return u.String() + "/" + s.vhost
}

// Addr returns host and port.
func (s *Stage) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Dial connects to it, whatever the address: it is what Config.Dial of amqp091-go
// takes. In memory there is no other way than this and DialContext. TLS is left to the
// caller.
func (s *Stage) Dial(network, addr string) (net.Conn, error) {
	return s.DialContext(context.Background(), network, addr)
}

// DialContext is Dial with a context, as reconnect.Config.Dial and others take it.
func (s *Stage) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	if !s.memory {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.Addr())
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: syscall.ECONNREFUSED}
	}
	client, server := pipe()
	s.serveLocked(server)
	return client, nil
}

// Inject puts a fault in place, for what arrives from now on. Where several
// match, the first that was injected strikes. It panics if there is no such method
// as Fault.Method: it would never strike.
func (s *Stage) Inject(f Fault) *Injected {
	if _, known := methodIDs()[f.Method]; !known && f.Method != "" && f.Method != heartbeat {
		panic(fmt.Sprintf("mqtest: there is no method %q for a fault to strike at", f.Method))
	}
	return s.rules.inject(f)
}

// Intercept has f look at every event from now on and say what happens. Its place
// among the faults is as if it had been injected: those before it come first. It
// is called on the goroutine that serves the connection, which waits for it, and
// may be called for several connections at once; it may ask the Broker anything,
// but not to Stop, Restart, Close or AcceptConnections, which may wait for it: those
// take a goroutine of their own. The returned function takes it out, and lets go of what it holds.
func (s *Stage) Intercept(f func(*Event) Action) (remove func()) { return s.rules.intercept(f) }

// Journal returns what has happened so far, nil if none is kept.
func (s *Stage) Journal() *Journal { return s.journal }

// listen opens the port.
func (s *Stage) listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = l.Close()
		return ErrClosed
	}
	s.addr, s.listener, s.open = l.Addr().String(), l, true
	s.serving.Go(func() { s.accept(l) })
	return nil
}

// accept serves until its listener is closed. What fails otherwise (no file
// descriptor is left) passes.
func (s *Stage) accept(l net.Listener) {
	for {
		sock, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		s.mu.Lock()
		if s.listener != l {
			_ = sock.Close()
		} else {
			s.serveLocked(sock)
		}
		s.mu.Unlock()
	}
}

const acceptPause = 5 * time.Millisecond

func (s *Stage) serveLocked(raw net.Conn) {
	s.last++
	sock := raw
	if s.tls != nil {
		sock = tls.Server(raw, s.tls)
	}
	c := newConn(s, s.last, raw, sock)
	s.conns[c.id] = c
	s.serving.Go(func() {
		c.serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c.id)
	})
}

// RefuseConnections has nobody connect any more: the port is closed. Connections
// that are open stay so.
func (s *Stage) RefuseConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
	if s.listener != nil {
		_ = s.listener.Close()
		s.listener = nil
	}
}

// relistening bounds how long AcceptConnections tries to get its port back, which
// another program (or a client's dial that met itself) may hold for a moment.
const relistening = 5 * time.Second

// AcceptConnections undoes RefuseConnections, and [Broker.Stop], on the same port. It
// waits for a Stop, Restart or Close that is under way, and returns [ErrClosed] after
// Close.
func (s *Stage) AcceptConnections() error {
	s.running.Lock()
	defer s.running.Unlock()
	return s.acceptConnections()
}

// acceptConnections is called with running held.
func (s *Stage) acceptConnections() (err error) {
	s.mu.Lock()
	addr, open, closed := s.addr, s.open, s.closed
	s.open = s.open || (s.memory && !closed)
	s.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case !open && !s.memory:
		for end := time.Now().Add(relistening); ; time.Sleep(acceptPause) {
			if err = s.listen(addr); err == nil {
				break
			} else if time.Now().After(end) {
				return err
			}
		}
	}
	s.stopped = false
	return nil
}

// Connections returns those that are open, the oldest first.
func (s *Stage) Connections() []*Connection {
	var list []*Connection
	for _, c := range s.all() {
		list = append(list, &Connection{c})
	}
	return list
}

func (s *Stage) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for _, id := range slices.Sorted(maps.Keys(s.conns)) {
		list = append(list, s.conns[id])
	}
	return list
}

// DropConnections cuts all connections, and tells how many. Clients may connect
// again at once.
func (s *Stage) DropConnections() int { return s.each(Cut()) }

// Stall makes all connections half-open; see the action Stall. New ones are
// served.
func (s *Stage) Stall() int { return s.each(Stall()) }

// CloseChannels closes every open channel with that code and a text that names
// it, and tells how many.
func (s *Stage) CloseChannels(code int) (closed int) {
	for _, c := range s.Connections() {
		for _, channel := range c.Channels() {
			c.DoOn(channel, CloseChannel(code, ""))
			closed++
		}
	}
	return closed
}

func (s *Stage) each(a Action) int {
	list := s.Connections()
	for _, c := range list {
		c.Do(a)
	}
	return len(list)
}

// shut ends all connections and waits for their goroutines. Unless it is for good
// the port can be opened again. It is called with running held: whoever came in
// meanwhile would be waited for.
func (s *Stage) shut(forGood bool) {
	s.RefuseConnections()
	if forGood {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
	}
	for _, c := range s.all() {
		c.hangUp(ErrClosed)
	}
	s.serving.Wait()
}

// shownRecords is how much of the journal a failed test logs.
const shownRecords = 50

// logTail shows how it came to a failure.
func (s *Stage) logTail(tb TB) {
	if !tb.Failed() || s.journal == nil {
		return
	}
	tb.Helper()
	records := s.journal.Records()
	var b strings.Builder
	for _, r := range records[max(0, len(records)-shownRecords):] {
		fmt.Fprintf(&b, "%v\n", r)
	}
	tb.Logf("the last of mqtest's journal of %s:\n%s", s.Addr(), &b)
}

// Connection is one connection of a client.
type Connection struct{ c *conn }

// ID is its number, [Event.Conn].
func (c *Connection) ID() int { return c.c.id }

// Name is what the client calls itself (connection_name), "" if it does not.
func (c *Connection) Name() string {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	return c.c.name
}

// Vhost is the one it has opened, "" before that.
func (c *Connection) Vhost() string {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	return c.c.vhost
}

// RemoteAddr is the client's address.
func (c *Connection) RemoteAddr() net.Addr { return c.c.sock.RemoteAddr() }

// Channels returns the numbers of the open channels, in order.
func (c *Connection) Channels() []uint16 { return c.c.openChannels() }

// Block blocks this connection at once, whether it publishes or not: it is told so,
// and nothing more is read from it. One that is not open yet is blocked when it is;
// on a [Proxy] it is left alone. A reason of "" is "low on memory".
func (c *Connection) Block(reason string) { c.c.block(blockReason(reason)) }

// Unblock undoes Block, and for this connection [Broker.Block].
func (c *Connection) Unblock() { c.c.unblock() }

// Done is closed when the connection is gone.
func (c *Connection) Done() <-chan struct{} { return c.c.gone }

// Do has an action happen now that is about a connection: Cut, Reset, Stall,
// StopReading, StopSending, CloseConnection, SendRaw, Answer. Hold is Pass here.
func (c *Connection) Do(a Action) { c.DoOn(0, a) }

// DoOn is Do for a channel: CloseChannel, Answer.
func (c *Connection) DoOn(channel uint16, a Action) {
	switch {
	case a.kind == kindCut && a.next == nil:
		c.c.cut(errFault) // even if the client reads nothing
	case a.kind == kindReset && a.next == nil:
		c.c.reset()
	default:
		c.c.out.do(func() {
			u := &unit{channel: channel, step: stepSending, spent: true}
			e := &Event{Point: Sending, Conn: c.c.id, Channel: channel}
			c.c.note(e, a)
			c.c.perform(c.c.channel(channel), u, e, a)
		})
	}
}
