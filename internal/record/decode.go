package record

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Parse reads one record. Keys that it does not know are passed over.
func Parse(line []byte) (Record, error) {
	decoded, err := decode(line)
	if err != nil {
		return Record{}, fmt.Errorf("not a record: %w", err)
	}
	in, ok := decoded.(map[string]any)
	if !ok {
		return Record{}, errors.New("not a record: no JSON object")
	}
	p := parser{in: in}
	if v, err := integer(in["v"], 0, math.MaxInt32); err != nil || v != version {
		return Record{}, fmt.Errorf("not a record of version %d: its v is %v", version, in["v"])
	}
	var r Record
	p.text("exchange", &r.Exchange)
	p.text("routing_key", &r.RoutingKey)
	p.text("queue", &r.Queue)
	p.flag("redelivered", &r.Redelivered)
	p.time("received_at", &r.ReceivedAt)
	p.properties(&r.Properties)
	p.headers(&r.Headers)
	p.body(&r.Body)
	return r, p.err
}

// decode reads one JSON value, with its numbers as they are written. What is no text
// is refused: encoding/json would put U+FFFD in its place.
func decode(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	switch {
	case !utf8.Valid(text):
		return nil, errors.New("is not valid UTF-8")
	case hasLoneSurrogate(text):
		return nil, errors.New("has half of a surrogate pair")
	}
	return v, nil
}

// hasLoneSurrogate looks for a \u escape, in what is JSON, that means no character:
// one half of a pair without the other.
func hasLoneSurrogate(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return false
		}
		unit := escaped(text[i:])
		text = text[i+2:]
		if !utf16.IsSurrogate(unit) {
			continue
		}
		text = text[4:]
		if utf16.DecodeRune(unit, escaped(text)) == utf8.RuneError {
			return true
		}
		text = text[6:]
	}
}

// escaped is the UTF-16 unit that text begins with as \uXXXX, -1 if it does not.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// parser reads the members of an object and keeps the first error.
type parser struct {
	in  map[string]any
	err error
}

func (p *parser) fail(name string, err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (p *parser) text(name string, to *string) {
	if v, ok := p.in[name]; ok {
		s, err := text(v)
		p.fail(name, err)
		*to = s
	}
}

func (p *parser) flag(name string, to *bool) {
	if v, ok := p.in[name]; ok {
		b, isBool := v.(bool)
		if !isBool {
			p.fail(name, errors.New("is neither true nor false"))
		}
		*to = b
	}
}

func (p *parser) number(name string, to *uint8) {
	if v, ok := p.in[name]; ok {
		n, err := integer(v, 0, math.MaxUint8)
		p.fail(name, err)
		*to = uint8(n)
	}
}

func (p *parser) time(name string, to *time.Time) {
	if v, ok := p.in[name]; ok {
		t, err := instant(v)
		p.fail(name, err)
		*to = t
	}
}

func (p *parser) properties(to *Properties) {
	v, ok := p.in["properties"]
	if !ok {
		return
	}
	members, ok := v.(map[string]any)
	if !ok {
		p.fail("properties", errors.New("is no object"))
		return
	}
	inner := parser{in: members}
	for _, t := range to.texts() {
		inner.text(t.name, t.value)
	}
	inner.number("delivery_mode", &to.DeliveryMode)
	inner.number("priority", &to.Priority)
	inner.time("timestamp", &to.Timestamp)
	p.fail("properties", inner.err)
}

func (p *parser) headers(to *amqp.Table) {
	v, ok := p.in["headers"]
	if !ok {
		return
	}
	decoded, err := value(v)
	if err != nil {
		p.fail("headers", err)
		return
	}
	t, ok := decoded.(amqp.Table)
	if !ok {
		p.fail("headers", errors.New("is no table"))
		return
	}
	if len(t) > 0 {
		*to = t
	}
}

func (p *parser) body(to *[]byte) {
	plain, isPlain := p.in["body"]
	coded, isCoded := p.in["body_base64"]
	switch {
	case isPlain && isCoded:
		p.fail("body", errors.New("is there twice, as body and as body_base64"))
	case isPlain:
		s, ok := plain.(string)
		if !ok {
			p.fail("body", errors.New("is no string"))
		}
		*to = []byte(s)
	case isCoded:
		b, err := base64Bytes(coded)
		p.fail("body_base64", err)
		*to = b
	}
}

// value is a header field's value.
func value(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, string:
		return v, nil
	case json.Number:
		return number(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var err error
			if out[i], err = value(e); err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return out, nil
	case map[string]any:
		for k, inner := range v {
			if len(v) == 1 && strings.HasPrefix(k, "$") {
				return tagged(k, inner)
			}
		}
		return table(v, func(k string) (string, error) { return k, nil })
	default:
		return nil, fmt.Errorf("is a %T", v) // encoding/json makes no others
	}
}

func table(v any, key func(string) (string, error)) (any, error) {
	members, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("is no object")
	}
	t := make(amqp.Table, len(members))
	for k, e := range members {
		name, err := key(k)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", k, err)
		}
		if t[name], err = value(e); err != nil {
			return nil, fmt.Errorf("%q: %w", k, err)
		}
	}
	return t, nil
}

// number is a 64-bit integer, or with a point or an exponent a 64-bit float.
func number(n json.Number) (any, error) {
	s := n.String()
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, fmt.Errorf("%s does not fit into a 64-bit float", s)
		}
		return f, nil
	}
	i, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s does not fit into a signed 64-bit integer, the largest that AMQP has", s)
	}
	return i, nil
}

// tagged is {"$tag": v}.
func tagged(tag string, v any) (any, error) {
	out, err := untag(tag, v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tag, err)
	}
	return out, nil
}

func untag(tag string, v any) (any, error) {
	switch tag {
	case "$int8":
		n, err := integer(v, math.MinInt8, math.MaxInt8)
		return int8(n), err
	case "$int16":
		n, err := integer(v, math.MinInt16, math.MaxInt16)
		return int16(n), err
	case "$int32":
		n, err := integer(v, math.MinInt32, math.MaxInt32)
		return int32(n), err
	case "$uint8":
		n, err := integer(v, 0, math.MaxUint8)
		return uint8(n), err
	case "$uint16":
		n, err := integer(v, 0, math.MaxUint16)
		return uint16(n), err
	case "$uint32":
		n, err := integer(v, 0, math.MaxUint32)
		return uint32(n), err
	case "$float32":
		f, err := float(v, 32)
		return float32(f), err
	case "$float64":
		return float(v, 64)
	case "$time":
		return instant(v)
	case "$bytes":
		return base64Bytes(v)
	case "$string":
		b, err := base64Bytes(v)
		return string(b), err
	case "$decimal":
		return decimal(v)
	case "$table":
		return table(v, func(k string) (string, error) { return k, nil })
	case "$table64":
		return table(v, func(k string) (string, error) {
			b, err := base64Bytes(k)
			return string(b), err
		})
	case "$uint64":
		return nil, errors.New("AMQP 0-9-1 has no such type, use a number or a string")
	default:
		return nil, errors.New("is no type; a table of this one key is written {\"$table\":{...}}")
	}
}

func integer(v any, lowest, highest int64) (int64, error) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, errors.New("is no number")
	}
	i, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || i < lowest || i > highest {
		return 0, fmt.Errorf("%s is no integer from %d to %d", n, lowest, highest)
	}
	return i, nil
}

func float(v any, bits int) (float64, error) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		if v != "NaN" && v != "+Inf" && v != "-Inf" {
			return 0, fmt.Errorf("%q is neither NaN nor +Inf nor -Inf", v)
		}
		s = v
	default:
		return 0, errors.New("is no number")
	}
	f, err := strconv.ParseFloat(s, bits)
	if err != nil {
		return 0, fmt.Errorf("%s does not fit into %d bits", s, bits)
	}
	return f, nil
}

func decimal(v any) (amqp.Decimal, error) {
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 {
		return amqp.Decimal{}, errors.New("is not [scale, value]")
	}
	scale, err := integer(pair[0], 0, math.MaxUint8)
	if err != nil {
		return amqp.Decimal{}, fmt.Errorf("scale: %w", err)
	}
	n, err := integer(pair[1], math.MinInt32, math.MaxInt32)
	if err != nil {
		return amqp.Decimal{}, fmt.Errorf("value: %w", err)
	}
	return amqp.Decimal{Scale: uint8(scale), Value: int32(n)}, nil
}

// instant is RFC 3339, or whole seconds since 1970.
func instant(v any) (time.Time, error) {
	if s, ok := v.(string); ok {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return time.Time{}, fmt.Errorf("%q is no RFC 3339 time such as 2026-01-02T03:04:05Z", s)
		}
		return t, nil
	}
	n, err := integer(v, math.MinInt64, math.MaxInt64)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(n, 0), nil
}

// text is a string, or {"$string": base64}.
func text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case map[string]any:
		if coded, ok := v["$string"]; ok && len(v) == 1 {
			b, err := base64Bytes(coded)
			return string(b), err
		}
	}
	return "", errors.New("is no string")
}

func base64Bytes(v any) ([]byte, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errors.New("is no string of base64")
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("is no base64: %w", err)
	}
	return b, nil
}

// ParseValue reads the value of one header.
func ParseValue(text []byte) (any, error) {
	in, err := decode(text)
	if err != nil {
		return nil, err
	}
	return value(in)
}
