package producer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestZeroMessageIsPersistentAndMandatory(t *testing.T) {
	t.Parallel()
	var m Message
	if pub := m.publishing(nil); pub.DeliveryMode != amqp.Persistent {
		t.Errorf("delivery mode %d", pub.DeliveryMode)
	}
	m.Transient = true
	if pub := m.publishing(nil); pub.DeliveryMode != amqp.Transient {
		t.Errorf("transient: delivery mode %d", pub.DeliveryMode)
	}
}

func TestEveryPropertyIsSent(t *testing.T) {
	t.Parallel()
	m := Message{
		Body: []byte("b"), ContentType: "1", ContentEncoding: "2", CorrelationID: "3", ReplyTo: "4", MessageID: "5",
		Expiration: "6", Priority: 7, Timestamp: time.Unix(8, 0), Type: "9", UserID: "10", AppID: "11",
	}
	got := m.publishing(amqp.Table{"h": 1})
	want := "{map[h:1] 1 2 2 7 3 4 6 5 " + time.Unix(8, 0).String() + " 9 10 11 [98]}"
	if s := fmt.Sprint(got); s != want {
		t.Errorf("published %s\nwant %s", s, want)
	}
}

func TestTTLRoundsUpToMilliseconds(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                          "0",
		-time.Second:               "0",
		1:                          "1", // 0 would expire at once
		time.Millisecond:           "1",
		time.Millisecond + 1:       "2",
		time.Minute:                "60000",
		math.MaxUint32 * 1_000_000: "4294967295",
	} {
		got := TTL(d)
		if got != want {
			t.Errorf("TTL(%v) is %q, want %q", d, got, want)
		}
		if _, _, err := check(&Message{Expiration: got}); err != nil {
			t.Errorf("TTL(%v): %v", d, err)
		}
	}
	if got := TTL(math.MaxInt64); got != "9223372036855" {
		t.Errorf("TTL(math.MaxInt64) is %q", got)
	}
}

func TestMakersSetBodyAndContentType(t *testing.T) {
	t.Parallel()
	doc, err := JSON(map[string]int{"n": 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		m         Message
		body, typ string
	}{
		{Text("ä"), "ä", "text/plain; charset=utf-8"},
		{Bytes([]byte{1}), "\x01", "application/octet-stream"},
		{doc, `{"n":1}`, "application/json"},
	} {
		if string(c.m.Body) != c.body || c.m.ContentType != c.typ {
			t.Errorf("%q of type %q, want %q of %q", c.m.Body, c.m.ContentType, c.body, c.typ)
		}
	}
	if _, err := JSON(func() {}); err == nil || !strings.Contains(err.Error(), "encode message") {
		t.Errorf("a func as JSON: %v", err)
	}
}

func TestToReturnsACopy(t *testing.T) {
	t.Parallel()
	m := Text("x")
	a, b := m.To("e", "k"), m.To("e", "k").ToQueue("q")
	if m.Exchange+m.RoutingKey != "" || a.Exchange != "e" || a.RoutingKey != "k" || b.Exchange != "" || b.RoutingKey != "q" {
		t.Errorf("%v %v %v", m, a, b)
	}
}

func TestVerdictsAreReadFromErrors(t *testing.T) {
	t.Parallel()
	told := &RefusedError{Field: "RoutingKey", Reason: "is bad"}
	for _, c := range []struct {
		v    Verdict
		err  error
		safe bool
	}{
		{Returned, &ReturnedError{Code: 312, Text: "NO_ROUTE", RoutingKey: "q"}, true},
		{Returned, &ReturnedError{Code: 312, Text: "NO_ROUTE", Exchange: "e", RoutingKey: "q"}, true},
		{Nacked, ErrNacked, false},
		{Refused, told, true},
		{Refused, &RefusedError{Reason: "the broker said so", Err: context.Canceled}, true},
		{NotSent, fmt.Errorf("%w: %w", ErrNotSent, context.Canceled), true},
		{Unknown, fmt.Errorf("%w: %w", ErrUnconfirmed, context.Canceled), false},
	} {
		for _, stored := range []bool{false, true} {
			inner := &PublishError{MessageID: "id", Verdict: c.v, MaybeStored: stored, Err: c.err}
			for _, err := range []error{inner, fmt.Errorf("place order: %w", inner), errors.Join(errors.New("x"), inner)} {
				if VerdictOf(err) != c.v || !errors.Is(err, c.err) {
					t.Errorf("%v: verdict %s, want %s", err, VerdictOf(err), c.v)
				}
				if got, want := SafeToRetry(err), c.safe && !stored; got != want {
					t.Errorf("%v, stored before: %v: SafeToRetry is %v", err, stored, got)
				}
			}
			s := inner.Error()
			if strings.Contains(s, "\n") || !strings.HasPrefix(s, "message id: ") {
				t.Errorf("%q", s)
			}
			if strings.Contains(s, "earlier sending") != (stored && c.v != Unknown) {
				t.Errorf("%q with MaybeStored %v", s, stored)
			}
		}
	}
	if VerdictOf(nil) != Confirmed || SafeToRetry(nil) {
		t.Error("nil is confirmed, and a duplicate if published again")
	}
	for _, err := range []error{ErrPending, context.Canceled} {
		if VerdictOf(err) != Pending || SafeToRetry(err) {
			t.Errorf("%v: %s", err, VerdictOf(err))
		}
	}
	if !errors.Is(&PublishError{Err: &RefusedError{Err: context.Canceled}}, context.Canceled) {
		t.Error("what the broker said cannot be found")
	}
}

func TestVerdictsHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for v := Pending; v <= Unknown; v++ {
		s := v.String()
		if seen[s] || strings.Contains(s, "(") {
			t.Errorf("verdict %d is %q", v, s)
		}
		seen[s] = true
	}
	if s := Verdict(99).String(); s != "verdict(99)" {
		t.Error(s)
	}
}

func TestConfigBoundsMustNotBeNegative(t *testing.T) {
	t.Parallel()
	_, err := Config{MaxInFlight: -1, MaxInFlightBytes: -2}.withDefaults(nil)
	if err == nil || !strings.Contains(err.Error(), "MaxInFlight is -1") || !strings.Contains(err.Error(), "MaxInFlightBytes is -2") {
		t.Errorf("not every fault is told: %v", err)
	}
}
