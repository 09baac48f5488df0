package main

import (
	"bytes"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mqkit/mqkit/internal/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, "mqbroker", main) }

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
			"exits": clitest.Exits,
			"await": await,
			"login": login,
		},
	})
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
