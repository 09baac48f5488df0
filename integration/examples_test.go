package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TestExamples runs the programs in examples/ as their readers do: as processes.
func TestExamples(t *testing.T) {
	skipShort(t)
	e := examples{t.TempDir()}
	build(t, filepath.Join(e.dir, "hello"), "./examples/hello/producer", "./examples/hello/consumer")
	build(t, filepath.Join(e.dir, "workqueue"), "./examples/workqueue/producer", "./examples/workqueue/worker")
	build(t, e.dir, "./examples/emitter", "./examples/quickstart")
	for name, test := range map[string]func(*testing.T, examples){
		"HelloProducerFirst":                       testHelloProducerFirst,
		"HelloConsumerFirst":                       testHelloConsumerFirst,
		"HelloWithoutBrokerSaysWhere":              testHelloWithoutBrokerSaysWhere,
		"HelloOnAQueueThatPikaMadeNamesTheWaysOut": testHelloOnAQueueThatPikaMade,
		"EmitterPanicStopsOnlyItself":              testEmitterPanicStopsOnlyItself,
		"EmitterListenersShareAProcess":            testEmitterListenersShareAProcess,
		"EmitterEventsWaitForTheirListener":        testEmitterEventsWait,
		"WorkqueueSlowWorkerGetsLess":              testWorkqueueSlowWorkerGetsLess,
		"WorkqueueOthersDoWhatAKilledWorkerHeld":   testWorkqueueKilledWorker,
		"WorkqueueDrainsOnInterrupt":               testWorkqueueDrains,
		"WorkqueueKeepsWhatIsNoTask":               testWorkqueueKeepsWhatIsNoTask,
		"QuickstartBalances":                       testQuickstartBalances,
		"QuickstartLosesNothingWhenTheBrokerDies":  testQuickstartSurvivesAKill,
		"QuickstartWithoutBrokerBringsItsOwn":      testQuickstartWithoutBroker,
		"QuickstartEndsItsBrokerOnInterrupt":       testQuickstartEndsItsBroker,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}

// programPatience is how long a program may take for anything, a restart of its
// broker on a busy machine included.
const programPatience = 3 * time.Minute

// examples are the built programs.
type examples struct{ dir string }

// program is one that runs.
type program struct {
	name   string
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	done   chan struct{} // closed when it has ended
}

// start runs an example against the broker at brokerURL, which may be empty. It is
// killed at the end of the test.
func (e examples) start(t *testing.T, brokerURL, name string, args ...string) *program {
	t.Helper()
	p := &program{name: name, stdout: newOutput(), stderr: newOutput(), done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(e.dir, name), args...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AMQP_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, "AMQP_URL="+brokerURL)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // waited for below
		defer close(p.done)
		_ = p.cmd.Wait() // the ProcessState tells
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended, unless the test failed
		<-p.done
		if t.Failed() {
			t.Logf("%s %s: %v\nstdout:\n%s\nstderr:\n%s", name, args, p.cmd.ProcessState, p.stdout, p.stderr)
		}
	})
	return p
}

// run runs an example to its end and checks its exit code.
func (e examples) run(t *testing.T, brokerURL string, code int, name string, args ...string) *program {
	t.Helper()
	p := e.start(t, brokerURL, name, args...)
	p.mustExit(t, code)
	return p
}

// mustExit waits for the end and checks the exit code; -1 is a signal.
func (p *program) mustExit(t *testing.T, code int) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(programPatience):
		t.Fatalf("%s does not end", p.name)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("%s: exit code %d, want %d", p.name, got, code)
	}
}

// interrupt is Ctrl-C.
func (p *program) interrupt(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
}

// await waits until one of the program's outputs meets cond.
func (p *program) await(t *testing.T, o *output, what string, cond func(string) bool) {
	t.Helper()
	deadline := time.After(programPatience)
	for {
		text, more := o.read()
		if cond(text) {
			return
		}
		select {
		case <-more:
		case <-p.done:
			if text, _ := o.read(); !cond(text) {
				t.Fatalf("%s has ended without %s", p.name, what)
			}
			return
		case <-deadline:
			t.Fatalf("%s: no %s within %v", p.name, what, programPatience)
		}
	}
}

func (p *program) awaitText(t *testing.T, o *output, text string) {
	t.Helper()
	p.await(t, o, strconv.Quote(text), func(s string) bool { return strings.Contains(s, text) })
}

// subscribed waits until the program consumes.
func (p *program) subscribed(t *testing.T) {
	t.Helper()
	p.awaitText(t, p.stderr, "INFO subscribed")
}

// output collects what a program writes.
type output struct {
	mu   sync.Mutex
	text []byte
	more chan struct{} // closed when there is more
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	close(o.more)
	o.more = make(chan struct{})
	return len(b), nil
}

func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text), o.more
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}

func mustPrint(t *testing.T, o *output, want string) {
	t.Helper()
	if got := o.String(); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// ownVhost returns the URL of a virtual host for this test alone, because the
// names of the examples' queues are given; where the broker's management is not
// known, of a node for this test alone.
func ownVhost(t *testing.T) string {
	t.Helper()
	node := sharedNode(t)
	if node.ManagementURL() == "" {
		return ownNode(t).URL()
	}
	name := strings.ReplaceAll(uniqueName(t), "/", ".")
	do := func(ctx context.Context, method string) error {
		req, err := http.NewRequestWithContext(ctx, method, node.ManagementURL()+"/api/vhosts/"+url.PathEscape(name), nil)
		if err != nil {
			return err
		}
		req.SetBasicAuth("guest", "guest")
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			return errors.New(resp.Status)
		}
		return nil
	}
	if err := do(t.Context(), http.MethodPut); err != nil {
		t.Fatalf("make vhost %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := do(ctx, http.MethodDelete); err != nil {
			t.Errorf("delete vhost %s: %v", name, err)
		}
	})
	return node.URL() + url.PathEscape(name)
}

// mustHold checks how many messages can be got from queue, and takes them out. A
// message that is not settled cannot be got.
func mustHold(t *testing.T, brokerURL, queue string, want int) []amqp.Delivery {
	t.Helper()
	_, ch := dial(t, brokerURL)
	var got []amqp.Delivery
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil {
			t.Fatalf("get from %s: %v", queue, err)
		}
		if !ok {
			break
		}
		got = append(got, d)
	}
	if len(got) != want {
		t.Errorf("queue %s holds %d messages, want %d", queue, len(got), want)
	}
	return got
}

func testHelloProducerFirst(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	p := e.run(t, brokerURL, 0, "hello/producer")
	mustPrint(t, p.stdout, "")
	mustPrint(t, p.stderr, "")
	d := mustHold(t, brokerURL, "example_queue", 1)[0]
	if string(d.Body) != "Hello, World!" || d.DeliveryMode != amqp.Persistent || d.MessageId == "" {
		t.Errorf("got %q, mode %d, id %q; want a persistent Hello, World! with an id", d.Body, d.DeliveryMode, d.MessageId)
	}

	e.run(t, brokerURL, 0, "hello/producer")
	c := e.start(t, brokerURL, "hello/consumer")
	c.awaitText(t, c.stdout, "\n")
	c.interrupt(t)
	c.mustExit(t, 0)
	mustPrint(t, c.stdout, "Received message: Hello, World!\n")
	mustHold(t, brokerURL, "example_queue", 0)
}

func testHelloConsumerFirst(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	c := e.start(t, brokerURL, "hello/consumer")
	c.subscribed(t)
	const n = 3
	for range n {
		e.run(t, brokerURL, 0, "hello/producer")
	}
	c.await(t, c.stdout, "three lines", func(s string) bool { return strings.Count(s, "\n") == n })
	c.interrupt(t)
	c.mustExit(t, 0)
	mustPrint(t, c.stdout, strings.Repeat("Received message: Hello, World!\n", n))
	mustHold(t, brokerURL, "example_queue", 0)
}

func testHelloWithoutBrokerSaysWhere(t *testing.T, e examples) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // nobody listens there now
	p := e.run(t, "amqp://guest:secret@"+addr+"/", 1, "hello/producer")
	if !strings.Contains(p.stderr.String(), addr) || !strings.Contains(p.stderr.String(), "refused") || strings.Contains(p.stderr.String(), "secret") {
		t.Errorf("got %q, want the address, that it was refused, and no password", p.stderr)
	}

	c := e.start(t, "amqp://guest:secret@"+addr+"/", "hello/consumer") // waits, and says for what
	c.awaitText(t, c.stderr, addr)
	c.interrupt(t)
	c.mustExit(t, 1)
	mustPrint(t, c.stdout, "")
}

// waysOut is what must be told of a queue that exists as a transient one.
var waysOut = []string{`queue "example_queue"`, "transient", "durable", "Passive", "another name", "delete it"}

func testHelloOnAQueueThatPikaMade(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	_, ch := dial(t, brokerURL)
	// What pika's queue_declare(queue='example_queue') sends.
	if _, err := ch.QueueDeclare("example_queue", false, false, false, false, nil); err != nil {
		t.Skipf("this broker takes no transient queue: %v", err)
	}
	for _, name := range []string{"hello/producer", "hello/consumer"} {
		p := e.run(t, brokerURL, 1, name)
		mustPrint(t, p.stdout, "")
		for _, text := range waysOut {
			if !strings.Contains(p.stderr.String(), text) {
				t.Errorf("%s does not say %q: %s", name, text, p.stderr)
			}
		}
	}
	if _, err := ch.QueueDelete("example_queue", false, false, false); err != nil {
		t.Fatal(err)
	}
	e.run(t, brokerURL, 0, "hello/producer") // one of the ways out
}

const (
	eventReceived = "Event received: Data to be handled\n"
	eventHandling = "Handling event: event1, data: Data to be handled\n"
)

func testEmitterPanicStopsOnlyItself(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	panicking := e.start(t, brokerURL, "emitter", "listen", "-panic", "received", "received")
	panicking.awaitText(t, panicking.stderr, "received listens to event1")
	other := e.start(t, brokerURL, "emitter", "listen", "handling")
	other.awaitText(t, other.stderr, "handling listens to event1")

	const n = 2
	for i := range n {
		emit := e.run(t, brokerURL, 0, "emitter", "emit", "event1", "Data to be handled")
		mustPrint(t, emit.stderr, "")
		panicking.await(t, panicking.stderr, "panic", func(s string) bool { // it happened
			return strings.Count(s, "handler panicked") > i
		})
		other.await(t, other.stdout, "event", func(s string) bool { return s == strings.Repeat(eventHandling, i+1) })
		panicking.await(t, panicking.stdout, "event at the second try", func(s string) bool { return s == strings.Repeat(eventReceived, i+1) })
	}
	for _, p := range []*program{panicking, other} {
		p.interrupt(t)
		p.mustExit(t, 0)
	}
	mustPrint(t, panicking.stdout, strings.Repeat(eventReceived, n))
	mustPrint(t, other.stdout, strings.Repeat(eventHandling, n)) // none came twice
	if n := strings.Count(panicking.stderr.String(), "handler panicked"); n != 2 {
		t.Errorf("%d panics, want 2", n)
	}
	mustHold(t, brokerURL, "emitter.received", 0)
	mustHold(t, brokerURL, "emitter.handling", 0)
}

func testEmitterListenersShareAProcess(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	p := e.start(t, brokerURL, "emitter", "listen", "-panic", "handling")
	p.awaitText(t, p.stderr, "handling listens to event1")
	e.run(t, brokerURL, 0, "emitter", "emit", "event1", "Data to be handled")
	p.await(t, p.stdout, "both lines", func(s string) bool { return s == eventReceived+eventHandling })
	p.awaitText(t, p.stderr, "handler panicked")
	p.interrupt(t)
	p.mustExit(t, 0)
}

func testEmitterEventsWait(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	early := e.run(t, brokerURL, 0, "emitter", "emit", "event1", "too early")
	mustPrint(t, early.stderr, "nobody has subscribed to event1 yet: the event is gone\n")

	p := e.start(t, brokerURL, "emitter", "listen", "received")
	p.awaitText(t, p.stderr, "received listens to event1")
	p.interrupt(t)
	p.mustExit(t, 0)
	e.run(t, brokerURL, 0, "emitter", "emit", "event1", "Data to be handled") // while it is away
	p = e.start(t, brokerURL, "emitter", "listen", "received")
	p.awaitText(t, p.stdout, eventReceived)
	p.interrupt(t)
	p.mustExit(t, 0)
	mustPrint(t, p.stdout, eventReceived)
	e.run(t, brokerURL, 2, "emitter", "shout")
}

// taskDone is one task in a worker's output.
type taskDone struct{ id, attempt int }

var taskLine = regexp.MustCompile(`(?m)^\S+: task (\d+) done, attempt (\d+)$`)

func tasksDone(p *program) []taskDone {
	var done []taskDone
	for _, m := range taskLine.FindAllStringSubmatch(p.stdout.String(), -1) {
		id, _ := strconv.Atoi(m[1])
		attempt, _ := strconv.Atoi(m[2])
		done = append(done, taskDone{id, attempt})
	}
	return done
}

// awaitTasks waits until every task from 1 to n was done by one of workers.
func awaitTasks(t *testing.T, n int, workers ...*program) {
	t.Helper()
	eventually(t, fmt.Sprintf("all %d tasks are done", n), patience, func() bool {
		done := map[int]bool{}
		for _, w := range workers {
			for _, task := range tasksDone(w) {
				done[task.id] = true
			}
		}
		return len(done) == n
	})
}

// startWorkers starts one worker for each delay.
func (e examples) startWorkers(t *testing.T, brokerURL, prefetch string, delays ...string) []*program {
	t.Helper()
	var workers []*program
	for i, delay := range delays {
		w := e.start(t, brokerURL, "workqueue/worker", "-name", fmt.Sprint("w", i+1), "-delay", delay, "-prefetch", prefetch)
		w.subscribed(t)
		workers = append(workers, w)
	}
	return workers
}

func testWorkqueueSlowWorkerGetsLess(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	const n = 120
	// Long enough that what a busy machine adds to each task does not count.
	workers := e.startWorkers(t, brokerURL, "1", "100ms", "100ms", "1s")
	p := e.run(t, brokerURL, 0, "workqueue/producer", "-n", strconv.Itoa(n))
	mustPrint(t, p.stdout, "confirmed 120 of 120 tasks\n")
	awaitTasks(t, n, workers...)
	total := 0
	for i, w := range workers {
		w.interrupt(t)
		w.mustExit(t, 0)
		did := len(tasksDone(w))
		total += did
		if want := fmt.Sprintf("w%d: did %d tasks\n", i+1, did); !strings.HasSuffix(w.stdout.String(), want) {
			t.Errorf("the last line of worker %d is not %q", i+1, want)
		}
	}
	if total != n {
		t.Errorf("the workers did %d tasks, want each of %d once", total, n)
	}
	slow := len(tasksDone(workers[2]))
	t.Logf("the slow worker did %d of %d tasks", slow, n)
	if slow == 0 || slow*100 >= 15*n {
		t.Errorf("the slow worker did %d of %d tasks, want some, and under 15%%", slow, n)
	}
	mustHold(t, brokerURL, "tasks", 0)
}

func testWorkqueueKilledWorker(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	const n = 60
	workers := e.startWorkers(t, brokerURL, "10", "100ms", "100ms", "100ms")
	victim, others := workers[0], workers[1:]
	e.run(t, brokerURL, 0, "workqueue/producer", "-n", strconv.Itoa(n))
	victim.awaitText(t, victim.stdout, "done") // it is at work, and holds nine more
	if err := victim.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	victim.mustExit(t, -1)
	awaitTasks(t, n, workers...)
	again := 0
	for _, w := range others {
		w.interrupt(t)
		w.mustExit(t, 0)
		for _, task := range tasksDone(w) {
			if task.attempt > 1 {
				again++
			}
		}
	}
	t.Logf("the killed worker did %d tasks, the others got %d that it had held", len(tasksDone(victim)), again)
	if again == 0 {
		t.Error("the others got none of the tasks that the killed worker held")
	}
	mustHold(t, brokerURL, "tasks", 0)
	mustHold(t, brokerURL, "tasks.dead", 0)
}

func testWorkqueueDrains(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	const n, prefetch = 20, 5
	w := e.startWorkers(t, brokerURL, strconv.Itoa(prefetch), "500ms")[0]
	e.run(t, brokerURL, 0, "workqueue/producer", "-n", strconv.Itoa(n))
	w.awaitText(t, w.stdout, "done")
	most := len(tasksDone(w)) + 2 // one that was ending, and the one under way; no other is begun
	w.interrupt(t)
	w.mustExit(t, 0)
	did := len(tasksDone(w))
	conn, _ := dial(t, brokerURL)
	version, _ := conn.Properties["version"].(string)
	if before, err := meets(version, "<4.3"); err != nil || before {
		most += prefetch // nothing goes back uncounted there: what was prefetched is worked through
	}
	if did > most {
		t.Errorf("it did %d tasks, want at most %d", did, most)
	}
	mustHold(t, brokerURL, "tasks", n-did)
	mustHold(t, brokerURL, "tasks.dead", 0)
}

func testWorkqueueKeepsWhatIsNoTask(t *testing.T, e examples) {
	brokerURL := ownVhost(t)
	w := e.startWorkers(t, brokerURL, "1", "1ms")[0]
	_, ch := dial(t, brokerURL)
	publishConfirmed(t, ch, "tasks", "no task")
	e.run(t, brokerURL, 0, "workqueue/producer", "-n", "1")
	awaitTasks(t, 1, w)
	w.interrupt(t)
	w.mustExit(t, 0)
	mustHold(t, brokerURL, "tasks", 0)
	eventually(t, "tasks.dead has it", patience, func() bool { // it travels there
		q, err := ch.QueueDeclarePassive("tasks.dead", true, false, false, false, nil)
		return err == nil && q.Messages == 1
	})
	if d := mustHold(t, brokerURL, "tasks.dead", 1); string(d[0].Body) != "no task" {
		t.Errorf("tasks.dead holds %q", d[0].Body)
	}
}

// books reads the ledger that the quickstart prints.
func books(t *testing.T, p *program) map[string]int {
	t.Helper()
	rows := map[string]int{}
	var order []string
	for line := range strings.Lines(p.stdout.String()) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			t.Fatalf("no row of a ledger: %q", line)
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatalf("no row of a ledger: %q", line)
		}
		rows[fields[0]] = n
		order = append(order, fields[0])
	}
	if want := []string{"published", "confirmed", "republished", "consumed", "duplicates", "cuts", "lost"}; !slices.Equal(order, want) {
		t.Fatalf("the ledger has the rows %v, want %v", order, want)
	}
	for _, m := range reason.FindAllStringSubmatch(p.stdout.String(), -1) {
		rows[m[1]], _ = strconv.Atoi(m[2])
	}
	return rows
}

// reason is what stands behind some rows of the ledger.
var reason = regexp.MustCompile(`(published again|given out again|publishing|consuming):? (\d+)`)

// mustBalance checks the ledger of a run of n orders that was not interrupted.
func mustBalance(t *testing.T, rows map[string]int, n int) {
	t.Helper()
	for row, want := range map[string]int{"published": n, "confirmed": n, "consumed": n, "cuts": 3, "lost": 0} {
		if rows[row] != want {
			t.Errorf("%s: %d, want %d", row, rows[row], want)
		}
	}
	again, given := rows["published again"], rows["given out again"]
	if again == 0 || given == 0 { // two of the cuts make sure of them
		t.Errorf("%d duplicates were published again, %d given out again; want some of each", again, given)
	}
	if again+given != rows["duplicates"] || again > rows["republished"] {
		t.Errorf("%d duplicates explained as %d published again and %d given out again, and %d were republished",
			rows["duplicates"], again, given, rows["republished"])
	}
}

func testQuickstartBalances(t *testing.T, e examples) {
	p := e.run(t, ownVhost(t), 0, "quickstart")
	rows := books(t, p)
	mustBalance(t, rows, 10_000)
	if lost := rows["publishing"] + rows["consuming"]; lost < 3 {
		t.Errorf("%d connections were lost, want the three that were cut", lost)
	}
	if strings.ContainsAny(p.stderr.String(), "\r\x1b") {
		t.Errorf("control characters on what is no terminal: %q", p.stderr)
	}
}

func testQuickstartSurvivesAKill(t *testing.T, e examples) {
	node := ownNode(t)
	const n = 20_000
	p := e.start(t, node.URL(), "quickstart", "-n", strconv.Itoa(n), "-rate", "600") // half a minute: the harness may be slow
	p.awaitText(t, p.stderr, " of 20000 (")                                          // a first line of progress: it is under way
	settled(t, node)
	losses := func(stderr string) int { return strings.Count(stderr, "connection connected -> waiting") }
	before := losses(p.stderr.String())
	if err := node.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.await(t, p.stderr, "loss of a connection", func(s string) bool { return losses(s) > before })
	if strings.Contains(p.stderr.String(), "confirmed 20000 of 20000") {
		t.Fatal("it was done before the kill")
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mustExit(t, 0)
	rows := books(t, p)
	t.Log("\n" + p.stdout.String())
	mustBalance(t, rows, n)
	if lost := rows["publishing"] + rows["consuming"]; lost < 4 {
		t.Errorf("%d connections were lost, want more than the three that were cut", lost)
	}
	out, err := node.Ctl(t.Context(), "-q", "list_queues", "name")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "quickstart.") {
		t.Errorf("it left its queue behind: %s", out)
	}
}

func testQuickstartWithoutBroker(t *testing.T, e examples) {
	p := e.run(t, "", 0, "quickstart")
	mustBalance(t, books(t, p), 10_000)
	if !strings.HasPrefix(p.stderr.String(), "AMQP_URL is not set: using mqtest") {
		t.Errorf("it does not begin by saying where the broker comes from: %s", p.stderr)
	}
	e.run(t, "http://localhost", 2, "quickstart")
}

var goesTo = regexp.MustCompile(`connections to (\S+) go through a proxy at ([^\s,]+)`)

func testQuickstartEndsItsBroker(t *testing.T, e examples) {
	p := e.start(t, "", "quickstart", "-rate", "500")
	p.awaitText(t, p.stderr, " of 10000 (")
	m := goesTo.FindStringSubmatch(p.stderr.String())
	if m == nil {
		t.Fatal("it does not say where its broker and its proxy are")
	}
	for _, addr := range m[1:] {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	p.interrupt(t)
	p.mustExit(t, 130)
	rows := books(t, p)
	if n := rows["published"]; n == 0 || n == 10_000 || rows["confirmed"] != n || rows["consumed"] != n || rows["lost"] != 0 {
		t.Errorf("the ledger of the interrupted run: %v", rows)
	}
	if n := strings.Count(p.stderr.String(), "quickstart:"); n != 0 {
		t.Errorf("it complains: %s", p.stderr)
	}
}
