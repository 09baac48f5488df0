package amqpserver

import (
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// handle takes a method without content.
func (ch *channel) handle(m wire.Method) (applied bool) {
	if !ch.ready(m) {
		_, ok := m.(*wire.ChannelCloseOk)
		return ok && ch.closed.Load()
	}
	if _, closed := m.(*wire.ChannelClose); closed {
		ch.closedByClient()
		return true
	}
	if e := ch.apply(m); e != nil {
		ch.fail(e, m.ID())
		return false
	}
	ch.flush()
	return !ch.closed.Load() // by the engine
}

// apply has the engine apply a method, and answers it.
func (ch *channel) apply(m wire.Method) *engine.Exception {
	switch m := m.(type) {
	case *wire.ChannelOpen:
		ch.engine = ch.conn.engine.Channel(ch.number, ch)
		ch.send(&wire.ChannelOpenOk{})
		return nil
	case *wire.ChannelFlow:
		if !m.Active {
			return exceptionf(notImplemented, "active=false")
		}
		ch.send(&wire.ChannelFlowOk{Active: true})
		return nil
	case *wire.AccessRequest:
		ch.send(&wire.AccessRequestOk{Ticket: 1})
		return nil
	}
	switch m.ID().Class() {
	case wire.IDExchangeDeclare.Class():
		return ch.applyExchange(m)
	case wire.IDQueueDeclare.Class():
		return ch.applyQueue(m)
	case wire.IDBasicQos.Class():
		return ch.applyBasic(m)
	default:
		return ch.applyMode(m)
	}
}

// reply sends an answer, if the method went well and wants one.
func (ch *channel) reply(e *engine.Exception, noWait bool, answer wire.Method) *engine.Exception {
	if e == nil && !noWait {
		ch.send(answer)
	}
	return e
}

func unimplemented() *engine.Exception { return exceptionf(commandInvalid, "unimplemented method") }

func (ch *channel) applyExchange(m wire.Method) *engine.Exception {
	switch m := m.(type) {
	case *wire.ExchangeDeclare:
		return ch.reply(ch.engine.ExchangeDeclare(m), m.NoWait, &wire.ExchangeDeclareOk{})
	case *wire.ExchangeDelete:
		return ch.reply(ch.engine.ExchangeDelete(m), m.NoWait, &wire.ExchangeDeleteOk{})
	case *wire.ExchangeBind:
		return ch.reply(ch.engine.ExchangeBind(m), m.NoWait, &wire.ExchangeBindOk{})
	case *wire.ExchangeUnbind:
		return ch.reply(ch.engine.ExchangeUnbind(m), m.NoWait, &wire.ExchangeUnbindOk{})
	}
	return unimplemented()
}

// applyQueue applies a method of class queue. The engine answers nothing on a
// channel that it has just closed by itself.
func (ch *channel) applyQueue(m wire.Method) *engine.Exception {
	switch m := m.(type) {
	case *wire.QueueDeclare:
		ok, e := ch.engine.QueueDeclare(m)
		return ch.reply(e, m.NoWait || ok == nil, ok)
	case *wire.QueueBind:
		return ch.reply(ch.engine.QueueBind(m), m.NoWait, &wire.QueueBindOk{})
	case *wire.QueueUnbind:
		return ch.reply(ch.engine.QueueUnbind(m), false, &wire.QueueUnbindOk{})
	case *wire.QueuePurge:
		ok, e := ch.engine.QueuePurge(m)
		return ch.reply(e, m.NoWait || ok == nil, ok)
	case *wire.QueueDelete:
		return ch.engine.QueueDelete(m, func(ok *wire.QueueDeleteOk) {
			if !m.NoWait {
				ch.send(ok)
			}
		})
	}
	return unimplemented()
}

func (ch *channel) applyBasic(m wire.Method) *engine.Exception {
	switch m := m.(type) {
	case *wire.BasicAck:
		return ch.engine.Ack(m)
	case *wire.BasicNack:
		return ch.engine.Nack(m)
	case *wire.BasicReject:
		return ch.engine.Reject(m)
	case *wire.BasicGet:
		return ch.engine.Get(m, ch.got)
	case *wire.BasicQos:
		return ch.reply(ch.engine.Qos(m), false, &wire.BasicQosOk{})
	case *wire.BasicConsume:
		return ch.engine.Consume(m, func(consumerTag string) {
			if !m.NoWait {
				ch.send(&wire.BasicConsumeOk{ConsumerTag: consumerTag})
			}
		})
	case *wire.BasicCancel:
		return ch.reply(ch.engine.Cancel(m), m.NoWait, &wire.BasicCancelOk{ConsumerTag: m.ConsumerTag})
	case *wire.BasicCancelOk:
		return ch.engine.CancelOk(m.ConsumerTag)
	case *wire.BasicRecover:
		return ch.engine.Recover(m, func() { ch.send(&wire.BasicRecoverOk{}) })
	case *wire.BasicRecoverAsync:
		return ch.engine.Recover(&wire.BasicRecover{Requeue: m.Requeue}, func() {})
	}
	return unimplemented()
}

// got answers basic.get.
func (ch *channel) got(d *engine.GetOk) {
	if d == nil {
		ch.send(&wire.BasicGetEmpty{})
		return
	}
	if !ch.sendable(&d.Delivery) {
		return
	}
	ch.sendContent(&wire.BasicGetOk{
		DeliveryTag: d.Tag, Redelivered: d.Redelivered,
		Exchange: d.Exchange, RoutingKey: d.RoutingKey, MessageCount: d.Remaining,
	}, d.Properties, d.Body)
}

func (ch *channel) applyMode(m wire.Method) *engine.Exception {
	switch m := m.(type) {
	case *wire.ConfirmSelect:
		return ch.reply(ch.engine.ConfirmSelect(m), m.NoWait, &wire.ConfirmSelectOk{})
	case *wire.TxSelect:
		return ch.reply(ch.engine.TxSelect(), false, &wire.TxSelectOk{})
	case *wire.TxCommit:
		return ch.reply(ch.engine.TxCommit(), false, &wire.TxCommitOk{})
	case *wire.TxRollback:
		return ch.reply(ch.engine.TxRollback(), false, &wire.TxRollbackOk{})
	}
	return unimplemented()
}
