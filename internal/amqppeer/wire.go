package amqppeer

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// FrameMax is the largest frame that a peer agrees to: RabbitMQ's default.
const FrameMax = 128 << 10

const (
	frameMethod = 1
	frameHeader = 2
	frameBody   = 3
	frameEnd    = 0xCE
)

var names = map[[2]uint16]string{
	{10, 11}:  "connection.start-ok",
	{10, 31}:  "connection.tune-ok",
	{10, 40}:  "connection.open",
	{10, 50}:  "connection.close",
	{10, 51}:  "connection.close-ok",
	{20, 10}:  "channel.open",
	{20, 40}:  "channel.close",
	{20, 41}:  "channel.close-ok",
	{50, 10}:  "queue.declare",
	{60, 10}:  "basic.qos",
	{60, 20}:  "basic.consume",
	{60, 30}:  "basic.cancel",
	{60, 31}:  "basic.cancel-ok",
	{60, 40}:  "basic.publish",
	{60, 80}:  "basic.ack",
	{60, 90}:  "basic.reject",
	{60, 120}: "basic.nack",
	{85, 10}:  "confirm.select",
}

func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func short(s string) []byte { return append([]byte{byte(len(s))}, s...) }
func long(s string) []byte  { return append(u32(uint32(len(s))), s...) }

func bits(b bool) []byte {
	if b {
		return []byte{1}
	}
	return []byte{0}
}

// table has one string in it.
func table(key, value string) []byte {
	return long(string(slices.Concat(short(key), []byte{'S'}, long(value))))
}

func frame(kind byte, channel uint16, payload []byte) []byte {
	return slices.Concat([]byte{kind}, u16(channel), u32(uint32(len(payload))), payload, []byte{frameEnd})
}

func method(channel, class, id uint16, fields ...[]byte) []byte {
	return frame(frameMethod, channel, slices.Concat(u16(class), u16(id), slices.Concat(fields...)))
}

func readFrame(r io.Reader) (kind byte, channel uint16, payload []byte, err error) {
	var head [7]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, err
	}
	payload = make([]byte, binary.BigEndian.Uint32(head[3:])+1)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, 0, nil, err
	}
	return head[0], binary.BigEndian.Uint16(head[1:]), payload[:len(payload)-1], nil
}

// fields reads the fields of a method one after the other.
type fields []byte

func (f *fields) take(n int) []byte {
	b := (*f)[:n]
	*f = (*f)[n:]
	return b
}

func (f *fields) short() string  { return string(f.take(int(f.take(1)[0]))) }
func (f *fields) uint64() uint64 { return binary.BigEndian.Uint64(f.take(8)) }

// decode reads what tests look at. What it is given comes from the driver, so
// it trusts it.
func decode(payload []byte) *Method {
	f := fields(payload)
	head := f.take(4)
	key := [2]uint16{binary.BigEndian.Uint16(head), binary.BigEndian.Uint16(head[2:])}
	m := &Method{Name: names[key]}
	switch m.Name {
	case "":
		m.Name = fmt.Sprint(key)
	case "queue.declare":
		f.take(2)
		m.Queue = f.short()
	case "basic.consume":
		f.take(2)
		m.Queue, m.ConsumerTag = f.short(), f.short()
	case "basic.cancel", "basic.cancel-ok":
		m.ConsumerTag = f.short()
	case "basic.publish":
		f.take(2)
		m.Exchange, m.RoutingKey = f.short(), f.short()
		m.Mandatory = f.take(1)[0]&1 != 0
	case "basic.ack":
		m.Tag = f.uint64()
		m.Multiple = f.take(1)[0]&1 != 0
	case "basic.reject":
		m.Tag = f.uint64()
		m.Requeue = f.take(1)[0]&1 != 0
	case "basic.nack":
		m.Tag = f.uint64()
		b := f.take(1)[0]
		m.Multiple, m.Requeue = b&1 != 0, b&2 != 0
	}
	return m
}

// messageID reads that property from the payload of a content header.
func messageID(header []byte) string {
	f := fields(header)
	f.take(2 + 2 + 8)
	flags := binary.BigEndian.Uint16(f.take(2))
	has := func(bit int) bool { return flags&(1<<bit) != 0 }
	for bit := 15; bit > 7; bit-- {
		switch {
		case !has(bit):
		case bit == 13: // headers
			f.take(int(binary.BigEndian.Uint32(f.take(4))))
		case bit == 12 || bit == 11: // delivery mode, priority
			f.take(1)
		default:
			f.short()
		}
	}
	if !has(7) {
		return ""
	}
	return f.short()
}
