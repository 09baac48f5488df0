package engine_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a Sink that writes down what it is told, one line each.
type recorder struct {
	mu    sync.Mutex
	lines []string
	full  bool // not ready
	last  engine.Delivery
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *recorder) Deliver(consumerTag string, tag uint64, redelivered bool, d *engine.Delivery) {
	r.last = *d
	again := ""
	if redelivered {
		again = " again"
	}
	r.note("%s#%d %s%s", consumerTag, tag, d.Body, again)
}

func (r *recorder) Return(code uint16, text, exchange, key string, _, body []byte) {
	r.note("return %d %s %s/%s %s", code, text, exchange, key, body)
}

func (r *recorder) Confirm(tag uint64, multiple, nack bool) {
	word := "ack"
	if nack {
		word = "nack"
	}
	if multiple {
		word += "<="
	}
	r.note("%s %d", word, tag)
}

func (r *recorder) Cancel(tag string)         { r.note("cancel %s", tag) }
func (r *recorder) Close(e *engine.Exception) { r.note("close %d %s", e.Code, e.Text) }
func (r *recorder) Ready() bool               { return !r.full }

// took returns what was noted since it was last called.
func (r *recorder) took() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.lines, ", ")
	r.lines = nil
	return s
}

// client is a channel on a connection of its own, with its recorder.
type client struct {
	t    testing.TB
	conn *engine.Conn
	*engine.Channel
	sink *recorder
}

func dial(t testing.TB, b *engine.Broker) *client {
	t.Helper()
	conn, e := b.Connect(engine.ConnInfo{Vhost: "/", User: "guest", Name: "test"})
	if e != nil {
		t.Fatal(e)
	}
	t.Cleanup(conn.Close)
	return on(t, conn)
}

func on(t testing.TB, conn *engine.Conn) *client {
	r := &recorder{}
	return &client{t: t, conn: conn, Channel: conn.Channel(1, r), sink: r}
}

func start(t testing.TB, o engine.Options) (*engine.Broker, *client) {
	b := engine.New(o)
	t.Cleanup(b.Close)
	return b, dial(t, b)
}

func (c *client) ok(e *engine.Exception) {
	c.t.Helper()
	if e != nil {
		c.t.Fatalf("unexpected %v", e)
	}
}

func (c *client) queue(name string, args ...any) {
	c.t.Helper()
	_, e := c.QueueDeclare(&wire.QueueDeclare{Queue: name, Durable: true, Arguments: table(args...)})
	c.ok(e)
}

func (c *client) exchange(name, kind string, args ...any) {
	c.t.Helper()
	c.ok(c.ExchangeDeclare(&wire.ExchangeDeclare{Exchange: name, Type: kind, Arguments: table(args...)}))
}

func (c *client) bind(queue, exchange, key string, args ...any) {
	c.t.Helper()
	c.ok(c.QueueBind(&wire.QueueBind{Queue: queue, Exchange: exchange, RoutingKey: key, Arguments: table(args...)}))
}

func (c *client) publish(exchange, key, body string, p ...wire.Properties) {
	c.t.Helper()
	c.ok(c.Publish(&wire.BasicPublish{Exchange: exchange, RoutingKey: key}, raw(p...), []byte(body)))
}

func (c *client) consume(queue, tag string, args ...any) {
	c.t.Helper()
	c.ok(c.Consume(&wire.BasicConsume{Queue: queue, ConsumerTag: tag, Arguments: table(args...)}, func(string) {}))
}

func (c *client) qos(n uint16) {
	c.t.Helper()
	c.ok(c.Qos(&wire.BasicQos{PrefetchCount: n}))
}

func (c *client) get(queue string) *engine.GetOk {
	c.t.Helper()
	var found *engine.GetOk
	c.ok(c.Get(&wire.BasicGet{Queue: queue}, func(g *engine.GetOk) { found = g }))
	return found
}

// expect fails unless what was noted since the last call is this.
func (c *client) expect(want string) {
	c.t.Helper()
	if got := c.sink.took(); got != want {
		c.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func expectException(t testing.TB, e *engine.Exception, code uint16, text string) {
	t.Helper()
	if e == nil {
		t.Fatalf("no exception, want %d %s", code, text)
	}
	if e.Code != code || e.Text != text {
		t.Errorf("got  %d %s\nwant %d %s", e.Code, e.Text, code, text)
	}
}

func table(kv ...any) wire.Table {
	var t wire.Table
	for i := 0; i < len(kv); i += 2 {
		t = append(t, wire.Field{Key: kv[i].(string), Value: kv[i+1]})
	}
	return t
}

func raw(ps ...wire.Properties) []byte {
	var p wire.Properties
	if len(ps) > 0 {
		p = ps[0]
	}
	p.Mark()
	return p.Append(nil)
}

func headers(t testing.TB, raw []byte) wire.Table {
	t.Helper()
	p, err := wire.ParseProperties(raw)
	if err != nil {
		t.Fatal(err)
	}
	return p.Headers
}

func ready(t testing.TB, b *engine.Broker, queue string) int {
	t.Helper()
	q, ok := b.Queue("/", queue)
	if !ok {
		t.Fatalf("no queue %s", queue)
	}
	return q.Ready
}
