// Command quickstart runs the main job of mqkit from end to end, and makes it
// hard: it publishes orders with confirms and consumes them with manual acks,
// while the connections are cut three times. The ledger that it prints says what
// became of every order, and where duplicates come from.
//
//	go run ./examples/quickstart
//
// It uses the broker of AMQP_URL, else one that it starts in its own process, with
// package mqtest. Its queue is its own as well, and is deleted at the end. With
// -rate 1000 there is time to kill the broker of AMQP_URL meanwhile, and to start
// it again.
//
// It exits 0 only if no order was lost and the cuts happened.
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
	"time"

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
	err := run(ctx, job{orders: *n, rate: *rate, silence: 20 * time.Second}, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	os.Exit(exitCode(err, ctx.Err() != nil))
}

func exitCode(err error, interrupted bool) int {
	switch {
	case errors.Is(err, reconnect.ErrConfig):
		return 2
	case interrupted:
		return 130
	case err != nil:
		return 1
	default:
		return 0
	}
}
