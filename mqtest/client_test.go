package mqtest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// within bounds what a test waits for. It is far more than anything here takes.
const within = time.Minute

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}

// client is one connection of the driver with a channel in confirm mode.
type client struct {
	t    testing.TB
	conn *amqp.Connection
	ch   *amqp.Channel

	connClosed chan *amqp.Error
	chClosed   chan *amqp.Error
	confirms   chan amqp.Confirmation
	returns    chan amqp.Return
}

func dial(t testing.TB, s *mqtest.Stage) *amqp.Connection {
	t.Helper()
	conn, err := amqp.DialConfig(s.URL(), amqp.Config{Dial: s.Dial, Heartbeat: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) })
	return conn
}

func connect(t testing.TB, s *mqtest.Stage) *client {
	t.Helper()
	c := &client{t: t, conn: dial(t, s)}
	c.connClosed = c.conn.NotifyClose(make(chan *amqp.Error, 1))
	c.open()
	return c
}

// open opens another channel.
func (c *client) open() {
	c.t.Helper()
	ch, err := c.conn.Channel()
	if err != nil {
		c.t.Fatal(err)
	}
	c.ch = ch
	c.chClosed = ch.NotifyClose(make(chan *amqp.Error, 1))
	c.confirms = ch.NotifyPublish(make(chan amqp.Confirmation, 1000))
	c.returns = ch.NotifyReturn(make(chan amqp.Return, 1000))
	if err := ch.Confirm(false); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) declare(queue string) {
	c.t.Helper()
	if _, err := c.ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		c.t.Fatal(err)
	}
}

// publish sends one message per body, and waits for nothing.
func (c *client) publish(queue string, bodies ...string) {
	c.t.Helper()
	for _, body := range bodies {
		m := amqp.Publishing{Body: []byte(body), MessageId: body, DeliveryMode: amqp.Persistent}
		if err := c.ch.PublishWithContext(context.Background(), "", queue, false, false, m); err != nil {
			c.t.Fatal(err)
		}
	}
}

// verdicts returns what is said of the next n confirm numbers, as "1+ 2-".
func (c *client) verdicts(n int) (list []string) {
	c.t.Helper()
	for range n {
		v, ok := receive(c.t, c.confirms)
		if !ok {
			c.t.Fatalf("the channel ended after %v", list)
		}
		sign := "-"
		if v.Ack {
			sign = "+"
		}
		list = append(list, fmt.Sprint(v.DeliveryTag)+sign)
	}
	return list
}

// settled waits until the channel has answered: whatever was sent before has been
// applied, and what was said of it has arrived.
func (c *client) settled() {
	c.t.Helper()
	if err := c.ch.Qos(0, 0, false); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) lost() *amqp.Error { c.t.Helper(); err, _ := receive(c.t, c.connClosed); return err }

func (c *client) channelLost() *amqp.Error {
	c.t.Helper()
	err, _ := receive(c.t, c.chClosed)
	return err
}

func receive[T any](t testing.TB, ch <-chan T) (T, bool) {
	t.Helper()
	select {
	case v, ok := <-ch:
		return v, ok
	case <-time.After(within):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func hit(t testing.TB, in *mqtest.Injected, times int) {
	t.Helper()
	if err := in.Wait(timeout(t)); err != nil {
		t.Fatalf("the fault has not struck: %v", err)
	}
	if got := in.Hits(); got != times {
		t.Fatalf("the fault has struck %d times, not %d", got, times)
	}
}

func same[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// onBoth runs a scenario on a broker, and on a proxy in front of one.
func onBoth(t *testing.T, scenario func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker)) {
	t.Parallel()
	t.Run("broker", func(t *testing.T) {
		t.Parallel()
		b := mqtest.New(t)
		scenario(t, b.Stage, b)
	})
	t.Run("proxy", func(t *testing.T) {
		t.Parallel()
		b := mqtest.New(t)
		scenario(t, mqtest.NewProxy(t, b.URL()).Stage, b)
	})
}

// gone waits until the broker has no connection left: all that it was sent on
// them has been applied.
func gone(t testing.TB, b *mqtest.Broker) {
	t.Helper()
	for _, c := range b.Connections() {
		receive(t, c.Done())
	}
}
