package wire_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// everything holds each type of value, at its limits where it has some.
func everything() wire.Table {
	return wire.Table{
		{"bool", true},
		{"int8", int8(math.MinInt8)},
		{"uint8", uint8(math.MaxUint8)},
		{"int16", int16(math.MinInt16)},
		{"uint16", uint16(math.MaxUint16)},
		{"int32", int32(math.MinInt32)},
		{"uint32", uint32(math.MaxUint32)},
		{"int64", int64(math.MinInt64)},
		{"float32", float32(-1.5)},
		{"float64", math.MaxFloat64},
		{"decimal", wire.Decimal{Scale: 2, Value: 12345}},
		{"string", "snow \u2603 and \xff"},
		{"bytes", []byte{0, 0xCE, 0xFF}},
		{"no bytes", []byte{}},
		{"array", wire.Array{int32(1), nil, wire.Table{{"deep", wire.Array(nil)}}, "x"}},
		{"timestamp", wire.Timestamp(1767323045)},
		{"table", wire.Table{{"nested", wire.Table(nil)}, {"z", int8(1)}, {"a", int8(2)}}},
		{"void", nil},
		{"", "no key"},
		{"twice", int32(1)},
		{"twice", int64(2)},
	}
}

// methods returns one of every method there is, with something in every field.
func methods() []wire.Method {
	var all []wire.Method
	for class := range wire.ID(100) {
		for number := range wire.ID(200) {
			if m := wire.New(class<<16 | number); m != nil {
				all = append(all, fill(m))
			}
		}
	}
	return all
}

func fill(m wire.Method) wire.Method {
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString("the " + name)
		case bool:
			f.SetBool(i%2 == 0)
		case wire.Table:
			f.Set(reflect.ValueOf(everything()))
		default:
			f.SetUint(math.MaxUint64 >> (64 - f.Type().Bits()))
		}
	}
	return m
}

// payload returns the payload of a frame as AppendMethod makes it.
func payload(t testing.TB, frame []byte) []byte {
	t.Helper()
	r := wire.NewReader(bytes.NewReader(frame))
	r.SetMax(0)
	f, err := r.Next()
	if err != nil {
		t.Fatalf("reading back %x: %v", frame, err)
	}
	return f.Payload
}

func TestEveryMethodComesBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	all := methods()
	if len(all) != 66 {
		t.Errorf("%d methods, want 66", len(all))
	}
	for _, m := range all {
		frame := wire.AppendMethod([]byte("before"), 7, m)
		got, err := wire.ParseMethod(payload(t, frame[len("before"):]))
		if err != nil {
			t.Errorf("%s: %v", m.ID(), err)
		} else if !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %+v, want %+v", m.ID(), got, m)
		}
	}
}

func TestBitsShareAnOctetLowestFirst(t *testing.T) {
	t.Parallel()
	got := wire.AppendMethod(nil, 1, &wire.QueueDeclare{Queue: "q", Durable: true, NoWait: true})
	want := []byte{1, 0, 1, 0, 0, 0, 13, 0, 50, 0, 10, 0, 0, 1, 'q', 0b10010, 0, 0, 0, 0, 0xCE}
	if !bytes.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestAnyByteMoreOrLessIsAFrameError(t *testing.T) {
	t.Parallel()
	for _, m := range methods() {
		p := payload(t, wire.AppendMethod(nil, 1, m))
		for n := range p {
			if _, err := wire.ParseMethod(p[:n]); !isFrameError(err, 501) {
				t.Fatalf("%s cut to %d of %d bytes: %v", m.ID(), n, len(p), err)
			}
		}
		if _, err := wire.ParseMethod(append(p, 0)); !isFrameError(err, 501) {
			t.Errorf("%s with a byte too many: %v", m.ID(), err)
		}
	}
}

func isFrameError(err error, code uint16) bool {
	var e *wire.FrameError
	return errors.As(err, &e) && e.Code == code
}

func TestFaultsAreWordedAsRabbitMQDoes(t *testing.T) {
	t.Parallel()
	parse := func(payload string) error { _, err := wire.ParseMethod([]byte(payload)); return err }
	next := func(stream string) error {
		_, err := wire.NewReader(strings.NewReader(stream)).Next()
		return err
	}
	header := func(payload string) error { _, err := wire.ParseHeader([]byte(payload)); return err }
	properties := func(raw string) error { _, err := wire.ParseProperties([]byte(raw)); return err }
	// A queue.bind up to its arguments.
	const bind = "\x00\x32\x00\x14\x00\x00\x01q\x01e\x00\x00"

	for name, tt := range map[string]struct {
		err    error
		code   uint16
		text   string
		silent [2]bool // on channel 0, on another
	}{
		"short method":       {parse("\x00\x14\x00\x0a"), 501, "FRAME_ERROR - cannot decode <<>>", [2]bool{}},
		"long method":        {parse("\x00\x14\x00\x0a\x00\xff"), 501, "FRAME_ERROR - cannot decode <<0,255>>", [2]bool{}},
		"very long method":   {parse("\x00\x14\x00\x0a" + strings.Repeat("\xff", 300)), 501, "FRAME_ERROR - cannot decode <<" + strings.Repeat("255,", 55) + "25...", [2]bool{}},
		"no method":          {parse("\x00\x14"), 501, "FRAME_ERROR - type 1, all octets = <<0,20>>: unknown_frame", [2]bool{}},
		"unknown method":     {parse("\x00\x3c\x00\x29"), 540, "NOT_IMPLEMENTED - unknown method 60.41", [2]bool{true, true}},
		"bad utf-8":          {parse("\x00\x14\x00\x0a\x01\xff"), 501, "FRAME_ERROR - Malformed UTF-8 in shortstr", [2]bool{}},
		"key that is binary": {parse("\x00\x3c\x00\x28\x00\x00\x00\x01\xff\x00"), 0, "", [2]bool{}},
		"bad table":          {parse(bind + "\x00\x00\x00\x03\x01kZ"), 541, "INTERNAL_ERROR", [2]bool{false, true}},
		"table's length":     {parse(bind + "\x00\x00\x00\x04\x01kV"), 501, "FRAME_ERROR - cannot decode <<0,0,1,113,1,101,0,0,0,0,0,4,1,107,86>>", [2]bool{}},
		"NaN":                {parse(bind + "\x00\x00\x00\x0b\x01kd\x7f\xf8\x00\x00\x00\x00\x00\x01"), 541, "INTERNAL_ERROR", [2]bool{false, true}},
		"past table's end":   {parse("\x00\x0a\x00\x0b\x00\x00\x00\x03\x01kI\x05PLAIN\x00\x00\x00\x00\x05en_US"), 541, "INTERNAL_ERROR", [2]bool{false, true}},
		"table, then short":  {parse("\x00\x0a\x00\x0b\x00\x00\x00\x03\x01kZ"), 501, "FRAME_ERROR - cannot decode <<0,0,0,3,1,107,90>>", [2]bool{}},

		"too large":        {next("\x01\x00\x01\x00\x00\x20\x01"), 501, "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,8193,8184}", [2]bool{}},
		"a little too big": {next("\x08\x00\x00\x00\x00\x20\x00" + strings.Repeat("x", 8192) + "\xce"), 0, "", [2]bool{}},
		"wrong end":        {next("\x03\x00\x01\x00\x00\x00\x02hi\xcf"), 501, `FRAME_ERROR - type 3, all octets = <<"hi">>: {invalid_frame_end_marker,207}`, [2]bool{}},
		"long, wrong end":  {next("\x03\x00\x01\x00\x00\x00\x11\x00aaaaaaaaaaaaaaaa\x00"), 501, "FRAME_ERROR - type 3, first 16 octets = <<0" + strings.Repeat(",97", 15) + ">>: {invalid_frame_end_marker,\n" + strings.Repeat(" ", 79) + "0}", [2]bool{}},
		// As recorded from RabbitMQ 4.3.
		"method, wrong end": {next("\x01\x00\x01\x00\x00\x00\x0b\x00<\x00\n\x00\x00\x00\x00\x00\x01\x00\xab"), 501, "FRAME_ERROR - type 1, all octets = <<0,60,0,10,0,0,0,0,0,1,0>>: {invalid_frame_end_marker,\n" + strings.Repeat(" ", 51) + "171}", [2]bool{}},
		"wide, wrong end":   {next("\x03\x00\x01\x00\x00\x00\x11" + strings.Repeat("\xff", 17) + "\x00"), 501, "FRAME_ERROR - type 3, first 16 octets = <<" + strings.Repeat("255,", 12) + "\n" + strings.Repeat(" ", 28) + "255,255,255,255>>: {invalid_frame_end_marker,0}", [2]bool{}},

		"short header":    {header("\x00\x3c"), 501, "FRAME_ERROR - type 2, all octets = <<0,60>>: unknown_frame", [2]bool{}},
		"weight":          {header("\x00\x3c\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"), 505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", [2]bool{}},
		"huge body":       {header("\x00\x3c\x00\x00\x00\x00\x00\x00\x20\x00\x00\x01"), 501, "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912", [2]bool{}},
		"no properties":   {properties(""), 541, "INTERNAL_ERROR", [2]bool{}},
		"cut properties":  {properties("\x80\x00\x05text"), 541, "INTERNAL_ERROR", [2]bool{}},
		"bytes left over": {properties("\x00\x00\x00"), 541, "INTERNAL_ERROR", [2]bool{}},
		"bad headers":     {properties("\x20\x00\x00\x00\x00\x01k"), 541, "INTERNAL_ERROR", [2]bool{}},
	} {
		if tt.code == 0 {
			if tt.err != nil {
				t.Errorf("%s: %v", name, tt.err)
			}
			continue
		}
		var e *wire.FrameError
		if !errors.As(tt.err, &e) {
			t.Errorf("%s: %v, want a FrameError", name, tt.err)
			continue
		}
		if e.Code != tt.code || e.Text != tt.text {
			t.Errorf("%s:\ngot  %d %s\nwant %d %s", name, e.Code, e.Text, tt.code, tt.text)
		}
		if silent := [2]bool{e.Silent(0), e.Silent(3)}; silent != tt.silent {
			t.Errorf("%s: silent on channels 0 and 3: %v, want %v", name, silent, tt.silent)
		}
	}

	beat := wire.Frame{Type: wire.HeartbeatFrame, Channel: 1}
	if got, want := beat.Unexpected().Text, "UNEXPECTED_FRAME - type 8, all octets = <<>>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := (wire.Frame{Type: 9, Payload: []byte("\"\\")}).Unknown().Text, `FRAME_ERROR - type 9, all octets = <<"\"\\">>: unknown_frame`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAProtocolHeaderIsAnsweredAsRabbitMQDoes(t *testing.T) {
	t.Parallel()
	const sasl = "AMQP\x03\x01\x00\x00"
	for header, want := range map[string]string{
		wire.ProtocolHeader:                "",
		"AMQP\x01\x01\x00\x09":             "",
		"AMQP\x00\x00\x09\x02":             wire.ProtocolHeader,
		"AMQP\x00\x00\x0a\x00":             wire.ProtocolHeader,
		"AMQP\x00\x00\x08\x00":             sasl,
		"AMQP\x01\x01\x08\x00":             sasl,
		"AMQP\x00\x01\x00\x00":             sasl,
		sasl:                               wire.ProtocolHeader,
		"GET / HT":                         sasl,
		"\x16\x03\x01\x00\xff\x01\x00\x00": sasl,
	} {
		if got := wire.RefuseProtocol([8]byte([]byte(header))); got != want {
			t.Errorf("%q: got %q, want %q", header, got, want)
		}
	}
}

func TestTablesKeepOrderAndTypesByteForByte(t *testing.T) {
	t.Parallel()
	raw := wire.AppendTable(nil, everything())
	got, err := wire.ParseTable(raw)
	if err != nil {
		t.Fatal(err)
	}
	if want := everything(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
	if again := wire.AppendTable(nil, got); !bytes.Equal(again, raw) {
		t.Errorf("got  %q\nwant %q", again, raw)
	}
	got, err = wire.ParseTable([]byte("\x00\x00\x00\x0b\x01kL\xff\xff\xff\xff\xff\xff\xff\xfe"))
	if v, _ := got.Get("k"); err != nil || v != int64(-2) {
		t.Errorf("an L is %v, %v, want -2", v, err)
	}
}

func TestTablesAreFoundAndChangedByKey(t *testing.T) {
	t.Parallel()
	table := wire.Table{{"a", int32(1)}, {"b", int32(2)}, {"a", int32(3)}}
	if v, ok := table.Get("a"); v != int32(1) || !ok {
		t.Errorf("a is %v, %v", v, ok)
	}
	if v, ok := table.Get("c"); v != nil || ok {
		t.Errorf("c is %v, %v", v, ok)
	}
	table.Set("a", "new")
	table.Set("c", nil)
	if want := (wire.Table{{"a", "new"}, {"b", int32(2)}, {"a", int32(3)}, {"c", nil}}); !reflect.DeepEqual(table, want) {
		t.Errorf("after Set: %v, want %v", table, want)
	}
	table.Delete("a")
	if want := (wire.Table{{"b", int32(2)}, {"c", nil}}); !reflect.DeepEqual(table, want) {
		t.Errorf("after Delete: %v, want %v", table, want)
	}
}

func TestWhatDoesNotFitIsNotCutOff(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 256)
	deep, deepest := wire.Table(nil), wire.Table(nil)
	for range wire.MaxDepth - 1 {
		deepest = wire.Table{{"t", deepest}}
	}
	deep = wire.Table{{"t", deepest}}

	for name, table := range map[string]wire.Table{
		"a short string of 256 bytes": {{long, nil}},
		"a int in a table":            {{"k", 1}},
		"NaN in a table":              {{"k", math.NaN()}},
		"+Inf in a table":             {{"k", wire.Array{float32(math.Inf(1))}}},
		"more than 64 levels":         deep,
	} {
		err := wire.CheckTable(table)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: CheckTable says %v", name, err)
		}
		if !panics(func() { wire.AppendTable(nil, table) }) {
			t.Errorf("%s: AppendTable did not panic", name)
		}
	}
	if err := wire.CheckTable(deepest); err != nil {
		t.Errorf("%d levels: %v", wire.MaxDepth, err)
	}
	if _, err := wire.ParseTable(wire.AppendTable(nil, deepest)); err != nil {
		t.Errorf("reading %d levels: %v", wire.MaxDepth, err)
	}
	if !panics(func() { wire.AppendMethod(nil, 1, &wire.BasicCancel{ConsumerTag: long}) }) {
		t.Error("AppendMethod did not panic")
	}
	if !panics(func() { wire.AppendMethod(nil, 1, nil) }) {
		t.Error("AppendMethod of nil did not panic")
	}
	p := wire.Properties{MessageID: long}
	p.Mark()
	if !panics(func() { p.Append(nil) }) {
		t.Error("Properties.Append did not panic")
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestDeepTablesAreRefusedWhileReading(t *testing.T) {
	t.Parallel()
	// nest puts tables, or arrays, into each other; an array's entry has no key.
	nest := func(entry string, levels int) []byte {
		raw := make([]byte, 4)
		for range levels - 1 {
			raw = appendSized(nil, append([]byte(entry), raw...))
		}
		return raw
	}
	if _, err := wire.ParseTable(nest("\x01kF", wire.MaxDepth)); err != nil {
		t.Errorf("%d levels: %v", wire.MaxDepth, err)
	}
	if _, err := wire.ParseTable(nest("\x01kF", wire.MaxDepth+1)); !isFrameError(err, 541) {
		t.Errorf("%d levels: %v", wire.MaxDepth+1, err)
	}
	arrays := appendSized(nil, append([]byte("\x01kA"), nest("A", 3000)...))
	if _, err := wire.ParseTable(arrays); !isFrameError(err, 541) {
		t.Errorf("3,000 levels of arrays: %v", err)
	}
}

func appendSized(dst, b []byte) []byte {
	dst = append(dst, byte(len(b)>>24), byte(len(b)>>16), byte(len(b)>>8), byte(len(b)))
	return append(dst, b...)
}

func allProperties() wire.Properties {
	p := wire.Properties{
		ContentType: "text/plain", ContentEncoding: "gzip", Headers: everything(), DeliveryMode: 2, Priority: 9,
		CorrelationID: "c\xff", ReplyTo: "r", Expiration: "60000", MessageID: "m", Timestamp: 1767323045,
		Type: "t", UserID: "u", AppID: "a", ClusterID: "cl",
	}
	p.Mark()
	return p
}

func TestPropertiesKeepWhatIsPresentAndWhatIsNot(t *testing.T) {
	t.Parallel()
	all := allProperties()
	if all.Flags != 0xFFFC {
		t.Errorf("flags %x, want fffc", all.Flags)
	}
	for _, want := range []wire.Properties{
		{},
		all,
		{Flags: wire.FlagMessageID | wire.FlagHeaders | wire.FlagDeliveryMode}, // there, but empty
		{Flags: wire.FlagPriority | wire.FlagExpiration, Priority: 3, Expiration: "1"},
	} {
		got, err := wire.ParseProperties(want.Append(nil))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
	absent := all
	absent.Flags = wire.FlagPriority
	got, err := wire.ParseProperties(absent.Append(nil))
	if want := (wire.Properties{Flags: wire.FlagPriority, Priority: 9}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if at := all.Timestamp.Time(); !at.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("the timestamp is %v", at)
	}
}

func TestContentIsSplitAtFrameMax(t *testing.T) {
	t.Parallel()
	all := allProperties()
	properties := all.Append(nil)
	m := &wire.BasicDeliver{ConsumerTag: "c", DeliveryTag: 1 << 40, RoutingKey: "k"}
	for _, tt := range []struct {
		body     int
		frameMax uint32
		frames   []int
	}{
		{0, 0, nil},
		{0, 4096, nil},
		{1, 4096, []int{1}},
		{4088, 4096, []int{4088}},
		{4089, 4096, []int{4088, 1}},
		{10_000, 4096, []int{4088, 4088, 1824}},
		{300_000, 0, []int{300_000}},
		{3, 8, []int{1, 1, 1}},
	} {
		body := bytes.Repeat([]byte("b"), tt.body)
		r := wire.NewReader(bytes.NewReader(wire.AppendContent(nil, 3, m, properties, body, tt.frameMax)))
		r.SetMax(0)
		method, _ := r.Next()
		if got, err := wire.ParseMethod(method.Payload); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%d by %d: the method is %v, %v", tt.body, tt.frameMax, got, err)
		}
		header, _ := r.Next()
		h, err := wire.ParseHeader(header.Payload)
		if want := (wire.Header{Class: 60, BodySize: uint64(tt.body), Properties: properties}); err != nil || !reflect.DeepEqual(h, want) {
			t.Errorf("%d by %d: the header is %v, %v", tt.body, tt.frameMax, h, err)
		}
		var sizes []int
		for {
			f, err := r.Next()
			if err != nil {
				break
			}
			if f.Type != wire.BodyFrame || f.Channel != 3 {
				t.Errorf("%d by %d: frame %d on channel %d", tt.body, tt.frameMax, f.Type, f.Channel)
			}
			sizes = append(sizes, len(f.Payload))
		}
		if !reflect.DeepEqual(sizes, tt.frames) {
			t.Errorf("%d by %d: bodies of %v, want %v", tt.body, tt.frameMax, sizes, tt.frames)
		}
	}
}

func TestReplyTextEndsInDotsWhereItWasCut(t *testing.T) {
	t.Parallel()
	fits := strings.Repeat("x", 255)
	if got := wire.ReplyText(fits); got != fits {
		t.Errorf("255 bytes became %q", got)
	}
	if got, want := wire.ReplyText(fits+"x"), fits[:252]+"..."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := wire.ReplyText(fits[:251]+"\u00e9xxx"), fits[:251]+"..."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAStreamEndsBetweenFramesOrInsideOne(t *testing.T) {
	t.Parallel()
	frame := wire.Frame{Type: wire.BodyFrame, Channel: 1, Payload: []byte("body")}.Append(nil)
	for n := range frame {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		r := wire.NewReader(bytes.NewReader(append(bytes.Clone(frame), frame[:n]...)))
		if head, err := r.Peek(4); err != nil || !bytes.Equal(head, frame[:4]) {
			t.Fatalf("peeked %x, %v", head, err)
		}
		if f, err := r.Next(); err != nil || string(f.Payload) != "body" {
			t.Fatalf("the first frame: %+v, %v", f, err)
		}
		if got := r.Buffered(); got != n {
			t.Errorf("%d octets buffered, want %d", got, n)
		}
		if _, err := r.Next(); err != want { //nolint:errorlint // callers may compare them so
			t.Errorf("after %d octets: %v, want %v", n, err, want)
		}
	}
}

// Not parallel: it counts all that is allocated.
func TestALengthAloneAllocatesLittle(t *testing.T) {
	const most = 1 << 20
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if n := allocated(func() {
		r := wire.NewReader(strings.NewReader("\x03\x00\x01\x1f\xff\xff\xffbody"))
		r.SetMax(0)
		if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a frame cut short: %v", err)
		}
	}); n > most {
		t.Errorf("a frame that said 512 MiB took %d bytes", n)
	}
	if n := allocated(func() {
		for _, kind := range "SxAF" {
			raw := appendSized(nil, []byte("\x01k"+string(kind)+"\x7f\xff\xff\xff"))
			if _, err := wire.ParseTable(raw); !isFrameError(err, 541) {
				t.Errorf("a value of type %c that said 2 GiB: %v", kind, err)
			}
		}
	}); n > most {
		t.Errorf("values that said 2 GiB took %d bytes", n)
	}
}

func TestIDsHaveNames(t *testing.T) {
	t.Parallel()
	for id, want := range map[wire.ID]string{
		wire.IDBasicPublish:             "basic.publish",
		wire.IDConnectionUpdateSecretOk: "connection.update-secret-ok",
		60<<16 | 41:                     "60.41",
	} {
		if id.String() != want {
			t.Errorf("%d is %s, want %s", uint32(id), id, want)
		}
	}
	if !wire.IDBasicGetOk.HasContent() || wire.IDBasicGetEmpty.HasContent() {
		t.Error("get-ok has content and get-empty has none")
	}
}
