//go:build unix

package cli_test

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/cli"
)

// The signals go to this process, so the test runs alone.
func TestTheFirstSignalIsSoftAndTheSecondHard(t *testing.T) {
	i := cli.CatchInterrupts(t.Context())
	defer i.Stop()
	send := func(s syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	var e *cli.Interrupted
	send(syscall.SIGTERM)
	<-i.Soft.Done()
	if !errors.As(context.Cause(i.Soft), &e) || e.Twice || e.ExitCode() != 143 {
		t.Errorf("the first: %v", context.Cause(i.Soft))
	}
	send(syscall.SIGTERM) // as timeout(1) does: to the process, then to its group
	select {
	case <-i.Hard.Done():
		t.Error("the same signal counts twice")
	case <-time.After(300 * time.Millisecond): // longer than a signal is the same
	}
	send(syscall.SIGINT)
	<-i.Hard.Done()
	if !errors.As(context.Cause(i.Hard), &e) || !e.Twice || e.ExitCode() != 130 {
		t.Errorf("the second: %v", context.Cause(i.Hard))
	}
}

// A terminal that is closed ends a run as any signal does, except one that was begun
// to outlive it, as by nohup.
func TestAHangupIsASignalUnlessItWasIgnored(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("this process was begun to outlive a hangup")
	}
	kill := func(s syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	cause := func(i *cli.Interrupts) (e *cli.Interrupted) {
		<-i.Soft.Done()
		i.Stop()
		errors.As(context.Cause(i.Soft), &e)
		return e
	}
	i := cli.CatchInterrupts(t.Context())
	kill(syscall.SIGHUP)
	if e := cause(i); e.ExitCode() != 129 || e.Error() != "interrupted (SIGHUP)" {
		t.Errorf("a hangup: %v", e)
	}
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	i = cli.CatchInterrupts(t.Context())
	kill(syscall.SIGHUP)
	kill(syscall.SIGTERM)
	if e := cause(i); e.ExitCode() != 143 {
		t.Errorf("one that is ignored, and SIGTERM: %v", e)
	}
}

func TestSoftEndsWithItsParent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	i := cli.CatchInterrupts(ctx)
	defer i.Stop()
	cancel()
	<-i.Soft.Done()
	if i.Hard.Err() != nil {
		t.Error("hard ended too")
	}
}
