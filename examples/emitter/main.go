// Command emitter is the classic EventEmitter program, across processes: events
// are emitted to a topic exchange, and each listener has a durable queue of its
// own there. What one listener does with an event is nothing to the others, and
// events wait for a listener that is away.
//
//	go run ./examples/emitter listen                             # both listeners, in one terminal
//	go run ./examples/emitter emit event1 'Data to be handled'   # in another
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
  emitter listen [-panic LISTENER] [LISTENER...]   listen until Ctrl-C; without names, both
  emitter emit EVENT DATA                          emit one event
listeners: received, handling
`

var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "emitter:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	switch {
	case len(args) == 3 && args[0] == "emit":
		return emitOne(ctx, args[1], args[2], stderr)
	case len(args) > 0 && args[0] == "listen":
		flags := flag.NewFlagSet("listen", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		panicking := flags.String("panic", "", "the `LISTENER` that panics at the first try of each event")
		if flags.Parse(args[1:]) != nil {
			return errUsage
		}
		chosen, err := choose(listeners(stdout), flags.Args(), *panicking)
		if err != nil {
			return err
		}
		return listen(ctx, chosen, stderr)
	default:
		return errUsage
	}
}
