package integration_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// What other clients publish, and what they get of ours: python3-pika and
// amqp-tools, as Debian packages them.

// lacking skips a test that lacks a program, or fails it where nothing may be
// left out.
func lacking(t *testing.T, what, install string) {
	t.Helper()
	if os.Getenv("MQKIT_REQUIRE_BROKER") == "1" {
		t.Fatalf("needs %s: apt-get install %s", what, install)
	}
	t.Skipf("needs %s (Debian: %s)", what, install)
}

// python returns an interpreter that has pika.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("MQKIT_PYTHON"), "/usr/bin/python3", "python3"} {
		if name == "" {
			continue
		}
		if exec.CommandContext(t.Context(), name, "-c", "import pika").Run() == nil {
			return name
		}
	}
	lacking(t, "python3 with pika", "python3-pika")
	panic("unreachable")
}

// pika runs a script, which finds the broker in URL and its input in stdin.
func pika(t *testing.T, brokerURL, script string, input any) (stdout []byte) {
	t.Helper()
	in, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	return foreign(t, brokerURL, in, python(t), "-c", `
import base64, datetime, json, os, pika, sys
URL = pika.URLParameters(os.environ['AMQP_URL'])
INPUT = json.load(sys.stdin)
`+script)
}

// foreign runs another client's program to its end.
func foreign(t *testing.T, brokerURL string, stdin []byte, name string, args ...string) (stdout []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "AMQP_URL="+brokerURL)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, &stderr)
	}
	return out
}

// amqpTool runs one of amqp-tools. They read the URL's path as it is written, and
// ours ends in "/", which is the virtual host with an empty name to them.
func amqpTool(t *testing.T, brokerURL string, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		lacking(t, name, "amqp-tools")
	}
	u, err := url.Parse(brokerURL)
	if err != nil {
		t.Fatal(err)
	}
	if u.Path == "" || u.Path == "/" {
		brokerURL = strings.TrimSuffix(brokerURL, "/") + "/%2f"
	}
	return foreign(t, brokerURL, stdin, name, append([]string{"--url", brokerURL}, args...)...)
}

// foreignQueue is a quorum queue for one test, with a pool that has it in its
// topology.
func foreignQueue(t *testing.T) (brokerURL, queue string, p *producer.Producer, next func() *consumer.Delivery) {
	t.Helper()
	brokerURL, queue = sharedNode(t).URL(), uniqueName(t)
	pool, _ := open(t, quorum(queue, brokerURL))
	t.Cleanup(func() {
		_, ch := dial(t, brokerURL)
		if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
			t.Error(err)
		}
	})
	next = func() *consumer.Delivery {
		t.Helper()
		got := make(chan *consumer.Delivery, 1)
		c := consume(t, pool, consumer.Config{Queue: queue, Prefetch: 1}, func(_ context.Context, d *consumer.Delivery) error {
			select {
			case got <- d:
				return nil
			default:
				return consumer.Release(nil) // for the next call
			}
		})
		defer c.stop()
		select {
		case d := <-got:
			return d
		case <-time.After(patience):
			t.Fatal("no message")
			return nil
		}
	}
	return brokerURL, queue, newProducer(t, pool, producer.Config{}), next
}

// awkward is a body that is neither text nor free of NUL.
var awkward = []byte("gr\xc3\xbc\xc3\x9fe\x00\xff\r\n")

func TestPikasMessagesReachOurConsumer(t *testing.T) {
	t.Parallel()
	brokerURL, queue, _, next := foreignQueue(t)
	pika(t, brokerURL, `
connection = pika.BlockingConnection(URL)
channel = connection.channel()
channel.confirm_delivery()
channel.basic_publish('', INPUT['queue'], base64.b64decode(INPUT['body']), mandatory=True, properties=pika.BasicProperties(
    content_type='application/x-awkward', content_encoding='identity', delivery_mode=2, priority=3,
    correlation_id='correlation', reply_to='reply', expiration='600000', message_id='message',
    timestamp=1700000000, type='type', app_id='app',
    headers={'text': 'grüße', 'yes': True, 'int': 7, 'long': 1 << 40, 'negative': -1, 'bytes': b'\0', 'none': None,
             'when': datetime.datetime(2026, 1, 2), 'list': [1, 'two'], 'table': {'deep': {'er': 'x'}}}))
connection.close()
`, map[string]any{"queue": queue, "body": awkward})

	d := next()
	want := consumer.Delivery{
		Body: awkward,
		Headers: amqp.Table{
			"text": "grüße", "yes": true, "int": int32(7), "long": int64(1 << 40), "negative": int32(-1), "bytes": []byte{0}, "none": nil,
			"when": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), "list": []any{int32(1), "two"}, "table": amqp.Table{"deep": amqp.Table{"er": "x"}},
		},
		RoutingKey: queue, Queue: queue, Tag: d.Tag, ConsumerTag: d.ConsumerTag,
		ContentType: "application/x-awkward", ContentEncoding: "identity", CorrelationID: "correlation", ReplyTo: "reply",
		MessageID: "message", Expiration: "600000", Priority: 3, Timestamp: time.Unix(1700000000, 0), Type: "type", AppID: "app",
	}
	got := visible(d)
	got.Timestamp = got.Timestamp.In(want.Timestamp.Location())
	if when, ok := got.Headers["when"].(time.Time); ok {
		got.Headers["when"] = when.UTC()
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// visible is a copy of the exported fields.
func visible(d *consumer.Delivery) consumer.Delivery {
	var c consumer.Delivery
	from, to := reflect.ValueOf(d).Elem(), reflect.ValueOf(&c).Elem()
	for i := range from.NumField() {
		if from.Type().Field(i).IsExported() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return c
}

func TestPikasBareMessageIsTransientAndHasNoId(t *testing.T) {
	t.Parallel()
	brokerURL, queue, _, next := foreignQueue(t)
	pika(t, brokerURL, `
connection = pika.BlockingConnection(URL)
connection.channel().basic_publish(exchange='', routing_key=INPUT['queue'], body='Hello, World!')
connection.close()
`, map[string]any{"queue": queue})
	if d := next(); string(d.Body) != "Hello, World!" || !d.Transient || d.MessageID != "" || d.ContentType != "" || d.Headers != nil {
		t.Errorf("got %+v", visible(d))
	}
}

func TestOurMessagesReachPika(t *testing.T) {
	t.Parallel()
	brokerURL, queue, p, _ := foreignQueue(t)
	m := producer.Message{
		Body: awkward,
		// No float64 and no uint8: pika 1.2 reads 1.5 as 1, and 200 as -56.
		Headers: amqp.Table{
			"text": "grüße", "yes": true, "int": 7, "long": int64(1 << 40), "int32": int32(-7), "none": nil,
			"list": []any{int64(1), "two"}, "table": amqp.Table{"deep": amqp.Table{"er": "x"}},
		},
		ContentType: "application/x-awkward", ContentEncoding: "identity", CorrelationID: "correlation", ReplyTo: "reply",
		MessageID: "message", Expiration: producer.TTL(10 * time.Minute), Timestamp: time.Unix(1700000000, 0), Type: "type", AppID: "app",
		Priority: 9, // first out of a queue that knows priorities
	}
	if err := p.Publish(t.Context(), m.ToQueue(queue)); err != nil {
		t.Fatal(err)
	}
	transient := producer.Text("short-lived").ToQueue(queue)
	transient.Transient = true
	if err := p.Publish(t.Context(), transient); err != nil {
		t.Fatal(err)
	}
	out := pika(t, brokerURL, `
connection = pika.BlockingConnection(URL)
channel = connection.channel()
channel.basic_qos(prefetch_count=1)
messages = []
for method, properties, body in channel.consume(INPUT['queue'], inactivity_timeout=30):
    if method is None:
        sys.exit('no message')
    m = {k: v for k, v in vars(properties).items() if v is not None}
    m['body'] = base64.b64encode(body).decode()
    m['key'] = method.routing_key
    messages.append(m)
    channel.basic_ack(method.delivery_tag)
    if len(messages) == 2:
        break
channel.cancel()
connection.close()
json.dump(messages, sys.stdout)
`, map[string]any{"queue": queue})

	var got []map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if id, _ := got[1]["message_id"].(string); len(id) != 36 {
		t.Errorf("message id %q, want a UUID", id)
	}
	delete(got[1], "message_id")
	want := []map[string]any{
		{
			"body": base64.StdEncoding.EncodeToString(awkward), "key": queue,
			"headers": map[string]any{
				"text": "grüße", "yes": true, "int": 7.0, "long": float64(1 << 40), "int32": -7.0, "none": nil,
				"list": []any{1.0, "two"}, "table": map[string]any{"deep": map[string]any{"er": "x"}},
			},
			"content_type": "application/x-awkward", "content_encoding": "identity", "delivery_mode": 2.0, "priority": 9.0,
			"correlation_id": "correlation", "reply_to": "reply", "message_id": "message", "expiration": "600000",
			"timestamp": 1700000000.0, "type": "type", "app_id": "app",
		},
		{
			"body": base64.StdEncoding.EncodeToString([]byte("short-lived")), "key": queue,
			"content_type": "text/plain; charset=utf-8", "delivery_mode": 1.0, "headers": map[string]any{},
		},
	}
	for i := range want {
		if got[i]["headers"] == nil {
			got[i]["headers"] = map[string]any{}
		}
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("got\n%v\nwant\n%v", got[i], want[i])
		}
	}
	mustHold(t, brokerURL, queue, 0)
}

func TestAmqpToolsMessagesReachOurConsumer(t *testing.T) {
	t.Parallel()
	brokerURL, queue, _, next := foreignQueue(t)
	amqpTool(t, brokerURL, nil, "amqp-publish", "--routing-key", queue, "--persistent", "--content-type", "application/json",
		"--content-encoding", "identity", "--reply-to", "reply", "--header", "source: amqp-publish", "--body", `{"id":1}`)
	d := next()
	if string(d.Body) != `{"id":1}` || d.Transient || d.ContentType != "application/json" || d.ContentEncoding != "identity" ||
		d.ReplyTo != "reply" || !reflect.DeepEqual(d.Headers, amqp.Table{"source": "amqp-publish"}) {
		t.Errorf("got %+v", visible(d))
	}

	amqpTool(t, brokerURL, awkward, "amqp-publish", "--routing-key", queue)
	if d := next(); !bytes.Equal(d.Body, awkward) || !d.Transient || d.ContentType != "" || d.Headers != nil {
		t.Errorf("got %+v", visible(d))
	}
}

func TestOurMessagesReachAmqpTools(t *testing.T) {
	t.Parallel()
	brokerURL, queue, p, _ := foreignQueue(t)
	bodies := [][]byte{[]byte("for amqp-get"), awkward, []byte("for amqp-consume")}
	for _, body := range bodies {
		m := producer.Bytes(body).ToQueue(queue)
		m.Headers = amqp.Table{"n": int64(1 << 40), "deep": amqp.Table{"er": []any{"x"}}} // they have to skip it
		if err := p.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if got := amqpTool(t, brokerURL, nil, "amqp-get", "--queue", queue); !bytes.Equal(got, bodies[0]) {
		t.Errorf("amqp-get printed %q, want %q", got, bodies[0])
	}
	want := bytes.Join(bodies[1:], nil)
	if got := amqpTool(t, brokerURL, nil, "amqp-consume", "--queue", queue, "--count", "2", "--prefetch-count", "1", "cat"); !bytes.Equal(got, want) {
		t.Errorf("amqp-consume printed %q, want %q", got, want)
	}
	mustHold(t, brokerURL, queue, 0)
}

const movingFromPika = "../docs/moving-from-pika.md"

// pikaPrograms are the two that docs/moving-from-pika.md quotes.
func pikaPrograms(t *testing.T) (doc, producer, consumer string) {
	t.Helper()
	text, err := os.ReadFile(movingFromPika)
	if err != nil {
		t.Fatal(err)
	}
	doc = string(text)
	blocks := regexp.MustCompile("(?s)```python\n(.*?)```").FindAllStringSubmatch(doc, -1)
	if len(blocks) < 2 || !strings.Contains(blocks[0][1], "def send_message") || !strings.Contains(blocks[1][1], "def consume_messages") {
		t.Fatalf("%s does not begin with the producer and the consumer", movingFromPika)
	}
	return doc, blocks[0][1], blocks[1][1]
}

// What docs/moving-from-pika.md says of pika's programs, and of ours on their
// queue, is what happens.
func TestMovingFromPikaSaysWhatHappens(t *testing.T) {
	t.Parallel()
	brokerURL := ownVhost(t)
	doc, theirProducer, theirConsumer := pikaPrograms(t)
	interpreter := python(t)
	run := func(script string) string {
		t.Helper()
		const local = "pika.ConnectionParameters('localhost')"
		if strings.Count(script, local) != 1 {
			t.Fatalf("no %s in\n%s", local, script)
		}
		script = strings.Replace(script, local, "pika.URLParameters(__import__('os').environ['AMQP_URL'])", 1)
		return string(foreign(t, brokerURL, nil, interpreter, "-c", script))
	}
	const n = 3
	for range n {
		run(theirProducer)
	}
	_, ch := dial(t, brokerURL)
	mustHold(t, brokerURL, "example_queue", n)
	if got := run(theirConsumer); got != "" {
		t.Errorf("their consumer printed %q", got)
	}
	mustHold(t, brokerURL, "example_queue", 0) // acked, and handled by nobody

	e := examples{t.TempDir()}
	build(t, filepath.Join(e.dir, "hello"), "./examples/hello/producer", "./examples/hello/consumer")
	p := e.run(t, brokerURL, 1, "hello/producer")
	if said := strings.TrimSpace(p.stderr.String()); !strings.Contains(doc, said) {
		t.Errorf("the text is not that of %s: %s", movingFromPika, said)
	}
	e.run(t, brokerURL, 1, "hello/consumer")
	if _, err := ch.QueueDelete("example_queue", false, false, false); err != nil {
		t.Fatal(err)
	}

	// Their publisher and our consumer on our queue, as the page has them.
	c := e.start(t, brokerURL, "hello/consumer")
	c.subscribed(t)
	run(strings.Replace(theirProducer, "channel.queue_declare(queue='example_queue')", "channel.queue_declare(queue='example_queue', passive=True)", 1))
	c.awaitText(t, c.stdout, "Received message: Hello, World!\n")
	c.interrupt(t)
	c.mustExit(t, 0)

	// And where the queue stays as it is: Passive.
	if _, err := ch.QueueDelete("example_queue", false, false, false); err != nil {
		t.Fatal(err)
	}
	run(theirProducer)
	pool, _ := open(t, reconnect.Config{
		URLs:     []string{brokerURL},
		Topology: topology.Topology{Queues: []topology.Queue{{Name: "example_queue", Passive: true}}},
	})
	got := make(chan string, 1)
	consume(t, pool, consumer.Config{Queue: "example_queue"}, func(_ context.Context, d *consumer.Delivery) error {
		got <- string(d.Body)
		return nil
	})
	select {
	case body := <-got:
		if body != "Hello, World!" {
			t.Errorf("got %q", body)
		}
	case <-time.After(patience):
		t.Error("no message of a queue used as it is")
	}
}
