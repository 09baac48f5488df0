package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// The test binary is mqbroker too: scripts run it by that name.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"mqbroker": main})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "mqbroker:", err)
			code = 1
		}
	}
	return code
}

// The scripts in testdata/script are transcripts of a user.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(patience), // for what serves where it should refuse
		Setup: func(e *testscript.Env) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			e.Setenv("TAKEN", l.Addr().String())
			e.Defer(func() { _ = l.Close() })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"await": await,
			"login": login,
		},
	})
}

// exits runs a command that has to end with a code: exits 2 mqbroker --nope
func exits(ts *testscript.TestScript, neg bool, args []string) {
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

// await waits for a line in a file, and puts it into the environment, and what is
// behind its @ into ADDR: await FILE VAR. A script's background command that writes it is: exec sh -c 'mqbroker >FILE' &
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE VAR")
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if line, _, whole := bytes.Cut(b, []byte("\n")); err == nil && whole {
			ts.Setenv(args[1], string(line))
			_, addr, _ := strings.Cut(string(line), "@")
			ts.Setenv("ADDR", addr)
			return
		}
	}
	ts.Fatalf("nothing in %s", args[0])
}

// login connects to a URL, or fails to do so with a text: login URL, ! login URL TEXT
func login(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || neg != (len(args) == 2) {
		ts.Fatalf("usage: login URL, or ! login URL TEXT")
	}
	conn, err := amqp.Dial(args[0])
	if err == nil {
		ts.Check(conn.Close())
	}
	switch {
	case !neg:
		ts.Check(err)
	case err == nil || !strings.Contains(err.Error(), args[1]):
		ts.Fatalf("login: %v, want %s", err, args[1])
	}
}
