package sendable_test

import (
	"maps"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/sendable"
)

func TestTableTakesWhatCanBeSent(t *testing.T) {
	t.Parallel()
	in := map[string]any{
		"nil": nil, "bool": true, "int": math.MaxInt, "i8": int8(1), "u32": uint32(1), "f32": float32(0.5), "f64": 0.5,
		"time": time.Unix(1, 0), "bytes": []byte("x"), "string": "x", "decimal": amqp.Decimal{Scale: 1, Value: 2},
		"list": []any{1, amqp.Table{"deep": map[string]any{"er": 1}}}, "ours": "x",
	}
	before := maps.Clone(in)
	out, size, err := sendable.Table(in, "ours")
	if err != nil {
		t.Fatal(err)
	}
	if _, has := out["ours"]; has || !reflect.DeepEqual(in, before) {
		t.Errorf("%v of %v", out, in)
	}
	if out["int"] != int64(math.MaxInt) || !reflect.DeepEqual(out["list"], []any{int64(1), amqp.Table{"deep": amqp.Table{"er": int64(1)}}}) {
		t.Errorf("%v", out)
	}
	if err := out.Validate(); err != nil || size < 100 {
		t.Errorf("the driver says %v, size %d", err, size)
	}
}

func TestTableRefusesWhatCostsTheConnection(t *testing.T) {
	t.Parallel()
	deep := any("x")
	for range 40 {
		deep = []any{deep}
	}
	for want, v := range map[string]any{
		"NaN":                   math.NaN(),
		"+Inf":                  math.Inf(1),
		"-Inf":                  float32(math.Inf(-1)),
		"8193 elements":         make([]any, 8193),
		"nested deeper":         deep,
		"[1] is a uint64":       []any{1, uint64(1)},
		"struct":                struct{}{},
		"has 256 bytes":         amqp.Table{strings.Repeat("k", 256): 1},
		"before 1970":           time.Unix(-1, 0),
		`"inner" is NaN, at wh`: amqp.Table{"inner": math.NaN()},
	} {
		_, _, err := sendable.Table(map[string]any{"key": v}, "")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), `"key" `) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	many := map[string]any{}
	for i := range sendable.MaxElements + 1 {
		many[strconv.Itoa(i)] = true
	}
	if _, _, err := sendable.Table(many, ""); err == nil || !strings.Contains(err.Error(), "entries") {
		t.Errorf("%d entries: %v", len(many), err)
	}
}
