package amqpserver_test

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// pump stands between a connection and its client's socket.
type pump struct {
	conn   *amqpserver.Conn
	socket net.Conn
	tasks  sync.WaitGroup

	mu     sync.Mutex
	wake   *sync.Cond
	queue  []byte
	ending bool
	err    error // that the connection ended with
}

// serve serves the other end of a pipe until it ends.
func serve(t *testing.T, cfg amqpserver.Config) (client net.Conn, p *pump) {
	t.Helper()
	if cfg.Broker == nil {
		cfg.Broker = engine.New(engine.Options{})
		t.Cleanup(cfg.Broker.Close)
	}
	client, socket := net.Pipe()
	p = &pump{socket: socket}
	p.wake = sync.NewCond(&p.mu)
	p.conn = amqpserver.NewConn(cfg, p.out, p.end)
	p.tasks.Go(p.read)
	p.tasks.Go(p.write)
	t.Cleanup(func() {
		_ = client.Close()
		p.tasks.Wait()
	})
	return client, p
}

func (p *pump) out(frames []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, frames...)
	p.wake.Signal()
}

func (p *pump) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending, p.err = true, err
	p.wake.Signal()
}

func (p *pump) read() {
	r := wire.NewReader(p.socket)
	header, err := r.ReadProtocolHeader()
	if err != nil {
		p.conn.Gone(err)
		return
	}
	p.conn.Start(header)
	for {
		r.SetMax(p.conn.FrameMax())
		f, err := r.Next()
		if malformed := (*wire.FrameError)(nil); errors.As(err, &malformed) {
			p.conn.Malformed(malformed)
			return
		} else if err != nil {
			p.conn.Gone(err)
			return
		}
		p.conn.Handle(f)
		if r.Buffered() == 0 {
			p.conn.Idle()
		}
	}
}

// write ends with the connection.
func (p *pump) write() {
	defer p.socket.Close()
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && !p.ending {
			p.wake.Wait()
		}
		b, ending := p.queue, p.ending
		p.queue = nil
		p.mu.Unlock()
		if len(b) > 0 {
			if _, err := p.socket.Write(b); err != nil {
				p.conn.Gone(err)
				return
			}
		}
		if ending {
			return
		}
	}
}

func (p *pump) reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// freezing is a client's socket that stops sending, and does not say so.
type freezing struct {
	net.Conn
	freeze atomic.Bool
}

func (f *freezing) Write(b []byte) (int, error) {
	if f.freeze.Load() {
		return len(b), nil
	}
	return f.Conn.Write(b)
}
