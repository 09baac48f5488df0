package amqpserver

import (
	"sync/atomic"
	"time"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// channel is one channel, from the first frame on its number to its close-ok.
//
// Its answers come from the reader's goroutine, and from the engine, which calls
// the methods of engine.Sink under its lock.
type channel struct {
	conn   *Conn
	number uint16

	// Guarded by conn.mu.
	engine   *engine.Channel // nil: not open yet
	content  content         // that has begun to arrive
	batching bool            // confirms are held back until Idle
	listed   bool            // in conn.batching

	// closed: channel.close was sent or answered, nothing more is said. Written
	// under conn.w.mu.
	closed atomic.Bool

	// Guarded by conn.w.mu.
	deliver wire.BasicDeliver
	ack     wire.BasicAck
}

// maxShortString is how long a routing key may be on the wire.
const maxShortString = 255

// send sends a method, unless the channel is closed.
func (ch *channel) send(m wire.Method) {
	w := &ch.conn.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch.closed.Load() || w.stopped {
		return
	}
	w.buf = wire.AppendMethod(w.buf, ch.number, m)
	w.flush()
}

// sendContent sends a method with a message.
func (ch *channel) sendContent(m wire.Method, properties, body []byte) {
	w := &ch.conn.w
	w.mu.Lock()
	defer w.mu.Unlock()
	ch.sendContentLocked(m, properties, body)
}

func (ch *channel) sendContentLocked(m wire.Method, properties, body []byte) {
	w := &ch.conn.w
	if ch.closed.Load() || w.stopped {
		return
	}
	w.buf = wire.AppendContent(w.buf, ch.number, m, properties, body, w.frameMax)
	w.flush()
}

// close sends a last method, or what the channel is closed with.
func (ch *channel) close(m wire.Method) {
	w := &ch.conn.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch.closed.Load() || w.stopped {
		return
	}
	ch.closed.Store(true) // before it is sent: the client's close-ok may come at once
	w.buf = wire.AppendMethod(w.buf, ch.number, m)
	w.flush()
}

var _ engine.Sink = (*channel)(nil)

func (ch *channel) Deliver(consumerTag string, tag uint64, redelivered bool, d *engine.Delivery) {
	if !ch.sendable(d) {
		return
	}
	w := &ch.conn.w
	w.mu.Lock()
	defer w.mu.Unlock()
	ch.deliver = wire.BasicDeliver{
		ConsumerTag: consumerTag, DeliveryTag: tag, Redelivered: redelivered,
		Exchange: d.Exchange, RoutingKey: d.RoutingKey,
	}
	ch.sendContentLocked(&ch.deliver, d.Properties, d.Body)
}

// sendable tells whether a message's routing key fits its field: one that a queue
// has given it on dead-lettering, by an argument, may not. RabbitMQ's writer
// crashes of it, which closes the connection.
func (ch *channel) sendable(d *engine.Delivery) bool {
	if len(d.RoutingKey) <= maxShortString {
		return true
	}
	ch.conn.force(&engine.Exception{Code: internalError, Text: engine.CodeName(internalError), Connection: true})
	return false
}

func (ch *channel) Return(code uint16, text, exchange, routingKey string, properties, body []byte) {
	ch.sendContent(&wire.BasicReturn{
		ReplyCode: code, ReplyText: text, Exchange: exchange, RoutingKey: routingKey,
	}, properties, body)
}

func (ch *channel) Confirm(tag uint64, multiple, nack bool) {
	if nack {
		ch.send(&wire.BasicNack{DeliveryTag: tag, Multiple: multiple})
		return
	}
	w := &ch.conn.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch.closed.Load() || w.stopped {
		return
	}
	ch.ack = wire.BasicAck{DeliveryTag: tag, Multiple: multiple}
	w.buf = wire.AppendMethod(w.buf, ch.number, &ch.ack)
	w.flush()
}

func (ch *channel) Cancel(consumerTag string) {
	ch.send(&wire.BasicCancel{ConsumerTag: consumerTag, NoWait: true})
}

func (ch *channel) Close(e *engine.Exception) {
	if e.Connection {
		ch.conn.force(e)
		return
	}
	ch.close(&wire.ChannelClose{ReplyCode: e.Code, ReplyText: wire.ReplyText(e.Text)})
}

func (ch *channel) Ready() bool { return !ch.conn.behind.Load() }

// force closes the connection on behalf of the engine, under its lock.
func (c *Conn) force(e *engine.Exception) {
	if c.w.force(e) {
		// Conn.mu cannot be taken here. Whoever has it next takes the news over;
		// in case that nobody does:
		time.AfterFunc(0, func() {
			c.lock()
			c.unlock()
		})
	}
}
