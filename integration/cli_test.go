package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/internal/record"
	"github.com/mqkit/mqkit/producer"
)

// TestCommandLineTools runs mqpub and mqsub as people do: as processes, in pipes,
// with signals. What needs no broker is tested next to them, in cmd.
func TestCommandLineTools(t *testing.T) {
	skipShort(t)
	c := tools{t.TempDir()}
	build(t, c.dir, "./cmd/mqpub", "./cmd/mqsub")
	t.Run("Transcripts", c.testTranscripts)
	for name, test := range map[string]func(*testing.T, tools){
		"ErrorsAreOneLineWithoutPasswords":           testErrorLines,
		"TLSPortsAreToldApart":                       testTLSPorts,
		"HeadTakesExactlyWhatItPrints":               testHead,
		"CountTakesExactlyN":                         testCount,
		"FullDiskAcksNothing":                        testFullDisk,
		"PipeWithoutReaderAcksNothing":               testClosedPipe,
		"ReaderThatNeverReads":                       testReaderThatNeverReads,
		"InterruptedSubscriber":                      testInterruptedSubscriber,
		"InterruptedPublisherSaysHowFarItCame":       testInterruptedPublisher,
		"FullQueueGivesItsNackedBack":                testFullQueue,
		"DeletedQueueEndsTheRun":                     testDeletedQueue,
		"DeclaredQueueComesBack":                     testDeclaredQueueComesBack,
		"KillsUnderLoadLoseNothing":                  testKillsUnderLoad,
		"OutageLongerThanRetry":                      testOutageLongerThanRetry,
		"ConfirmTimeoutCountsOnlyWhileConnected":     testConfirmTimeout,
		"SubscriberSurvivesKillsWithoutLosingOrders": testSubscriberSurvivesKills,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

// build builds the programs of packages, paths from the module's root, into dir; with
// the race detector if this test binary has it.
func build(t *testing.T, dir string, packages ...string) {
	t.Helper()
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, packages...)...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %v: %v\n%s", packages, err, out)
	}
}

// tools are the built programs.
type tools struct{ dir string }

// command is a tool to be run.
type command struct {
	url    string
	env    []string
	stdin  io.Reader
	stdout *os.File // collected when nil
	name   string
	args   []string
}

// start runs a tool. It is killed at the end of the test if it still runs.
func (c tools) start(t *testing.T, in command) *program {
	t.Helper()
	p := &program{name: in.name, stdout: newOutput(), stderr: newOutput(), done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(c.dir, in.name), in.args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in.stdin, p.stdout, p.stderr
	if in.stdout != nil {
		p.cmd.Stdout = in.stdout
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AMQP_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(append(p.cmd.Env, "AMQP_URL="+in.url), in.env...)
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
			t.Logf("%s %q: %v\nstdout:\n%.2000s\nstderr:\n%.4000s", in.name, in.args, p.cmd.ProcessState, p.stdout, p.stderr)
		}
	})
	return p
}

// run runs a tool to its end, which has to come with that code.
func (c tools) run(t *testing.T, code int, url string, stdin string, name string, args ...string) *program {
	t.Helper()
	p := c.start(t, command{url: url, stdin: strings.NewReader(stdin), name: name, args: args})
	p.mustExit(t, code)
	return p
}

// mustSay checks that stderr has a line that matches.
func (p *program) mustSay(t *testing.T, pattern string) {
	t.Helper()
	if !regexp.MustCompile("(?m)" + pattern).MatchString(p.stderr.String()) {
		t.Errorf("%s says\n%s\nwant a line that matches %s", p.name, p.stderr, pattern)
	}
}

// numbers are the lines 1 to n.
func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i+1)
	}
	return b.String()
}

// filled is a queue that holds the messages 1 to n. It is deleted at the end.
func (c tools) filled(t *testing.T, url string, n int) (queue string) {
	t.Helper()
	queue = uniqueName(t)
	deleteAfter(t, url, queue)
	c.run(t, 0, url, numbers(n), "mqpub", "-q", queue, "--declare", "--retry", "5m")
	return queue
}

func deleteAfter(t *testing.T, url, queue string) {
	t.Cleanup(func() {
		conn, err := amqp.Dial(url)
		if err != nil {
			return // a node of the test's own, which is gone
		}
		defer conn.Close()
		if ch, err := conn.Channel(); err == nil {
			_, _ = ch.QueueDelete(queue, false, false, false)
		}
	})
}

// mustStillHold takes all messages out of a queue and checks which they are, in
// any order, when that many are ready.
func mustStillHold(t *testing.T, url, queue string, want ...int) {
	t.Helper()
	ch := admin(t, url)
	eventually(t, fmt.Sprintf("%d messages are ready", len(want)), patience, func() bool { return ready(t, ch, queue) == len(want) })
	var got []int
	for _, d := range mustHold(t, url, queue, len(want)) {
		n, err := strconv.Atoi(string(d.Body))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("queue %s held %v, want %v", queue, got, want)
	}
}

func fromTo(first, last int) []int {
	var all []int
	for i := first; i <= last; i++ {
		all = append(all, i)
	}
	return all
}

// testTranscripts runs testdata/cli. $Q is a queue name of the script's own, $X
// an exchange, bound to nothing.
func (c tools) testTranscripts(t *testing.T) {
	t.Parallel()
	node := sharedNode(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/cli",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			queue := strings.ReplaceAll(uniqueName(t), "/", ".")
			exchange := queue + ".x"
			conn, err := amqp.Dial(node.URL())
			if err != nil {
				return err
			}
			defer conn.Close()
			ch, err := conn.Channel()
			if err != nil {
				return err
			}
			if err := ch.ExchangeDeclare(exchange, "topic", true, false, false, false, nil); err != nil {
				return err
			}
			e.Defer(func() {
				conn, err := amqp.Dial(node.URL())
				if err != nil {
					return
				}
				defer conn.Close()
				if ch, err := conn.Channel(); err == nil {
					_, _ = ch.QueueDelete(queue, false, false, false)
					_ = ch.ExchangeDelete(exchange, false, false)
				}
			})
			e.Setenv("PATH", c.dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
			e.Setenv("AMQP_URL", node.URL())
			e.Setenv("AMQP_PASSWORD", "")
			e.Setenv("Q", queue)
			e.Setenv("X", exchange)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: exits CODE COMMAND ARGS...")
				}
				code := 0
				var exit *exec.ExitError
				if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
					code = exit.ExitCode()
				}
				if fmt.Sprint(code) != args[0] {
					ts.Fatalf("%v exits %d, want %s", args[1:], code, args[0])
				}
			},
			// routed runs a command until it exits 0: what it publishes to is being
			// made by another.
			"routed": func(ts *testscript.TestScript, neg bool, args []string) {
				deadline := time.Now().Add(patience)
				for ts.Exec(args[0], args[1:]...) != nil {
					if time.Now().After(deadline) {
						ts.Fatalf("%v does not succeed", args)
					}
				}
			},
			// normal replaces what differs in each run: normal FROM TO.
			"normal": func(ts *testscript.TestScript, neg bool, args []string) {
				text := ts.ReadFile(args[0])
				text = regexp.MustCompile(`"received_at":"[^"]+"`).ReplaceAllString(text, `"received_at":"NOW"`)
				text = regexp.MustCompile(`"message_id":"[0-9a-f-]{36}"`).ReplaceAllString(text, `"message_id":"UUID"`)
				text = strings.ReplaceAll(strings.ReplaceAll(text, ts.Getenv("X"), "EXCHANGE"), ts.Getenv("Q"), "QUEUE")
				text = regexp.MustCompile(`"queue":"amq\.gen-[^"]+"`).ReplaceAllString(text, `"queue":"GENERATED"`)
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
			},
		},
	})
}

func testErrorLines(t *testing.T, c tools) {
	node := sharedNode(t)
	queue := c.filled(t, node.URL(), 1)
	addr := strings.TrimSuffix(strings.TrimPrefix(node.URL(), "amqp://guest:guest@"), "/")
	if strings.ContainsAny(addr, "/@") {
		t.Skipf("needs a broker with guest on the vhost /, AMQP_URL is another")
	}
	const secret = "s3cret"
	silent := listen(t, func(net.Conn) {})
	cut := listen(t, func(conn net.Conn) { _ = conn.Close() })
	for _, e := range []struct {
		name, url string
		args      []string
		code      int
		line      string
	}{
		{"wrong password", "amqp://guest:" + secret + "@" + addr + "/", nil, 4, `cannot connect: .+: the broker refuses the login: wrong user or password, .+ \(403\)`},
		{"wrong user", "amqp://" + secret + ":guest@" + addr + "/", nil, 4, `cannot connect: .+: the broker refuses the login: wrong user or password, .+ \(403\)`},
		{"wrong vhost", "amqp://guest:guest@" + addr + "/nosuch", nil, 4, `cannot connect: .+: the broker has no vhost nosuch: check --vhost or the end of the url \(530\)`},
		{"tls to a plain port", "amqps://guest:" + secret + "@" + addr + "/", nil, 4, `cannot connect: .+: the server does not speak TLS on this port: use an amqp:// url, .+`},
		{"bad url", "amqp:/guest:" + secret + "@" + addr + "/a/b", nil, 2, `AMQP_URL: url 1: .+; expected amqp://user:password@host:port/vhost.*`},
		{"no port", "amqp://guest:" + secret + "@127.0.0.1:amqp/", nil, 2, `AMQP_URL: url 1: cannot be parsed: expected amqp://user:password@host:port/vhost.*`},
		{"no url", secret, nil, 2, `AMQP_URL: url 1: its scheme is neither amqp nor amqps: .+`},
		{"closed port", "amqp://guest:" + secret + "@127.0.0.1:1/,amqp://guest:" + secret + "@127.0.0.1:2/", []string{"--connect-timeout", "1s"}, 4, `cannot connect within 1s: .*127\.0\.0\.1:\d: connection refused; 127\.0\.0\.1:\d: connection refused`},
		{"unknown host", "amqp://guest:" + secret + "@mqkit.invalid/", []string{"--connect-timeout", "1s"}, 4, `cannot connect within 1s: mqkit\.invalid:5672: look up mqkit\.invalid: .+`},
		{"silent host", "amqp://guest:" + secret + "@" + silent, []string{"--connect-timeout", "1s"}, 4, `cannot connect within 1s: .+: (no connection within 900ms|no answer yet)`},
		{"host that hangs up", "amqp://guest:" + secret + "@" + cut, []string{"--connect-timeout", "1s"}, 4, `cannot connect within 1s: .+: the connection ended during the handshake.*`},
		{"inequivalent queue", node.URL(), []string{"--declare=classic"}, 7, `cannot declare queue ".+": it exists and differs \(its x-queue-type is quorum, asked for was classic\): leave --declare out .+ \(406\)`},
		{"reserved name", node.URL(), []string{"-q", "amq.mine", "--declare"}, 2, `queue "amq\.mine": .*the prefix "amq\." belongs to the broker.* \(see \w+ --help\)`},
	} {
		for _, tool := range []string{"mqpub", "mqsub"} {
			args := append([]string{"-q", queue}, e.args...)
			begin := time.Now()
			p := c.run(t, e.code, e.url, "x\n", tool, args...)
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("%s, %s: it took %v", e.name, tool, took)
			}
			if want := regexp.MustCompile(`\A` + tool + ": " + e.line + `\n\z`); !want.MatchString(p.stderr.String()) {
				t.Errorf("%s:\n got %swant one line like %s", e.name, p.stderr, want)
			}
			if p.stdout.String() != "" || strings.Contains(p.stderr.String(), secret) {
				t.Errorf("%s, %s: stdout %q, stderr %q", e.name, tool, p.stdout, p.stderr)
			}
		}
	}
	// What is wrong with the queue of a subscription.
	p := c.run(t, 7, node.URL(), "", "mqsub", "-q", "nosuch."+queue)
	p.mustSay(t, `^mqsub: there is no queue 'nosuch\..+' in vhost '/': declare it with --declare, or check the name \(404\)$`)
	p = c.run(t, 7, node.URL(), "", "mqsub", "-e", "nosuch."+queue, "-r", "#")
	p.mustSay(t, `^mqsub: cannot bind .+: there is no exchange 'nosuch\..+' in vhost '/': create it first, or check the name \(404\)$`)
	// Nothing of it shows with --verbose either.
	p = c.run(t, 4, "amqp://guest:"+secret+"@"+addr+"/", "", "mqsub", "-v", "-q", queue)
	if !strings.Contains(p.stderr.String(), "level=") || strings.Contains(p.stderr.String(), secret) {
		t.Errorf("with -v: %s", p.stderr)
	}
}

// listen is a server that does one thing with each connection and keeps it open
// until the end of the test. It returns its address.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	go func() { // waited for above
		defer close(ended)
		var conns []net.Conn
		for {
			conn, err := l.Accept()
			if err != nil {
				break
			}
			conns = append(conns, conn)
			serve(conn)
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

func testTLSPorts(t *testing.T, c tools) {
	certs, err := broker.IssueCertificates()
	if err != nil {
		t.Fatal(err)
	}
	node := ownNode(t, broker.Options{TLS: &broker.TLS{CA: certs.CA, Cert: certs.Cert, Key: certs.Key}})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, certs.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	plain := "amqp://" + strings.TrimPrefix(node.TLSURL(), "amqps://")
	p := c.run(t, 4, plain, "", "mqpub", "-q", "q", "x")
	p.mustSay(t, `^mqpub: cannot connect: .+: the server answers with TLS on this port: use an amqps:// url$`)
	p = c.run(t, 4, node.TLSURL(), "", "mqpub", "-q", "q", "x")
	p.mustSay(t, `^mqpub: cannot connect: .+: tls: .*certificate signed by unknown authority$`)
	p = c.run(t, 4, node.TLSURL(), "", "mqpub", "-q", "q", "--tls-ca-file", ca, "--tls-server-name", "other", "x")
	p.mustSay(t, `^mqpub: cannot connect: .+: tls: .*certificate is valid for .*, not other$`)
	c.run(t, 0, node.TLSURL(), "", "mqpub", "-q", "q", "--declare", "--tls-ca-file", ca, "x")
	p = c.run(t, 0, node.TLSURL(), "", "mqpub", "-q", "q", "-k", "y")
	p.mustSay(t, `^mqpub: the server's certificate is not checked \(--insecure\)$`)
	p = c.start(t, command{url: node.TLSURL(), env: []string{"AMQP_TLS_CA_FILE=" + ca}, name: "mqsub", args: []string{"-q", "q", "-n", "2"}})
	p.mustExit(t, 0)
	mustPrint(t, p.stdout, "x\ny\n")
}

func testHead(t *testing.T, c tools) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells what the reader of a pipe has taken")
	}
	url := sharedNode(t).URL()
	for _, format := range []string{"text", "body", "json"} {
		queue := c.filled(t, url, 200)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		sub := c.start(t, command{url: url, stdout: w, name: "mqsub", args: []string{"-q", queue, "-o", format}})
		_ = w.Close()
		head := exec.CommandContext(t.Context(), "head", "-3")
		head.Stdin = r
		out, err := head.Output()
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		sub.mustExit(t, 0)
		if n := bytes.Count(out, []byte("\n")); n != 3 {
			t.Fatalf("head printed %d lines: %s", n, out)
		}
		sub.mustSay(t, `^mqsub: 3 consumed, \d+ given back in `)
		mustStillHold(t, url, queue, fromTo(4, 200)...)
	}
	// It ends with its reader, also when no further message comes.
	queue := c.filled(t, url, 3)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	sub := c.start(t, command{url: url, stdout: w, name: "mqsub", args: []string{"-q", queue}})
	_ = w.Close()
	head := exec.CommandContext(t.Context(), "head", "-3")
	head.Stdin = r
	if _, err := head.Output(); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	sub.mustExit(t, 0)
	mustStillHold(t, url, queue)
}

func testCount(t *testing.T, c tools) {
	node := sharedNode(t)
	url := node.URL()
	queue := c.filled(t, url, 1000)
	next := 1
	for _, n := range []int{1, 1, 2, 3, 10, 50, 51, 120, 300} {
		p := c.run(t, 0, url, "", "mqsub", "-q", queue, "-o", "body", "-n", strconv.Itoa(n))
		var want strings.Builder
		for range n {
			fmt.Fprintln(&want, next)
			next++
		}
		mustPrint(t, p.stdout, want.String())
		p.mustSay(t, fmt.Sprintf(`^mqsub: %d consumed in `, n)) // none given back, none redelivered
	}
	// What is left was never given out: not one too many has been taken.
	ch := admin(t, url)
	eventually(t, "the rest is ready", patience, func() bool { return ready(t, ch, queue) == 1000-next+1 })
	for _, d := range mustHold(t, url, queue, 1000-next+1) {
		if d.Redelivered || d.Headers["x-acquired-count"] != nil {
			t.Fatalf("message %s was given out before: redelivered %v, headers %v", d.Body, d.Redelivered, d.Headers)
		}
	}
}

func testFullDisk(t *testing.T, c tools) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full here")
	}
	defer full.Close()
	url := sharedNode(t).URL()
	queue := c.filled(t, url, 20)
	for _, args := range [][]string{{"-q", queue}, {"-q", queue, "-n", "5"}} {
		p := c.start(t, command{url: url, stdout: full, name: "mqsub", args: args})
		p.mustExit(t, 1)
		p.mustSay(t, `^mqsub: cannot write the output: .*no space left on device`)
		p.mustSay(t, `^mqsub: 0 consumed, `)
	}
	mustStillHold(t, url, queue, fromTo(1, 20)...)

	// The same for what could not be published and not be kept.
	p := c.start(t, command{url: url, name: "mqpub", args: []string{"-q", "nosuch." + queue, "--failed", "/dev/full", "a", "b"}})
	p.mustExit(t, 1)
	p.mustSay(t, `^mqpub: message 1: returned: .+; cannot be kept: .*no space left on device$`)
	p.mustSay(t, `^mqpub: not every message could be kept in /dev/full: `)
}

func testClosedPipe(t *testing.T, c tools) {
	url := sharedNode(t).URL()
	queue := c.filled(t, url, 20)
	for _, e := range []struct {
		code int
		args []string
	}{
		{0, []string{"-q", queue}},
		{1, []string{"-q", queue, "-n", "5"}},
		{0, []string{"-q", queue, "--pipe-buffered"}},
		{1, []string{"-q", queue, "--pipe-buffered", "-n", "5"}},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		p := c.start(t, command{url: url, stdout: w, name: "mqsub", args: e.args})
		_ = w.Close()
		p.mustExit(t, e.code)
		p.mustSay(t, `^mqsub: 0 consumed`)
		if e.code == 1 {
			p.mustSay(t, `^mqsub: the reader of the output has gone; 0 of 5 messages were taken$`)
		}
	}
	mustStillHold(t, url, queue, fromTo(1, 20)...)
}

func testReaderThatNeverReads(t *testing.T, c tools) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells what the reader of a pipe has taken")
	}
	url := sharedNode(t).URL()
	for _, e := range []struct {
		code  int
		args  []string
		says  string
		twice bool
	}{
		{130, []string{"--shutdown-timeout", "10m"}, `^mqsub: interrupted twice \(SIGINT\)$`, true},
		{1, nil, `^mqsub: interrupted, and the reader did not take the last message within 500ms \(--shutdown-timeout\): it went back to the queue$`, false},
		{143, []string{"-n", "5"}, `^mqsub: interrupted \(SIGTERM\); 0 of 5 messages were taken$`, false},
	} {
		queue := c.filled(t, url, 20)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p := c.start(t, command{url: url, stdout: w, name: "mqsub", args: append([]string{"-q", queue, "--shutdown-timeout", "500ms"}, e.args...)})
		_ = w.Close()
		if _, err := r.Read(make([]byte, 1)); err != nil { // it has written the first line, and nobody reads on
			t.Fatal(err)
		}
		p.terminate(t)
		if e.twice {
			<-time.After(400 * time.Millisecond) // sooner it is taken for the same signal
			p.interrupt(t)
		}
		p.mustExit(t, e.code)
		p.mustSay(t, e.says)
		_ = r.Close()
		mustStillHold(t, url, queue, fromTo(1, 20)...)
	}
}

// terminate is what a supervisor does.
func (p *program) terminate(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there are no signals here")
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

func testInterruptedSubscriber(t *testing.T, c tools) {
	url := sharedNode(t).URL()
	for _, e := range []struct {
		code int
		args []string
		says string
	}{
		{0, nil, `\Amqsub: 5 consumed in .+\n\z`},
		{130, []string{"-n", "6"}, `\Amqsub: interrupted \(SIGINT\); 5 of 6 messages were taken\nmqsub: 5 consumed in .+\n\z`},
	} {
		queue := c.filled(t, url, 5)
		p := c.start(t, command{url: url, name: "mqsub", args: append([]string{"-q", queue}, e.args...)})
		p.awaitText(t, p.stdout, "5\n")
		p.interrupt(t)
		p.mustExit(t, e.code)
		p.mustSay(t, e.says)
		mustStillHold(t, url, queue)
	}
}

func testInterruptedPublisher(t *testing.T, c tools) {
	url := sharedNode(t).URL()
	queue := c.filled(t, url, 1)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // its end is not what ends the run
	p := c.start(t, command{url: url, stdin: r, name: "mqpub", args: []string{"-q", queue}})
	_ = r.Close()
	if _, err := io.WriteString(w, "2\n3\nhalf a line"); err != nil {
		t.Fatal(err)
	}
	ch := admin(t, url)
	eventually(t, "both lines are published", patience, func() bool { return ready(t, ch, queue) == 3 })
	p.interrupt(t)
	p.mustExit(t, 130)
	p.mustSay(t, `\Amqpub: interrupted \(SIGINT\); nothing after line 2 was published\nmqpub: 2 confirmed, 0 failed in .+\n\z`)
	mustStillHold(t, url, queue, 1, 2, 3)
}

// records reads a file of records.
func records(t *testing.T, path string) []producer.Message {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var ms []producer.Message
	for line := range bytes.Lines(b) {
		r, err := record.Parse(line)
		if err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		ms = append(ms, r.Message())
	}
	return ms
}

func testFullQueue(t *testing.T, c tools) {
	url := sharedNode(t).URL()
	queue := uniqueName(t)
	ch := admin(t, url)
	if _, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-max-length": int32(10), "x-overflow": "reject-publish"}); err != nil {
		t.Fatal(err)
	}
	deleteAfter(t, url, queue)
	failed := filepath.Join(t.TempDir(), "failed")
	p := c.run(t, 3, url, numbers(200), "mqpub", "-q", queue, "--failed", failed, "-H", "n:int32=1")
	p.mustSay(t, `^mqpub: line 200: nacked: a queue did not take it$`)
	nacked := records(t, failed)
	p.mustSay(t, fmt.Sprintf(`^mqpub: %d confirmed, %d failed \(%[2]d nacked\), %[2]d kept in .+ in `, 200-len(nacked), len(nacked)))
	if len(nacked) == 0 {
		t.Fatal("nothing was nacked")
	}
	missing := map[string]bool{}
	for i := range 200 {
		missing[strconv.Itoa(i+1)] = true
	}
	for _, m := range nacked {
		if m.RoutingKey != queue || m.Exchange != "" || m.Headers["n"] != int32(1) || m.MessageID == "" || m.Transient {
			t.Fatalf("kept %+v", m)
		}
		delete(missing, string(m.Body))
	}
	for _, d := range mustHold(t, url, queue, 200-len(nacked)) {
		delete(missing, string(d.Body))
	}
	if len(missing) > 0 {
		t.Errorf("neither in the queue nor in the file: %v", missing)
	}
}

// awaitAcked waits until the consumer of queue, on the shared node, has acked all
// that it was given: mqsub -n keeps acks back for a moment. Its channel is asked: what
// list_queues says of a quorum queue is seconds old.
func awaitAcked(t *testing.T, queue string) {
	t.Helper()
	consumer := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(queue) + `\s+(<\S+>)$`)
	eventually(t, "what was printed is acked", patience, func() bool {
		out, err := sharedNode(t).Ctl(t.Context(), "-q", "list_consumers", "queue_name", "channel_pid")
		if errors.Is(err, broker.ErrNoControl) {
			return true
		}
		channel := consumer.FindStringSubmatch(out)
		if err != nil || channel == nil {
			return false
		}
		out, err = sharedNode(t).Ctl(t.Context(), "-q", "list_channels", "pid", "messages_unacknowledged")
		return err == nil && regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(channel[1])+`\s+0$`).MatchString(out)
	})
}

func testDeletedQueue(t *testing.T, c tools) {
	url := sharedNode(t).URL()
	ch := admin(t, url)
	for _, e := range []struct {
		code int
		args []string
		says string
	}{
		{7, []string{"--retry", "1s"}, `^mqsub: the subscription was lost for longer than 1s \(--retry\): there is no queue '.+' in vhost '/': `},
		{8, []string{"--retry", "1s", "-n", "6"}, `^mqsub: the subscription was lost for longer than 1s .+; 5 of 6 messages were taken$`},
		{8, []string{"--retry", "0", "-n", "6"}, `^mqsub: the subscription was lost: .+; 5 of 6 messages were taken$`},
	} {
		queue := c.filled(t, url, 5)
		p := c.start(t, command{url: url, name: "mqsub", args: append([]string{"-q", queue}, e.args...)})
		p.awaitText(t, p.stdout, "5\n")
		awaitAcked(t, queue)
		if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.done:
		case <-time.After(programPatience):
		}
		// RabbitMQ 4.3 closes the connection over a consume that meets the deletion.
		if e.args[1] == "0" && strings.Contains(p.stderr.String(), "(541)") {
			p.mustExit(t, 5)
			continue
		}
		p.mustExit(t, e.code)
		p.mustSay(t, e.says)
	}
}

func testDeclaredQueueComesBack(t *testing.T, c tools) {
	url := sharedNode(t).URL()
	ch := admin(t, url)
	queue := c.filled(t, url, 2)
	p := c.start(t, command{url: url, name: "mqsub", args: []string{"-q", queue, "--declare", "-n", "4"}})
	p.awaitText(t, p.stdout, "2\n")
	awaitAcked(t, queue)
	if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the queue is there again", patience, func() bool {
		probe := admin(t, url)
		q, err := probe.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err == nil && q.Consumers == 1
	})
	c.run(t, 0, url, "3\n4\n", "mqpub", "-q", queue)
	p.mustExit(t, 0)
	mustPrint(t, p.stdout, "1\n2\n3\n4\n")
}
