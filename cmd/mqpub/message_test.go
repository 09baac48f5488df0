package main

import (
	"reflect"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/pflag"

	"github.com/mqkit/mqkit/producer"
)

func template(t *testing.T, args ...string) producer.Message {
	t.Helper()
	var f messageFlags
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	m, err := f.template()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestHeadersHaveTheTypeThatWasAskedFor(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]any{
		"n=5":                            "5",
		"n=":                             "",
		"n=a=b":                          "a=b",
		"n:string=x":                     "x",
		"n:bool=true":                    true,
		"n:int8=-128":                    int8(-128),
		"n:int16=7":                      int16(7),
		"n:int32=-5":                     int32(-5),
		"n:int64=9007199254740993":       int64(9007199254740993),
		"n:int=7":                        int64(7),
		"n:uint8=255":                    uint8(255),
		"n:uint16=7":                     uint16(7),
		"n:uint32=4294967295":            uint32(4294967295),
		"n:float32=0.5":                  float32(0.5),
		"n:float64=0.1":                  0.1,
		"n:float=1e3":                    1000.0,
		"n:time=2026-01-02T03:04:05Z":    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"n:bytes=AAH/":                   []byte{0, 1, 255},
		"n:null=":                        nil,
		`n:json={"a":[1,{"$int8":2}]}`:   amqp.Table{"a": []any{int64(1), int8(2)}},
		`n:json={"$decimal":[2,1234]}`:   amqp.Decimal{Scale: 2, Value: 1234},
		"n:json=9007199254740993":        int64(9007199254740993),
		"cloudEvents:id:string=a:b":      "a:b",
		"n:json=\"a string with = in\"":  "a string with = in",
		"n:json=18446744073709551615e-1": 1844674407370955161.5,
	} {
		m := template(t, "-H", arg)
		name := "n"
		if arg[0] == 'c' {
			name = "cloudEvents:id"
		}
		if got, ok := m.Headers[name]; !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("-H %s is %#v, want %#v", arg, m.Headers, want)
		}
	}
	if _, _, err := parseHeader("n:json={"); err == nil || err.Error() != "expected JSON: unexpected EOF" {
		t.Errorf("-H n:json={ says %v", err)
	}
	for _, arg := range []string{
		"n", "=x", ":int32=5", "n:int8=128", "n:uint8=-1", "n:uint32=4294967296", "n:bool=yes", "n:float32=1e60",
		"n:bytes=_", "n:time=now", "n:time=1969-12-31T23:59:59Z", "n:null=x", "n:json={", "n:json=18446744073709551615", "n:uint64=1", "n:=x",
	} {
		if name, v, err := parseHeader(arg); err == nil {
			t.Errorf("-H %s is taken as %q %#v", arg, name, v)
		}
	}
}

func TestEveryPropertyCanBeSet(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := producer.Message{
		Headers: amqp.Table{"a": "1", "b": int64(2)}, ContentType: "ct", ContentEncoding: "ce", CorrelationID: "c", ReplyTo: "r",
		MessageID: "m", Expiration: "1500", Priority: 7, Timestamp: at, Type: "t", UserID: "u", AppID: "x",
		Transient: true, AllowUnroutable: true,
	}
	named := template(t, "-H", "a=1", "-H", "b:int=2", "--content-type", "ct", "-p", "content_encoding=ce", "--correlation-id", "c",
		"--reply-to", "r", "--message-id", "m", "--ttl", "1.5s", "--priority", "7", "-p", "timestamp=2026-01-02T03:04:05Z",
		"--type", "t", "-p", "user_id=u", "--app-id", "x", "--transient", "--allow-unroutable")
	if !reflect.DeepEqual(named, want) {
		t.Errorf("got %+v\nwant %+v", named, want)
	}
	generic := template(t, "-H", "a=1", "-H", "b:int=2", "-p", "content_type=ct", "-p", "content_encoding=ce", "-p", "correlation_id=c",
		"-p", "reply_to=r", "-p", "message_id=m", "-p", "expiration=1500", "-p", "priority=7", "-p", "timestamp=2026-01-02T03:04:05Z",
		"-p", "type=t", "-p", "user_id=u", "-p", "app_id=x", "-p", "delivery_mode=1", "--allow-unroutable")
	if !reflect.DeepEqual(generic, want) {
		t.Errorf("got %+v\nwant %+v", generic, want)
	}
	plain := template(t)
	if plain.Transient || plain.AllowUnroutable || plain.Headers != nil {
		t.Errorf("by default %+v", plain)
	}
}
