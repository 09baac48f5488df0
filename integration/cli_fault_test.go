package integration_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/integration/broker"
)

// feed is the stdin of an mqpub: numbered lines, written as fast as they are
// taken, up to a line that can be moved on.
type feed struct {
	w *os.File

	mu      sync.Mutex
	written int
	upTo    int
	closed  bool
	moved   chan struct{} // closed when upTo changes
	ended   chan struct{}
}

// newFeed returns a feed and the file to read it from.
func newFeed(t *testing.T) (*feed, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{w: w, moved: make(chan struct{}), ended: make(chan struct{})}
	go f.write() // waited for below
	t.Cleanup(func() {
		_ = r.Close() // a writer that is stuck gets EPIPE
		f.end()
		<-f.ended
	})
	return f, r
}

func (f *feed) write() {
	defer close(f.ended)
	defer f.w.Close()
	b := bufio.NewWriter(f.w)
	for {
		f.mu.Lock()
		next, upTo, closed, moved := f.written+1, f.upTo, f.closed, f.moved
		f.mu.Unlock()
		if next > upTo {
			if b.Flush() != nil || closed {
				return
			}
			<-moved
			continue
		}
		if _, err := fmt.Fprintln(b, next); err != nil {
			return
		}
		f.mu.Lock()
		f.written = next
		f.mu.Unlock()
	}
}

// advance lets it write so many lines more.
func (f *feed) advance(lines int) { f.move(lines, false) }

// end ends it behind the line that it may write up to.
func (f *feed) end() { f.move(0, true) }

func (f *feed) move(lines int, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.upTo += lines
	f.closed = f.closed || closed
	close(f.moved)
	f.moved = make(chan struct{})
}

// await waits until only so many lines are left to be written.
func (f *feed) await(t *testing.T, left int) {
	t.Helper()
	eventually(t, "mqpub takes the lines", programPatience, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.upTo-f.written <= left
	})
}

func kill(t *testing.T, node *broker.Node) {
	t.Helper()
	if err := node.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, node *broker.Node) {
	t.Helper()
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// mustHoldSoon waits until so many messages are ready: what was written to a tool
// may still be on its way to it.
func mustHoldSoon(t *testing.T, node *broker.Node, queue string, n int) {
	t.Helper()
	conn, _ := dial(t, node.URL())
	defer conn.Close()
	eventually(t, fmt.Sprintf("queue %s holds %d messages", queue, n), programPatience, func() bool {
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err == nil && q.Messages == n
	})
}

// summary reads numbers out of the last line of stderr.
func (p *program) summary(t *testing.T, pattern string) []int {
	t.Helper()
	m := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(p.stderr.String())
	if m == nil {
		t.Fatalf("%s says\n%s\nwant a line that matches %s", p.name, p.stderr, pattern)
	}
	var out []int
	for _, s := range m[1:] {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

// tallied counts the lines of s.
func tallied(s string) map[string]int {
	seen := map[string]int{}
	for line := range strings.Lines(s) {
		seen[strings.TrimSuffix(line, "\n")]++
	}
	return seen
}

func mustHaveAll(t *testing.T, seen map[string]int, n int) (duplicates int) {
	t.Helper()
	lost := 0
	for i := range n {
		k := seen[strconv.Itoa(i+1)]
		if k == 0 {
			lost++
			if lost <= 10 {
				t.Errorf("line %d is lost", i+1)
			}
			continue
		}
		duplicates += k - 1
	}
	if lost > 10 {
		t.Errorf("%d lines are lost", lost)
	}
	return duplicates
}

func testKillsUnderLoad(t *testing.T, c tools) {
	node := ownNode(t)
	const lines, kills = 200_000, 3
	f, stdin := newFeed(t)
	pub := c.start(t, command{url: node.URL(), stdin: stdin, name: "mqpub", args: []string{"-q", "t1", "--declare", "--retry", "5m"}})
	f.advance(1000)
	f.await(t, 0)
	settled(t, node)
	f.advance(lines - 1000)
	for i := range kills {
		f.await(t, lines-(i+1)*lines/(kills+1))
		kill(t, node)
		pub.await(t, pub.stderr, "a lost connection", func(s string) bool { return strings.Count(s, "connection lost: ") == i+1 })
		start(t, node)
		pub.await(t, pub.stderr, "the connection again", func(s string) bool { return strings.Count(s, "connected again to ") == i+1 })
	}
	f.end()
	pub.mustExit(t, 0)
	n := pub.summary(t, `^mqpub: 200000 confirmed, 0 failed, (\d+) reconnects(?:, (\d+) republished)? in `)
	if n[0] < kills {
		t.Errorf("%d reconnects, want %d", n[0], kills)
	}
	sub := c.run(t, 0, node.URL(), "", "mqsub", "-q", "t1", "-o", "body", "--idle-timeout", "5s")
	duplicates := mustHaveAll(t, tallied(sub.stdout.String()), lines)
	if duplicates > n[1] {
		t.Errorf("%d duplicates, and only %d were republished", duplicates, n[1])
	}
	t.Logf("%d republished, %d duplicates", n[1], duplicates)
}

func testSubscriberSurvivesKills(t *testing.T, c tools) {
	node := ownNode(t)
	const messages = 20_000
	c.run(t, 0, node.URL(), numbers(messages), "mqpub", "-q", "t1", "--declare")
	settled(t, node)
	out := filepath.Join(t.TempDir(), "out")
	w, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	sub := c.start(t, command{url: node.URL(), stdout: w, name: "mqsub", args: []string{"-q", "t1", "-o", "body", "--retry", "5m"}})
	lines := func() map[string]int {
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return tallied(string(b))
	}
	for i := range 2 {
		eventually(t, "some messages are written", programPatience, func() bool { return len(lines()) > (i+1)*messages/4 })
		if n := len(lines()); n == messages {
			t.Fatalf("all is consumed before kill %d", i+1)
		}
		kill(t, node)
		sub.await(t, sub.stderr, "a lost connection", func(s string) bool { return strings.Count(s, "connection lost: ") == i+1 })
		start(t, node)
	}
	eventually(t, "all messages are written", redelivery, func() bool { return len(lines()) == messages })
	sub.interrupt(t)
	sub.mustExit(t, 0)
	sub.summary(t, `^mqsub: (\d+) consumed.*, (\d+) reconnects? in `)
	t.Logf("%d duplicates", mustHaveAll(t, lines(), messages))
	c.run(t, 0, node.URL(), "", "mqsub", "-q", "t1", "--idle-timeout", "1s")
}

func testOutageLongerThanRetry(t *testing.T, c tools) {
	node := ownNode(t)
	failed := filepath.Join(t.TempDir(), "failed")
	f, stdin := newFeed(t)
	pub := c.start(t, command{url: node.URL(), stdin: stdin, name: "mqpub", args: []string{"-q", "t1", "--declare", "--retry", "1s", "--failed", failed}})
	f.advance(1000)
	mustHoldSoon(t, node, "t1", 1000)
	sub := c.start(t, command{url: node.URL(), name: "mqsub", args: []string{"-q", "t1", "--retry", "0", "-n", "10000000"}})
	sub.awaitText(t, sub.stdout, "1000\n")
	settled(t, node)
	f.advance(10_000_000)
	f.await(t, 10_000_000-5000)
	kill(t, node)
	pub.mustExit(t, 5)
	sub.mustExit(t, 5)
	sub.mustSay(t, `^mqsub: the connection was lost: .+; \d+ of 10000000 messages were taken$`)
	last := pub.summary(t, `^mqpub: the connection was lost for longer than 1s \(--retry\): .+; nothing after line (\d+) was published$`)[0]
	n := pub.summary(t, `^mqpub: (\d+) confirmed, (\d+) failed \(.*\), (\d+) kept in .+ in `)
	kept := records(t, failed)
	if n[0]+n[1] != last || n[1] != n[2] || len(kept) != n[2] || n[1] == 0 {
		t.Errorf("%d confirmed and %d failed of %d, %d kept, %d records", n[0], n[1], last, n[2], len(kept))
	}
	// Each line is in the queue, was consumed, or is kept.
	start(t, node)
	rest := c.run(t, 0, node.URL(), "", "mqsub", "-q", "t1", "-o", "body", "--idle-timeout", "5s")
	seen := tallied(sub.stdout.String() + rest.stdout.String())
	for _, m := range kept {
		seen[string(m.Body)]++
	}
	mustHaveAll(t, seen, last)
}

func testConfirmTimeout(t *testing.T, c tools) {
	node := ownNode(t)
	c.run(t, 0, node.URL(), "0\n", "mqpub", "-q", "t1", "--declare")
	settled(t, node)

	// An outage is --retry's business, however long it is.
	f, stdin := newFeed(t)
	pub := c.start(t, command{url: node.URL(), stdin: stdin, name: "mqpub", args: []string{"-q", "t1", "--confirm-timeout", "2s", "--retry", "5m"}})
	f.advance(1000)
	mustHoldSoon(t, node, "t1", 1001)
	kill(t, node)
	f.advance(500)
	pub.awaitText(t, pub.stderr, "connection lost: ")
	lost := time.Now()
	start(t, node)
	<-time.After(time.Until(lost.Add(3 * time.Second))) // longer than --confirm-timeout
	f.end()
	pub.mustExit(t, 0)
	pub.mustSay(t, `^mqpub: 1500 confirmed, 0 failed, `)

	// An alarm is not: the broker is there and confirms nothing.
	must(t, node.Block(t.Context()))
	failed := filepath.Join(t.TempDir(), "failed")
	held := c.run(t, 5, node.URL(), numbers(3000), "mqpub", "-q", "t1", "--confirm-timeout", "1s", "--failed", failed)
	held.mustSay(t, `^mqpub: blocked by the broker: .+: waiting$`)
	last := held.summary(t, `^mqpub: no confirmation for 1s \(--confirm-timeout\): blocked by the broker: .+; nothing after line (\d+) was published$`)[0]
	n := held.summary(t, `^mqpub: (\d+) confirmed, (\d+) failed `)
	if kept := records(t, failed); len(kept) != n[1] || n[0]+n[1] != last {
		t.Errorf("%d confirmed and %d failed of %d, %d kept", n[0], n[1], last, len(kept))
	}

	// A second signal waits for nothing.
	stuck := c.start(t, command{url: node.URL(), name: "mqpub", args: []string{"-q", "t1", "--confirm-timeout", "0", "--shutdown-timeout", "10m", "stuck"}})
	stuck.awaitText(t, stuck.stderr, "blocked by the broker")
	stuck.interrupt(t)
	<-time.After(400 * time.Millisecond) // sooner it is taken for the same signal
	stuck.terminate(t)
	select {
	case <-stuck.done:
	case <-time.After(5 * time.Second): // on a busy machine it was
		stuck.terminate(t)
	}
	stuck.mustExit(t, 143)
	stuck.mustSay(t, `^mqpub: message 1: unknown: interrupted twice \(SIGTERM\)$`)
	stuck.mustSay(t, `^mqpub: interrupted twice \(SIGTERM\)$`)

	// A message that waits for the end of an alarm is confirmed.
	waiting := c.start(t, command{url: node.URL(), name: "mqpub", args: []string{"-q", "t1", "--confirm-timeout", "0", "patient"}})
	waiting.awaitText(t, waiting.stderr, "blocked by the broker")
	must(t, node.Unblock(t.Context()))
	waiting.mustExit(t, 0)
	waiting.mustSay(t, `^mqpub: 1 confirmed, 0 failed in `)
}
