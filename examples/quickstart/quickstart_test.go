package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/reconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func consume(t *testing.T, books *ledger, id int, redelivered bool) {
	t.Helper()
	if err := books.consume(t.Context(), order{ID: id}, &consumer.Delivery{Redelivered: redelivered}); err != nil {
		t.Fatal(err)
	}
}

func TestLedgerExplainsDuplicates(t *testing.T) {
	books := &ledger{seen: make([]int, 3)}
	for id := range 3 {
		consume(t, books, id, false)
	}
	consume(t, books, 0, false)
	consume(t, books, 1, true)
	consume(t, books, 1, true)
	books.confirm(make([]error, 3), 7)
	books.connections(faults{planned: 3, made: 3, lostPublishing: 2, lostConsuming: 1})
	const want = `published        3
confirmed        3
republished      7
consumed         3
duplicates       3  (confirm lost, published again: 1; ack lost, given out again: 2)
cuts             3  (connections lost: publishing 2, consuming 1)
lost             0
`
	if got := books.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if err := books.check(); err != nil {
		t.Error(err)
	}
}

func TestLedgerCallsLostWhatWasConfirmedAndNotConsumed(t *testing.T) {
	books := &ledger{seen: make([]int, 3)}
	consume(t, books, 2, false)
	if !books.complete(false) {
		t.Error("one is missing before any was confirmed")
	}
	books.confirm([]error{nil, errors.New("nacked"), nil}, 0)
	consume(t, books, endID, false)
	if books.complete(true) {
		t.Error("order 0 is not missing")
	}
	if !strings.Contains(books.String(), "lost             1\n") {
		t.Errorf("got\n%s", books)
	}
	if err := books.check(); err == nil || !strings.Contains(err.Error(), "1 orders were confirmed and never consumed") {
		t.Errorf("check: %v", err)
	}

	books.cut()
	if !strings.Contains(books.String(), "unread           1\nlost             0\n") {
		t.Errorf("after a cut: got\n%s", books)
	}
	if err := books.check(); err == nil || !strings.Contains(err.Error(), "1 orders were not confirmed, the first: nacked") {
		t.Errorf("check after a cut: %v", err)
	}
}

func TestLedgerIsCompleteWhenTheEndWasSeen(t *testing.T) {
	books := &ledger{seen: make([]int, 1)}
	consume(t, books, 0, false)
	books.confirm(make([]error, 1), 1)
	if books.complete(true) {
		t.Error("a copy may follow, and it is complete")
	}
	consume(t, books, 0, false)
	consume(t, books, endID, false)
	if !books.complete(true) {
		t.Error("it is not complete")
	}
	if orders, total := books.consumed(); orders != 1 || total != 2 {
		t.Errorf("%d orders, %d times; want 1, twice", orders, total)
	}
}

func TestLedgerProvesNothingWithoutCuts(t *testing.T) {
	for _, c := range []struct {
		faults faults
		want   string
	}{
		{faults{planned: 3, made: 2, lostPublishing: 2}, "3 cuts were planned and 2 made"},
		{faults{planned: 3, made: 3, lostPublishing: 1, lostConsuming: 1}, "3 cuts were made and 2 connections lost"},
	} {
		books := &ledger{}
		books.connections(c.faults)
		if err := books.check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.faults, err, c.want)
		}
	}
}

func TestLedgerRejectsWhatWasNeverPublished(t *testing.T) {
	books := &ledger{seen: make([]int, 1)}
	for _, id := range []int{-2, 1} {
		if err := books.consume(t.Context(), order{ID: id}, &consumer.Delivery{}); err == nil {
			t.Errorf("order %d was taken", id)
		}
	}
}

func TestProgressIsPlainLinesWhereThereIsNoTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		n := 0
		stop := newTalk(&out).progress(func() string {
			n++
			return fmt.Sprint("status ", n)
		})
		<-time.After(2500 * time.Millisecond) // the bubble's time
		stop()
		if got, want := out.String(), "status 1\nstatus 2\nstatus 3\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestProgressIsOneLineOnATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		talk := &talk{w: &out, terminal: true, every: time.Second}
		stop := talk.progress(func() string { return "status" })
		<-time.After(1500 * time.Millisecond)
		talk.line("news")
		stop()
		if got, want := out.String(), "\r\x1b[Kstatus\r\x1b[Knews\n\r\x1b[Kstatus\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestOnlyLossesAndReturnsAreTold(t *testing.T) {
	var out bytes.Buffer
	talk := newTalk(&out)
	for _, c := range []reconnect.StateChange{
		{From: reconnect.Idle, To: reconnect.Connecting},
		{From: reconnect.Connecting, To: reconnect.Connected},
		{From: reconnect.Connected, To: reconnect.Waiting},
		{From: reconnect.Waiting, To: reconnect.Connecting},
		{From: reconnect.Connecting, To: reconnect.Waiting},
		{From: reconnect.Connected, To: reconnect.Closed},
	} {
		talk.stateChange(c)
	}
	const want = "publishing connection connecting -> connected\npublishing connection connected -> waiting\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err         error
		interrupted bool
		want        int
	}{
		{nil, false, 0},
		{nil, true, 130},
		{errors.New("x"), false, 1},
		{errors.New("x"), true, 130},
		{fmt.Errorf("AMQP_URL: %w", reconnect.ErrConfig), false, 2},
	} {
		if got := exitCode(c.err, c.interrupted); got != c.want {
			t.Errorf("%v, interrupted %v: %d, want %d", c.err, c.interrupted, got, c.want)
		}
	}
}
