package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/mqtest"
)

// options are the flags.
type options struct {
	listen         string
	insecureListen bool
	user           string
	vhost          string
	vhostGiven     bool
	rules          rules
	topology       string
	quiet          bool
}

const usage = `mqbroker serves an AMQP 0-9-1 broker that behaves as RabbitMQ does, for first
steps and tests where there is no RabbitMQ. Everything is in memory and gone when
it ends: it is not for production.

It prints its URL on stdout, one line, once it accepts connections, and serves
until SIGINT, SIGTERM or SIGHUP, which is how it is meant to end: exit code 0.

It listens on the loopback interface, where only programs on this machine reach
it. It has no TLS and no permissions: who knows the password may do everything.`

const exitCodes = `
Exit codes:
  0    ended by SIGINT, SIGTERM or SIGHUP
  1    it cannot listen, for example because the port is in use; or another
       failure
  2    wrong flags, a bad address or user, an unreadable or faulty file
  7    --topology: what the file names could not be declared
`

const examples = `  mqbroker
  mqbroker --listen 127.0.0.1:0 --quiet
  mqbroker --user app:secret --vhost app --topology topology.yaml
  mqbroker --listen 0.0.0.0:5672 --insecure-listen --user app:secret`

const (
	defaultListen = "127.0.0.1:5672"
	defaultUser   = "guest:guest"
	defaultVhost  = "/"
)

func (o *options) command(do func() error) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "mqbroker [flags]",
		Short:   "serve an in-memory broker for first steps and tests",
		Long:    usage,
		Example: examples,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("unexpected argument %s: mqbroker takes flags only", cli.Repeated(args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.vhostGiven = cmd.Flags().Changed("vhost")
			return do()
		},
		DisableFlagsInUseLine: true,
	}
	cli.SetHelp(cmd, exitCodes)
	fs := cmd.Flags()
	fs.SortFlags = false
	o.rules = rules(mqtest.Rules43)
	fs.StringVar(&o.listen, "listen", defaultListen, "listen on `HOST:PORT`; port 0 is a free one")
	fs.BoolVar(&o.insecureListen, "insecure-listen", false, "let --listen be reached from other machines, without TLS")
	fs.StringVar(&o.user, "user", defaultUser, "`NAME:PASSWORD` to log in with")
	fs.StringVar(&o.vhost, "vhost", defaultVhost, "virtual host `VHOST` of the URL and of --topology; / is there as well")
	fs.Var(&o.rules, "rules", "behave as this series of RabbitMQ where they differ, 4.3 or 4.2")
	fs.StringVar(&o.topology, "topology", "", "declare what `FILE` describes: YAML, JSON or a broker's exported definitions")
	fs.BoolVar(&o.quiet, "quiet", false, "say nothing but what failed")
	fs.Bool("version", false, "version for mqbroker") // cobra's would take -v
	return cmd
}

// login is the name and the password of --user. What is wrong with it is said
// without repeating it.
func (o *options) login() (name, password string, err error) {
	name, password, found := strings.Cut(o.user, ":")
	switch {
	case !found || name == "":
		return "", "", cli.Usagef("--user takes a name and a password with a colon between them: --user app:secret")
	case password == "":
		return "", "", cli.Usagef("--user: the password is empty, which RabbitMQ refuses: --user %s:PASSWORD", name)
	case len(name) > longestName:
		return "", "", cli.Usagef("--user: the name must not be longer than %d bytes", longestName)
	}
	return name, password, nil
}

// longestName is the longest that AMQP's short strings hold.
const longestName = 255

func (o *options) checkVhost() error {
	switch {
	case o.vhost == "":
		return cli.Usagef("--vhost must not be empty; leave it out for /")
	case len(o.vhost) > longestName:
		return cli.Usagef("--vhost must not be longer than %d bytes", longestName)
	}
	return nil
}

// rules is the value of --rules.
type rules mqtest.Rules

// String is part of pflag.Value.
func (r *rules) String() string { return string(*r) }

// Set is part of pflag.Value.
func (r *rules) Set(s string) error {
	switch mqtest.Rules(s) {
	case mqtest.Rules43, mqtest.Rules42:
		*r = rules(s)
		return nil
	}
	return fmt.Errorf("must be 4.3 or 4.2")
}

// Type is part of pflag.Value.
func (r *rules) Type() string { return "SERIES" }
