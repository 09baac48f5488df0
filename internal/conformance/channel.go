package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Table is the driver's, for short cases.
type Table = amqp.Table

// Channel is a channel of the driver. Its methods put one request each, and write
// down what they asked and what the broker answered.
type Channel struct {
	s         *Script
	conn      *Conn
	name      string
	amqp      *amqp.Channel
	closed    chan *amqp.Error
	ended     bool // how it ended stands in the transcript
	returns   chan amqp.Return
	cancels   chan string
	confirms  chan amqp.Confirmation // nil until confirm mode
	consumers map[string]<-chan amqp.Delivery
}

func (ch *Channel) say(format string, args ...any) {
	ch.s.Say("%s %s", ch.name, fmt.Sprintf(format, args...))
}

// flags are the bits of a method, by name: "durable exclusive".
type flags []string

func parseFlags(text string, known ...string) flags {
	f := strings.Fields(text)
	for _, word := range f {
		if !slices.Contains(known, word) {
			panic("no such flag here: " + word)
		}
	}
	return f
}

func (f flags) has(word string) bool { return slices.Contains(f, word) }

// request is what was asked, for the transcript.
func request(words ...any) string {
	var b strings.Builder
	for _, w := range words {
		switch w := w.(type) {
		case flags:
			for _, word := range w {
				b.WriteString(" " + word)
			}
		case amqp.Table:
			if w != nil {
				b.WriteString(" " + renderTable(w))
			}
		default:
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprint(&b, w)
		}
	}
	return b.String()
}

func keyed(key string) string { return fmt.Sprintf("key=%q", key) }

// Queue declares a queue, to be deleted when the case ends, and returns its name.
func (ch *Channel) Queue(name, how string, args Table) string {
	if name != "" && !slices.Contains(ch.s.queues, name) && strings.HasSuffix(name, ch.s.norm.suffix) {
		ch.s.queues = append(ch.s.queues, name)
	}
	return ch.QueueNamed(name, how, args)
}

// QueueNamed is Queue for a name that is not deleted.
func (ch *Channel) QueueNamed(name, how string, args Table) string {
	f := parseFlags(how, "passive", "durable", "exclusive", "auto-delete", "no-wait")
	declare := ch.amqp.QueueDeclare
	if f.has("passive") {
		declare = ch.amqp.QueueDeclarePassive
	}
	q, err := declare(name, f.has("durable"), f.has("auto-delete"), f.has("exclusive"), f.has("no-wait"), args)
	what := request("queue.declare", fmt.Sprintf("%q", name), f, args)
	switch {
	case err != nil:
		ch.say("%s: %s", what, renderError(err))
	case f.has("no-wait"):
		ch.say("%s", what)
	default:
		ch.say("%s: ok %q messages=%d consumers=%d", what, q.Name, q.Messages, q.Consumers)
	}
	return q.Name
}

// Own declares a queue of the case under that short name: durable, classic.
func (ch *Channel) Own(short string, args Table) string {
	return ch.Queue(ch.s.QueueName(short), "durable", args)
}

// Quorum declares a quorum queue of the case under that short name.
func (ch *Channel) Quorum(short string, args Table) string {
	all := Table{"x-queue-type": "quorum"}
	for k, v := range args {
		all[k] = v
	}
	return ch.Queue(ch.s.QueueName(short), "durable", all)
}

// Look declares a queue passively.
func (ch *Channel) Look(queue string) { ch.QueueNamed(queue, "passive durable", nil) }

// Count waits until a queue has n messages ready. Ready messages are counted by
// the queue at its own time, so this asks again for a while.
func (ch *Channel) Count(queue string, n int) { ch.count(queue, "messages", n) }

// ConsumerCount waits until a queue has n consumers.
func (ch *Channel) ConsumerCount(queue string, n int) { ch.count(queue, "consumers", n) }

func (ch *Channel) count(queue, what string, n int) {
	var have int
	for range ch.s.polls() {
		q, err := ch.amqp.QueueDeclarePassive(queue, true, false, false, false, nil)
		if err != nil {
			ch.say("queue %q: %s", queue, renderError(err))
			return
		}
		if have = q.Messages; what == "consumers" {
			have = q.Consumers
		}
		if have == n {
			break
		}
	}
	ch.say("queue %q: %s=%d", queue, what, have)
}

// Gone waits until a queue does not exist. It looks over channels of its own.
func (ch *Channel) Gone(queue string) {
	for range ch.s.polls() {
		probe, err := ch.conn.amqp.Channel()
		if err != nil {
			ch.say("queue %q: %s", queue, renderError(err))
			return
		}
		var refused *amqp.Error
		_, err = probe.QueueDeclarePassive(queue, true, false, false, false, nil)
		if errors.As(err, &refused) && refused.Code == amqp.NotFound {
			ch.say("queue %q: %s", queue, renderError(err))
			return
		}
		_ = probe.Close()
	}
	ch.say("queue %q: still there after %v", queue, patience)
}

// Purge purges a queue.
func (ch *Channel) Purge(queue string) {
	n, err := ch.amqp.QueuePurge(queue, false)
	ch.outcome(fmt.Sprintf("queue.purge %q", queue), n, err)
}

// DeleteQueue deletes a queue.
func (ch *Channel) DeleteQueue(queue, how string) {
	f := parseFlags(how, "if-unused", "if-empty", "no-wait")
	n, err := ch.amqp.QueueDelete(queue, f.has("if-unused"), f.has("if-empty"), f.has("no-wait"))
	ch.outcome(request("queue.delete", fmt.Sprintf("%q", queue), f), n, err)
}

func (ch *Channel) outcome(what string, n int, err error) {
	if err != nil {
		ch.say("%s: %s", what, renderError(err))
		return
	}
	ch.say("%s: ok messages=%d", what, n)
}

// Exchange declares an exchange, to be deleted when the case ends.
func (ch *Channel) Exchange(name, kind, how string, args Table) string {
	if strings.HasSuffix(name, ch.s.norm.suffix) && !slices.Contains(ch.s.exchanges, name) {
		ch.s.exchanges = append(ch.s.exchanges, name)
	}
	f := parseFlags(how, "passive", "durable", "auto-delete", "internal", "no-wait")
	declare := ch.amqp.ExchangeDeclare
	if f.has("passive") {
		declare = ch.amqp.ExchangeDeclarePassive
	}
	err := declare(name, kind, f.has("durable"), f.has("auto-delete"), f.has("internal"), f.has("no-wait"), args)
	ch.say("%s: %s", request("exchange.declare", fmt.Sprintf("%q", name), kind, f, args), renderError(err))
	return name
}

// OwnExchange declares an exchange of the case under that short name: durable.
func (ch *Channel) OwnExchange(short, kind string, args Table) string {
	return ch.Exchange(ch.s.ExchangeName(short), kind, "durable", args)
}

// DeleteExchange deletes an exchange.
func (ch *Channel) DeleteExchange(name, how string) {
	f := parseFlags(how, "if-unused", "no-wait")
	err := ch.amqp.ExchangeDelete(name, f.has("if-unused"), f.has("no-wait"))
	ch.say("%s: %s", request("exchange.delete", fmt.Sprintf("%q", name), f), renderError(err))
}

// Bind binds a queue to an exchange.
func (ch *Channel) Bind(queue, key, exchange string, args Table) {
	err := ch.amqp.QueueBind(queue, key, exchange, false, args)
	ch.say("%s: %s", request("queue.bind", fmt.Sprintf("%q to %q", queue, exchange), keyed(key), args), renderError(err))
}

// Unbind takes that binding away.
func (ch *Channel) Unbind(queue, key, exchange string, args Table) {
	err := ch.amqp.QueueUnbind(queue, key, exchange, args)
	ch.say("%s: %s", request("queue.unbind", fmt.Sprintf("%q from %q", queue, exchange), keyed(key), args), renderError(err))
}

// BindExchange binds an exchange to one that it gets messages from.
func (ch *Channel) BindExchange(destination, key, source string, args Table) {
	err := ch.amqp.ExchangeBind(destination, key, source, false, args)
	ch.say("%s: %s", request("exchange.bind", fmt.Sprintf("%q to %q", destination, source), keyed(key), args), renderError(err))
}

// UnbindExchange takes that binding away.
func (ch *Channel) UnbindExchange(destination, key, source string, args Table) {
	err := ch.amqp.ExchangeUnbind(destination, key, source, false, args)
	ch.say("%s: %s", request("exchange.unbind", fmt.Sprintf("%q from %q", destination, source), keyed(key), args), renderError(err))
}

// Qos sets the prefetch.
func (ch *Channel) Qos(count, size int, how string) {
	f := parseFlags(how, "global")
	err := ch.amqp.Qos(count, size, f.has("global"))
	ch.say("%s: %s", request(fmt.Sprintf("basic.qos count=%d size=%d", count, size), f), renderError(err))
}

// Tx sends tx.select, tx.commit or tx.rollback.
func (ch *Channel) Tx(verb string) {
	do := map[string]func() error{"select": ch.amqp.Tx, "commit": ch.amqp.TxCommit, "rollback": ch.amqp.TxRollback}[verb]
	ch.say("tx.%s: %s", verb, renderError(do()))
}

// Flow sends channel.flow.
func (ch *Channel) Flow(active bool) {
	ch.say("channel.flow active=%v: %s", active, renderError(ch.amqp.Flow(active)))
}

// Close closes the channel as a client should.
func (ch *Channel) Close() {
	ch.say("close: %s", renderError(ch.amqp.Close()))
	ch.ended = true
}

// Closed waits until the broker has closed the channel.
func (ch *Channel) Closed() {
	if ch.ended {
		return
	}
	ch.ended = true
	if err, ok := await(ch.s, "close of "+ch.name, ch.closed); ok {
		ch.say("closed: %s", renderError(err))
	}
}

// Sync waits until the broker has read all that was sent on this channel.
func (ch *Channel) Sync() {
	_ = ch.amqp.ExchangeDeclarePassive("amq.direct", "direct", true, false, false, false, nil)
}

// conclude says how the channel has ended up, and whether there is anything on it
// that the case has not asked for.
func (ch *Channel) conclude() {
	if ch.ended {
		return
	}
	ch.Sync()
	if err, ok := quietIf(ch.s, ch.amqp.IsClosed(), ch.closed); ok {
		ch.s.sayClosed(ch.name, err)
		return
	}
	ch.say("open%s", ch.rest())
}

// rest counts what nobody has looked at.
func (ch *Channel) rest() string {
	var b strings.Builder
	for what, n := range map[string]int{"returns": len(ch.returns), "confirms": len(ch.confirms), "cancels": len(ch.cancels)} {
		if n > 0 {
			fmt.Fprintf(&b, ", %s not looked at: %d", what, n)
		}
	}
	return b.String()
}
