package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/clitest"
	"github.com/mqkit/mqkit/internal/record"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/topology"
)

const patience = time.Minute

// bound is a queue "q" that gets what is published to "e".
var bound = topology.Topology{
	Exchanges: []topology.Exchange{{Name: "e"}},
	Queues:    []topology.Queue{{Name: "q"}},
	Bindings:  []topology.Binding{{Exchange: "e", Queue: "q", RoutingKey: "k"}},
}

func TestEachVerdictHasItsCodeAndWhatIsNotConfirmedIsKept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		args  []string
		at    mqtest.Point  // of the message "b"
		do    mqtest.Action // the others are confirmed
		code  int
		kept  string
		holds string // the queue, duplicates aside
		says  []string
	}{
		{"all confirmed", nil, mqtest.Received, mqtest.Pass(), 0, "", "a b c", []string{"mqpub: 3 confirmed, 0 failed in "}},
		{
			"returned", nil, mqtest.Received, mqtest.Return(312, "NO_ROUTE"), 3, "b", "a c",
			[]string{"mqpub: line 2: returned: exchange \"e\" has no queue bound for routing key \"k\"\n", "mqpub: 2 confirmed, 1 failed (1 returned), 1 kept in "},
		},
		{
			"nacked", nil, mqtest.Received, mqtest.Nack(), 3, "b", "a c",
			[]string{"mqpub: line 2: nacked: a queue did not take it\n", "mqpub: 2 confirmed, 1 failed (1 nacked), 1 kept in "},
		},
		{
			"refused", nil, mqtest.Received, mqtest.CloseChannel(404, "NOT_FOUND - no exchange 'e' in vhost '/'"), 3, "b", "a c",
			[]string{"mqpub: line 2: refused: there is no exchange 'e' in vhost '/': create it first, or check the name (404)", "mqpub: 2 confirmed, 1 failed (1 refused), "},
		},
		{
			"no answer",
			[]string{"--confirm-timeout", "100ms"},
			mqtest.Received, mqtest.Drop(), 5, "b", "a c",
			[]string{"mqpub: line 2: unknown: no confirmation for 100ms (--confirm-timeout)\n", "mqpub: no confirmation for 100ms (--confirm-timeout)\n", "mqpub: 2 confirmed, 1 failed (1 unknown), ", "1 kept in "},
		},
		{
			"no answer, and it is in the queue",
			[]string{"--confirm-timeout", "100ms"},
			mqtest.Applied, mqtest.Drop(), 5, "b", "a b c",
			[]string{"mqpub: line 2: unknown: no confirmation for 100ms (--confirm-timeout)\n", "mqpub: 2 confirmed, 1 failed (1 unknown), ", "1 kept in "},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := clitest.Broker(t, mqtest.Config{Strict: true}, bound)
			fault := b.Inject(mqtest.Fault{Point: c.at, Method: "basic.publish", If: isB, Do: c.do})
			r := publishABC(t, b, c.args...)
			if r.code != c.code || r.stdout != "" {
				t.Errorf("exit %d, want %d; wrote %q", r.code, c.code, r.stdout)
			}
			for _, line := range c.says {
				if !strings.Contains(r.stderr, line) {
					t.Errorf("said\n%swant %s", r.stderr, line)
				}
			}
			if r.kept != c.kept {
				t.Errorf("kept %q, want %q", r.kept, c.kept)
			}
			bodies := b.Queue("q").Bodies()
			slices.Sort(bodies)
			if got := strings.Join(slices.Compact(bodies), " "); got != c.holds {
				t.Errorf("the queue holds %s, want %s", got, c.holds)
			}
			if fault.Hits() == 0 {
				t.Error("the fault has not struck")
			}
		})
	}
}

// What is known of each line is true, however many were on the way.
func TestAConnectionLostForTooLongLosesNoLine(t *testing.T) {
	t.Parallel()
	for _, at := range []mqtest.Point{mqtest.Received, mqtest.Applied} {
		b := clitest.Broker(t, mqtest.Config{Strict: true}, bound)
		cut := b.Inject(mqtest.Fault{Point: at, Method: "basic.publish", If: isB, Do: mqtest.Cut()})
		r := publishABC(t, b, "--retry", "0")
		if r.code != 5 || !strings.Contains(r.stderr, "mqpub: the connection was lost: ") || r.stdout != "" {
			t.Errorf("%v: exit %d, wrote %q, said\n%s", at, r.code, r.stdout, r.stderr)
		}
		if cut.Hits() != 1 {
			t.Errorf("%v: it was cut %d times", at, cut.Hits())
		}
		stored := b.Queue("q").Bodies()
		if want := map[mqtest.Point][]string{mqtest.Received: {"a"}, mqtest.Applied: {"a", "b"}}[at]; !slices.Equal(stored, want) {
			t.Errorf("%v: the queue holds %q, want %q", at, stored, want)
		}
		if !strings.Contains(r.kept, "b") {
			t.Errorf("%v: kept %q: the line whose confirm was lost is not among them", at, r.kept)
		}
		for _, line := range []string{"a", "b", "c"} {
			published := line == "a" || line == "b" || !strings.Contains(r.stderr, "nothing after line 2 was published")
			if published && !slices.Contains(stored, line) && !strings.Contains(r.kept, line) {
				t.Errorf("%v: line %s is neither in the queue nor kept; said\n%s", at, line, r.stderr)
			}
		}
	}
}

// Where the exchange has never been, no earlier sending is in a queue.
func TestAnExchangeThatIsNotThereIsAllThatIsSaid(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stderr strings.Builder
	code := run(ctx, []string{"-u", b.URL(), "-e", "e", "a", "b"}, nil, nil, &stderr)
	if code != 3 || strings.Count(stderr.String(), "refused: there is no exchange 'e' in vhost '/': create it first, or check the name (404)\n") != 2 {
		t.Errorf("exit %d, said\n%s", code, &stderr)
	}
}

// The others are published, and nothing is kept in its place.
func TestALineThatIsTooLongIsNamed(t *testing.T) {
	t.Parallel()
	b := clitest.Broker(t, mqtest.Config{Strict: true}, bound)
	failed := filepath.Join(t.TempDir(), "failed")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o := &options{}
	if err := o.command(nil).ParseFlags([]string{"-u", b.URL(), "-e", "e", "-r", "k", "--failed", failed}); err != nil {
		t.Fatal(err)
	}
	o.longestLine = 3
	var stderr strings.Builder
	code, err := publish(ctx, o, nil, strings.NewReader("abc\nabcd\nb\n"), &stderr)
	if err != nil || code != 3 {
		t.Errorf("exit %d, %v", code, err)
	}
	for _, line := range []string{
		"mqpub: line 2: refused: the line has 4 bytes, RabbitMQ takes 3 at most: it is not kept\n",
		"mqpub: 2 confirmed, 1 failed (1 refused) in ",
	} {
		if !strings.Contains(stderr.String(), line) {
			t.Errorf("said\n%swant %s", &stderr, line)
		}
	}
	if got := b.Queue("q").Bodies(); !slices.Equal(got, []string{"abc", "b"}) {
		t.Errorf("the queue holds %q", got)
	}
	if kept := keptIn(t, failed); kept != "" {
		t.Errorf("kept %q", kept)
	}
}

// isB matches the message "b".
func isB(e *mqtest.Event) bool { return string(e.Body) == "b" }

// result is what a run has left behind.
type result struct {
	code           int
	stdout, stderr string
	kept           string // bodies in the file of --failed
}

// publishABC is mqpub with the lines a, b and c for the exchange "e".
func publishABC(t *testing.T, b *mqtest.Broker, args ...string) result {
	t.Helper()
	failed := filepath.Join(t.TempDir(), "failed")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr strings.Builder
	args = append([]string{"-u", b.URL(), "-e", "e", "-r", "k", "--failed", failed}, args...)
	code := run(ctx, args, strings.NewReader("a\nb\nc\n"), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String(), keptIn(t, failed)}
}

// keptIn is the bodies of the records in a file.
func keptIn(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for line := range strings.Lines(string(b)) {
		r, err := record.Parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(r.Body))
	}
	return strings.Join(bodies, " ")
}

// Each publish costs the connection, so a connection is no sign of an end. Time with
// it counts for --confirm-timeout, time without for --retry: one of them ends it.
func TestAMessageThatCostsItsConnectionEachTimeEndsTheRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		do   mqtest.Action
		says string
	}{
		{"at once", []string{"--retry", "1s", "--confirm-timeout", "1h"}, mqtest.Cut(), "; trying again for another "},
		{"after a while", []string{"--retry", "forever", "--confirm-timeout", "1s"}, mqtest.Delay(300 * time.Millisecond).Then(mqtest.Cut()), "mqpub: no confirmation for 1s (--confirm-timeout)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := clitest.Broker(t, mqtest.Config{Strict: true}, bound)
			fault := b.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", If: isB, Do: c.do})
			r := publishABC(t, b, c.args...)
			if r.code != 5 || !strings.Contains(r.stderr, c.says) || !strings.Contains(r.kept, "b") {
				t.Errorf("exit %d, kept %q, said\n%swant %s", r.code, r.kept, r.stderr, c.says)
			}
			if fault.Hits() < 2 {
				t.Errorf("the connection was lost %d times", fault.Hits())
			}
		})
	}
}
