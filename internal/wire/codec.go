package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// MaxDepth is how deep tables and arrays may nest, the outermost table counted.
// RabbitMQ has no such bound; the Go driver reads 33 levels.
const MaxDepth = 64

// decoder reads fields from raw and remembers what was wrong, so that a method's
// parser needs no error handling of its own. Strings are slices of one copy of
// raw, made when the first one is read.
type decoder struct {
	raw  []byte
	text string
	off  int
	end  int // of what is being read: raw, or a table in it

	broken bool        // ran over end, or met a value that is none
	fault  *FrameError // the first fault that is no matter of lengths
}

func newDecoder(raw []byte) decoder { return decoder{raw: raw, end: len(raw)} }

// complete tells whether everything was there and nothing is left over.
func (d *decoder) complete() bool { return !d.broken && d.off == len(d.raw) }

func (d *decoder) fail(e *FrameError) {
	if d.fault == nil {
		d.fault = e
	}
}

// take returns the next n octets, nil if they are not there.
func (d *decoder) take(n int) []byte {
	if d.broken || n > d.end-d.off {
		d.broken = true
		return nil
	}
	d.off += n
	return d.raw[d.off-n : d.off]
}

func (d *decoder) octet() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) short() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) long() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) longlong() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// size reads the length of what follows and holds it against what is there.
func (d *decoder) size() int {
	n := d.long()
	if uint64(n) > uint64(d.end-d.off) {
		d.broken = true
		return 0
	}
	return int(n)
}

func (d *decoder) string(n int) string {
	if d.take(n) == nil || n == 0 {
		return ""
	}
	if d.text == "" {
		d.text = string(d.raw)
	}
	return d.text[d.off-n : d.off]
}

func (d *decoder) anyShortString() string { return d.string(int(d.octet())) }

func (d *decoder) shortString() string {
	s := d.anyShortString()
	if !utf8.ValidString(s) {
		d.fail(&FrameError{Code: 501, Text: "FRAME_ERROR - Malformed UTF-8 in shortstr", nameless: true})
	}
	return s
}

func (d *decoder) longString() string { return d.string(d.size()) }

// table reads a table with its length in front. What is wrong inside leaves the
// fields behind it readable, because RabbitMQ looks at all lengths first.
func (d *decoder) table(depth int) Table {
	n := d.size()
	if d.broken {
		return nil
	}
	outer, next := d.end, d.off+n
	d.end = next
	t := d.fields(depth)
	if depth == 1 && d.broken {
		d.broken = false
		d.fail(&FrameError{Code: 541, Text: "INTERNAL_ERROR", silent: offChannelZero})
	}
	d.end, d.off = outer, next
	return t
}

func appendShortString(b []byte, s string) []byte {
	if len(s) > math.MaxUint8 {
		panic(unwritable(fmt.Sprintf("a short string of %d bytes, at most 255 fit: %.32q...", len(s), s)))
	}
	return append(append(b, byte(len(s))), s...)
}

func appendLongString[S string | []byte](b []byte, s S) []byte {
	if uint64(len(s)) > math.MaxUint32 {
		panic(unwritable(fmt.Sprintf("a long string of %d bytes", len(s))))
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// appendBits packs up to eight bits, which is more than any method has in a row.
func appendBits(b []byte, bits ...bool) []byte {
	var octet byte
	for i, bit := range bits {
		if bit {
			octet |= 1 << i
		}
	}
	return append(b, octet)
}

// unwritable is what the Append functions panic with.
type unwritable string

func (u unwritable) Error() string { return "wire: cannot write " + string(u) }
