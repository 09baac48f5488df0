package main

import (
	"cmp"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqkit/mqkit/internal/cli"
)

// options are the flags.
type options struct {
	connection cli.Connection

	queue           string
	exchange        string
	patterns        []string
	count           uint64 // 0 is no bound
	output          output
	idleTimeout     time.Duration
	pipeBuffered    bool
	shutdownTimeout time.Duration
	quiet           bool
	verbose         bool
}

const usage = `mqsub consumes messages from RabbitMQ and writes them to stdout. A message is
acked only after it was written: what could not be written is given back.

With -q it takes messages out of that queue; of a stream, what is published from
now on, not what is in it. With -e and -r it watches: it binds a queue of its
own, which goes when mqsub does, to the exchange, and disturbs nobody; what is
published while the connection is lost passes it by.

It ends with -n messages, after --idle-timeout without one, when the reader of
its output has gone, or on SIGINT, SIGTERM or (but under nohup) SIGHUP; else
never. It survives restarts of the broker: a message whose ack was lost comes
again, marked as redelivered.

Output:
  text  the body on one line, for reading: line breaks and control characters in
        it are escaped
  body  the bytes of the body and a line break
  json  the whole message: body, properties and headers with their types

`

const examples = `  mqsub -q orders
  mqsub -q orders -n 10 -o json > orders.ndjson
  mqsub -q orders --idle-timeout 5s -o body > orders.txt
  mqsub -e events -r 'order.*' -r 'invoice.#'`

const exitCodes = `
Exit codes:
  0    -n messages were taken, or without -n: it was idle for --idle-timeout,
       was interrupted, or the reader of its output has gone
  1    another failure: output that could not be written, or a reader that had
       not taken the last message --shutdown-timeout after a signal; with -n
       also a reader that has gone
  2    wrong flags, an unreadable file, a bad url, a closed stdout
  4    no connection within --connect-timeout, or no subscription so long after
       it; TLS, login or vhost refused
  5    the connection was lost for longer than --retry, or again and again for
       so long without a subscription in between
  7    the queue or exchange is missing or differs, or no permission; without -n
       also a queue that was deleted and not back within --retry
  8    with -n: idle for --idle-timeout, or the queue was deleted and not back
       within --retry, before all had come
  130  interrupted by SIGINT with -n, twice, or while connecting; 143 by
       SIGTERM, 129 by SIGHUP
`

func (o *options) command(do func() error) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "mqsub (-q QUEUE | -e EXCHANGE -r PATTERN...) [flags]",
		Short:   "consume messages from RabbitMQ, each acked after it was written",
		Long:    usage + pipeUsage,
		Example: examples,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unusable(args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return do()
		},
		DisableFlagsInUseLine: true,
	}
	cli.SetHelp(cmd, exitCodes)
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&o.queue, "queue", "q", "", "consume `QUEUE`")
	fs.StringVarP(&o.exchange, "exchange", "e", "", "watch `EXCHANGE`")
	fs.StringArrayVarP(&o.patterns, "routing-key", "r", nil, "for messages with a routing key that matches `PATTERN`; repeatable")
	fs.Uint64VarP(&o.count, "count", "n", 0, "take `N` messages (default no limit)")
	o.output = outputText
	fs.VarP(&o.output, "output", "o", "text, json or body")
	fs.DurationVar(&o.idleTimeout, "idle-timeout", 0, "end when nothing came for so long; 0 for never")
	fs.BoolVar(&o.pipeBuffered, "pipe-buffered", false, pipeBufferedUsage)
	fs.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 5*time.Second, "how long what is being written may take after a signal")
	o.connection.Register(fs)
	fs.BoolVar(&o.quiet, "quiet", false, "say nothing but what failed")
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "show the library's log")
	return cmd
}

// unusable is the error about an argument. A url is not repeated: there may be a
// password in it.
func unusable(argument string) error {
	if cli.IsLogin(argument) {
		return cli.Usagef("there is no use for a url as an argument: give it with -u")
	}
	return cli.Usagef("there is no use for the argument %s", cli.Repeated(argument))
}

// check finds impossible combinations.
func (o *options) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	switch {
	case given("queue") && given("exchange"):
		return cli.Usagef("-q and -e exclude each other: a queue is consumed, an exchange is watched")
	case given("queue") && given("routing-key"):
		return cli.Usagef("-r belongs to -e: a queue is consumed as it is")
	case o.queue == "" && o.exchange == "":
		return cli.Usagef("from where? give a queue with -q, or an exchange with -e and patterns with -r")
	case o.exchange != "" && len(o.patterns) == 0:
		return cli.Usagef("-e needs -r: the routing keys to watch for, such as '#' for all of a topic or fanout exchange")
	case given("count") && o.count == 0:
		return cli.Usagef("-n must be at least 1")
	case o.quiet && o.verbose:
		return cli.Usagef("--quiet and --verbose exclude each other")
	case o.idleTimeout < 0:
		return cli.Usagef("--idle-timeout must not be negative")
	case o.shutdownTimeout < 0:
		return cli.Usagef("--shutdown-timeout must not be negative")
	}
	for _, pattern := range o.patterns {
		if err := cli.CheckKey("-r", pattern); err != nil {
			return err
		}
	}
	return cmp.Or(cli.CheckName("-q", o.queue), cli.CheckName("-e", o.exchange))
}
