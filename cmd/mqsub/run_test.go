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

	"github.com/mqkit/mqkit/internal/clitest"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/topology"
)

const patience = time.Minute

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

// awaited tells of each write.
type awaited struct {
	bytes.Buffer
	wrote chan struct{}
}

func newAwaited() *awaited { return &awaited{wrote: make(chan struct{}, 10)} }

func (a *awaited) Write(b []byte) (int, error) {
	n, err := a.Buffer.Write(b)
	a.wrote <- struct{}{}
	return n, err
}

// running is mqsub within the test, on a broker with a quorum queue "q". Its output
// is to be read when it has ended.
type running struct {
	t      *testing.T
	broker *mqtest.Broker
	queue  *mqtest.Queue
	stderr bytes.Buffer
	ended  chan struct{}
	code   int

	mu   sync.Mutex
	sent []*mqtest.Event // of mqsub
}

// stand is a broker whose queue holds the messages 1 to n.
func stand(t *testing.T, rules mqtest.Rules, n int) *running {
	t.Helper()
	q := topology.Queue{Name: "q"}
	b := clitest.Broker(t, mqtest.Config{Strict: true, Rules: rules}, topology.Topology{Queues: []topology.Queue{q}})
	r := &running{t: t, broker: b, queue: b.Queue("q"), ended: make(chan struct{})}
	for i := range n {
		r.enqueue(i + 1)
	}
	b.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point == mqtest.Received {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent = append(r.sent, e)
		}
		return mqtest.Pass()
	})
	return r
}

// start runs mqsub.
func (r *running) start(stdout io.Writer, args ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), patience)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(r.ended)
		r.code = run(ctx, append([]string{"-u", r.broker.URL(), "-q", "q"}, args...), nil, stdout, &r.stderr)
	})
	r.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// enqueue puts a message into the queue, whose body is its number.
func (r *running) enqueue(number int) {
	r.t.Helper()
	if !r.queue.Enqueue(mqtest.Message{Body: fmt.Append(nil, number)}) {
		r.t.Fatalf("the queue does not take message %d", number)
	}
}

// overload has the broker not know of the prefetch: it delivers all it has.
func (r *running) overload() *mqtest.Injected {
	return r.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.qos", Do: mqtest.Answer(mqtest.Method{Name: "basic.qos-ok"})})
}

// cut cuts mqsub's connection when it has written something, and waits until the
// broker has taken back what it had.
func (r *running) cut(out *awaited) {
	r.t.Helper()
	<-out.wrote
	on := r.received("basic.consume")[0].Conn
	for _, c := range r.broker.Connections() {
		if c.ID() == on {
			c.Do(mqtest.Cut())
		}
	}
	has := func(c mqtest.Consumer) bool { return c.Conn == on }
	for deadline := time.Now().Add(patience); slices.ContainsFunc(r.broker.Consumers("/"), has); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("the broker does not notice that the connection is gone")
		}
	}
}

// delete deletes the queue when mqsub has written something.
func (r *running) delete(out *awaited) {
	r.t.Helper()
	<-out.wrote
	if !r.queue.Delete() {
		r.t.Fatal("there is no queue")
	}
}

// received is what the broker was sent of these methods.
func (r *running) received(methods ...string) (list []*mqtest.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.sent {
		if slices.Contains(methods, e.Method) {
			list = append(list, e)
		}
	}
	return list
}

// fates is what became of the deliveries 1 to n of the nth subscription: a for
// acked, r for released, a dash for nothing.
func (r *running) fates(subscription, n int) string {
	on := r.received("basic.consume")[subscription-1]
	fates := []byte(strings.Repeat("-", n))
	for _, e := range r.received("basic.ack", "basic.nack", "basic.reject") {
		if e.Conn != on.Conn {
			continue
		}
		fate := byte('a')
		if e.Method != "basic.ack" {
			fate = 'r'
		}
		for i := range fates {
			if tag := uint64(i + 1); tag == e.Tag || e.Field("multiple") == true && tag < e.Tag && fates[i] == '-' {
				fates[i] = fate
			}
		}
	}
	return string(fates)
}

// holds tests what is left in the queue, in any order, and that nobody has it. Given
// out are those that were, the lowest numbers.
func (r *running) holds(givenOut int, bodies ...string) {
	r.t.Helper()
	left := r.queue.Messages()
	slices.SortFunc(left, func(a, b mqtest.Message) int { return bytes.Compare(a.Body, b.Body) })
	var got []string
	for i, m := range left {
		got = append(got, string(m.Body))
		if m.Unacked || m.Redelivered != (i < givenOut) {
			r.t.Errorf("message %s in the queue: unacked %v, redelivered %v", m.Body, m.Unacked, m.Redelivered)
		}
	}
	if !slices.Equal(got, bodies) {
		r.t.Errorf("the queue holds %q, want %q", got, bodies)
	}
}

// Whoever has just filled a stream waits in vain for what is in it.
func TestAStreamIsSaidToBeReadFromItsEnd(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-n", "1"}, {"-n", "1", "--declare=stream"}} {
		b := clitest.Broker(t, mqtest.Config{Strict: true}, topology.Topology{Queues: []topology.Queue{{Name: "q", Type: topology.Stream}}})
		r := &running{t: t, broker: b, queue: b.Queue("q"), ended: make(chan struct{})}
		r.enqueue(1)
		var out bytes.Buffer
		r.start(&out, args...)
		for deadline := time.Now().Add(patience); len(b.Consumers("/")) == 0; <-time.After(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody consumes")
			}
		}
		r.enqueue(2)
		<-r.ended
		if r.code != 0 || out.String() != "2\n" {
			t.Errorf("%q: exit %d, wrote %q", args, r.code, &out)
		}
		if note := "mqsub: queue \"q\" is a stream: what is published from now on comes, not what is in it\n"; strings.Count(r.stderr.String(), note) != 1 {
			t.Errorf("%q: said\n%swant once %s", args, &r.stderr, note)
		}
	}
}

func TestAMessageIsAckedIfItWasWrittenAndTheCodeSaysHowItEnded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		args     []string
		takes    int
		err      error
		overload bool
		code     int
		stdout   string
		fates    string // of the deliveries; there are 4 messages
		says     string
	}{
		{"idle", []string{"--idle-timeout", "100ms"}, 0, nil, false, 0, "1\n2\n3\n4\n", "aaaa", "4 consumed in "},
		{"count", []string{"-n", "2"}, 0, nil, false, 0, "1\n2\n", "aa", "2 consumed in "},
		{"count, and more at hand", []string{"-n", "2"}, 0, nil, true, 0, "1\n2\n", "aarr", "2 consumed, 2 given back in "},
		{"count of all", []string{"-n", "4"}, 0, nil, false, 0, "1\n2\n3\n4\n", "aaaa", "4 consumed in "},
		{"count of more", []string{"-n", "5", "--idle-timeout", "100ms"}, 0, nil, false, 8, "1\n2\n3\n4\n", "aaaa", "nothing came for 100ms (--idle-timeout); 4 of 5 messages were taken"},
		{"full disk", nil, 1, syscall.ENOSPC, false, 1, "1\n", "arrr", "cannot write the output: no space left on device"},
		{"full disk with a count", []string{"-n", "3"}, 1, syscall.ENOSPC, false, 1, "1\n", "arr", "cannot write the output: no space left on device; 1 of 3 messages were taken"},
		{"reader gone", nil, 1, brokenPipe[0], false, 0, "1\n", "arrr", "1 consumed, 3 given back in "},
		{"reader gone with a count", []string{"-n", "3"}, 1, brokenPipe[0], false, 1, "1\n", "arr", "the reader of the output has gone; 1 of 3 messages were taken"},
	} {
		for _, rules := range []mqtest.Rules{mqtest.Rules43, mqtest.Rules42} {
			t.Run(fmt.Sprintf("%s %s", c.name, rules), func(t *testing.T) {
				t.Parallel()
				out := &stdout{takes: c.takes, err: c.err}
				r := stand(t, rules, 4)
				if c.overload {
					f := r.overload()
					defer func() {
						if f.Hits() != 1 {
							t.Errorf("the prefetch was set %d times", f.Hits())
						}
					}()
				}
				r.start(out, c.args...)
				<-r.ended
				if r.code != c.code || out.String() != c.stdout || !strings.Contains(r.stderr.String(), c.says) {
					t.Errorf("exit %d, want %d\n got %q\nwant %q\nsaid %swant %s", r.code, c.code, out, c.stdout, &r.stderr, c.says)
				}
				if got := r.fates(1, len(c.fates)); got != c.fates {
					t.Errorf("deliveries became %s, want %s: %v", got, c.fates, r.received("basic.ack", "basic.nack"))
				}
				if es := r.received("basic.cancel", "basic.nack"); es[0].Method != "basic.cancel" {
					t.Errorf("the broker received %v", es)
				}
				acked := strings.Count(c.fates, "a")
				r.holds(strings.Count(c.fates, "r"), []string{"1", "2", "3", "4"}[acked:]...)
			})
		}
	}
}

// Each ack before that would bring another message.
func TestWithACountNothingIsAckedBeforeTheSubscriptionEnds(t *testing.T) {
	t.Parallel()
	r := stand(t, mqtest.Rules43, 6)
	r.start(io.Discard, "-n", "3")
	<-r.ended
	if es := r.received("basic.cancel", "basic.ack"); len(es) < 2 || es[0].Method != "basic.cancel" || slices.ContainsFunc(es[1:], func(e *mqtest.Event) bool { return e.Method == "basic.cancel" }) {
		t.Errorf("the broker received %v", es)
	}
	r.holds(0, "4", "5", "6")
}

func TestWhatWasWrittenOnALostConnectionDoesNotCount(t *testing.T) {
	t.Parallel()
	out := newAwaited()
	r := stand(t, mqtest.Rules43, 1)
	r.start(out, "-n", "2")
	r.cut(out)
	r.enqueue(2)
	<-r.ended
	if r.code != 0 || out.String() != "1\n1\n2\n" {
		t.Errorf("exit %d, wrote %q", r.code, out)
	}
	if a, b := r.fates(1, 1), r.fates(2, 2); a != "-" || b != "aa" {
		t.Errorf("deliveries became %s, and on the second connection %s", a, b)
	}
	r.holds(0)
	if want := "mqsub: 2 consumed, 1 of them redelivered, 1 written but not acked: they come again, 1 reconnect in "; !strings.Contains(r.stderr.String(), want) {
		t.Errorf("said\n%swant %s", &r.stderr, want)
	}
}

// TestASubscriptionThatIsNotAnsweredEndsTheRunInTime: nothing has come, so there is
// nothing to wait for afterwards.
func TestASubscriptionThatIsNotAnsweredEndsTheRunInTime(t *testing.T) {
	t.Parallel()
	r := stand(t, mqtest.Rules43, 0)
	held := r.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.consume", Do: mqtest.Drop()})
	r.start(io.Discard, "--connect-timeout", "300ms", "--shutdown-timeout", "1h")
	<-r.ended
	const line = "mqsub: no subscription within 300ms (--connect-timeout): the broker has not answered the subscription yet\n"
	if r.code != 4 || !strings.HasPrefix(r.stderr.String(), line) || held.Hits() != 1 {
		t.Errorf("exit %d, said\n%swant 4 and %s; %d subscriptions were not answered", r.code, &r.stderr, line, held.Hits())
	}
}

func TestALostConnectionIsNoDeletedQueue(t *testing.T) {
	t.Parallel()
	const (
		lost    = "mqsub: the connection was lost: "
		deleted = "mqsub: the subscription was lost: there is no queue 'q' in vhost '/': declare it with --declare, or check the name (404)"
	)
	for _, c := range []struct {
		args []string
		lose func(*running, *awaited)
		code int
		says string
	}{
		{[]string{"--retry", "0"}, (*running).cut, 5, lost},
		{[]string{"--retry", "0", "-n", "5"}, (*running).cut, 5, lost},
		{[]string{"--retry", "0"}, (*running).delete, 7, deleted},
		{[]string{"--retry", "0", "-n", "5"}, (*running).delete, 8, deleted},
	} {
		t.Run(fmt.Sprintf("exits %d", c.code)+strings.Join(c.args[2:], ""), func(t *testing.T) {
			t.Parallel()
			out := newAwaited()
			r := stand(t, mqtest.Rules43, 1)
			r.start(out, c.args...)
			c.lose(r, out)
			<-r.ended
			if r.code != c.code || !strings.Contains(r.stderr.String(), c.says) {
				t.Errorf("exit %d, want %d; said\n%swant %s", r.code, c.code, &r.stderr, c.says)
			}
		})
	}
}

// Each attempt costs the connection, so a connection is no sign of an end.
func TestASubscriptionThatCostsItsConnectionEachTimeEndsInTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		skip int // subscriptions that succeed
		args []string
		code int
		says string
	}{
		{"never", 0, []string{"--connect-timeout", "1s", "--retry", "forever"}, 4, "mqsub: no subscription within 1s (--connect-timeout): "},
		{"later", 1, []string{"--retry", "3s"}, 5, "mqsub: the subscription was lost for longer than 3s (--retry): "},
		{"later, with a count", 1, []string{"--retry", "3s", "-n", "5"}, 5, "mqsub: the subscription was lost for longer than 3s (--retry): "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := stand(t, mqtest.Rules43, 1)
			cut := r.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.consume", Skip: c.skip, Do: mqtest.Cut()})
			out := newAwaited()
			r.start(out, append(c.args, "--shutdown-timeout", "1s")...)
			if c.skip > 0 {
				r.cut(out)
			}
			<-r.ended
			if r.code != c.code || !strings.Contains(r.stderr.String(), c.says) {
				t.Errorf("exit %d, want %d; said\n%swant %s", r.code, c.code, &r.stderr, c.says)
			}
			if cut.Hits() < 2 {
				t.Errorf("%d subscriptions have cost the connection", cut.Hits())
			}
		})
	}
}
