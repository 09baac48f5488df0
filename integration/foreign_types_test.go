package integration_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/producer"
)

// typed teaches pika to write what is on the wire, and to read it: by itself it has no
// way to send an int8, an int16, a float or an unsigned integer, and it reads 1.5 as 1.
const typed = `
import pika.data
class Wire(bytes):
    'a value with its type octet'
encode, decode = pika.data.encode_value, pika.data.decode_value
def encode_value(pieces, value):
    if isinstance(value, Wire):
        pieces.append(bytes(value))
        return len(value)
    return encode(pieces, value)
def decode_value(encoded, offset):
    _, end = decode(encoded, offset)
    return Wire(encoded[offset:end]), end
connection = pika.BlockingConnection(URL)
channel = connection.channel()
channel.confirm_delivery()
pika.data.encode_value, pika.data.decode_value = encode_value, decode_value
`

// wired are values of every type that the driver has, as they are on the wire. In a
// table or an array there is one value: the driver writes keys in no order.
var wired = []struct {
	name  string
	value any
	wire  string
}{
	{"bool", true, "7401"},
	{"int8", int8(-8), "62f8"},
	{"uint8", uint8(200), "42c8"},
	{"int16", int16(-1600), "73f9c0"},
	{"uint16", uint16(65000), "75fde8"},
	{"int32", int32(-2), "49fffffffe"},
	{"uint32", uint32(4_000_000_000), "69ee6b2800"},
	{"int64", int64(-1 << 40), "6cffffff0000000000"},
	{"float32", float32(1.5), "663fc00000"},
	{"float64", -2.25, "64c002000000000000"},
	{"decimal", amqp.Decimal{Scale: 2, Value: 12345}, "440200003039"},
	{"string", "grü\x00", "530000000567" + "72c3bc00"},
	{"bytes", []byte{0, 0xff}, "780000000200ff"},
	{"timestamp", time.Unix(1700000000, 0), "54000000006553f100"},
	{"null", nil, "56"},
	{"table", amqp.Table{"k": amqp.Table{"deep": int8(1)}}, "460000000e" + "016b" + "4600000007" + "0464656570" + "6201"},
	{"array", []any{int16(1), amqp.Table{"k": false}, []any{nil}}, "4100000012" + "730001" + "4600000004" + "016b" + "7400" + "410000000156"},
	{"empty", amqp.Table{}, "4600000000"},
}

// everything is a message with every property and every type of header.
func everything() producer.Message {
	headers := amqp.Table{}
	for _, w := range wired {
		headers[w.name] = w.value
	}
	return producer.Message{
		Body: awkward, Headers: headers,
		ContentType: "application/x-awkward", ContentEncoding: "identity", CorrelationID: "correlation", ReplyTo: "reply",
		MessageID: "message", Expiration: producer.TTL(10 * time.Minute), Timestamp: time.Unix(1700000000, 0), Type: "type",
		UserID: "guest", AppID: "app", Priority: 9,
	}
}

// mustBeEverything tests what came of such a message.
func mustBeEverything(t *testing.T, d *consumer.Delivery) {
	t.Helper()
	m := everything()
	want := consumer.Delivery{
		Body: m.Body, Headers: m.Headers, RoutingKey: d.Queue, Queue: d.Queue, Tag: d.Tag, ConsumerTag: d.ConsumerTag, Redelivered: d.Redelivered,
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, CorrelationID: m.CorrelationID, ReplyTo: m.ReplyTo,
		MessageID: m.MessageID, Expiration: "600000", Priority: m.Priority, Timestamp: m.Timestamp, Type: m.Type, UserID: m.UserID, AppID: m.AppID,
	}
	got := visible(d)
	got.Timestamp = got.Timestamp.In(want.Timestamp.Location())
	if when, ok := got.Headers["timestamp"].(time.Time); ok {
		got.Headers["timestamp"] = when.In(want.Timestamp.Location())
	}
	for _, w := range wired {
		if !reflect.DeepEqual(got.Headers[w.name], w.value) {
			t.Errorf("%s: got %#v, want %#v", w.name, got.Headers[w.name], w.value)
		}
	}
	if len(got.Headers) != len(wired) {
		t.Errorf("the headers are %v", got.Headers)
	}
	got.Headers, want.Headers = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestEveryPropertyAndHeaderTypeOfPikaReachesUs(t *testing.T) {
	t.Parallel()
	brokerURL, queue, _, next := foreignQueue(t)
	headers := map[string]string{}
	for _, w := range wired {
		headers[w.name] = w.wire
	}
	pika(t, brokerURL, typed+`
channel.basic_publish('', INPUT['queue'], base64.b64decode(INPUT['body']), mandatory=True, properties=pika.BasicProperties(
    content_type='application/x-awkward', content_encoding='identity', delivery_mode=2, priority=9,
    correlation_id='correlation', reply_to='reply', expiration='600000', message_id='message',
    timestamp=1700000000, type='type', user_id='guest', app_id='app',
    headers={k: Wire(bytes.fromhex(v)) for k, v in INPUT['headers'].items()}))
connection.close()
`, map[string]any{"queue": queue, "body": awkward, "headers": headers})
	mustBeEverything(t, next())
}

func TestEveryPropertyAndHeaderTypeOfOursReachesPikaAndComesBack(t *testing.T) {
	t.Parallel()
	brokerURL, queue, p, next := foreignQueue(t)
	if err := p.Publish(t.Context(), everything().ToQueue(queue)); err != nil {
		t.Fatal(err)
	}
	out := pika(t, brokerURL, typed+`
method, properties, body = channel.basic_get(INPUT['queue'])
properties.headers.pop('x-delivery-count', None)  # of the broker, before 4.0
channel.basic_publish('', INPUT['queue'], body, mandatory=True, properties=properties)
channel.basic_ack(method.delivery_tag)
connection.close()
got = {k: v for k, v in vars(properties).items() if v is not None}
got['headers'] = {k: v.hex() for k, v in properties.headers.items()}
json.dump(got, sys.stdout)
`, map[string]any{"queue": queue})
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	headers, _ := got["headers"].(map[string]any)
	for _, w := range wired {
		if headers[w.name] != w.wire {
			t.Errorf("%s: pika got %v, want %s", w.name, headers[w.name], w.wire)
		}
		if _, err := hex.DecodeString(w.wire); err != nil {
			t.Fatal(err)
		}
	}
	delete(got, "headers")
	want := map[string]any{
		"content_type": "application/x-awkward", "content_encoding": "identity", "delivery_mode": 2.0, "priority": 9.0,
		"correlation_id": "correlation", "reply_to": "reply", "expiration": "600000", "message_id": "message",
		"timestamp": 1700000000.0, "type": "type", "user_id": "guest", "app_id": "app",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("pika got\n%v\nwant\n%v", got, want)
	}
	mustBeEverything(t, next())
}
