package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mqkit/mqkit/internal/wire"
)

// maxExpiry is ten years of milliseconds, RabbitMQ's limit for every duration.
const maxExpiry = 315360000000

// wireException turns what wire found wrong with a client's bytes into the
// exception for it.
func wireException(err error) *Exception {
	if fe, ok := errors.AsType[*wire.FrameError](err); ok {
		return &Exception{Code: fe.Code, Text: fe.Text, Connection: true, NoMethod: fe.Code == codeInternalError}
	}
	return NewException(codeInternalError, err.Error())
}

// erlangString writes a string as RabbitMQ's texts do, which print Erlang terms.
func erlangString(s string) string { return strconv.Quote(s) }

// erlangBinary writes a binary as an Erlang term.
func erlangBinary(s string) string { return `<<` + strconv.Quote(s) + `>>` }

// typeName is RabbitMQ's word for a field's type.
func typeName(v any) string {
	switch v.(type) {
	case bool:
		return "bool"
	case int8:
		return "byte"
	case uint8:
		return "unsignedbyte"
	case int16:
		return "short"
	case uint16:
		return "unsignedshort"
	case int32:
		return "signedint"
	case uint32:
		return "unsignedint"
	case int64:
		return "long"
	case float32:
		return "float"
	case float64:
		return "double"
	case wire.Decimal:
		return "decimal"
	case string:
		return "longstr"
	case []byte:
		return "binary"
	case wire.Array:
		return "array"
	case wire.Timestamp:
		return "timestamp"
	case wire.Table:
		return "table"
	}
	return "void"
}

// integer returns the value of any of the integer types.
func integer(v any) (int64, bool) {
	switch n := v.(type) {
	case int8:
		return int64(n), true
	case uint8:
		return int64(n), true
	case int16:
		return int64(n), true
	case uint16:
		return int64(n), true
	case int32:
		return int64(n), true
	case uint32:
		return int64(n), true
	case int64:
		return n, true
	}
	return 0, false
}

// erlangTerm writes a field's value as ~p does.
func erlangTerm(v any) string {
	if n, ok := integer(v); ok {
		return strconv.FormatInt(n, 10)
	}
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v)
	case float32:
		return erlangFloat(float64(v))
	case float64:
		return erlangFloat(v)
	case string:
		return erlangBinary(v)
	case []byte:
		return erlangBinary(string(v))
	case wire.Timestamp:
		return strconv.FormatUint(uint64(v), 10)
	case wire.Decimal:
		return fmt.Sprintf("{%d,%d}", v.Scale, v.Value)
	case wire.Array:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = "{" + typeName(x) + "," + erlangTerm(x) + "}"
		}
		return "[" + strings.Join(parts, ",") + "]"
	case wire.Table:
		parts := make([]string, len(v))
		for i, f := range v {
			parts[i] = "{" + erlangBinary(f.Key) + "," + typeName(f.Value) + "," + erlangTerm(f.Value) + "}"
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	return "undefined"
}

func erlangFloat(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if mantissa, exponent, found := strings.Cut(s, "e"); found {
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		n, err := strconv.Atoi(exponent)
		if err != nil {
			return s
		}
		return mantissa + "e" + strconv.Itoa(n)
	}
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// shown writes an argument as the texts about inequivalent ones do.
func shown(v any, present bool) string {
	if !present {
		return "none"
	}
	value := erlangTerm(v)
	switch s := v.(type) {
	case string:
		value = s
	case []byte:
		value = string(s)
	}
	return fmt.Sprintf("the value '%s' of type '%s'", value, typeName(v))
}

// normal is a field's value without its type where AMQP's types of it do not
// matter to RabbitMQ: integers are equal whatever their width.
func normal(v any) any {
	if n, ok := integer(v); ok {
		return n
	}
	switch v := v.(type) {
	case float32:
		return float64(v)
	case []byte:
		return string(v)
	case wire.Timestamp:
		return int64(v)
	}
	return v
}

// sameValue compares two fields' values as Erlang terms.
func sameValue(a, b any) bool {
	a, b = normal(a), normal(b)
	switch a := a.(type) {
	case wire.Array:
		b, ok := b.(wire.Array)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if typeName(a[i]) != typeName(b[i]) || !sameValue(a[i], b[i]) {
				return false
			}
		}
		return true
	case wire.Table:
		b, ok := b.(wire.Table)
		return ok && sameTable(a, b)
	}
	switch b.(type) {
	case wire.Array, wire.Table:
		return false
	}
	return a == b
}

func sameTable(a, b wire.Table) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Key != b[i].Key || typeName(a[i].Value) != typeName(b[i].Value) || !sameValue(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}
