package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/amqppeer"
)

const patience = 20 * time.Second

// stdout takes so many writes and then fails.
type stdout struct {
	takes int
	err   error // nil: it takes all
	bytes.Buffer
}

func (s *stdout) Write(b []byte) (int, error) {
	if s.err != nil && s.takes == 0 {
		return 0, s.err
	}
	s.takes--
	return s.Buffer.Write(b)
}

// running is mqsub within the test, with a peer for a broker. Its output is to be
// read when it has ended.
type running struct {
	t      *testing.T
	peer   *amqppeer.Peer
	stderr bytes.Buffer
	ended  chan struct{}
	code   int
}

func start(t *testing.T, version string, stdout io.Writer, args ...string) *running {
	t.Helper()
	peer, err := amqppeer.Listen(version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peer.Close)
	r := &running{t: t, peer: peer, ended: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(r.ended)
		r.code = run(ctx, append([]string{"-u", peer.URL(), "-q", "q"}, args...), nil, stdout, &r.stderr)
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return r
}

func (r *running) next(names ...string) *amqppeer.Method {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	m, err := r.peer.Next(ctx, names...)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// deliver sends the messages 1 to n in one piece to the next subscription.
func (r *running) deliver(n int) *amqppeer.Method {
	r.t.Helper()
	m := r.next("basic.consume")
	var frames [][]byte
	for i := range n {
		frames = append(frames, m.Deliver(uint64(i+1), fmt.Sprint(i+1)))
	}
	m.Conn.Send(frames...)
	return m
}

// fates is what became of the deliveries 1 to n on a connection: a for acked, r
// for released, a dash for nothing.
func (r *running) fates(on *amqppeer.Conn, n int) string {
	fates := []byte(strings.Repeat("-", n))
	for _, m := range r.peer.Received("basic.ack", "basic.nack", "basic.reject") {
		if m.Conn != on {
			continue
		}
		fate := byte('a')
		if m.Name != "basic.ack" {
			fate = 'r'
		}
		for i := range fates {
			if tag := uint64(i + 1); tag == m.Tag || m.Multiple && tag < m.Tag && fates[i] == '-' {
				fates[i] = fate
			}
		}
	}
	return string(fates)
}

func TestAMessageIsAckedIfItWasWrittenAndTheCodeSaysHowItEnded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		args   []string
		takes  int
		err    error
		code   int
		stdout string
		fates  string // of 4 deliveries
		says   string
	}{
		{"idle", []string{"--idle-timeout", "100ms"}, 0, nil, 0, "1\n2\n3\n4\n", "aaaa", "4 consumed in "},
		{"count", []string{"-n", "2"}, 0, nil, 0, "1\n2\n", "aarr", "2 consumed, 2 given back in "},
		{"count of all", []string{"-n", "4"}, 0, nil, 0, "1\n2\n3\n4\n", "aaaa", "4 consumed in "},
		{"count of more", []string{"-n", "5", "--idle-timeout", "100ms"}, 0, nil, 8, "1\n2\n3\n4\n", "aaaa", "nothing came for 100ms (--idle-timeout); 4 of 5 messages were taken"},
		{"full disk", nil, 1, syscall.ENOSPC, 1, "1\n", "arrr", "cannot write the output: no space left on device"},
		{"full disk with a count", []string{"-n", "3"}, 1, syscall.ENOSPC, 1, "1\n", "arrr", "cannot write the output: no space left on device; 1 of 3 messages were taken"},
		{"reader gone", nil, 1, brokenPipe[0], 0, "1\n", "arrr", "1 consumed, 3 given back in "},
		{"reader gone with a count", []string{"-n", "3"}, 1, brokenPipe[0], 1, "1\n", "arrr", "the reader of the output has gone; 1 of 3 messages were taken"},
	} {
		for _, version := range []string{"4.3.0", "4.2.0"} {
			t.Run(c.name+" "+version, func(t *testing.T) {
				t.Parallel()
				out := &stdout{takes: c.takes, err: c.err}
				r := start(t, version, out, c.args...)
				subscription := r.deliver(len(c.fates))
				<-r.ended
				if r.code != c.code || out.String() != c.stdout || !strings.Contains(r.stderr.String(), c.says) {
					t.Errorf("exit %d, want %d\n got %q\nwant %q\nsaid %swant %s", r.code, c.code, out, c.stdout, &r.stderr, c.says)
				}
				if got := r.fates(subscription.Conn, len(c.fates)); got != c.fates {
					t.Errorf("deliveries became %s, want %s: %v", got, c.fates, r.peer.Received("basic.ack", "basic.nack"))
				}
			})
		}
	}
}

// Each ack before that would bring another message.
func TestWithACountNothingIsAckedBeforeTheSubscriptionEnds(t *testing.T) {
	t.Parallel()
	r := start(t, "4.3.0", io.Discard, "-n", "3")
	r.deliver(3)
	<-r.ended
	if ms := r.peer.Received("basic.cancel", "basic.ack"); len(ms) < 2 || ms[0].Name != "basic.cancel" || slices.ContainsFunc(ms[1:], func(m *amqppeer.Method) bool { return m.Name == "basic.cancel" }) {
		t.Errorf("the peer received %v", ms)
	}
}

func TestWhatWasWrittenOnALostConnectionDoesNotCount(t *testing.T) {
	t.Parallel()
	out := &awaited{wrote: make(chan struct{}, 10)}
	r := start(t, "4.3.0", out, "-n", "2")
	first := r.deliver(1)
	<-out.wrote
	first.Conn.Cut()
	second := r.deliver(2)
	<-r.ended
	if r.code != 0 || out.String() != "1\n1\n2\n" {
		t.Errorf("exit %d, wrote %q", r.code, out)
	}
	if a, b := r.fates(first.Conn, 1), r.fates(second.Conn, 2); a != "-" || b != "aa" {
		t.Errorf("deliveries became %s, and on the second connection %s", a, b)
	}
	if want := "mqsub: 2 consumed, 1 written but not acked: they come again, 1 reconnect in "; !strings.Contains(r.stderr.String(), want) {
		t.Errorf("said\n%swant %s", &r.stderr, want)
	}
}

// TestASubscriptionThatIsNotAnsweredEndsTheRunInTime: nothing has come, so there is
// nothing to wait for afterwards.
func TestASubscriptionThatIsNotAnsweredEndsTheRunInTime(t *testing.T) {
	t.Parallel()
	r := start(t, "4.3.0", io.Discard, "--connect-timeout", "300ms", "--shutdown-timeout", "1h")
	r.peer.Hold("basic.qos")
	<-r.ended
	const line = "mqsub: no subscription within 300ms (--connect-timeout): the broker has not answered the subscription yet\n"
	if r.code != 4 || !strings.HasPrefix(r.stderr.String(), line) {
		t.Errorf("exit %d, said\n%swant 4 and %s", r.code, &r.stderr, line)
	}
}

func TestALostConnectionIsNoDeletedQueue(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--retry", "0"}, {"--retry", "0", "-n", "5"}} {
		out := &awaited{wrote: make(chan struct{}, 10)}
		r := start(t, "4.3.0", out, args...)
		m := r.deliver(1)
		<-out.wrote
		m.Conn.Cut()
		<-r.ended
		if r.code != 5 || !strings.Contains(r.stderr.String(), "mqsub: the connection was lost: ") {
			t.Errorf("%q: exit %d, said\n%s", args, r.code, &r.stderr)
		}
	}
}

// awaited tells of each write.
type awaited struct {
	bytes.Buffer
	wrote chan struct{}
}

func (a *awaited) Write(b []byte) (int, error) {
	n, err := a.Buffer.Write(b)
	a.wrote <- struct{}{}
	return n, err
}
