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
	message    messageFlags

	queue           string
	exchange        string
	routingKey      string
	inFlight        int
	confirmTimeout  time.Duration
	shutdownTimeout time.Duration
	failed          string
	quiet           bool
	verbose         bool

	longestLine int // no flag: tests take a short one
}

const usage = `mqpub publishes messages to RabbitMQ and waits until the broker has confirmed
each and a queue has it.

Each BODY is a message. Without BODY each line of stdin is one, without its line
break and otherwise as it is: any bytes, up to 512 MiB, which is the most that
RabbitMQ takes; the last line needs no line break. mqpub survives restarts of
the broker: a message whose confirmation was lost is sent again, so a queue may
get it twice, never not at all.

A message that is not confirmed is named on stderr with its line and one of:
  returned   no queue took it
  nacked     a queue rejected it, for example because it is full
  refused    it breaks a rule, and would again
  not sent   certain: the broker never saw it
  unknown    it was sent and no answer came
and appended to the file of --failed as one line of JSON.

While the connection is lost mqpub waits for up to --retry; if it is lost again
before any message had its answer, that is the same outage. While it is up, the
oldest message without an answer may wait for --confirm-timeout, counted from
when all before it had theirs: slow progress is no failure, and neither are
restarts. When either has passed, mqpub stops. So it does on SIGINT, SIGTERM and
(but under nohup) SIGHUP: it reads no further, waits for what is in flight up to
--shutdown-timeout, and says how far it came; a second signal ends it at once.`

const exitCodes = `
Exit codes:
  0    every message was confirmed and routed
  1    another failure, such as stdin or the file of --failed
  2    wrong flags, an unreadable file, a bad url, a closed stdin
  3    some messages were returned, nacked or refused
  4    no connection within --connect-timeout; TLS, login or vhost refused;
       nothing was read or published
  5    the connection was lost for longer than --retry, or --confirm-timeout
       passed: the outcome of some messages is unknown
  7    --declare: the queue differs from an existing one, or no permission
  130  interrupted by SIGINT before the end of the input; 143 by SIGTERM, 129 by
       SIGHUP
`

const examples = `  mqpub -q orders --declare hello
  seq 1000 | mqpub -q orders
  mqpub -e events -r order.created -H attempt:int32=1 '{"id":7}'
  mqpub -u amqps://app@rabbit-1 --password-file pw -q orders < lines`

func (o *options) command(do func(bodies []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "mqpub (-q QUEUE | -e EXCHANGE [-r KEY]) [flags] [BODY...]",
		Short:   "publish messages to RabbitMQ, each with its verdict",
		Long:    usage,
		Example: examples,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, bodies []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return do(bodies)
		},
		DisableFlagsInUseLine: true,
	}
	cli.SetHelp(cmd, exitCodes)
	o.longestLine = longestLine
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&o.queue, "queue", "q", "", "publish to `QUEUE`")
	fs.StringVarP(&o.exchange, "exchange", "e", "", "publish to `EXCHANGE`")
	fs.StringVarP(&o.routingKey, "routing-key", "r", "", "with routing key `KEY`")
	o.message.register(fs)
	fs.IntVar(&o.inFlight, "in-flight", 1000, "how many messages, `N`, may wait for their confirmation, up to 100000")
	fs.DurationVar(&o.confirmTimeout, "confirm-timeout", 30*time.Second, "how long the oldest may wait for it while connected; 0 for any time")
	fs.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 5*time.Second, "how long to wait for confirmations after a signal")
	fs.StringVar(&o.failed, "failed", "", "append what was not confirmed to `FILE`, one JSON record a line")
	o.connection.Register(fs)
	fs.BoolVar(&o.quiet, "quiet", false, "say nothing but what failed")
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "show the library's log")
	return cmd
}

// mostInFlight is far above what makes mqpub faster; room for as many is set aside.
const mostInFlight = 100_000

// check finds impossible combinations.
func (o *options) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	switch {
	case given("queue") && given("exchange"):
		return cli.Usagef("-q and -e exclude each other: a queue is published to directly, an exchange with -r")
	case given("queue") && given("routing-key"):
		return cli.Usagef("-r belongs to -e: a queue is published to by its name")
	case o.queue == "" && o.exchange == "":
		return cli.Usagef("where to? give a queue with -q, or an exchange with -e and its routing key with -r")
	case o.quiet && o.verbose:
		return cli.Usagef("--quiet and --verbose exclude each other")
	case o.inFlight < 1:
		return cli.Usagef("--in-flight must be at least 1")
	case o.inFlight > mostInFlight:
		return cli.Usagef("--in-flight must be at most %d", mostInFlight)
	case o.confirmTimeout < 0:
		return cli.Usagef("--confirm-timeout must not be negative")
	case o.shutdownTimeout < 0:
		return cli.Usagef("--shutdown-timeout must not be negative")
	}
	return cmp.Or(cli.CheckName("-q", o.queue), cli.CheckName("-e", o.exchange), cli.CheckKey("-r", o.routingKey))
}
