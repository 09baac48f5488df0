package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// patience is long: pika takes its time on a busy machine.
const patience = time.Minute

// broker is an mqbroker that runs as a process.
type broker struct {
	url    string
	cmd    *exec.Cmd
	stderr bytes.Buffer  // to be read when it has ended
	rest   string        // of stdout, behind the URL; as above
	ended  chan struct{} // closed then
}

// start runs mqbroker on a free port. It ends with the test.
func start(t *testing.T, args ...string) *broker {
	t.Helper()
	b := &broker{cmd: exec.Command("mqbroker", append([]string{"--listen", "127.0.0.1:0"}, args...)...), ended: make(chan struct{})}
	b.cmd.Stderr = &b.stderr
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := make(chan string, 1)
	go func() { // waited for below
		defer close(b.ended)
		r := bufio.NewReader(stdout)
		line, _ := r.ReadString('\n')
		url <- strings.TrimSuffix(line, "\n")
		var rest strings.Builder
		_, _ = r.WriteTo(&rest)
		b.rest = rest.String()
		_ = b.cmd.Wait() // the ProcessState tells
	}()
	t.Cleanup(func() {
		_ = b.cmd.Process.Kill()
		<-b.ended
		if t.Failed() {
			t.Logf("mqbroker %q: %v\n%s", args, b.cmd.ProcessState, &b.stderr)
		}
	})
	select {
	case b.url = <-url:
	case <-time.After(patience):
	}
	if b.url == "" {
		t.Fatal("mqbroker prints no URL")
	}
	return b
}

// stop sends a signal and waits for an end in order.
func (b *broker) stop(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := b.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-b.ended:
	case <-time.After(patience):
		t.Fatal("mqbroker does not end")
	}
	if code := b.cmd.ProcessState.ExitCode(); code != 0 || b.rest != "" {
		t.Errorf("exit %d, want 0; printed %q behind its URL", code, b.rest)
	}
}
