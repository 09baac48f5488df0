package engine

import (
	"strings"

	"github.com/mqkit/mqkit/internal/wire"
)

// replyToName is the queue that stands for answers to the channel that consumes
// from it: direct reply-to.
const replyToName = "amq.rabbitmq.reply-to"

// replyNameLength is that of the names which stand for it in messages.
const replyNameLength = len(replyToName) + 1 + 22 + 1 + 22 + 2

func (ch *Channel) consumeReplies(tag string, m *wire.BasicConsume, ok func(string)) *Exception {
	if !m.NoAck {
		return NewException(codePreconditionFailed, "reply consumer cannot acknowledge")
	}
	if ch.replyTo != "" {
		return NewException(codePreconditionFailed, "reply consumer already set")
	}
	ch.replyTo = ch.broker.newName(replyToName+".") + "." + ch.broker.newName("") + "=="
	ch.replyTag = tag
	ch.broker.replies[ch.replyTo] = ch
	ok(tag)
	return nil
}

// reply delivers an answer, and tells whether RabbitMQ takes it for routed: from
// 4.3 on it does so wherever the name has the right form, before it never did.
func (b *Broker) reply(m *message) bool {
	routed := b.opts.Rules == Rules43
	ch := b.replies[m.key]
	if ch == nil {
		return routed && strings.HasPrefix(m.key, replyToName+".") && len(m.key) == replyNameLength
	}
	ch.nextTag++
	d := &b.delivery
	*d = Delivery{Exchange: m.exchange, RoutingKey: m.key, Properties: m.properties, Body: m.body}
	ch.sink.Deliver(ch.replyTag, ch.nextTag, false, d)
	return routed
}

func withReplyTo(raw []byte, name string) []byte {
	p, err := wire.ParseProperties(raw)
	if err != nil {
		return raw
	}
	p.ReplyTo = name
	return p.Append(nil)
}
