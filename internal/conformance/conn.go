package conformance

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Conn is a connection of the driver, "conn1" and so on in the transcript.
type Conn struct {
	s        *Script
	name     string
	amqp     *amqp.Connection
	socket   net.Conn
	closed   chan *amqp.Error
	ended    bool // how it ended stands in the transcript
	channels []*Channel
}

// Dialing is what can be said differently about a connection.
type Dialing struct {
	URL    url.URL
	Config amqp.Config
}

// Conn opens a connection. If the broker refuses it, that is said and the result
// is nil.
func (s *Script) Conn(changes ...func(*Dialing)) *Conn {
	u, err := url.Parse(s.url)
	if err != nil {
		panic(err) // Play has parsed it
	}
	c := &Conn{s: s, name: fmt.Sprintf("conn%d", len(s.conns)+1)}
	d := Dialing{URL: *u, Config: amqp.Config{Locale: "en_US", Properties: amqp.NewConnectionProperties()}}
	d.Config.Properties["capabilities"] = amqp.Table{
		"connection.blocked": true, "consumer_cancel_notify": true,
		"basic.nack": true, "publisher_confirms": true, "authentication_failure_close": true,
	}
	d.Config.Dial = func(network, addr string) (net.Conn, error) {
		socket, err := s.dial(network, addr)
		c.socket = socket
		return socket, err
	}
	for _, change := range changes {
		change(&d)
	}
	if c.amqp, err = amqp.DialConfig(d.URL.String(), d.Config); err != nil {
		s.Say("%s open: %s", c.name, renderError(err))
		return nil
	}
	c.closed = c.amqp.NotifyClose(make(chan *amqp.Error, 1))
	s.conns = append(s.conns, c)
	return c
}

// Channel opens a channel, "ch1" and so on in the transcript.
func (c *Conn) Channel() *Channel {
	c.s.channels++
	ch := &Channel{s: c.s, conn: c, name: fmt.Sprintf("ch%d", c.s.channels), consumers: map[string]<-chan amqp.Delivery{}}
	var err error
	if ch.amqp, err = c.amqp.Channel(); err != nil {
		c.s.Say("%s open: %s", ch.name, renderError(err))
		panic("no channel")
	}
	ch.closed = ch.amqp.NotifyClose(make(chan *amqp.Error, 1))
	ch.returns = ch.amqp.NotifyReturn(make(chan amqp.Return, 1000))
	ch.cancels = ch.amqp.NotifyCancel(make(chan string, 1000))
	c.channels = append(c.channels, ch)
	return ch
}

// Close closes the connection as a client should.
func (c *Conn) Close() {
	c.s.Say("%s close: %s", c.name, renderError(c.amqp.Close()))
	c.end()
}

// Cut closes the socket without a word.
func (c *Conn) Cut() {
	c.s.Say("%s cut", c.name)
	_ = c.socket.Close()
	await(c.s, "end of "+c.name, c.closed)
	c.end()
}

func (c *Conn) end() {
	c.ended = true
	for _, ch := range c.channels {
		ch.ended = true
	}
}

// Closed waits until the broker has closed the connection.
func (c *Conn) Closed() {
	if c.ended {
		return
	}
	if err, ok := await(c.s, "close of "+c.name, c.closed); ok {
		c.s.Say("%s closed: %s", c.name, renderError(err))
		c.end()
	}
}

// conclude says whether the connection and its channels are still open.
func (c *Conn) conclude() {
	for _, ch := range c.channels {
		ch.conclude()
	}
	if c.ended {
		return
	}
	if err, ok := quietIf(c.s, c.amqp.IsClosed(), c.closed); ok {
		c.s.sayClosed(c.name, err)
		return
	}
	c.s.Say("%s open", c.name)
}

// sayClosed leaves out a reason that stands in the transcript already.
func (s *Script) sayClosed(name string, err *amqp.Error) {
	reason := renderError(err)
	for _, line := range s.lines {
		if strings.HasSuffix(line, s.norm.line(reason)) {
			s.Say("%s closed", name)
			return
		}
	}
	s.Say("%s closed: %s", name, reason)
}

// quietIf receives what is there, and if it is sure to come waits for it.
func quietIf[T any](s *Script, sure bool, c <-chan T) (T, bool) {
	if sure {
		return await(s, "close", c)
	}
	select {
	case v, ok := <-c:
		return v, ok
	default:
		var zero T
		return zero, false
	}
}
