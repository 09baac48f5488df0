package faultcases

import (
	"context"
	"testing" //nolint:depguard // only tests import this package
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// client is one connection of the bare driver, with a channel in confirm mode.
type client struct {
	s    *stand
	conn *amqp.Connection
	ch   *amqp.Channel

	connClosed chan *amqp.Error
	chClosed   chan *amqp.Error
	returns    chan amqp.Return
	sent       []*amqp.DeferredConfirmation
}

func (s *stand) dial() (*amqp.Connection, error) {
	return amqp.DialConfig(s.URL(), amqp.Config{Heartbeat: 10 * time.Second, Dial: s.Dial})
}

// clients are the connections of the case, without those of who looks at the queue.
func (s *stand) clients() (list []*mqtest.Connection) {
	for _, c := range s.Connections() {
		if c.Name() != observer {
			list = append(list, c)
		}
	}
	return list
}

// cut ends the clients' connections.
func (s *stand) cut() {
	for _, c := range s.clients() {
		c.Do(mqtest.Cut())
	}
}

func (s *stand) connect() *client {
	s.t.Helper()
	conn, err := s.dial()
	s.must(err)
	s.t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) })
	c := &client{s: s, conn: conn, connClosed: conn.NotifyClose(make(chan *amqp.Error, 1))}
	c.open()
	return c
}

// open opens another channel.
func (c *client) open() {
	c.s.t.Helper()
	ch, err := c.conn.Channel()
	c.s.must(err)
	c.s.must(ch.Confirm(false))
	c.ch = ch
	c.chClosed = ch.NotifyClose(make(chan *amqp.Error, 1))
	c.returns = ch.NotifyReturn(make(chan amqp.Return, 1000))
}

// publish sends a message whose id is its body.
func (c *client) publish(body string) *amqp.DeferredConfirmation {
	c.s.t.Helper()
	m := amqp.Publishing{Body: []byte(body), MessageId: body, DeliveryMode: amqp.Persistent}
	confirm, err := c.ch.PublishWithDeferredConfirm("", c.s.queue, false, false, m)
	c.s.must(err)
	c.sent = append(c.sent, confirm)
	return confirm
}

// told is what the client knows of its publishes: for each of them confirmed (+),
// nacked (-), or nothing (?).
func (c *client) told() string {
	told := ""
	for _, confirm := range c.sent {
		select {
		case <-confirm.Done():
		default:
			told += "?"
			continue
		}
		switch {
		case confirm.Acked():
			told += "+"
		case c.ch.IsClosed(): // where the driver gives up on them all
			told += "?"
		default:
			told += "-"
		}
	}
	return told
}

// settled waits until the channel answers: what the broker has said before has
// arrived.
func (c *client) settled() {
	c.s.t.Helper()
	c.s.must(c.ch.Qos(0, 0, false))
}

// consume starts a consumer of the tag "tag" that acks by itself.
func (c *client) consume() <-chan amqp.Delivery {
	c.s.t.Helper()
	in, err := c.ch.Consume(c.s.queue, "tag", false, false, false, false, nil)
	c.s.must(err)
	return in
}

// lost waits for the end of the connection and, unless it is 0, compares its code.
func (c *client) lost(code int) {
	c.s.t.Helper()
	c.closed(c.connClosed, "connection", code)
}

// channelLost is lost of the channel.
func (c *client) channelLost(code int) {
	c.s.t.Helper()
	c.closed(c.chClosed, "channel", code)
}

func (c *client) closed(ch <-chan *amqp.Error, what string, code int) {
	c.s.t.Helper()
	if err, _ := receive(c.s.t, ch); err == nil || (code != 0 && err.Code != code) {
		c.s.t.Errorf("the %s was closed with %v, want code %d", what, err, code)
	}
}

func receive[T any](t *testing.T, ch <-chan T) (T, bool) {
	t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case v, ok := <-ch:
		return v, ok
	case <-limit.C:
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// answered runs f, which waits for an answer of the broker.
func answered(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}
