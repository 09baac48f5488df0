package producer

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/sendable"
)

// refusal returns the field that err refuses.
func refusal(t *testing.T, err error) string {
	t.Helper()
	var r *RefusedError
	if !errors.As(err, &r) {
		t.Fatalf("%v is no *RefusedError", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is not one line", err)
	}
	return r.Field
}

func TestShortStringsEndAt255Bytes(t *testing.T) {
	t.Parallel()
	for field, set := range map[string]func(*Message, string){
		"Exchange":        func(m *Message, s string) { m.Exchange = s },
		"RoutingKey":      func(m *Message, s string) { m.RoutingKey = s },
		"ContentType":     func(m *Message, s string) { m.ContentType = s },
		"ContentEncoding": func(m *Message, s string) { m.ContentEncoding = s },
		"CorrelationID":   func(m *Message, s string) { m.CorrelationID = s },
		"ReplyTo":         func(m *Message, s string) { m.ReplyTo = s },
		"MessageID":       func(m *Message, s string) { m.MessageID = s },
		"Type":            func(m *Message, s string) { m.Type = s },
		"UserID":          func(m *Message, s string) { m.UserID = s },
		"AppID":           func(m *Message, s string) { m.AppID = s },
		"Headers":         func(m *Message, s string) { m.Headers = amqp.Table{s: 1} },
		"Headers/nested":  func(m *Message, s string) { m.Headers = amqp.Table{"t": amqp.Table{s: 1}} },
		"Headers/array":   func(m *Message, s string) { m.Headers = amqp.Table{"a": []any{amqp.Table{s: 1}}} },
	} {
		var m Message
		set(&m, strings.Repeat("x", 255))
		if _, _, err := check(&m); err != nil {
			t.Errorf("%s of 255 bytes: %v", field, err)
		}
		set(&m, strings.Repeat("é", 127)+"xx") // bytes count, not letters
		_, _, err := check(&m)
		if err == nil {
			t.Errorf("%s of 256 bytes is not refused", field)
			continue
		}
		if want, _, _ := strings.Cut(field, "/"); refusal(t, err) != want || !strings.Contains(err.Error(), "256 bytes") {
			t.Errorf("%s of 256 bytes: %v", field, err)
		}
	}
}

// TestEveryPropertyOfMessageIsChecked: a string field that is added must not slip
// past check.
func TestEveryPropertyOfMessageIsChecked(t *testing.T) {
	t.Parallel()
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Message]()) {
		if f.Type.Kind() != reflect.String {
			continue
		}
		var m Message
		reflect.ValueOf(&m).Elem().FieldByIndex(f.Index).SetString(strings.Repeat("1", 256))
		if _, _, err := check(&m); err == nil || refusal(t, err) != f.Name {
			t.Errorf("%s of 256 bytes: %v", f.Name, err)
		}
	}
}

func TestExpirationIsANumberOfMilliseconds(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "0", "1", "007", "60000", "4294967296", "315360000000"} {
		if _, _, err := check(&Message{Expiration: good}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"-1", "+1", "1s", "1.5", " 1", "1 ", "1_000", "0x10", "315360000001", "99999999999999999999", "soon"} {
		if _, _, err := check(&Message{Expiration: bad}); err == nil || refusal(t, err) != "Expiration" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestHeadersAreSentInTheTypesThatTheyHave(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	for _, c := range []struct{ in, want any }{
		{math.MaxInt, int64(math.MaxInt)}, // the driver would send 0
		{math.MinInt, int64(math.MinInt)},
		{int8(1), int8(1)},
		{int16(1), int16(1)},
		{int32(1), int32(1)},
		{int64(1), int64(1)},
		{uint8(1), uint8(1)},
		{uint16(1), uint16(1)},
		{uint32(1), uint32(1)},
		{float32(1), float32(1)},
		{1.5, 1.5},
		{true, true},
		{nil, nil},
		{"s", "s"},
		{[]byte("b"), []byte("b")},
		{now, now},
		{amqp.Decimal{Scale: 2, Value: 314}, amqp.Decimal{Scale: 2, Value: 314}},
		{[]any{1, []any{2}, map[string]any{"k": 3}}, []any{int64(1), []any{int64(2)}, amqp.Table{"k": int64(3)}}},
		{map[string]any{"k": 1}, amqp.Table{"k": int64(1)}},
		{amqp.Table{"k": amqp.Table{"k": 1}}, amqp.Table{"k": amqp.Table{"k": int64(1)}}},
		{amqp.Table(nil), amqp.Table{}},
	} {
		got, _, err := check(&Message{Headers: amqp.Table{"h": c.in}})
		if err != nil || !reflect.DeepEqual(got["h"], c.want) {
			t.Errorf("%T %v became %T %v (%v), want %T %v", c.in, c.in, got["h"], got["h"], err, c.want, c.want)
		}
	}
}

func TestHeadersThatCannotBeSentAreRefusedWithAWayOut(t *testing.T) {
	t.Parallel()
	type own string
	for _, bad := range []any{uint(1), uint64(1), own("s"), []string{"s"}, struct{}{}, errors.New("e"), complex(1, 1), time.Second, map[string]string{}, &[]any{}} {
		for name, v := range map[string]any{"flat": bad, "in an array": []any{"", bad}, "in a table": amqp.Table{"inner": bad}} {
			_, _, err := check(&Message{Headers: amqp.Table{"h": v}})
			if err == nil || refusal(t, err) != "Headers" || !strings.Contains(err.Error(), fmt.Sprintf("%T", bad)) || !strings.Contains(err.Error(), "use ") || !strings.Contains(err.Error(), `"h"`) {
				t.Errorf("%T %s: %v", bad, name, err)
			}
		}
	}
	if _, _, err := check(&Message{Headers: amqp.Table{"h": uint64(1)}}); !strings.Contains(err.Error(), "int64") {
		t.Errorf("%v does not name int64", err)
	}
}

func TestTimesBefore1970AreRefused(t *testing.T) {
	t.Parallel()
	for _, good := range []time.Time{{}, time.Unix(0, 0), time.Now()} {
		if _, _, err := check(&Message{Timestamp: good}); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	early := time.Unix(-1, 0)
	if _, _, err := check(&Message{Timestamp: early}); err == nil || refusal(t, err) != "Timestamp" {
		t.Errorf("%v: %v", early, err)
	}
	// A zero Timestamp is not sent; a zero time in a header would be, as a
	// number beyond all clocks.
	for _, bad := range []time.Time{early, {}} {
		if _, _, err := check(&Message{Headers: amqp.Table{"at": bad}}); err == nil || refusal(t, err) != "Headers" {
			t.Errorf("%v in a header: %v", bad, err)
		}
	}
}

func nested(levels int, array bool) any {
	var v any = "core"
	for range levels {
		if array {
			v = []any{v}
		} else {
			v = amqp.Table{"t": v}
		}
	}
	return v
}

func TestHeadersAreNestedAtMost32Deep(t *testing.T) {
	t.Parallel()
	for _, array := range []bool{true, false} {
		if _, _, err := check(&Message{Headers: amqp.Table{"h": nested(31, array)}}); err != nil {
			t.Errorf("32 levels, arrays=%v: %v", array, err)
		}
		if _, _, err := check(&Message{Headers: amqp.Table{"h": nested(32, array)}}); err == nil || refusal(t, err) != "Headers" {
			t.Errorf("33 levels, arrays=%v: %v", array, err)
		}
	}
	round := amqp.Table{}
	round["self"] = round
	if _, _, err := check(&Message{Headers: round}); err == nil {
		t.Error("a table that holds itself is not refused")
	}
}

func TestCheckLeavesTheCallersTableAlone(t *testing.T) {
	t.Parallel()
	fresh := func() amqp.Table {
		return amqp.Table{"n": 1, "t": map[string]any{"n": 2}, "a": []any{3}, correlationHeader: "7"}
	}
	given := fresh()
	got, _, err := check(&Message{Headers: given})
	if err != nil {
		t.Fatal(err)
	}
	got["new"] = true
	got["a"].([]any)[0] = "changed"
	if !reflect.DeepEqual(given, fresh()) {
		t.Errorf("the caller's table is %v now", given)
	}
}

func TestForeignCorrelationHeaderIsTakenOff(t *testing.T) {
	t.Parallel()
	got, _, err := check(&Message{Headers: amqp.Table{correlationHeader: "7", "inner": amqp.Table{correlationHeader: "8"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := got[correlationHeader]; ok {
		t.Error("it would be taken for ours")
	}
	if inner, _ := got["inner"].(amqp.Table); inner[correlationHeader] != "8" {
		t.Error("one that is nested is the caller's business")
	}
}

func TestCorrelationHeaderFitsIntoWhatIsKeptFree(t *testing.T) {
	t.Parallel()
	_, n, err := sendable.Table(amqp.Table{"c": map[string]any{correlationHeader: fmt.Sprint(uint64(math.MaxUint64))}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if n -= 4 + 2 + 1; n > correlationSize { // the table around it, its key and type
		t.Errorf("it can have %d bytes, %d are kept free", n, correlationSize)
	}
}
