package clitest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript" //nolint:depguard // only tests import this package

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/topology"
)

// Scripts are the transcripts in testdata/script, each with a broker of its own at
// $BROKER_URL. Besides what testscript has, they can say
//
//	exits 2 mqpub --nope         # a command ends with that code
//	declare topology.yaml        # the broker has what the file says
//	enqueue orders 'order 1'     # messages come into a queue
//	holds orders 'order 1'       # these are in the queue, and were given out to nobody
func Scripts() testscript.Params {
	return testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   Exits,
			"declare": declareFile,
			"enqueue": enqueue,
			"holds":   holds,
		},
	}
}

type brokerOf struct{} // key of Env.Values

func setup(e *testscript.Env) error {
	b, err := mqtest.Start(mqtest.Config{})
	if err != nil {
		return err
	}
	e.Defer(b.Close)
	e.Values[brokerOf{}] = b
	e.Setenv("BROKER_URL", b.URL())
	e.Setenv("AMQP_URL", "amqp://127.0.0.1:1/") // nobody answers there
	e.Setenv("AMQP_PASSWORD", "")
	return nil
}

func queue(ts *testscript.TestScript, name string) *mqtest.Queue {
	return ts.Value(brokerOf{}).(*mqtest.Broker).Queue(name)
}

// Exits is the command of that name, see Scripts.
func Exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = fmt.Sprint(exitCode(err))
	}
	if code != args[0] {
		ts.Fatalf("%v exits %s, want %s", args[1:], code, args[0])
	}
}

func exitCode(err error) int {
	if e, ok := err.(interface{ ExitCode() int }); ok {
		return e.ExitCode()
	}
	return -1
}

func declareFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: declare FILE")
	}
	t, err := topology.Load(strings.NewReader(ts.ReadFile(args[0])), topology.LoadOptions{})
	ts.Check(err)
	ts.Check(declare(ts.Value(brokerOf{}).(*mqtest.Broker), t))
}

func enqueue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: enqueue QUEUE BODY...")
	}
	for _, body := range args[1:] {
		if !queue(ts, args[0]).Enqueue(mqtest.Message{Body: []byte(body)}) {
			ts.Fatalf("queue %s does not take %q", args[0], body)
		}
	}
}

func holds(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || neg {
		ts.Fatalf("usage: holds QUEUE BODY...")
	}
	q := queue(ts, args[0])
	if !q.Exists() {
		ts.Fatalf("there is no queue %s", args[0])
	}
	if got := q.Bodies(); !slices.Equal(got, args[1:]) {
		ts.Fatalf("queue %s holds %q, want %q", args[0], got, args[1:])
	}
	for _, m := range q.Messages() {
		if m.Unacked || m.Redelivered {
			ts.Fatalf("%q in queue %s was given out: unacked %v, redelivered %v", m.Body, args[0], m.Unacked, m.Redelivered)
		}
	}
}
