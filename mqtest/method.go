package mqtest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// Method is an AMQP method for [Answer]. Names are those of the specification:
//
//	Method{Name: "queue.declare-ok", Fields: map[string]any{"queue": "q", "message-count": 7}}
type Method struct {
	Name   string
	Fields map[string]any // those left out are zero

	// Of a method with content (basic.return, basic.deliver, basic.get-ok).

	Body    []byte   // Defaults to Message's
	Message *Message // its properties; see Event.Message. Defaults to none
}

// frames writes the method. It panics if that cannot be done; see [Answer].
func (m Method) frames(channel uint16) []byte {
	id, ok := methodIDs()[m.Name]
	if !ok {
		panic(fmt.Sprintf("mqtest: there is no method %q", m.Name))
	}
	method := wire.New(id)
	into := reflect.ValueOf(method).Elem()
	for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
		field := into.FieldByName(goName(name))
		value := reflect.ValueOf(m.Fields[name])
		if table, ok := m.Fields[name].(map[string]any); ok {
			value = reflect.ValueOf(tableOf(table))
		}
		if !field.IsValid() || !value.IsValid() || !value.CanConvert(field.Type()) ||
			(field.Kind() == reflect.String) != (value.Kind() == reflect.String) {
			panic(fmt.Sprintf("mqtest: %s has no field %q that could be %#v", m.Name, name, m.Fields[name]))
		}
		field.Set(value.Convert(field.Type()))
	}
	if id.HasContent() {
		properties, body := []byte{0, 0}, m.Body
		if m.Message != nil {
			properties = m.Message.properties()
			if body == nil {
				body = m.Message.Body
			}
		}
		return wire.AppendContent(nil, channel, method, properties, body, minFrameMax)
	}
	return wire.AppendMethod(nil, channel, method)
}

// minFrameMax is a frame size that every client takes.
const minFrameMax = 4096

// plain turns a value of a field table into one of Go's own types.
func plain(v any) any {
	switch v := v.(type) {
	case wire.Table:
		m := make(map[string]any, len(v))
		for _, f := range v {
			m[f.Key] = plain(f.Value)
		}
		return m
	case wire.Array:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = plain(x)
		}
		return list
	case wire.Timestamp:
		return time.Unix(int64(v), 0).UTC()
	case wire.Decimal:
		return fmt.Sprintf("%de-%d", v.Value, v.Scale)
	}
	return v
}

// tableOf is plain's inverse, sorted by key.
func tableOf(m map[string]any) wire.Table {
	t := make(wire.Table, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		t = append(t, wire.Field{Key: key, Value: unplain(m[key])})
	}
	return t
}

func unplain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return tableOf(v)
	case []any:
		list := make(wire.Array, len(v))
		for i, x := range v {
			list[i] = unplain(x)
		}
		return list
	case []string:
		list := make(wire.Array, len(v))
		for i, x := range v {
			list[i] = x
		}
		return list
	case time.Time:
		return wire.Timestamp(v.Unix())
	case int:
		return int64(v)
	}
	return v
}
