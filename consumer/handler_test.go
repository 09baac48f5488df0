package consumer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestJSONDecodesExactlyOneValue(t *testing.T) {
	t.Parallel()
	type order struct{ N int }
	var got order
	refused := errors.New("handler's own")
	h := JSON(func(_ context.Context, o order, d *Delivery) error {
		got = o
		if d.Body == nil {
			t.Error("the delivery is not the handler's")
		}
		if o.N == 13 {
			return refused
		}
		return nil
	})
	for _, good := range []string{`{"N":5}`, " {\"N\":5}\n"} {
		got = order{}
		if err := h(t.Context(), &Delivery{Body: []byte(good)}); err != nil || got.N != 5 {
			t.Errorf("%q: %v %v", good, got, err)
		}
	}
	if err := h(t.Context(), &Delivery{Body: []byte(`{"N":13}`)}); !errors.Is(err, refused) || errors.Is(err, ErrUndecodable) {
		t.Errorf("the handler's error became %v", err)
	}
	got = order{}
	for _, bad := range []string{"", " ", "{", "nope", `"x"`, `{"N":"x"}`, `{"N":5}{"N":6}`, `{"N":5} x`, `{"N":5}]`, "\xff"} {
		if err := h(t.Context(), &Delivery{Body: []byte(bad)}); !errors.Is(err, ErrUndecodable) || got.N != 0 {
			t.Errorf("%q: %v %v", bad, got, err)
		}
	}
}

func TestDecisionsSayWhatAndWhy(t *testing.T) {
	t.Parallel()
	for v, decide := range map[verdict]func(error) error{reject: Reject, requeue: Requeue, release: Release} {
		for _, err := range []error{decide(io.EOF), fmt.Errorf("order 7: %w", decide(io.EOF)), errors.Join(errors.New("x"), decide(io.EOF))} {
			var d *decision
			if !errors.As(err, &d) || d.verdict != v || !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), v.String()+": EOF") {
				t.Errorf("%v is not read as %s", err, v)
			}
		}
		if s := decide(nil).Error(); s != v.String() {
			t.Errorf("without a reason it reads %q", s)
		}
	}
}

func TestPauseGrowsFrom100MillisecondsTo30Seconds(t *testing.T) {
	t.Parallel()
	want := 100 * time.Millisecond
	for n := 1; n < 2000; n++ {
		if got := pauseAfter(n); got != min(want, 30*time.Second) {
			t.Fatalf("after %d failures it is %v, want %v", n, got, want)
		}
		want = min(2*want, time.Minute)
	}
}

func TestAttemptCountsFailedDeliveries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		count       any
		redelivered bool
		want        int
	}{
		{nil, false, 1},
		{nil, true, 2},
		{int64(0), true, 1}, // given out before, but it did not fail
		{int64(3), true, 4},
		{int32(3), false, 4},
		{uint8(3), false, 4},
		{"3", true, 2}, // not the broker's
	} {
		d := Delivery{Redelivered: c.redelivered}
		if c.count != nil {
			d.Headers = amqp.Table{"x-delivery-count": c.count}
		}
		if got := d.Attempt(); got != c.want {
			t.Errorf("count %v, redelivered %v: attempt %d, want %d", c.count, c.redelivered, got, c.want)
		}
	}
}

func TestCorrelationHeaderOfProducerIsTakenOff(t *testing.T) {
	t.Parallel()
	d := newDelivery(&session{}, &amqp.Delivery{Headers: amqp.Table{correlationHeader: "1"}})
	if d.Headers != nil {
		t.Errorf("headers %v", d.Headers)
	}
	d = newDelivery(&session{}, &amqp.Delivery{Headers: amqp.Table{correlationHeader: "1", "own": int64(2)}})
	if len(d.Headers) != 1 || d.Headers["own"] != int64(2) {
		t.Errorf("headers %v", d.Headers)
	}
}

func TestConfigTellsAllItsFaults(t *testing.T) {
	t.Parallel()
	_, err := Config{Workers: -1, Prefetch: -2, FlushInterval: -1, DrainTimeout: -1, Bindings: []topology.Binding{{Exchange: "e"}}}.withDefaults(new(reconnect.Pool))
	if err == nil {
		t.Fatal("no fault")
	}
	for _, want := range []string{"queue is missing", "Workers is -1", "Prefetch is -2", "FlushInterval is -1ns", "DrainTimeout is -1ns"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among the faults: %v", want, err)
		}
	}
	for want, cfg := range map[string]Config{
		"AMQP allows 65535":          {Queue: "q", Prefetch: 65536},
		"Bindings belong to":         {Queue: "q", Bindings: []topology.Binding{{Exchange: "e"}}},
		`Queue is "a" and Declare "`: {Queue: "a", Declare: &topology.Queue{Name: "b", Exclusive: true, Type: topology.Classic}},
	} {
		if _, err := cfg.withDefaults(new(reconnect.Pool)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestLaneGivesInOrderAndEndsWhenClosed(t *testing.T) {
	t.Parallel()
	l := newLane()
	rnd := rand.New(rand.NewPCG(1, 3))
	var in, out uint64
	for in < 20_000 { // with backlogs over the size at which it is compacted
		for range rnd.IntN(4000) {
			in++
			l.push(&Delivery{Tag: in})
		}
		for range rnd.IntN(int(in-out) + 1) {
			out++
			if d := l.pop(); d.Tag != out {
				t.Fatalf("delivery %d came in place %d", d.Tag, out)
			}
		}
	}
	l.push(&Delivery{})
	l.close()
	if l.pop() != nil {
		t.Error("a closed lane gives nothing: the rest is given back")
	}
	// Every worker that waits is set free.
	l = newLane()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if l.pop() != nil {
				t.Error("a delivery out of nothing")
			}
		})
	}
	l.close()
	wg.Wait()
}

func TestKeyHasOneLaneAndKeysAreSpread(t *testing.T) {
	t.Parallel()
	r := &run{seed: maphash.MakeSeed(), cfg: Config{Workers: 8, OrderBy: func(d *Delivery) string { return d.RoutingKey }}}
	for range 8 {
		r.lanes = append(r.lanes, newLane())
	}
	for i := range 1000 {
		r.dispatch(&Delivery{RoutingKey: fmt.Sprint(i % 100), Tag: uint64(i)})
	}
	of := map[string]int{}
	used := map[int]bool{}
	for i, l := range r.lanes {
		last := map[string]uint64{}
		for _, d := range l.list {
			if was, ok := of[d.RoutingKey]; ok && was != i {
				t.Fatalf("key %s is on lanes %d and %d", d.RoutingKey, was, i)
			}
			if d.Tag < last[d.RoutingKey] {
				t.Fatalf("key %s is out of order", d.RoutingKey)
			}
			of[d.RoutingKey], last[d.RoutingKey], used[i] = i, d.Tag, true
		}
	}
	if len(of) != 100 || len(used) < 4 {
		t.Errorf("%d keys on %d lanes: %v", len(of), len(used), slices.Sorted(maps.Keys(used)))
	}
}
