package topology_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

var formats = []topology.Format{topology.FormatYAML, topology.FormatJSON}

// roundTrip writes t and reads it again.
func roundTrip(t *testing.T, top topology.Topology, format topology.Format) topology.Topology {
	t.Helper()
	data, err := topology.Marshal(top, format)
	if err != nil {
		t.Fatal(err)
	}
	got, err := topology.Load(bytes.NewReader(data), topology.LoadOptions{Format: format})
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	return got
}

func TestMarshalWritesWhatLoadReads(t *testing.T) {
	t.Parallel()
	odd := []string{
		"", " ", "#", "*", "&a", "*.info", "yes", "No", "null", "~", "1", "1e3", "0x1F", "0o7", "1_000", ".inf", ".NaN", "<<", "- a", "a: b", "a #b", "!x", "?", "|", ">", "%", "@", "`",
		"\"", "'", "\\", "a\nb", "\r\n\t", "\x00\x1b\x7f", "é", "\u0085\u2028\u2029\ufeff", "😀", "{", "[", "]", ",", "true", "30s", "2001-01-01", "=", "...", "---", strings.Repeat("long ", 100),
	}
	for _, format := range formats {
		for _, s := range odd {
			want := topology.Topology{
				Queues:   []topology.Queue{{Name: "q" + s, Arguments: amqp.Table{s: s, "list": []any{s, []any{s}, amqp.Table{s: s}}}}},
				Bindings: []topology.Binding{{Exchange: "x", Queue: "q", RoutingKey: s}},
			}
			if got := roundTrip(t, want, format); !reflect.DeepEqual(got, want) {
				t.Errorf("%v: %q comes back as %+v", format, s, got)
			}
		}
		if got := roundTrip(t, everything(), format); !reflect.DeepEqual(got, everything()) {
			t.Errorf("%v: everything comes back as %+v", format, got)
		}
		if got := roundTrip(t, topology.Topology{}, format); !reflect.DeepEqual(got, topology.Topology{}) {
			t.Errorf("%v: nothing comes back as %+v", format, got)
		}
	}
}

func TestMarshalKeepsNumbersAndDurations(t *testing.T) {
	t.Parallel()
	for _, format := range formats {
		for _, f := range []float64{0, 1, -1, 0.1, 1e3, 1e21, 1e-7, 1.5e300, 5e-324, math.MaxFloat64} {
			want := topology.Topology{Queues: []topology.Queue{{Arguments: amqp.Table{"f": f}}}}
			if got := roundTrip(t, want, format); !reflect.DeepEqual(got, want) {
				t.Errorf("%v: %v comes back as %#v", format, f, got.Queues[0].Arguments["f"])
			}
		}
		for _, i := range []any{int8(-1), int16(2), int32(3), 4, int64(math.MinInt64), int64(math.MaxInt64), uint8(5), uint16(6), uint32(7)} {
			got := roundTrip(t, topology.Topology{Queues: []topology.Queue{{Arguments: amqp.Table{"i": i}}}}, format).Queues[0].Arguments["i"]
			if want := reflect.ValueOf(i).Convert(reflect.TypeFor[int64]()).Interface(); got != want {
				t.Errorf("%v: %T(%v) comes back as %T(%v)", format, i, i, got, got)
			}
		}
		for _, d := range []time.Duration{1, time.Microsecond, time.Millisecond, 1500 * time.Millisecond, time.Minute, time.Hour, 90 * time.Minute, 24 * time.Hour, 25 * time.Hour, -time.Hour, -24 * time.Hour, math.MaxInt64, math.MinInt64} {
			if got := roundTrip(t, topology.Topology{Queues: []topology.Queue{{Expires: d}}}, format).Queues[0].Expires; got != d {
				t.Errorf("%v: %v comes back as %v", format, d, got)
			}
		}
	}
}

func TestMarshalRefusesWhatAFileCannotSay(t *testing.T) {
	t.Parallel()
	for _, format := range formats {
		for _, v := range []any{[]byte("x"), time.Now(), amqp.Decimal{Value: 1}, float32(1), math.Inf(1), math.NaN(), "\xff", uint64(1)} {
			top := topology.Topology{Queues: []topology.Queue{{Name: "q", Arguments: amqp.Table{"key": amqp.Table{"inner": []any{v}}}}}}
			if data, err := topology.Marshal(top, format); err == nil || !strings.HasPrefix(err.Error(), "write topology: inner: ") {
				t.Errorf("%v: %T(%v) is written as %q, %v", format, v, v, data, err)
			}
		}
	}
}

// What is too large for Load is not written, and as JSON it is not too large.
func TestMarshalRefusesYAMLThatLoadDoes(t *testing.T) {
	t.Parallel()
	wide := amqp.Table{}
	for i := range 501 {
		wide[fmt.Sprintf("x-%d", i)] = true
	}
	for problem, top := range map[string]topology.Topology{
		"write topology: x-99: is key 501 of its mapping, Load reads 500 at most of YAML: use FormatJSON": {Queues: []topology.Queue{{Name: "q", Arguments: wide}}},
		"write topology: has 1048603 bytes, Load reads 1048576 at most of YAML: use FormatJSON":           {Queues: []topology.Queue{{Name: "q", DeadLetterExchange: strings.Repeat("x", 1<<20-20)}}},
	} {
		if _, err := topology.Marshal(top, topology.FormatYAML); err == nil || err.Error() != problem {
			t.Errorf("%v, want %s", err, problem)
		}
		if got := roundTrip(t, top, topology.FormatJSON); !reflect.DeepEqual(got, top) {
			t.Errorf("as JSON it comes back as %+v", got)
		}
	}
	wide = maps.Clone(wide)
	delete(wide, "x-500")
	most := topology.Topology{Queues: []topology.Queue{{Name: "q", Arguments: wide}}}
	if got := roundTrip(t, most, topology.FormatYAML); !reflect.DeepEqual(got, most) {
		t.Error("500 keys do not come back")
	}
}

func FuzzLoad(f *testing.F) {
	for _, format := range formats {
		data, err := topology.Marshal(everything(), format)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("queues:\n- &a {name: x}\n- <<: *a\n  message_ttl: 1d2h\n"))
	f.Add([]byte(`{"rabbit_version":"4.3.6","queues":[{"name":"q","vhost":"/","arguments":{"x-max-age":"7D","x-delivery-limit":-1}}],"bindings":[{"source":"x","destination":"q","destination_type":"queue","routing_key":"","vhost":"/"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		top, err := topology.Load(bytes.NewReader(data), topology.LoadOptions{})
		if err != nil {
			return
		}
		_ = top.Validate()
		_ = top.Lint()
		for _, format := range formats {
			written, err := topology.Marshal(top, format)
			if err != nil {
				if strings.Contains(err.Error(), "Inf") || strings.Contains(err.Error(), "NaN") || strings.Contains(err.Error(), "UTF-8") || strings.HasSuffix(err.Error(), "use FormatJSON") {
					continue
				}
				t.Fatalf("%v: what was read cannot be written: %v", format, err)
			}
			again, err := topology.Load(bytes.NewReader(written), topology.LoadOptions{Format: format})
			if err != nil {
				t.Fatalf("%v: what was written cannot be read: %v\n%s", format, err, written)
			}
			if !reflect.DeepEqual(again, top) {
				t.Fatalf("%v: comes back as\n%#v, was\n%#v\n%s", format, again, top, written)
			}
		}
	})
}
