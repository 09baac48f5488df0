package record

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Append adds r to b as one line, with its newline. The error is about a header
// of a type that AMQP does not have.
func (r *Record) Append(b []byte) ([]byte, error) {
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, version, 10)
	b = append(b, `,"exchange":`...)
	b = appendText(b, r.Exchange)
	b = append(b, `,"routing_key":`...)
	b = appendText(b, r.RoutingKey)
	if !r.ReceivedAt.IsZero() {
		b = append(b, `,"queue":`...)
		b = appendText(b, r.Queue)
		b = append(b, `,"redelivered":`...)
		b = strconv.AppendBool(b, r.Redelivered)
		b = append(b, `,"received_at":"`...)
		b = r.ReceivedAt.UTC().AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
	}
	b = append(b, `,"properties":`...)
	b = r.Properties.append(b)
	b = append(b, `,"headers":`...)
	b, err := appendTable(b, r.Headers)
	if err != nil {
		return nil, fmt.Errorf("header %w", err)
	}
	if utf8.Valid(r.Body) {
		b = append(b, `,"body":`...)
		b = appendString(b, string(r.Body))
	} else {
		b = append(b, `,"body_base64":`...)
		b = appendBase64(b, r.Body)
	}
	return append(b, '}', '\n'), nil
}

func (p *Properties) append(b []byte) []byte {
	b = append(b, '{')
	key := func(name string) {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
	}
	for _, t := range p.texts() {
		if *t.value != "" {
			key(t.name)
			b = appendText(b, *t.value)
		}
	}
	for _, n := range []struct {
		name  string
		value uint8
	}{{"delivery_mode", p.DeliveryMode}, {"priority", p.Priority}} {
		if n.value != 0 {
			key(n.name)
			b = strconv.AppendUint(b, uint64(n.value), 10)
		}
	}
	if !p.Timestamp.IsZero() {
		key("timestamp")
		b = appendTime(b, p.Timestamp)
	}
	return append(b, '}')
}

func appendTable(b []byte, t amqp.Table) ([]byte, error) {
	keys := slices.Sorted(maps.Keys(t))
	end := "}"
	coded := appendString
	switch {
	case slices.ContainsFunc(keys, func(k string) bool { return !utf8.ValidString(k) }):
		b = append(b, `{"$table64":`...)
		end = "}}"
		coded = func(b []byte, k string) []byte { return appendBase64(b, []byte(k)) }
	case len(keys) == 1 && strings.HasPrefix(keys[0], "$"):
		b = append(b, `{"$table":`...)
		end = "}}"
	}
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(coded(b, k), ':')
		var err error
		if b, err = appendValue(b, t[k]); err != nil {
			return nil, fmt.Errorf("%q: %w", k, err)
		}
	}
	return append(b, end...), nil
}

// appendValue is a header field's value in its JSON form.
func appendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendText(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case float64:
		return appendFloat64(b, v), nil
	case float32:
		return appendFloat32(b, v), nil
	case int8:
		return appendTagged(b, "$int8", strconv.FormatInt(int64(v), 10)), nil
	case int16:
		return appendTagged(b, "$int16", strconv.FormatInt(int64(v), 10)), nil
	case int32:
		return appendTagged(b, "$int32", strconv.FormatInt(int64(v), 10)), nil
	case uint8:
		return appendTagged(b, "$uint8", strconv.FormatUint(uint64(v), 10)), nil
	case uint16:
		return appendTagged(b, "$uint16", strconv.FormatUint(uint64(v), 10)), nil
	case uint32:
		return appendTagged(b, "$uint32", strconv.FormatUint(uint64(v), 10)), nil
	case []byte:
		return append(appendBase64(append(b, `{"$bytes":`...), v), '}'), nil
	case time.Time:
		return append(appendTime(append(b, `{"$time":`...), v), '}'), nil
	case amqp.Decimal:
		return fmt.Appendf(b, `{"$decimal":[%d,%d]}`, v.Scale, v.Value), nil
	case amqp.Table:
		return appendTable(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = appendValue(b, e); err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return append(b, ']'), nil
	default:
		return nil, fmt.Errorf("a %T is no AMQP header field", v)
	}
}

func appendTagged(b []byte, tag, value string) []byte {
	return fmt.Appendf(b, `{"%s":%s}`, tag, value)
}

// appendFloat64 always writes a point, which tells a float from an integer.
func appendFloat64(b []byte, f float64) []byte {
	if name := notFinite(f); name != "" {
		return appendTagged(b, "$float64", strconv.Quote(name))
	}
	return append(b, withPoint(strconv.FormatFloat(f, 'g', -1, 64))...)
}

func appendFloat32(b []byte, f float32) []byte {
	if name := notFinite(float64(f)); name != "" {
		return appendTagged(b, "$float32", strconv.Quote(name))
	}
	return appendTagged(b, "$float32", withPoint(strconv.FormatFloat(float64(f), 'g', -1, 32)))
}

func notFinite(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "+Inf"
	case math.IsInf(f, -1):
		return "-Inf"
	default:
		return ""
	}
}

func withPoint(s string) string {
	mantissa, exponent, ok := strings.Cut(s, "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	if ok {
		return mantissa + "e" + exponent
	}
	return mantissa
}

// appendTime writes whole seconds, which is what AMQP has. RFC 3339 knows the
// years 0 to 9999.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return strconv.AppendInt(b, t.Unix(), 10)
	}
	return append(t.AppendFormat(append(b, '"'), time.RFC3339), '"')
}

// appendText is a text that AMQP does not promise to be UTF-8.
func appendText(b []byte, s string) []byte {
	if utf8.ValidString(s) {
		return appendString(b, s)
	}
	return append(appendBase64(append(b, `{"$string":`...), []byte(s)), '}')
}

func appendBase64(b, data []byte) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, data)
	return append(b, '"')
}

// appendString is a JSON string of valid UTF-8. Unlike encoding/json it leaves
// <, > and & as they are: records are read by people and by grep. They are read on
// terminals, too, so no control character stays as it is, which encoding/json
// does with DEL and U+0080 to U+009F.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c, n := s[i], 1
		switch {
		case c == 0xc2 && s[i+1] < 0xa0:
			c, n = s[i+1], 2 // U+0080 to U+009F
		case c >= ' ' && c != '"' && c != '\\' && c != 0x7f:
			continue
		}
		b = append(b, s[from:i]...)
		from = i + n
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}
