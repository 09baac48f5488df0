package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Interrupted is the cause with which a context of Interrupts ends.
type Interrupted struct {
	Signal syscall.Signal
	Twice  bool
}

func (e *Interrupted) Error() string {
	name := map[syscall.Signal]string{syscall.SIGINT: "SIGINT", syscall.SIGTERM: "SIGTERM", syscall.SIGHUP: "SIGHUP"}[e.Signal]
	if e.Twice {
		return fmt.Sprintf("interrupted twice (%s)", name)
	}
	return fmt.Sprintf("interrupted (%s)", name)
}

// ExitCode is what a shell shows for a process that the signal ended.
func (e *Interrupted) ExitCode() int { return ExitInterrupted + int(e.Signal) }

// Interrupts are SIGINT, SIGTERM and, unless the program was begun to ignore it, as by
// nohup, SIGHUP: the first asks to stop in order, the second to stop now, and a third
// is the system's business again.
type Interrupts struct {
	// Soft ends with the first signal, or with the parent context.
	Soft context.Context
	// Hard ends with the second.
	Hard context.Context

	signals chan os.Signal
	done    chan struct{}
	stopped sync.WaitGroup
}

// CatchInterrupts begins to listen; Stop ends it.
func CatchInterrupts(parent context.Context) *Interrupts {
	soft, stopSoft := context.WithCancelCause(parent)
	hard, stopHard := context.WithCancelCause(context.WithoutCancel(parent))
	i := &Interrupts{Soft: soft, Hard: hard, signals: make(chan os.Signal, 2), done: make(chan struct{})}
	signal.Notify(i.signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(i.signals, syscall.SIGHUP)
	}
	i.stopped.Go(func() {
		defer signal.Stop(i.signals)
		var first time.Time
		for {
			select {
			case s := <-i.signals:
				cause := &Interrupted{Signal: s.(syscall.Signal)}
				switch {
				case first.IsZero():
					first = time.Now()
					stopSoft(cause)
				case time.Since(first) >= sameSignal:
					cause.Twice = true
					stopHard(cause)
					return
				}
			case <-i.done:
				return
			}
		}
	})
	return i
}

// sameSignal is how long after the first signal another is taken for the same:
// timeout(1) and others signal a process and then its group. A person is slower.
const sameSignal = 250 * time.Millisecond

// Stop gives the signals back to the system.
func (i *Interrupts) Stop() {
	close(i.done)
	i.stopped.Wait()
}
