package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// Table is a field table. Its order, its types and keys that occur twice are kept;
// the same bytes come out as went in, but for 'L' (written as 'l', which is how
// RabbitMQ reads it) and a true that was not 1. An empty table is nil when read.
//
// Its values, and those of an [Array], are of these types and no others:
//
//	bool        t      uint32     i      string     S
//	int8        b      int64      l      []byte     x
//	uint8       B      float32    f      Array      A
//	int16       s      float64    d      Timestamp  T
//	uint16      u      Decimal    D      Table      F
//	int32       I                        nil        V
type Table []Field

// Field is one entry of a [Table]. The key is a short string.
type Field struct {
	Key   string
	Value any
}

// Array is an array in a field table, of the same values.
type Array []any

// Decimal is Value / 10^Scale.
type Decimal struct {
	Scale uint8
	Value uint32
}

// Timestamp is in seconds since 1970.
type Timestamp uint64

// Time returns the time in UTC.
func (t Timestamp) Time() time.Time { return time.Unix(int64(t), 0).UTC() }

// Get returns the value of the first field of that key.
func (t Table) Get(key string) (any, bool) {
	for i := range t {
		if t[i].Key == key {
			return t[i].Value, true
		}
	}
	return nil, false
}

// Set replaces the value of the first field of that key, or adds one at the end.
func (t *Table) Set(key string, value any) {
	for i := range *t {
		if (*t)[i].Key == key {
			(*t)[i].Value = value
			return
		}
	}
	*t = append(*t, Field{key, value})
}

// Delete removes all fields of that key, in place.
func (t *Table) Delete(key string) {
	*t = slices.DeleteFunc(*t, func(f Field) bool { return f.Key == key })
}

// ParseTable reads a table that makes up the whole of raw, its length in front. The
// error is a *[FrameError].
func ParseTable(raw []byte) (Table, error) {
	d := newDecoder(raw)
	t := d.table(1)
	if !d.complete() {
		return nil, cannotDecode(raw)
	}
	if d.fault != nil {
		return nil, d.fault
	}
	return t, nil
}

// AppendTable appends a table with its length in front. It panics if [CheckTable]
// finds fault with the table.
func AppendTable(dst []byte, t Table) []byte { return appendTable(dst, t, 1) }

// CheckTable tells what keeps a table from being written: a key of more than 255
// bytes, a value of a type that [Table] does not list, a number that is none or
// infinite (which RabbitMQ cannot read), more levels than [MaxDepth].
func CheckTable(t Table) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case unwritable:
			err = r
		default:
			panic(r)
		}
	}()
	AppendTable(nil, t)
	return nil
}

// fields reads a table's entries up to the end of what is being read.
func (d *decoder) fields(depth int) Table {
	d.descend(depth)
	var t Table
	for d.off < d.end && !d.broken {
		key := d.anyShortString()
		t = append(t, Field{key, d.value(depth)})
	}
	return t
}

func (d *decoder) array(depth int) Array {
	n := d.size()
	outer := d.end
	d.end = d.off + n
	d.descend(depth)
	var a Array
	for d.off < d.end && !d.broken {
		a = append(a, d.value(depth))
	}
	d.end = outer
	return a
}

func (d *decoder) descend(depth int) { d.broken = d.broken || depth > MaxDepth }

func (d *decoder) value(depth int) any {
	switch d.octet() {
	case 't':
		return d.octet() != 0
	case 'b':
		return int8(d.octet())
	case 'B':
		return d.octet()
	case 's':
		return int16(d.short())
	case 'u':
		return d.short()
	case 'I':
		return int32(d.long())
	case 'i':
		return d.long()
	case 'l', 'L':
		return int64(d.longlong())
	case 'f':
		f := math.Float32frombits(d.long())
		d.broken = d.broken || !finite(float64(f))
		return f
	case 'd':
		f := math.Float64frombits(d.longlong())
		d.broken = d.broken || !finite(f)
		return f
	case 'D':
		return Decimal{Scale: d.octet(), Value: d.long()}
	case 'S':
		return d.longString()
	case 'x':
		return append([]byte{}, d.take(d.size())...)
	case 'A':
		return d.array(depth + 1)
	case 'T':
		return Timestamp(d.longlong())
	case 'F':
		return d.table(depth + 1)
	case 'V':
		return nil
	}
	d.broken = true
	return nil
}

// finite tells numbers from what Erlang has no number for.
func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func appendTable(b []byte, t Table, depth int) []byte {
	checkDepth(depth)
	b, start := beginSize(b)
	for i := range t {
		b = appendShortString(b, t[i].Key)
		b = appendValue(b, t[i].Value, depth)
	}
	return endSize(b, start)
}

func appendArray(b []byte, a Array, depth int) []byte {
	checkDepth(depth)
	b, start := beginSize(b)
	for _, v := range a {
		b = appendValue(b, v, depth)
	}
	return endSize(b, start)
}

func appendValue(b []byte, value any, depth int) []byte {
	be := binary.BigEndian
	switch v := value.(type) {
	case bool:
		return appendBits(append(b, 't'), v)
	case int8:
		return append(b, 'b', byte(v))
	case uint8:
		return append(b, 'B', v)
	case int16:
		return be.AppendUint16(append(b, 's'), uint16(v))
	case uint16:
		return be.AppendUint16(append(b, 'u'), v)
	case int32:
		return be.AppendUint32(append(b, 'I'), uint32(v))
	case uint32:
		return be.AppendUint32(append(b, 'i'), v)
	case int64:
		return be.AppendUint64(append(b, 'l'), uint64(v))
	case float32:
		checkFinite(float64(v))
		return be.AppendUint32(append(b, 'f'), math.Float32bits(v))
	case float64:
		checkFinite(v)
		return be.AppendUint64(append(b, 'd'), math.Float64bits(v))
	case Decimal:
		return be.AppendUint32(append(b, 'D', v.Scale), v.Value)
	case string:
		return appendLongString(append(b, 'S'), v)
	case []byte:
		return appendLongString(append(b, 'x'), v)
	case Array:
		return appendArray(append(b, 'A'), v, depth+1)
	case Timestamp:
		return be.AppendUint64(append(b, 'T'), uint64(v))
	case Table:
		return appendTable(append(b, 'F'), v, depth+1)
	case nil:
		return append(b, 'V')
	}
	panic(unwritable(fmt.Sprintf("a %T in a table", value)))
}

func checkFinite(f float64) {
	if !finite(f) {
		panic(unwritable(fmt.Sprintf("%v in a table", f)))
	}
}

func checkDepth(depth int) {
	if depth > MaxDepth {
		panic(unwritable(fmt.Sprintf("a table of more than %d levels", MaxDepth)))
	}
}

// beginSize leaves room for a length, which endSize fills in.
func beginSize(b []byte) (grown []byte, start int) {
	return append(b, 0, 0, 0, 0), len(b) + 4
}

func endSize(b []byte, start int) []byte {
	if uint64(len(b)-start) > math.MaxUint32 {
		panic(unwritable(fmt.Sprintf("%d bytes with a length of 32 bits", len(b)-start)))
	}
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b
}
