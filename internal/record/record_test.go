package record_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/record"
	"github.com/mqkit/mqkit/producer"
)

// everything has each type of header once, and texts that are not UTF-8.
func everything() record.Record {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return record.Record{
		Exchange: "events", RoutingKey: "order.\xff", Queue: "q", Redelivered: true,
		ReceivedAt: at.Add(600 * time.Millisecond),
		Properties: record.Properties{
			ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: 2, Priority: 7,
			CorrelationID: "c", ReplyTo: "r", Expiration: "60000", MessageID: "m\x00", Timestamp: at,
			Type: "t<&>", UserID: "u", AppID: "\xfe",
		},
		Headers: amqp.Table{
			"nil": nil, "true": true, "string": "a\"b\\c\n\u2028é", "bad string": "\xff\xfe",
			"int8": int8(-8), "int16": int16(-16), "int32": int32(-32), "int64": int64(9007199254740993),
			"uint8": uint8(8), "uint16": uint16(16), "uint32": uint32(math.MaxUint32),
			"lowest": int64(math.MinInt64), "float64": 0.1, "whole float64": float64(5), "huge": 1e300, "tiny": 5e-324,
			"float32": float32(0.1), "NaN": math.NaN(), "-Inf32": float32(math.Inf(-1)),
			"bytes": []byte{0, 1, 255}, "no bytes": []byte{}, "time": at, "far": time.Unix(1<<40, 0), "before": time.Unix(-1<<40, 0),
			"decimal":          amqp.Decimal{Scale: 2, Value: -1234},
			"array":            []any{int32(1), nil, amqp.Table{"x": int8(1)}, []any{}},
			"table":            amqp.Table{"a": int16(1), "b": amqp.Table{}},
			"looks like a tag": amqp.Table{"$int32": int64(5)},
			"unknown tag":      amqp.Table{"$": "x"},
			"two keys":         amqp.Table{"$int32": int64(5), "$x": nil},
			"bad keys":         amqp.Table{"\xff": int32(1), "$y": "z"},
			"$dollar":          "x",
		},
		Body: []byte("{\"id\":1}\r\n\t\x1b[0m\x7f\u0080\u009b\u00a0"),
	}
}

func TestARecordComesBackAsItWas(t *testing.T) {
	t.Parallel()
	binary := everything()
	binary.Body = []byte{0, 0xff, '\n'}
	binary.Headers = amqp.Table{"$int32": "the one key of the headers themselves"}
	badKey := everything()
	badKey.Headers = amqp.Table{"\xff": "one"}
	for _, want := range []record.Record{
		everything(), binary, badKey,
		{RoutingKey: "q", Body: []byte{}},
		{RoutingKey: "q", Body: []byte("x"), Properties: record.Properties{DeliveryMode: 1}},
	} {
		line, err := want.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(line) || bytes.Count(line, []byte("\n")) != 1 || !bytes.HasSuffix(line, []byte("\n")) {
			t.Fatalf("is not one line of JSON: %q", line)
		}
		got, err := record.Parse(line)
		if err != nil {
			t.Fatalf("%v\n%s", err, line)
		}
		if !same(got, want) {
			t.Errorf("came back as\n%#v\nand was\n%#v\nin\n%s", got, want, line)
		}
	}
}

// same is DeepEqual, but for NaN, for an empty table that is nil, and for times,
// which are the same when they mean the same moment.
func same(a, b any) bool {
	return reflect.DeepEqual(plain(reflect.ValueOf(a)), plain(reflect.ValueOf(b)))
}

// plain makes something comparable of v, in which types are kept.
func plain(v reflect.Value) any {
	if !v.IsValid() {
		return nil
	}
	if t, ok := v.Interface().(time.Time); ok {
		if t.IsZero() {
			return "no time"
		}
		return t.UTC().Format(time.RFC3339Nano) + " or " + time.Duration(t.Unix()).String()
	}
	switch v.Kind() {
	case reflect.Interface:
		return plain(v.Elem())
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			out[v.Type().Field(i).Name] = plain(v.Field(i))
		}
		return out
	case reflect.Map:
		out := map[string]any{"type": v.Type().String()}
		for _, k := range v.MapKeys() {
			out["key "+k.String()] = plain(v.MapIndex(k))
		}
		return out
	case reflect.Slice:
		out := []any{v.Type().String()}
		for i := range v.Len() {
			out = append(out, plain(v.Index(i)))
		}
		return out
	case reflect.Float32, reflect.Float64:
		if math.IsNaN(v.Float()) {
			return v.Type().String() + " NaN"
		}
		if v.Float() == 0 && math.Signbit(v.Float()) {
			return v.Type().String() + " -0"
		}
	}
	return v.Interface()
}

// The form is a promise to whoever reads records: it changes with "v" only.
func TestTheFormOfARecord(t *testing.T) {
	t.Parallel()
	r := everything()
	r.RoutingKey = "order.\xff"
	line, err := r.Append([]byte("before "))
	if err != nil {
		t.Fatal(err)
	}
	want := `before {"v":1,"exchange":"events","routing_key":{"$string":"b3JkZXIu/w=="},"queue":"q","redelivered":true,"received_at":"2026-01-02T03:04:05.6Z",` +
		`"properties":{"content_type":"text/plain","content_encoding":"gzip","correlation_id":"c","reply_to":"r","expiration":"60000","message_id":"m\u0000","type":"t<&>","user_id":"u","app_id":{"$string":"/g=="},"delivery_mode":2,"priority":7,"timestamp":"2026-01-02T03:04:05Z"},` +
		`"headers":{"$dollar":"x","-Inf32":{"$float32":"-Inf"},"NaN":{"$float64":"NaN"},"array":[{"$int32":1},null,{"x":{"$int8":1}},[]],"bad keys":{"$table64":{"JHk=":"z","/w==":{"$int32":1}}},"bad string":{"$string":"//4="},` +
		`"before":{"$time":-1099511627776},"bytes":{"$bytes":"AAH/"},"decimal":{"$decimal":[2,-1234]},"far":{"$time":1099511627776},"float32":{"$float32":0.1},"float64":0.1,"huge":1.0e+300,"int16":{"$int16":-16},"int32":{"$int32":-32},"int64":9007199254740993,"int8":{"$int8":-8},` +
		`"looks like a tag":{"$table":{"$int32":5}},"lowest":-9223372036854775808,"nil":null,"no bytes":{"$bytes":""},"string":"a\"b\\c\n` + "\u2028é" + `","table":{"a":{"$int16":1},"b":{}},"time":{"$time":"2026-01-02T03:04:05Z"},"tiny":5.0e-324,"true":true,` +
		`"two keys":{"$int32":5,"$x":null},"uint16":{"$uint16":16},"uint32":{"$uint32":4294967295},"uint8":{"$uint8":8},"unknown tag":{"$table":{"$":"x"}},"whole float64":5.0},` +
		`"body":"{\"id\":1}\r\n\t\u001b[0m\u007f\u0080\u009b` + "\u00a0" + `"}` + "\n"
	if string(line) != want {
		t.Errorf("got\n%s\nwant\n%s", line, want)
	}
	sent := record.Record{RoutingKey: "q", Body: []byte{0xff}}
	line, err = sent.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"v":1,"exchange":"","routing_key":"q","properties":{},"headers":{},"body_base64":"/w=="}` + "\n"; string(line) != want {
		t.Errorf("got\n%s\nwant\n%s", line, want)
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		``:                                      "not a record: EOF",
		`hello`:                                 "not a record: invalid character 'h'",
		`[1]`:                                   "not a record: no JSON object",
		`{"v":1} {"v":1}`:                       "not a record: more than one JSON value",
		`{"body":"x"}`:                          "not a record of version 1: its v is <nil>",
		`{"v":2}`:                               "not a record of version 1: its v is 2",
		`{"v":1,"exchange":5}`:                  "exchange: is no string",
		`{"v":1,"redelivered":"x"}`:             "redelivered: is neither true nor false",
		`{"v":1,"received_at":"x"}`:             `received_at: "x" is no RFC 3339 time`,
		`{"v":1,"body":1}`:                      "body: is no string",
		`{"v":1,"body":"","body_base64":""}`:    "body: is there twice",
		`{"v":1,"body_base64":"_"}`:             "body_base64: is no base64",
		`{"v":1,"properties":[]}`:               "properties: is no object",
		`{"v":1,"properties":{"priority":256}}`: "properties: priority: 256 is no integer from 0 to 255",
		`{"v":1,"properties":{"delivery_mode":-1}}`:    "properties: delivery_mode: -1 is no integer",
		`{"v":1,"headers":5}`:                          "headers: is no table",
		`{"v":1,"headers":{"$int32":5}}`:               "headers: is no table",
		`{"v":1,"headers":{"x":{"$int32":1.5}}}`:       `headers: "x": $int32: 1.5 is no integer from -2147483648 to 2147483647`,
		`{"v":1,"headers":{"x":18446744073709551615}}`: `headers: "x": 18446744073709551615 does not fit into a signed 64-bit integer`,
		`{"v":1,"headers":{"x":[{"$uint64":1}]}}`:      `headers: "x": [0]: $uint64: AMQP 0-9-1 has no such type`,
		`{"v":1,"headers":{"x":{"$foo":1}}}`:           `headers: "x": $foo: is no type; a table of this one key is written {"$table":{...}}`,
		`{"v":1,"headers":{"x":1e999}}`:                `headers: "x": 1e999 does not fit`,
		`{"v":1,"headers":{"x":{"$decimal":[1]}}}`:     `headers: "x": $decimal: is not [scale, value]`,
	} {
		_, err := record.Parse([]byte(line))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", line, err, want)
		}
	}
}

// encoding/json puts U+FFFD in the place of what is no text, and says nothing.
func TestWhatIsNoTextIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\"a\xff\"":                  "is not valid UTF-8",
		"{\"\xed\xa0\x80\":1}":       "is not valid UTF-8",
		`"a\ud800"`:                  "has half of a surrogate pair",
		`"a\ud800x\udc00"`:           "has half of a surrogate pair",
		`"\udc00\ud800"`:             "has half of a surrogate pair",
		`"\ud800\ud800\udc00"`:       "has half of a surrogate pair",
		`{"\uDBFF":[]}`:              "has half of a surrogate pair",
		`["\\\ud83d", "\ude42"]`:     "has half of a surrogate pair",
		`["\\ud800\n\ud83d\ude42"]`:  "",
		"[\"\ufffd🙂\", \"\\ufffd\"]": "",
	} {
		_, err := record.ParseValue([]byte(text))
		if said := fmt.Sprint(err); err == nil && want != "" || err != nil && said != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := record.Parse([]byte("{\"v\":1,\"body\":\"\xff\"}")); err == nil || err.Error() != "not a record: is not valid UTF-8" {
		t.Error(err)
	}
}

func TestParsePassesOverWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	r, err := record.Parse([]byte(`{"v":1,"routing_key":"q","new":{"$x":1},"properties":{"cluster_id":"x"},"body":"b"}`))
	if err != nil || r.RoutingKey != "q" || string(r.Body) != "b" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAppendRefusesWhatAMQPDoesNotHave(t *testing.T) {
	t.Parallel()
	r := record.Record{Headers: amqp.Table{"a": amqp.Table{"b": []any{uint64(1)}}}}
	if _, err := r.Append(nil); err == nil || err.Error() != `header "a": "b": [0]: a uint64 is no AMQP header field` {
		t.Error(err)
	}
}

func TestADeliveryBecomesAMessage(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := &consumer.Delivery{
		Body: []byte("b"), Headers: amqp.Table{"x": int32(1)}, Exchange: "e", RoutingKey: "k", Queue: "q", Redelivered: true,
		ContentType: "ct", ContentEncoding: "ce", CorrelationID: "c", ReplyTo: "r", MessageID: "m", Expiration: "5",
		Priority: 3, Timestamp: at, Type: "t", UserID: "u", AppID: "a", Transient: true,
	}
	r := record.FromDelivery(d, at)
	m := r.Message()
	want := producer.Message{
		Body: d.Body, Headers: d.Headers, Exchange: "e", RoutingKey: "k",
		ContentType: "ct", ContentEncoding: "ce", CorrelationID: "c", ReplyTo: "r", MessageID: "m", Expiration: "5",
		Priority: 3, Timestamp: at, Type: "t", UserID: "u", AppID: "a", Transient: true,
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got %+v\nwant %+v", m, want)
	}
	again := record.FromMessage(&m)
	r.Queue, r.Redelivered, r.ReceivedAt = "", false, time.Time{}
	if !reflect.DeepEqual(again, r) {
		t.Errorf("got %+v\nwant %+v", again, r)
	}
	if !r.ReceivedAt.IsZero() || r.Properties.DeliveryMode != amqp.Transient {
		t.Errorf("%+v", r)
	}
}

func TestPropertiesFromText(t *testing.T) {
	t.Parallel()
	var p record.Properties
	for name, value := range map[string]string{"content_type": "a", "priority": "9", "delivery_mode": "1", "timestamp": "2026-01-02T03:04:05Z", "app_id": "x"} {
		if err := p.Set(name, value); err != nil {
			t.Error(err)
		}
	}
	want := record.Properties{ContentType: "a", Priority: 9, DeliveryMode: 1, Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), AppID: "x"}
	if p != want {
		t.Errorf("%+v", p)
	}
	for name, value := range map[string]string{"priority": "256", "delivery_mode": "3", "timestamp": "now", "cluster_id": "x", "": ""} {
		if err := p.Set(name, value); err == nil {
			t.Errorf("%s=%s is taken", name, value)
		}
	}
}

// FuzzParse: what is taken for a record comes back the same when it is written
// and read again.
func FuzzParse(f *testing.F) {
	all := everything()
	line, err := all.Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"v":1,"headers":{"x":{"$time":-1e0}}}`))
	f.Add([]byte(`{"v":1,"headers":{"$table":{"$int8":1}},"body_base64":"AA=="}`))
	f.Add([]byte(`{"v":1,"received_at":"2026-01-02T03:04:05.123456789+02:00","properties":{"timestamp":253402300800}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := record.Parse(line)
		if err != nil {
			return
		}
		once, err := r.Append(nil)
		if err != nil {
			t.Fatalf("a parsed record cannot be written: %v", err)
		}
		again, err := record.Parse(once)
		if err != nil {
			t.Fatalf("%v\n%s", err, once)
		}
		twice, err := again.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once, twice) {
			t.Errorf("came back as\n%s\nand was\n%s", twice, once)
		}
	})
}

// FuzzRoundTrip makes headers of any type and any bytes out of data.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"), "body", "key")
	f.Add([]byte{13, 1, '$', 4, 0, 0, 0, 1}, "\xff", "\xff")
	f.Fuzz(func(t *testing.T, data []byte, body, key string) {
		g := generator{data}
		want := record.Record{RoutingKey: key, Body: []byte(body), Headers: g.table(0), Properties: record.Properties{MessageID: g.text(), Priority: g.byte()}}
		if len(want.Headers) == 0 {
			want.Headers = nil
		}
		line, err := want.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := record.Parse(line)
		if err != nil {
			t.Fatalf("%v\n%s", err, line)
		}
		if !same(got, want) {
			t.Errorf("came back as\n%#v\nand was\n%#v\nin\n%s", got, want, line)
		}
	})
}

// generator reads values out of bytes.
type generator struct{ data []byte }

func (g *generator) byte() byte {
	if len(g.data) == 0 {
		return 0
	}
	b := g.data[0]
	g.data = g.data[1:]
	return b
}

func (g *generator) number() int64 {
	var n uint64
	for range 8 {
		n = n<<8 | uint64(g.byte())
	}
	return int64(n)
}

func (g *generator) text() string {
	b := []byte{}
	for range g.byte() % 8 {
		b = append(b, g.byte())
	}
	return string(b)
}

func (g *generator) table(depth int) amqp.Table {
	t := amqp.Table{}
	for range g.byte() % 5 {
		t[g.text()] = g.value(depth + 1)
	}
	return t
}

func (g *generator) value(depth int) any {
	kind := g.byte() % 17
	if depth > 4 && kind >= 15 {
		kind = 0
	}
	switch kind {
	case 1:
		return g.byte()%2 == 0
	case 2:
		return g.text()
	case 3:
		return int8(g.byte())
	case 4:
		return int16(g.number())
	case 5:
		return int32(g.number())
	case 6:
		return g.number()
	case 7:
		return g.byte()
	case 8:
		return uint16(g.number())
	case 9:
		return uint32(g.number())
	case 10:
		return math.Float32frombits(uint32(g.number()))
	case 11:
		return math.Float64frombits(uint64(g.number()))
	case 12:
		return []byte(g.text())
	case 13:
		return time.Unix(g.number()>>8, 0)
	case 14:
		return amqp.Decimal{Scale: g.byte(), Value: int32(g.number())}
	case 15:
		a := []any{}
		for range g.byte() % 4 {
			a = append(a, g.value(depth+1))
		}
		return a
	case 16:
		return g.table(depth)
	default:
		return nil
	}
}
