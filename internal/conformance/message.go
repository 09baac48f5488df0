package conformance

import (
	"fmt"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Msg is a message to publish: a body and what else is set.
type Msg = amqp.Publishing

// M is a message with a body alone.
func M(body string) Msg { return Msg{Body: []byte(body)} }

// H is a message with a body and headers.
func H(body string, headers Table) Msg { return Msg{Body: []byte(body), Headers: headers} }

// Publish sends a message and waits for nothing.
func (ch *Channel) Publish(exchange, key, how string, m Msg) {
	f := parseFlags(how, "mandatory", "immediate")
	ch.say("%s%s", request("basic.publish", fmt.Sprintf("to %q", exchange), keyed(key), f, renderText(string(m.Body))), renderProperties(m))
	err := ch.amqp.PublishWithContext(ch.s.ctx, exchange, key, f.has("mandatory"), f.has("immediate"), m)
	if err != nil && !ch.amqp.IsClosed() {
		ch.say("basic.publish: %s", renderError(err))
	}
}

// Confirms puts the channel into confirm mode.
func (ch *Channel) Confirms() {
	if ch.confirms == nil {
		ch.confirms = ch.amqp.NotifyPublish(make(chan amqp.Confirmation, 1000))
	}
	ch.say("confirm.select: %s", renderError(ch.amqp.Confirm(false)))
}

// Confirmed waits for n confirms and says what they are.
func (ch *Channel) Confirmed(n int) {
	for range n {
		c, ok := await(ch.s, "confirm", ch.confirms)
		if !ok {
			return
		}
		verdict := "ack"
		if !c.Ack {
			verdict = "nack"
		}
		ch.say("confirm %d %s", c.DeliveryTag, verdict)
	}
}

// Put publishes and waits until the message has been confirmed, so that the
// queues have it. The channel is put into confirm mode by the first.
func (ch *Channel) Put(exchange, key string, m Msg) {
	if ch.confirms == nil {
		ch.confirms = ch.amqp.NotifyPublish(make(chan amqp.Confirmation, 1000))
		if err := ch.amqp.Confirm(false); err != nil {
			ch.say("confirm.select: %s", renderError(err))
			return
		}
	}
	ch.Publish(exchange, key, "", m)
	if c, ok := await(ch.s, "confirm", ch.confirms); ok && !c.Ack {
		ch.say("confirm %d nack", c.DeliveryTag)
	}
}

// PutAll puts one message per body into a queue.
func (ch *Channel) PutAll(queue string, bodies ...string) {
	for _, b := range bodies {
		ch.Put("", queue, M(b))
	}
}

// Returned waits for n returns.
func (ch *Channel) Returned(n int) {
	for range n {
		r, ok := await(ch.s, "return", ch.returns)
		if !ok {
			return
		}
		ch.say("basic.return %d %s: %s", r.ReplyCode, r.ReplyText, ofReturn(&r))
	}
}

// Consume starts a consumer.
func (ch *Channel) Consume(queue, tag, how string, args Table) {
	f := parseFlags(how, "no-ack", "exclusive", "no-local", "no-wait")
	deliveries, err := ch.amqp.Consume(queue, tag, f.has("no-ack"), f.has("exclusive"), f.has("no-local"), f.has("no-wait"), args)
	ch.say("%s: %s", request("basic.consume", fmt.Sprintf("%q tag=%q", queue, tag), f, args), renderError(err))
	if err == nil {
		ch.consumers[tag] = deliveries
	}
}

// Receive waits for n deliveries to the consumer, and returns their tags.
func (ch *Channel) Receive(tag string, n int) []uint64 {
	if ch.consumers[tag] == nil {
		ch.say("there is no consumer %q", tag)
		return nil
	}
	var tags []uint64
	for range n {
		d, ok := await(ch.s, "delivery to "+tag, ch.consumers[tag])
		if !ok {
			return tags
		}
		ch.sayDelivery(&d)
		tags = append(tags, d.DeliveryTag)
	}
	return tags
}

// ReceiveAny waits for n deliveries to the consumer whose order is not the
// point, and says them in the order of their bodies.
func (ch *Channel) ReceiveAny(tag string, n int) {
	var bodies []string
	for range n {
		d, ok := await(ch.s, "delivery to "+tag, ch.consumers[tag])
		if !ok {
			break
		}
		bodies = append(bodies, renderText(string(d.Body)))
	}
	slices.Sort(bodies)
	ch.say("basic.deliver to %q, in any order: %v", tag, bodies)
}

func (ch *Channel) sayDelivery(d *amqp.Delivery) {
	ch.say("basic.deliver to %q: tag=%d%s %s", d.ConsumerTag, d.DeliveryTag, redelivered(d), ofDelivery(d))
}

func redelivered(d *amqp.Delivery) string {
	if d.Redelivered {
		return " redelivered"
	}
	return ""
}

// Silent says that nothing more arrives at a consumer, or what does.
func (ch *Channel) Silent(tag string) {
	for {
		d, ok := quiet(ch.s, ch.consumers[tag])
		if !ok {
			ch.say("nothing more to %q", tag)
			return
		}
		ch.sayDelivery(&d)
	}
}

// Ended waits until the driver has ended a consumer.
func (ch *Channel) Ended(tag string) {
	for {
		d, ok := await(ch.s, "end of consumer "+tag, ch.consumers[tag])
		if !ok {
			ch.say("consumer %q has ended", tag)
			return
		}
		ch.sayDelivery(&d)
	}
}

// Cancelled waits until the broker has cancelled n consumers.
func (ch *Channel) Cancelled(n int) {
	for range n {
		if tag, ok := await(ch.s, "cancel", ch.cancels); ok {
			ch.say("basic.cancel from the broker: %q", tag)
		}
	}
}

// Cancel cancels a consumer.
func (ch *Channel) Cancel(tag string) {
	ch.say("basic.cancel %q: %s", tag, renderError(ch.amqp.Cancel(tag, false)))
}

// Get gets a message. It returns its tag, 0 if there is none.
func (ch *Channel) Get(queue, how string) uint64 {
	f := parseFlags(how, "no-ack")
	d, ok, err := ch.amqp.Get(queue, f.has("no-ack"))
	what := request("basic.get", fmt.Sprintf("%q", queue), f)
	switch {
	case err != nil:
		ch.say("%s: %s", what, renderError(err))
	case !ok:
		ch.say("%s: empty", what)
	default:
		ch.say("%s: tag=%d%s remaining=%d %s", what, d.DeliveryTag, redelivered(&d), d.MessageCount, ofDelivery(&d))
		return d.DeliveryTag
	}
	return 0
}

// Arrives is Get that waits for a message to come.
func (ch *Channel) Arrives(queue, how string) uint64 {
	f := parseFlags(how, "no-ack")
	for range ch.s.polls() {
		d, ok, err := ch.amqp.Get(queue, f.has("no-ack"))
		if err != nil {
			ch.say("basic.get %q: %s", queue, renderError(err))
			return 0
		}
		if ok {
			ch.say("%s: tag=%d%s remaining=%d %s", request("basic.get", fmt.Sprintf("%q", queue), f), d.DeliveryTag, redelivered(&d), d.MessageCount, ofDelivery(&d))
			return d.DeliveryTag
		}
	}
	ch.say("basic.get %q: empty for %v", queue, patience)
	return 0
}

// Drain gets what is in a queue, without acks, and says what there was.
func (ch *Channel) Drain(queue string) {
	for ch.Get(queue, "no-ack") != 0 {
		continue
	}
}

// Holds gets what is in a queue, without acks, and says the bodies alone.
func (ch *Channel) Holds(queue string) {
	var bodies []string
	for {
		d, ok, err := ch.amqp.Get(queue, true)
		if err != nil {
			ch.say("basic.get %q: %s", queue, renderError(err))
			return
		}
		if !ok {
			break
		}
		bodies = append(bodies, renderText(string(d.Body)))
	}
	ch.say("queue %q held: %v", queue, bodies)
}

// Ack acks; how may be "multiple".
func (ch *Channel) Ack(tag uint64, how string) {
	f := parseFlags(how, "multiple")
	ch.say("%s", request("basic.ack", tag, f))
	ch.told(ch.amqp.Ack(tag, f.has("multiple")))
}

// Nack nacks; how may be "multiple" and "requeue".
func (ch *Channel) Nack(tag uint64, how string) {
	f := parseFlags(how, "multiple", "requeue")
	ch.say("%s", request("basic.nack", tag, f))
	ch.told(ch.amqp.Nack(tag, f.has("multiple"), f.has("requeue")))
}

// Reject rejects; how may be "requeue".
func (ch *Channel) Reject(tag uint64, how string) {
	f := parseFlags(how, "requeue")
	ch.say("%s", request("basic.reject", tag, f))
	ch.told(ch.amqp.Reject(tag, f.has("requeue")))
}

func (ch *Channel) told(err error) {
	if err != nil {
		ch.say("%s", renderError(err))
	}
}

// Recover asks for redelivery of all that is not acked.
func (ch *Channel) Recover(requeue bool) {
	//nolint:staticcheck // SA1019: brokers still have to answer it
	ch.say("basic.recover requeue=%v: %s", requeue, renderError(ch.amqp.Recover(requeue)))
}

// polls paces a look that is repeated until something has happened.
func (s *Script) polls() func(yield func() bool) {
	return func(yield func() bool) {
		const pause = 25 * time.Millisecond
		deadline := time.NewTimer(patience)
		defer deadline.Stop()
		for yield() {
			select {
			case <-time.After(pause):
			case <-deadline.C:
				return
			case <-s.ctx.Done():
				return
			}
		}
	}
}
