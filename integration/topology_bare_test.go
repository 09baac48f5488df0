package integration_test

import (
	"errors"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

// bareBroker makes attempts with the bare driver that may well close the channel
// or the connection: each has a channel of its own.
type bareBroker struct {
	t    *testing.T
	url  string
	conn *amqp.Connection
}

func newBareBroker(t *testing.T, url string) *bareBroker {
	b := &bareBroker{t: t, url: url}
	t.Cleanup(func() {
		if b.conn != nil {
			_ = b.conn.Close()
		}
	})
	return b
}

func (b *bareBroker) channel() *amqp.Channel {
	b.t.Helper()
	if b.conn == nil || b.conn.IsClosed() {
		conn, err := amqp.Dial(b.url)
		if err != nil {
			b.t.Fatal(err)
		}
		b.conn = conn
	}
	ch, err := b.conn.Channel()
	if err != nil {
		b.t.Fatal(err)
	}
	return ch
}

func (b *bareBroker) attempt(do func(*amqp.Channel) error) error {
	b.t.Helper()
	ch := b.channel()
	defer ch.Close()
	return do(ch)
}

// declare sends what q says, without any check of ours.
func (b *bareBroker) declare(q topology.Queue) error {
	b.t.Helper()
	b.removeAfter(topology.Topology{Queues: []topology.Queue{q}})
	return b.attempt(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(q.Name, !q.Transient, q.AutoDelete, q.Exclusive, false, q.DeclareArguments())
		return err
	})
}

func (b *bareBroker) declareExchange(e topology.Exchange) error {
	b.t.Helper()
	b.removeAfter(topology.Topology{Exchanges: []topology.Exchange{e}})
	return b.attempt(func(ch *amqp.Channel) error {
		return ch.ExchangeDeclare(e.Name, string(e.DeclaredKind()), !e.Transient, e.AutoDelete, e.Internal, false, e.DeclareArguments())
	})
}

// removeAfter deletes everything in t when the test ends, whatever it holds.
func (b *bareBroker) removeAfter(t topology.Topology) {
	b.t.Cleanup(func() {
		conn, err := amqp.Dial(b.url)
		if err != nil {
			return
		}
		defer conn.Close()
		for _, q := range t.Queues {
			if ch, err := conn.Channel(); err == nil && q.Name != "" && len(q.Name) < 256 {
				_, _ = ch.QueueDelete(q.Name, false, false, false)
				_ = ch.Close()
			}
		}
		for _, e := range t.Exchanges {
			if ch, err := conn.Channel(); err == nil && e.Name != "" && len(e.Name) < 256 && !strings.HasPrefix(e.Name, "amq.") {
				_ = ch.ExchangeDelete(e.Name, false, false)
				_ = ch.Close()
			}
		}
	})
}

// exists reports whether the queue is there.
func (b *bareBroker) exists(queue string) bool {
	b.t.Helper()
	err := b.attempt(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	})
	var reply *amqp.Error
	if err != nil && (!errors.As(err, &reply) || reply.Code != amqp.NotFound) {
		b.t.Fatal(err)
	}
	return err == nil
}

func (b *bareBroker) exchangeExists(exchange string) bool {
	b.t.Helper()
	return b.attempt(func(ch *amqp.Channel) error {
		return ch.ExchangeDeclarePassive(exchange, "", true, false, false, false, nil)
	}) == nil
}
