package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a broker that says yes to everything and notes down what it was asked.
type peer struct {
	t     *testing.T
	conn  net.Conn
	r     *wire.Reader
	asked []wire.Method
	tag   uint64

	method wire.Method // that waits for its content
	header wire.Header
	body   []byte
}

// dial connects the driver with a peer. What the peer has noted may be looked at
// after hangUp.
func dial(t *testing.T) (client *amqp.Connection, p *peer, hangUp func()) {
	t.Helper()
	ours, theirs := net.Pipe()
	p = &peer{t: t, conn: ours, r: wire.NewReader(ours)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer ours.Close()
		p.serve()
	}()
	client, err := amqp.Open(theirs, amqp.Config{
		SASL:       []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "secret"}},
		Vhost:      "/",
		Properties: amqp.Table{"product": "test", "everything": driverTable()},
	})
	if err != nil {
		theirs.Close()
		<-done
		t.Fatalf("opening the connection: %v", err)
	}
	return client, p, sync.OnceFunc(func() {
		ok(t, "connection.close", client.Close())
		<-done
	})
}

func (p *peer) send(channel uint16, m wire.Method) {
	p.write(wire.AppendMethod(nil, channel, m))
}

func (p *peer) write(b []byte) {
	if _, err := p.conn.Write(b); err != nil {
		p.t.Errorf("the peer writes: %v", err)
	}
}

func (p *peer) serve() {
	header, err := p.r.ReadProtocolHeader()
	if refusal := wire.RefuseProtocol(header); err != nil || refusal != "" {
		p.t.Errorf("protocol header %q, %v, refused with %q", header, err, refusal)
		return
	}
	p.send(0, &wire.ConnectionStart{
		VersionMajor: 0, VersionMinor: 9, Mechanisms: "PLAIN AMQPLAIN", Locales: "en_US",
		ServerProperties: wire.Table{{"product", "RabbitMQ"}, {"everything", everything()}},
	})
	for {
		f, err := p.r.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.t.Errorf("the peer reads: %v", err)
			}
			return
		}
		p.frame(f)
	}
}

func (p *peer) frame(f wire.Frame) {
	switch f.Type {
	case wire.MethodFrame:
		m, err := wire.ParseMethod(f.Payload)
		if err != nil {
			p.t.Errorf("the driver's method: %v", err)
			return
		}
		if got := wire.AppendMethod(nil, f.Channel, m); !bytes.Equal(got, f.Append(nil)) {
			p.t.Errorf("%s: the driver writes\n%q, we\n%q", m.ID(), f.Append(nil), got)
		}
		p.asked = append(p.asked, m)
		if m.ID().HasContent() {
			p.method = m
			return
		}
		p.answer(f.Channel, m)
	case wire.HeaderFrame:
		h, err := wire.ParseHeader(f.Payload)
		if err != nil {
			p.t.Errorf("the driver's header: %v", err)
		}
		p.header, p.body = h, nil
		p.content(f.Channel)
	case wire.BodyFrame:
		p.body = append(p.body, f.Payload...)
		p.content(f.Channel)
	}
}

// content sends a published message back: as a return, as a delivery, or, when it
// was asked for with get, as the answer.
func (p *peer) content(channel uint16) {
	if uint64(len(p.body)) < p.header.BodySize {
		return
	}
	properties, err := wire.ParseProperties(p.header.Properties)
	if err != nil {
		p.t.Errorf("the driver's properties: %v", err)
		return
	}
	raw := properties.Append(nil)
	if !bytes.Equal(raw, p.header.Properties) {
		p.t.Errorf("the driver writes properties\n%q, we\n%q", p.header.Properties, raw)
	}
	p.tag++
	published := p.method.(*wire.BasicPublish)
	if published.Mandatory {
		p.write(wire.AppendContent(nil, channel, &wire.BasicReturn{
			ReplyCode: 312, ReplyText: "NO_ROUTE", Exchange: published.Exchange, RoutingKey: published.RoutingKey,
		}, raw, p.body, 4096))
		p.send(channel, &wire.BasicNack{DeliveryTag: p.tag})
		return
	}
	p.send(channel, &wire.BasicAck{DeliveryTag: p.tag})
	p.write(wire.AppendContent(nil, channel, &wire.BasicDeliver{
		ConsumerTag: "ctag", DeliveryTag: p.tag, Redelivered: true, Exchange: published.Exchange, RoutingKey: published.RoutingKey,
	}, raw, p.body, 4096))
}

func (p *peer) answer(channel uint16, m wire.Method) {
	switch m := m.(type) {
	case *wire.ConnectionStartOk:
		p.send(0, &wire.ConnectionTune{ChannelMax: 2047, FrameMax: 131072})
	case *wire.ConnectionTuneOk:
		p.r.SetMax(m.FrameMax)
	case *wire.ConnectionOpen:
		p.send(0, &wire.ConnectionOpenOk{})
	case *wire.ConnectionUpdateSecret:
		p.send(0, &wire.ConnectionUpdateSecretOk{})
		p.send(0, &wire.ConnectionBlocked{Reason: "low on memory"})
		p.send(0, &wire.ConnectionUnblocked{})
	case *wire.ConnectionClose:
		p.send(0, &wire.ConnectionCloseOk{})
	case *wire.ChannelOpen:
		p.send(channel, &wire.ChannelOpenOk{})
	case *wire.ChannelClose:
		p.send(channel, &wire.ChannelCloseOk{})
	case *wire.ExchangeDeclare:
		p.send(channel, &wire.ExchangeDeclareOk{})
	case *wire.ExchangeDelete:
		p.send(channel, &wire.ExchangeDeleteOk{})
	case *wire.ExchangeBind:
		p.send(channel, &wire.ExchangeBindOk{})
	case *wire.ExchangeUnbind:
		p.send(channel, &wire.ExchangeUnbindOk{})
	case *wire.QueueDeclare:
		p.send(channel, &wire.QueueDeclareOk{Queue: m.Queue, MessageCount: 5, ConsumerCount: 2})
	case *wire.QueueBind:
		p.send(channel, &wire.QueueBindOk{})
	case *wire.QueueUnbind:
		p.send(channel, &wire.QueueUnbindOk{})
	case *wire.QueuePurge:
		p.send(channel, &wire.QueuePurgeOk{MessageCount: 3})
	case *wire.QueueDelete:
		p.send(channel, &wire.QueueDeleteOk{MessageCount: 4})
	case *wire.BasicQos:
		p.send(channel, &wire.BasicQosOk{})
	case *wire.BasicConsume:
		p.send(channel, &wire.BasicConsumeOk{ConsumerTag: m.ConsumerTag})
	case *wire.BasicCancel:
		p.send(channel, &wire.BasicCancelOk{ConsumerTag: m.ConsumerTag})
	case *wire.BasicGet:
		if m.Queue == "empty" {
			p.send(channel, &wire.BasicGetEmpty{})
			return
		}
		all := allProperties()
		p.write(wire.AppendContent(nil, channel, &wire.BasicGetOk{DeliveryTag: 9, MessageCount: 8}, all.Append(nil), nil, 4096))
	case *wire.BasicRecover:
		p.send(channel, &wire.BasicRecoverOk{})
	case *wire.ConfirmSelect:
		p.send(channel, &wire.ConfirmSelectOk{})
	case *wire.TxSelect:
		p.send(channel, &wire.TxSelectOk{})
	case *wire.TxCommit:
		p.send(channel, &wire.TxCommitOk{})
	case *wire.TxRollback:
		p.send(channel, &wire.TxRollbackOk{})
	}
}

// driverTable is everything as the driver has it.
func driverTable() amqp.Table { return driverValue(everything()).(amqp.Table) }

func driverValue(v any) any {
	switch v := v.(type) {
	case wire.Table:
		t := amqp.Table{}
		for _, f := range v {
			t[f.Key] = driverValue(f.Value)
		}
		return t
	case wire.Array:
		var a []any
		for _, e := range v {
			a = append(a, driverValue(e))
		}
		return a
	case wire.Decimal:
		return amqp.Decimal{Scale: v.Scale, Value: int32(v.Value)}
	case wire.Timestamp:
		return time.Unix(int64(v), 0)
	}
	return v
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\ngot  %#v\nwant %#v", what, got, want)
	}
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestTheDriverAndWeReadEachOther(t *testing.T) {
	t.Parallel()
	client, p, hangUp := dial(t)
	defer hangUp()
	equal(t, "server properties", client.Properties["everything"], any(driverTable()))

	ch, err := client.Channel()
	if err != nil {
		t.Fatal(err)
	}
	q, err := ch.QueueDeclare("q", true, false, false, false, driverTable())
	ok(t, "queue.declare", err)
	equal(t, "queue.declare-ok", q, amqp.Queue{Name: "q", Messages: 5, Consumers: 2})
	ok(t, "exchange.declare", ch.ExchangeDeclare("e", "topic", true, true, true, false, driverTable()))
	ok(t, "exchange.bind", ch.ExchangeBind("e", "key", "f", false, driverTable()))
	ok(t, "exchange.unbind", ch.ExchangeUnbind("e", "key", "f", false, nil))
	ok(t, "queue.bind", ch.QueueBind("q", "key", "e", false, driverTable()))
	ok(t, "queue.unbind", ch.QueueUnbind("q", "key", "e", nil))
	ok(t, "basic.qos", ch.Qos(10, 0, true))
	ok(t, "basic.recover", ch.Recover(true)) //nolint:staticcheck // deprecated, and still on the wire
	n, err := ch.QueuePurge("q", false)
	ok(t, "queue.purge", err)
	equal(t, "queue.purge-ok", n, 3)
	n, err = ch.QueueDelete("q", true, true, false)
	ok(t, "queue.delete", err)
	equal(t, "queue.delete-ok", n, 4)
	ok(t, "exchange.delete", ch.ExchangeDelete("e", true, false))
	_, found, err := ch.Get("empty", true)
	ok(t, "basic.get", err)
	equal(t, "basic.get-empty", found, false)
	got, found, err := ch.Get("q", false)
	ok(t, "basic.get", err)
	equal(t, "basic.get-ok", found, true)
	equal(t, "headers of get-ok", got.Headers, driverTable())
	ok(t, "basic.ack", got.Ack(true))
	ok(t, "basic.nack", got.Nack(true, true))
	ok(t, "basic.reject", got.Reject(true))

	blocked := client.NotifyBlocked(make(chan amqp.Blocking, 2))
	ok(t, "connection.update-secret", client.UpdateSecret("new", "expiring"))
	equal(t, "connection.blocked", <-blocked, amqp.Blocking{Active: true, Reason: "low on memory"})
	equal(t, "connection.unblocked", <-blocked, amqp.Blocking{})

	tx, err := client.Channel()
	if err != nil {
		t.Fatal(err)
	}
	ok(t, "tx.select", tx.Tx())
	ok(t, "tx.commit", tx.TxCommit())
	ok(t, "tx.rollback", tx.TxRollback())
	ok(t, "channel.close", tx.Close())

	hangUp()
	equal(t, "start-ok", p.asked[0].(*wire.ConnectionStartOk).Response, "\x00guest\x00secret")
	names := map[string]bool{}
	for _, m := range p.asked {
		names[m.ID().String()] = true
		if m, is := m.(*wire.QueueDeclare); is {
			equal(t, "queue.declare's table", driverValue(m.Arguments), any(driverTable()))
		}
	}
	for _, m := range []string{
		"connection.start-ok", "connection.tune-ok", "connection.open", "connection.update-secret", "connection.close",
		"channel.open", "channel.close", "exchange.declare", "exchange.delete", "exchange.bind", "exchange.unbind",
		"queue.declare", "queue.delete", "queue.purge", "queue.bind", "queue.unbind", "basic.qos", "basic.get",
		"basic.ack", "basic.nack", "basic.reject", "basic.recover", "tx.select", "tx.commit", "tx.rollback",
	} {
		if !names[m] {
			t.Errorf("the peer has not seen %s", m)
		}
	}
}

func TestTheDriversMessagesGoThereAndBack(t *testing.T) {
	t.Parallel()
	client, _, hangUp := dial(t)
	defer hangUp()
	ch, err := client.Channel()
	if err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume("q", "ctag", false, true, false, false, driverTable())
	ok(t, "basic.consume", err)
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	ok(t, "confirm.select", ch.Confirm(false))

	message := amqp.Publishing{
		Headers: driverTable(), ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: 2, Priority: 9,
		CorrelationId: "c\xff", ReplyTo: "r", Expiration: "60000", MessageId: "m", Timestamp: time.Unix(1767323045, 0),
		Type: "t", UserId: "u", AppId: "a",
	}
	for _, size := range []int{0, 1, 4088, 300_000} {
		message.Body = bytes.Repeat([]byte("b"), size)
		confirm, err := ch.PublishWithDeferredConfirmWithContext(context.Background(), "e", "key", false, false, message)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		got := <-deliveries
		equal(t, "acked", confirm.Wait(), true)
		equal(t, "headers", got.Headers, message.Headers)
		equal(t, "envelope",
			[]any{got.ConsumerTag, got.DeliveryTag, got.Redelivered, got.Exchange, got.RoutingKey},
			[]any{"ctag", confirm.DeliveryTag, true, "e", "key"})
		equal(t, "properties", amqp.Publishing{
			Headers: got.Headers, ContentType: got.ContentType, ContentEncoding: got.ContentEncoding, DeliveryMode: got.DeliveryMode,
			Priority: got.Priority, CorrelationId: got.CorrelationId, ReplyTo: got.ReplyTo, Expiration: got.Expiration,
			MessageId: got.MessageId, Timestamp: got.Timestamp, Type: got.Type, UserId: got.UserId, AppId: got.AppId,
		}, func() amqp.Publishing { m := message; m.Body = nil; return m }())
		if len(got.Body) != size {
			t.Errorf("%d bytes became %d", size, len(got.Body))
		}
	}

	message.Body = []byte("nowhere")
	confirm, err := ch.PublishWithDeferredConfirmWithContext(context.Background(), "e", "key", true, false, message)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "acked", confirm.Wait(), false)
	got := <-returns
	equal(t, "returned headers", got.Headers, message.Headers)
	equal(t, "return", []any{got.ReplyCode, got.ReplyText, got.Exchange, got.RoutingKey, string(got.Body)},
		[]any{uint16(312), "NO_ROUTE", "e", "key", "nowhere"})
	ok(t, "basic.cancel", ch.Cancel("ctag", false))
}
