package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// patience is how long a run may take, on a busy machine.
const patience = 2 * time.Minute

// rows reads the ledger that run prints, and the causes of duplicates behind it.
func rows(t *testing.T, stdout string) map[string]int {
	t.Helper()
	rows := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+) +(\d+)|(published again|given out again|publishing|consuming):? (\d+)`).FindAllStringSubmatch(stdout, -1) {
		n, err := strconv.Atoi(m[2] + m[4])
		if err != nil {
			t.Fatal(err)
		}
		rows[m[1]+m[3]] = n
	}
	return rows
}

func mustBe(t *testing.T, rows, want map[string]int) {
	t.Helper()
	for row, n := range want {
		if got, ok := rows[row]; !ok || got != n {
			t.Errorf("%s: %d, want %d", row, got, n)
		}
	}
}

// theJob runs against the broker at brokerURL, or the embedded one.
func theJob(t *testing.T, ctx context.Context, brokerURL string, job job, stderr io.Writer) (map[string]int, error) {
	t.Helper()
	t.Setenv(reconnect.EnvURL, brokerURL)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var stdout bytes.Buffer
	err := run(ctx, job, &stdout, io.MultiWriter(t.Output(), stderr))
	t.Logf("%v\n%s", err, &stdout)
	return rows(t, stdout.String()), err
}

func TestRunWithoutABrokerStartsOneAndLosesNothing(t *testing.T) {
	const n = 4000
	got, err := theJob(t, t.Context(), "", job{orders: n, silence: patience}, io.Discard)
	if err != nil {
		t.Error(err)
	}
	mustBe(t, got, map[string]int{
		"published": n, "confirmed": n, "consumed": n, "lost": 0,
		"cuts": 3, "publishing": 2, "consuming": 1,
	})
	for _, cause := range []string{"published again", "given out again"} { // cuts 3 and 2 make sure of it
		if got[cause] == 0 {
			t.Errorf("no duplicate of this cause: %s", cause)
		}
	}
	if got["duplicates"] != got["published again"]+got["given out again"] || got["published again"] > got["republished"] {
		t.Errorf("the causes do not explain the duplicates: %v", got)
	}
}

// stored counts the messages that the broker has taken, and how many it has taken
// again.
func stored(b *mqtest.Broker) (messages, copies int) {
	seen := map[string]bool{}
	for _, r := range b.Journal().Records() {
		if r.Kind != mqtest.QueueEvent || r.Detail != "published" {
			continue
		}
		if seen[r.MessageID] {
			copies++
		}
		seen[r.MessageID] = true
	}
	return len(seen), copies
}

// Two URLs are two proxies, and still three cuts. Enough orders for the three
// to be well apart, so that no copy suffers from two of them.
func TestRunOnAGivenBrokerTellsWhatTheBrokerSaw(t *testing.T) {
	const n = 8000
	b := mqtest.New(t, mqtest.Config{Journal: -1})
	got, err := theJob(t, t.Context(), b.URL()+","+b.URL(), job{orders: n, silence: patience}, io.Discard)
	if err != nil {
		t.Error(err)
	}
	mustBe(t, got, map[string]int{
		"published": n, "confirmed": n, "consumed": n, "lost": 0,
		"cuts": 3, "publishing": 2, "consuming": 1,
	})
	if messages, copies := stored(b); messages != n+1 || copies != got["published again"] {
		t.Errorf("the broker stored %d messages and %d copies, want %d orders, the end, and %d copies",
			messages, copies, n, got["published again"])
	}
	if left := b.Queues("/"); len(left) != 0 {
		t.Errorf("it left %v behind", left)
	}
}

// The broker confirms one order and never keeps it.
func TestRunFailsWhenAnOrderIsLost(t *testing.T) {
	b := mqtest.New(t)
	var lies atomic.Int64
	b.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point != mqtest.Received || !bytes.HasPrefix(e.Body, []byte(`{"id":42,`)) {
			return mqtest.Pass()
		}
		lies.Add(1)
		return mqtest.Answer(mqtest.Method{Name: "basic.ack", Fields: map[string]any{"delivery-tag": e.Number}})
	})
	const n = 100
	got, err := theJob(t, t.Context(), b.URL(), job{orders: n, silence: 300 * time.Millisecond}, io.Discard)
	if lies.Load() == 0 {
		t.Fatal("no order was lost")
	}
	if err == nil || !strings.Contains(err.Error(), "1 orders were confirmed and never consumed") || exitCode(err, false) != 1 {
		t.Errorf("got %v, exit code %d", err, exitCode(err, false))
	}
	mustBe(t, got, map[string]int{"published": n, "confirmed": n, "consumed": n - 1, "lost": 1})
}

// onLine does something when a line begins with text.
type onLine struct {
	text string
	do   func()
	once sync.Once
}

func (o *onLine) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), o.text) {
		o.once.Do(o.do)
	}
	return len(b), nil
}

func TestRunThatIsInterruptedKeepsItsBooks(t *testing.T) {
	const n = 1_000_000
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	b := mqtest.New(t)
	got, err := theJob(t, ctx, b.URL(), job{orders: n, rate: 2000, silence: patience}, &onLine{text: "consuming connection connecting -> connected", do: interrupt})
	if err != nil {
		t.Error(err)
	}
	if ctx.Err() == nil || got["published"] == n {
		t.Fatal("it was not interrupted")
	}
	mustBe(t, got, map[string]int{"confirmed": got["published"], "consumed": got["published"], "lost": 0})
	if left := b.Queues("/"); len(left) != 0 {
		t.Errorf("it left %v behind", left)
	}
}

func TestRunSaysWhereThereIsNoBroker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // nobody listens there now
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = theJob(t, ctx, "amqp://guest:secret@"+addr+"/", job{orders: 1}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), addr) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want the address %s and no password", err, addr)
	}
	_, err = theJob(t, t.Context(), "http://localhost", job{orders: 1}, io.Discard)
	if !errors.Is(err, reconnect.ErrConfig) {
		t.Errorf("got %v, want ErrConfig", err)
	}
}

func TestRunOfFewOrdersIsCutThreeTimesAsWell(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := mqtest.New(t)
			got, err := theJob(t, t.Context(), b.URL(), job{orders: n, silence: patience}, io.Discard)
			if err != nil {
				t.Error(err)
			}
			mustBe(t, got, map[string]int{"published": n, "confirmed": n, "consumed": n, "cuts": 3, "lost": 0})
			// A single order is sent three times: the first cut has the broker not get
			// it, the last has it get it twice.
			if _, copies := stored(b); n == 1 && (got["republished"] != 2 || copies != 1) {
				t.Errorf("%d times sent again, %d copies stored; want 2 and 1", got["republished"], copies)
			}
		})
	}
}
