package conformance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// caseTimeout bounds a case: then its sockets are closed, which ends whatever
	// waits on one.
	caseTimeout = time.Minute

	// patience is how long something that is expected may take to arrive.
	patience = 10 * time.Second

	// silence is how long nothing has to arrive for it to be taken for nothing.
	silence = 150 * time.Millisecond
)

// Dial opens a connection to the broker.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

func dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: patience}
	return d.DialContext(ctx, network, addr)
}

// Script is one run of a case. All its methods are for the goroutine of the case.
type Script struct {
	ctx   context.Context
	url   string
	hand  Hand // nil in all but HandCases
	open  Dial
	lines []string
	norm  normalizer

	conns     []*Conn
	channels  int
	peers     []*Peer
	queues    []string // to delete in the end
	exchanges []string

	mu      sync.Mutex // guards sockets
	sockets []net.Conn
}

// Play runs a case on the broker and returns what was seen, line by line.
func Play(ctx context.Context, brokerURL string, c Case) string {
	return play(ctx, brokerURL, c, nil, dialTCP)
}

func play(ctx context.Context, brokerURL string, c Case, hand Hand, dial Dial) string {
	ctx, cancel := context.WithTimeout(ctx, caseTimeout)
	defer cancel()
	vhost := "/"
	if u, err := amqp.ParseURI(brokerURL); err == nil {
		vhost = u.Vhost
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	s := &Script{ctx: ctx, url: brokerURL, hand: hand, open: dial, norm: normalizer{
		suffix: "-" + hex.EncodeToString(id[:]), vhost: vhost, seen: map[string]string{},
	}}
	stop := context.AfterFunc(ctx, s.hangUp)
	defer s.hangUp()
	defer stop()
	s.run(c)
	return strings.Join(s.lines, "\n") + "\n"
}

// run plays the script, then says how each connection and channel has ended up.
func (s *Script) run(c Case) {
	defer s.cleanUp()
	defer func() {
		if r := recover(); r != nil {
			s.Say("panic: %v\n%s", r, debug.Stack())
		}
	}()
	c.Run(s)
	for _, conn := range s.conns {
		conn.conclude()
	}
}

// hangUp closes every socket of the script.
func (s *Script) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.sockets {
		_ = c.Close()
	}
	s.sockets = nil
}

// cleanUp deletes what was declared, over a connection of its own.
func (s *Script) cleanUp() {
	s.closeAll()
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(context.WithoutCancel(s.ctx), patience)
	defer cancel()
	defer context.AfterFunc(s.ctx, s.hangUp)()
	if len(s.queues)+len(s.exchanges) == 0 {
		return
	}
	conn, err := amqp.DialConfig(s.url, amqp.Config{Dial: s.dial})
	if err != nil {
		return
	}
	defer conn.Close()
	for _, q := range s.queues {
		s.deleteOn(conn, func(ch *amqp.Channel) { _, _ = ch.QueueDelete(q, false, false, false) })
	}
	for _, e := range s.exchanges {
		s.deleteOn(conn, func(ch *amqp.Channel) { _ = ch.ExchangeDelete(e, false, false) })
	}
}

func (s *Script) deleteOn(conn *amqp.Connection, do func(*amqp.Channel)) {
	ch, err := conn.Channel()
	if err != nil {
		return
	}
	do(ch)
	_ = ch.Close()
}

func (s *Script) closeAll() {
	for _, c := range s.conns {
		_ = c.amqp.Close()
	}
	for _, p := range s.peers {
		_ = p.conn.Close()
	}
}

// dial is how all sockets of the script are opened.
func (s *Script) dial(network, addr string) (net.Conn, error) {
	c, err := s.open(s.ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets = append(s.sockets, c)
	return c, nil
}

// Say writes a line of the transcript.
func (s *Script) Say(format string, args ...any) {
	s.lines = append(s.lines, s.norm.line(fmt.Sprintf(format, args...)))
}

// Name returns a name that no other run uses. The transcript shows it as given.
func (s *Script) Name(short string) string { return short + s.norm.suffix }

// QueueName is Name for a queue that is deleted in the end.
func (s *Script) QueueName(short string) string {
	name := s.Name(short)
	s.queues = append(s.queues, name)
	return name
}

// ExchangeName is Name for an exchange that is deleted in the end.
func (s *Script) ExchangeName(short string) string {
	name := s.Name(short)
	s.exchanges = append(s.exchanges, name)
	return name
}

// Channel opens a channel on the first connection, which it opens if need be.
func (s *Script) Channel() *Channel {
	if len(s.conns) == 0 {
		s.Conn()
	}
	return s.conns[0].Channel()
}

// await waits for something that is expected. It returns false, and says so, if
// that does not come.
func await[T any](s *Script, what string, c <-chan T) (T, bool) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v, ok := <-c:
		return v, ok
	case <-timer.C:
		s.Say("no %s within %v", what, patience)
	case <-s.ctx.Done():
		s.Say("no %s: out of time", what)
	}
	var zero T
	return zero, false
}

// quiet returns what arrives in a moment of silence, if anything.
func quiet[T any](s *Script, c <-chan T) (T, bool) {
	timer := time.NewTimer(silence)
	defer timer.Stop()
	select {
	case v, ok := <-c:
		return v, ok
	case <-timer.C:
	case <-s.ctx.Done():
	}
	var zero T
	return zero, false
}
