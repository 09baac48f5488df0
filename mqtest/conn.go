package mqtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// upstream is the broker behind the stage, for one client. Its methods belong to
// the goroutine that reads the client, but for abort.
type upstream interface {
	start(header [8]byte)
	// send gives it what the client has sent: whole frames, unless a fault (or the
	// client) has it otherwise. applied, which may be nil, is called if it is known
	// that the method that b ends with has been carried out; a broker that blocks
	// the client does so later.
	send(b []byte, applied func())
	// idle says that nothing more has arrived for the moment.
	idle()
	// heard says that a part of a frame has arrived: a sign of life.
	heard()
	// blocked tells whether the broker wants nothing read from the client.
	blocked() bool
	// synced waits until all that was sent is applied and its answers have come as
	// far as the outbox, where there is a way of knowing it.
	synced() bool
	// limit is how large a frame's payload may be: as large as frame_max, by 8 octets
	// more than was agreed on, since clients miscount and RabbitMQ lets them. 0 is no
	// limit.
	limit() int
	// close says that the client is gone; everything sent before counts.
	close(err error)
	// abort frees a send that is stuck. Any goroutine may call it.
	abort()
}

// conn is one client's connection. Two goroutines work on it: serve reads the
// client and owns the upstream; write takes from the outbox, and only it writes
// to the client. Each asks the rules about what comes by, on units it has put
// together, and carries out what they decide. Whatever has to be done on the
// other side of the two is handed over: to write by the outbox, to serve by post.
type conn struct {
	stage *Stage
	id    int
	raw   net.Conn // the socket
	sock  net.Conn // what is read and written: raw, or TLS above it
	out   *outbox
	up    upstream // of serve's, once it is there
	gone  chan struct{}
	wake  chan struct{} // for serve: there is something to do
	ends  sync.WaitGroup
	once  sync.Once

	server atomic.Pointer[embedded] // the upstream, if it is one

	slow atomic.Bool // units are put together; for good, once it is so

	mu          sync.Mutex // guards what follows
	channels    map[uint16]*channel
	todo        []func() // for serve
	timers      map[*time.Timer]struct{}
	leaving     bool // nothing more of the client counts
	dead        bool // nothing more is written
	closing     bool // the stage has sent connection.close
	readStopped bool
	sendStopped bool
	headed      bool // the protocol header has come
	reason      error
	frameMax    int // 0: not agreed on yet
	name, vhost string
	understands bool   // connection.blocked
	blocking    string // reason of Connection.Block; "" is none
	blocked     bool   // by the stage, which reads nothing then

	// Of serve's.
	buf     []byte // what was read and is no whole frame yet, and room
	filled  int
	blind   bool     // what the client sends is no AMQP: it passes as it is
	halfway *channel // the one that follow was called for last
	upEnded bool

	// Of write's.
	pending []byte // to be written
	numbers []uint64
	pieces  *Action // Trickle for all of it
	budget  int     // of CutInside at Accepted; negative: none
}

// channel is what the stage knows of one life of a channel.
type channel struct {
	number uint16

	// Guarded by conn.mu.
	state     channelState // at the broker
	closing   bool         // closed by the stage: the client's close-ok is awaited
	swallow   bool         // closed by the stage: the broker's close-ok is awaited
	confirms  confirms
	asked     []request
	consumers map[string]string // queues by tag

	// Of serve's.
	in     lane
	owed   int64  // of a message that the broker has got a part of: see follow
	untold []byte // what the broker is told behind that message

	out lane // of write's

	// Of write's.
	verdicts []verdict
	gathered map[*gather]*hoarded
}

type channelState uint8

const (
	channelUnknown channelState = iota
	channelOpen
	channelLeft   // closed by the client
	channelClosed // closed by the broker
)

// request is a method that the broker has been passed and not answered.
type request struct {
	id    wire.ID
	queue string
	event *Event // nil: nobody was looking
}

const (
	readRoom = 16 << 10
	// backlog is how much may wait for a client before nothing more is read from
	// it: whoever does not read gets no more answers to wait for.
	backlog = 8 << 20
	// lingering bounds how long a connection that was cut is read on, so that
	// what it was sent is not lost to an RST.
	lingering = time.Second
	// headerPatience is RabbitMQ's handshake timeout, for a client that says
	// nothing at all: the broker is not asked before it has.
	headerPatience = 10 * time.Second
	// patience bounds the wait for a client's close-ok.
	patience = 5 * time.Second
)

func newConn(s *Stage, id int, raw, sock net.Conn) *conn {
	return &conn{
		stage: s, id: id, raw: raw, sock: sock, out: newOutbox(),
		gone: make(chan struct{}), wake: make(chan struct{}, 1),
		channels: map[uint16]*channel{}, timers: map[*time.Timer]struct{}{},
		buf: make([]byte, readRoom), budget: -1,
	}
}

// serve reads the client until one of them is gone.
func (c *conn) serve() {
	c.stage.journal.add(Record{Kind: ConnectionOpened, Conn: c.id, Detail: c.remote()})
	c.ends.Go(c.write)
	err := c.talk()
	if c.up != nil {
		c.endUpstream(err)
	}
	c.hangUp(err)
	c.ends.Wait()
	c.mu.Lock()
	err = c.reason
	c.mu.Unlock()
	c.stage.journal.add(Record{Kind: ConnectionEnded, Conn: c.id, Detail: fmt.Sprint(err)})
}

func (c *conn) remote() string { return c.sock.RemoteAddr().String() }

func (c *conn) talk() error {
	if !c.accepted() {
		return errFault
	}
	var header [8]byte
	c.after(headerPatience, func() {
		c.mu.Lock()
		silent := !c.headed && !c.readStopped && !c.sendStopped
		c.mu.Unlock()
		if silent {
			c.cut(errSilent)
		}
	})
	for c.filled < len(header) {
		if err := c.read(); err != nil {
			return err
		}
	}
	c.filled -= copy(header[:], c.buf[:c.filled])
	copy(c.buf, c.buf[len(header):])
	c.mu.Lock()
	c.headed = true
	c.mu.Unlock()
	if c.ignoring() {
		return c.discard()
	}
	up, err := c.stage.connect(c)
	if err != nil {
		c.reset()
		return fmt.Errorf("no broker: %w", err)
	}
	c.mu.Lock()
	c.up = up
	c.mu.Unlock()
	c.up.start(header)
	for {
		if c.ignoring() {
			return c.discard()
		}
		c.consume()
		if err := c.read(); err != nil {
			return err
		}
	}
}

// errFault is why a connection ended that a fault has ended.
var errFault = errors.New("ended by a fault")

// errSilent is why a connection ended whose client said nothing.
var errSilent = errors.New("no protocol header")

// discard reads on until the client is gone too.
func (c *conn) discard() error {
	if c.up != nil {
		c.endUpstream(errFault)
	}
	for {
		c.filled = 0
		if err := c.read(); err != nil {
			return errFault
		}
	}
}

// ignoring tells whether nothing more of the client counts.
func (c *conn) ignoring() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving || c.dead
}

// deaf tells whether nothing more that was read counts.
func (c *conn) deaf() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving || c.dead || c.readStopped
}

// read waits for more of the client, and does meanwhile what was posted.
func (c *conn) read() error {
	if c.filled == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	for came := false; ; {
		c.runPosted()
		wait := c.out.full(backlog)
		c.mu.Lock()
		stopped := (c.readStopped || c.blocked || (c.up != nil && c.up.blocked())) && !c.leaving && !c.dead
		c.mu.Unlock()
		if stopped || wait != nil {
			select {
			case <-wait: // never, if it is nil
			case <-c.wake:
			case <-c.gone:
				return net.ErrClosed
			}
			continue
		}
		if came {
			return nil
		}
		n, err := c.sock.Read(c.buf[c.filled:])
		c.filled += n
		switch {
		case n > 0:
			came = true // and counts, unless reading was stopped meanwhile
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			_ = c.sock.SetReadDeadline(time.Time{})
		case err != nil:
			return err
		}
		if c.ignoring() && c.up != nil {
			c.endUpstream(errFault)
		}
	}
}

// past is a deadline that ends a read at once.
var past = time.Unix(1, 0)

// post has serve do something, soon, even while it waits for the client.
func (c *conn) post(f func()) {
	c.mu.Lock()
	c.todo = append(c.todo, f)
	c.mu.Unlock()
	c.prod()
}

// prod makes serve look around.
func (c *conn) prod() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
	_ = c.sock.SetReadDeadline(past)
}

func (c *conn) runPosted() {
	c.mu.Lock()
	todo := c.todo
	c.todo = nil
	c.mu.Unlock()
	if c.up == nil || c.upEnded {
		return
	}
	for _, f := range todo {
		f()
	}
}

func (c *conn) endUpstream(err error) {
	if c.upEnded {
		return
	}
	c.upEnded = true
	c.up.close(err)
}

// brokerEnded is called by the upstream, on any goroutine, when the broker has
// ended the connection: what it sent is written, then the client is cut off.
func (c *conn) brokerEnded(err error) {
	c.mu.Lock()
	ours := c.closing || c.leaving || c.dead
	c.mu.Unlock()
	if ours {
		return
	}
	c.cutBehind(err)
}

// after calls f later, unless the connection is gone by then.
func (c *conn) after(d time.Duration, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timers == nil {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		c.mu.Lock()
		_, live := c.timers[t]
		delete(c.timers, t)
		c.mu.Unlock()
		if live {
			f()
		}
	})
	c.timers[t] = struct{}{}
}

// pause waits, at most until the connection is gone.
func (c *conn) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.gone:
	}
}

// cut ends the connection by a FIN behind what was written.
func (c *conn) cut(err error) {
	c.mu.Lock()
	was := c.dead
	c.dead = true
	if c.reason == nil {
		c.reason = err
	}
	c.mu.Unlock()
	if was {
		return
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.after(lingering, func() { c.hangUp(err) })
		c.prod()
		return
	}
	c.hangUp(err)
}

// cutBehind has write cut the connection behind all that it was given before.
func (c *conn) cutBehind(err error) {
	c.out.do(func() {
		c.flush()
		c.cut(err)
	})
}

// cutSoon is cut for serve: what has been answered before is written first.
func (c *conn) cutSoon() {
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	c.cutBehind(errFault)
	c.after(lingering, func() { c.cut(errFault) })
}

// reset ends the connection by an RST.
func (c *conn) reset() {
	if linger, ok := c.raw.(interface{ SetLinger(int) error }); ok {
		_ = linger.SetLinger(0)
		c.mu.Lock()
		c.dead = true
		c.mu.Unlock()
		_ = c.raw.Close() // not through TLS, which would say goodbye
	}
	c.hangUp(errFault)
}

// hangUp ends everything at once.
func (c *conn) hangUp(err error) {
	c.once.Do(func() {
		c.mu.Lock()
		c.leaving, c.dead = true, true
		if c.reason == nil {
			c.reason = err
		}
		for t := range c.timers {
			t.Stop()
		}
		c.timers = nil
		up := c.up
		c.mu.Unlock()
		close(c.gone)
		_ = c.raw.Close()
		if up != nil {
			up.abort()
		}
	})
}

// channelLocked returns a channel by its number.
func (c *conn) channelLocked(number uint16) *channel {
	ch := c.channels[number]
	if ch == nil {
		ch = &channel{number: number}
		c.channels[number] = ch
	}
	return ch
}

func (c *conn) channel(number uint16) *channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.channelLocked(number)
}

// openChannels returns the numbers of those that are open, in order.
func (c *conn) openChannels() []uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []uint16
	for number, ch := range c.channels {
		if ch.state == channelOpen && !ch.closing {
			list = append(list, number)
		}
	}
	slices.Sort(list)
	return list
}

// slowly tells whether frames have to be put together for faults to see.
func (c *conn) slowly() bool {
	if c.slow.Load() {
		return true
	}
	if !c.stage.rules.any() {
		return false
	}
	c.slow.Store(true)
	return true
}
