package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/pflag"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/internal/record"
	"github.com/mqkit/mqkit/internal/sendable"
	"github.com/mqkit/mqkit/producer"
)

// messageFlags say what every message of a run carries besides its body.
type messageFlags struct {
	headers         []string
	properties      []string
	named           map[string]*string
	priority        uint8
	ttl             time.Duration
	transient       bool
	allowUnroutable bool
}

func (f *messageFlags) register(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&f.headers, "header", "H", nil, "`NAME=VALUE`, or NAME:TYPE=VALUE with bool, int8 to int64, uint8 to uint32, float32, float64, time, bytes (base64), null or json; repeatable")
	fs.StringArrayVarP(&f.properties, "property", "p", nil, "`NAME=VALUE`: any property, such as content_encoding or timestamp; repeatable")
	f.named = map[string]*string{}
	for _, p := range []struct{ flag, property, usage string }{
		{"content-type", "content_type", "content `TYPE`, such as application/json"},
		{"message-id", "message_id", "message `ID` (default a UUID for each message)"},
		{"correlation-id", "correlation_id", "correlation `ID`"},
		{"reply-to", "reply_to", "`QUEUE` for replies"},
		{"type", "type", "message `TYPE`"},
		{"app-id", "app_id", "application `ID`"},
	} {
		f.named[p.property] = fs.String(p.flag, "", p.usage)
	}
	fs.Uint8Var(&f.priority, "priority", 0, "priority `N`, 1 to 255; 0 for none")
	fs.DurationVar(&f.ttl, "ttl", 0, "how long a message may wait in its queue; 0 for any time")
	fs.BoolVar(&f.transient, "transient", false, "do not keep the messages over a restart of the broker")
	fs.BoolVar(&f.allowUnroutable, "allow-unroutable", false, "count a message as published that no queue took")
}

// longestTTL is as many milliseconds as the producer takes.
const longestTTL = time.Duration(sendable.MaxExpiration) * time.Millisecond

// template is the message without its body.
func (f *messageFlags) template() (producer.Message, error) {
	r := record.Record{}
	for _, h := range f.headers {
		name, value, err := parseHeader(h)
		if err != nil {
			return producer.Message{}, cli.Usagef("-H %s: %w", h, err)
		}
		if r.Headers == nil {
			r.Headers = amqp.Table{}
		}
		r.Headers[name] = value
	}
	for _, p := range f.properties {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return producer.Message{}, cli.Usagef("-p: expected NAME=VALUE")
		}
		if err := r.Properties.Set(name, value); err != nil {
			return producer.Message{}, cli.Usagef("-p %s: %w", name, err)
		}
	}
	for name, value := range f.named {
		if *value == "" {
			continue
		}
		if err := r.Properties.Set(name, *value); err != nil {
			return producer.Message{}, cli.Usagef("--%s %w", strings.ReplaceAll(name, "_", "-"), err)
		}
	}
	if f.priority != 0 {
		r.Properties.Priority = f.priority
	}
	switch {
	case f.ttl < 0:
		return producer.Message{}, cli.Usagef("--ttl must not be negative")
	case f.ttl > longestTTL:
		return producer.Message{}, cli.Usagef("--ttl must be at most %v", longestTTL)
	case f.ttl > 0:
		r.Properties.Expiration = producer.TTL(f.ttl)
	}
	m := r.Message()
	m.Transient = f.transient || r.Properties.DeliveryMode == amqp.Transient
	m.AllowUnroutable = f.allowUnroutable
	return m, nil
}

// parseHeader reads NAME=VALUE or NAME:TYPE=VALUE.
func parseHeader(s string) (name string, value any, err error) {
	name, text, ok := strings.Cut(s, "=")
	if !ok {
		return "", nil, errors.New("expected NAME=VALUE or NAME:TYPE=VALUE")
	}
	kind := "string"
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name, kind = name[:i], name[i+1:]
	}
	if name == "" {
		return "", nil, errors.New("the name is missing")
	}
	if value, err = parseValue(kind, text); err == nil {
		_, _, err = sendable.Table(amqp.Table{name: value}, "")
	}
	return name, value, err
}

func parseValue(kind, text string) (any, error) {
	switch kind {
	case "string":
		return text, nil
	case "bool":
		b, err := strconv.ParseBool(text)
		return b, expect(err, "true or false")
	case "int8":
		n, err := strconv.ParseInt(text, 10, 8)
		return int8(n), expect(err, "an integer of 8 bits")
	case "int16":
		n, err := strconv.ParseInt(text, 10, 16)
		return int16(n), expect(err, "an integer of 16 bits")
	case "int32":
		n, err := strconv.ParseInt(text, 10, 32)
		return int32(n), expect(err, "an integer of 32 bits")
	case "int", "int64":
		n, err := strconv.ParseInt(text, 10, 64)
		return n, expect(err, "an integer of 64 bits")
	case "uint8":
		n, err := strconv.ParseUint(text, 10, 8)
		return uint8(n), expect(err, "an integer from 0 to 255")
	case "uint16":
		n, err := strconv.ParseUint(text, 10, 16)
		return uint16(n), expect(err, "an integer from 0 to 65535")
	case "uint32":
		n, err := strconv.ParseUint(text, 10, 32)
		return uint32(n), expect(err, "an integer from 0 to 4294967295")
	case "float32":
		f, err := strconv.ParseFloat(text, 32)
		return float32(f), expectFloat(err, kind)
	case "float", "float64":
		f, err := strconv.ParseFloat(text, 64)
		return f, expectFloat(err, "float64")
	case "time":
		t, err := time.Parse(time.RFC3339, text)
		return t, expect(err, "a time such as 2026-01-02T03:04:05Z")
	case "bytes":
		b, err := base64.StdEncoding.DecodeString(text)
		return b, expect(err, "base64")
	case "null":
		if text != "" {
			return nil, errors.New("null has no value: write NAME:null=")
		}
		return nil, nil
	case "json":
		v, err := record.ParseValue([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("expected JSON: %w", err)
		}
		return v, nil
	default:
		return nil, fmt.Errorf("there is no type %q; where the colon is part of the name, add :string to it", kind)
	}
}

func expect(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("expected %s", what)
}

func expectFloat(err error, kind string) error {
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("out of the range of %s", kind)
	}
	return expect(err, "a number")
}
