package conformance

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/mqkit/mqkit/internal/wire"
)

// renderMethod shows a method with the fields that are not zero.
func renderMethod(m wire.Method) string {
	var b strings.Builder
	b.WriteString(m.ID().String())
	renderFields(&b, reflect.ValueOf(m).Elem())
	return b.String()
}

func renderFields(b *strings.Builder, v reflect.Value) {
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		if f.IsZero() || !field.IsExported() || field.Type == reflect.TypeFor[wire.Flag]() {
			continue
		}
		b.WriteString(" " + dashed(field.Name))
		if f.Kind() != reflect.Bool {
			b.WriteString("=" + renderWire(f.Interface()))
		}
	}
}

// dashed is a field's name as the specification writes it.
func dashed(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// renderWire shows a value; numbers of methods and properties without a type.
func renderWire(v any) string {
	switch v := v.(type) {
	case string:
		return renderText(v)
	case wire.Table:
		return renderWireTable(v)
	case wire.Timestamp:
		return fmt.Sprint(uint64(v))
	default:
		return fmt.Sprint(v)
	}
}

// renderWireTable shows a table in the order of the wire.
func renderWireTable(t wire.Table) string {
	each := make([]string, len(t))
	for i, f := range t {
		each[i] = f.Key + "=" + renderWireField(f.Value)
		if _, ok := t.Get("reason"); ok && f.Key == "time" {
			each[i] = "time=time:(now)" // of an x-death entry
		}
	}
	return "{" + strings.Join(each, " ") + "}"
}

func renderWireField(v any) string {
	switch v := v.(type) {
	case nil:
		return "void"
	case string:
		return renderText(v)
	case []byte:
		return fmt.Sprintf("bytes:%x", v)
	case wire.Table:
		return renderWireTable(v)
	case wire.Array:
		each := make([]string, len(v))
		for i := range v {
			each[i] = renderWireField(v[i])
		}
		return "[" + strings.Join(each, " ") + "]"
	case wire.Timestamp:
		return fmt.Sprintf("time:%d", uint64(v))
	case wire.Decimal:
		return fmt.Sprintf("decimal:%d/%d", v.Value, v.Scale)
	default:
		return fmt.Sprintf("%T:%v", v, v)
	}
}

// renderRawProperties lists the properties that are present, also if empty.
func renderRawProperties(raw []byte) string {
	p, err := wire.ParseProperties(raw)
	if err != nil {
		return fmt.Sprintf(" properties %q", raw)
	}
	var b strings.Builder
	v := reflect.ValueOf(p)
	at := 0
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() || field.Type == reflect.TypeFor[wire.Flag]() {
			continue
		}
		if p.Has(wire.FlagContentType >> at) {
			b.WriteString(" " + dashed(field.Name) + "=" + renderWire(v.Field(i).Interface()))
		}
		at++
	}
	return b.String()
}
