package main

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/consumer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var event = &consumer.Delivery{RoutingKey: "event1", Body: []byte("Data to be handled")}

func TestListenersPrintWhatTheClassicProgramPrints(t *testing.T) {
	var out bytes.Buffer
	for _, l := range listeners(&out) {
		if l.pattern != "event1" {
			t.Errorf("listener %s listens to %s", l.name, l.pattern)
		}
		if err := l.handle(t.Context(), event); err != nil {
			t.Error(err)
		}
	}
	const want = "Event received: Data to be handled\nHandling event: event1, data: Data to be handled\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestEachListenerHasAQueueOfItsOwn(t *testing.T) {
	queues := map[string]bool{}
	for _, l := range listeners(io.Discard) {
		queues[l.queue()] = true
	}
	if !queues["emitter.received"] || !queues["emitter.handling"] || len(queues) != 2 {
		t.Errorf("got %v", queues)
	}
}

func TestChooseTakesNamesOrAll(t *testing.T) {
	for _, c := range []struct {
		names     []string
		panicking string
		want      int
		err       error
	}{
		{nil, "", 2, nil},
		{[]string{"handling"}, "", 1, nil},
		{nil, "received", 2, nil},
		{[]string{"nosuch"}, "", 0, errUsage},
		{[]string{"handling"}, "received", 0, errUsage},
	} {
		chosen, err := choose(listeners(io.Discard), c.names, c.panicking)
		if len(chosen) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v, panicking %q: %d listeners, error %v; want %d, %v", c.names, c.panicking, len(chosen), err, c.want, c.err)
		}
	}
}

func TestPanicFirstPanicsOnceForEachEvent(t *testing.T) {
	var out bytes.Buffer
	chosen, err := choose(listeners(&out), []string{"received"}, "received")
	if err != nil {
		t.Fatal(err)
	}
	try := func(d *consumer.Delivery) (panicked bool) {
		defer func() { panicked = recover() != nil }()
		if err := chosen[0].handle(t.Context(), d); err != nil {
			t.Error(err)
		}
		return false
	}
	if !try(event) || out.Len() > 0 {
		t.Errorf("the first try did not panic, or printed %q", out.String())
	}
	again := *event
	again.Redelivered = true
	if try(&again) || out.String() != "Event received: Data to be handled\n" {
		t.Errorf("the second try panicked, or printed %q", out.String())
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"emit"}, {"emit", "event1"}, {"listen", "-nosuch"}, {"listen", "nosuch"}, {"shout"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v, want a usage error", args, err)
		}
	}
}
