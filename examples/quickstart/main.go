// Command quickstart runs the main job of mqkit from end to end: it publishes
// orders with confirms, consumes them with manual acks, and prints a ledger that
// says whether any was lost. Kill the broker meanwhile, and start it again.
//
//	go run ./examples/quickstart
//
// It uses the broker of AMQP_URL, else one of its own in Docker. Its queue is its
// own as well, and is deleted at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/mqkit/mqkit/reconnect"
)

func main() {
	n := flag.Int("n", 10_000, "how many orders")
	rate := flag.Int("rate", 0, "how many a second; 0 is as fast as it goes")
	flag.Parse()
	if *n < 1 || *rate < 0 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	err := run(ctx, *n, *rate, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	os.Exit(exitCode(err, ctx.Err() != nil))
}

func exitCode(err error, interrupted bool) int {
	switch {
	case errors.Is(err, errNoBroker), errors.Is(err, reconnect.ErrConfig):
		return 2
	case interrupted:
		return 130
	case err != nil:
		return 1
	default:
		return 0
	}
}
