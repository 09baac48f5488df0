package amqpserver

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// What a connection ends with, besides what closed it.
var (
	// ErrHeartbeat: two intervals have passed and the client sent nothing.
	ErrHeartbeat = errors.New("missed heartbeats from client")
	// ErrHandshakeTimeout: the connection was not open in time.
	ErrHandshakeTimeout = errors.New("handshake timeout")
	// ErrProtocolHeader: the client opened with another protocol.
	ErrProtocolHeader = errors.New("client did not start with AMQP protocol header")
)

// RefusedError is a client's that was sent away without an answer, in State. For
// a login it says what [Config.Authenticate] did.
type RefusedError struct {
	State string
	Err   error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused while %s: %v", e.State, e.Err) }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// state is how far a connection has come. The words are RabbitMQ's, and are sent.
type state uint8

const (
	stateHeader   state = iota // waits for the protocol header
	stateStarting              // start was sent
	stateTuning                // tune was sent
	stateOpening               // tune-ok has come
	stateRunning               // open-ok was sent
	stateBlocked               // running, and connection.blocked was due
	stateClosed                // close or close-ok was sent: only their counterpart is heard
	stateEnded                 // end was called, or is about to be
)

var stateNames = [...]string{"pre_init", "starting", "tuning", "opening", "running", "blocked", "closed", "ended"}

func (s state) String() string { return stateNames[s] }

// Conn is one connection.
type Conn struct {
	cfg Config
	end func(error)
	w   writer

	behind   atomic.Bool
	blocked  atomic.Bool
	frameMax atomic.Uint32 // that the client must keep to
	received atomic.Uint64 // signs of life, for the heartbeat

	mu         sync.Mutex // guards what follows; see the package's comment
	state      state
	err        error // that it ends with
	engine     *engine.Conn
	channels   map[uint16]*channel
	batching   []*channel // that may hold confirms back until Idle
	channelMax uint16
	interval   time.Duration // of the heartbeat, 0: none
	client     Client
	refusal    bool // no more is heard: it was refused, or is out of step
	block      blocking
	timers     timers
}

// Client is what a connection knows of its client.
type Client struct {
	User, Vhost string
	Mechanism   string
	Properties  wire.Table
}

// NewConn starts a connection that has been accepted and has sent nothing. The
// time for its handshake runs from now on.
func NewConn(cfg Config, out func(frames []byte), end func(error)) *Conn {
	c := &Conn{cfg: cfg.withDefaults(), end: end, channels: map[uint16]*channel{}}
	c.w.out = out
	c.setFrameMax(wire.MinFrameMax)
	c.lock()
	defer c.unlock()
	c.timers.handshake = time.AfterFunc(c.cfg.HandshakeTimeout, func() {
		c.lock()
		defer c.unlock()
		if c.state < stateRunning {
			c.finish(ErrHandshakeTimeout)
		}
	})
	return c
}

// lock takes the lock, and takes over what the engine has done meanwhile.
func (c *Conn) lock() {
	c.mu.Lock()
	if c.w.forced.Load() == nil {
		return
	}
	if e := c.w.forced.Swap(nil); e != nil && c.state < stateClosed {
		c.closing(e)
	}
}

// unlock gives the lock back, and says that it is over if it is.
func (c *Conn) unlock() {
	var end func(error)
	if c.state == stateEnded {
		end, c.end = c.end, nil
	}
	err := c.err
	c.mu.Unlock()
	if end != nil {
		end(err)
	}
}

// Gone says that the client's socket has ended, by what error or, at its regular
// end, nil or io.EOF. What was unsettled is put back, exclusive queues are
// deleted. The connection ends.
func (c *Conn) Gone(err error) {
	c.lock()
	defer c.unlock()
	if c.state == stateClosed {
		err = nil
	}
	c.finish(err)
}

// finish ends the connection. An error that it was closed with comes first.
func (c *Conn) finish(err error) {
	if c.state == stateEnded {
		return
	}
	c.shut()
	c.w.end()
	c.state = stateEnded
	c.timers.stop()
	if c.err == nil {
		c.err = err
	}
}

// shut ends what the connection holds in the engine.
func (c *Conn) shut() {
	if c.engine != nil {
		c.engine.Close()
		c.engine = nil
	}
	clear(c.channels)
	c.batching = nil
	c.blocked.Store(false)
}

// Behind says whether the client's socket is behind with what it is sent: nothing
// more is delivered then. Answers are still sent. It takes no lock. Once it is not
// behind any more [Conn.Resume] has to be called, which goes on with deliveries.
func (c *Conn) Behind(behind bool) { c.behind.Store(behind) }

// Resume goes on with deliveries that [Conn.Behind] has stopped, unless it does still.
func (c *Conn) Resume() {
	c.lock()
	defer c.unlock()
	for _, ch := range c.channels {
		if ch.engine != nil {
			ch.engine.Resume()
		}
	}
}

// FrameMax is the largest frame that the client may send now.
func (c *Conn) FrameMax() uint32 { return c.frameMax.Load() }

func (c *Conn) setFrameMax(n uint32) {
	c.frameMax.Store(n)
	c.w.setFrameMax(n)
}

// Client returns what is known of the client so far.
func (c *Conn) Client() Client {
	c.lock()
	defer c.unlock()
	return c.client
}

// Open tells whether the connection is open: after open-ok, before a close.
func (c *Conn) Open() bool {
	c.lock()
	defer c.unlock()
	return c.running()
}

func (c *Conn) running() bool { return c.state == stateRunning || c.state == stateBlocked }

// Channels returns how many channels there are.
func (c *Conn) Channels() int {
	c.lock()
	defer c.unlock()
	return len(c.channels)
}
