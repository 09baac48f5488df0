package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// Connection holds the flags that say where the broker is, how to reach it, and
// for how long to try.
type Connection struct {
	URLs           []string
	Vhost          string
	User           string
	PasswordFile   string
	TLS            reconnect.TLSFiles
	Heartbeat      time.Duration
	ConnectTimeout time.Duration
	Retry          Retry
	Name           string
	Declare        Declare
}

const (
	defaultURL            = "amqp://guest:guest@localhost:5672/"
	defaultConnectTimeout = 10 * time.Second
	defaultRetry          = 30 * time.Second

	// longestDial is how long one address may take at most; with several
	// addresses each gets its share of --connect-timeout, so that all have been
	// tried, and can be named, when that has passed.
	longestDial = 5 * time.Second
)

// Register adds the flags to fs.
func (c *Connection) Register(fs *pflag.FlagSet) {
	c.Retry.For = defaultRetry
	fs.StringArrayVarP(&c.URLs, "url", "u", nil, "`URL` of the broker, amqp:// or amqps://; repeat it for the nodes of a cluster (env AMQP_URL, comma-separated; default "+defaultURL+")")
	fs.StringVar(&c.Vhost, "vhost", "", "`VHOST` instead of the one in the url")
	fs.StringVar(&c.User, "user", "", "`USER` instead of the one in the url")
	fs.StringVar(&c.PasswordFile, "password-file", "", "`FILE` with the password (env AMQP_PASSWORD is the password itself)")
	fs.StringVar(&c.TLS.CA, "tls-ca-file", "", "PEM `FILE` of certificate authorities (env AMQP_TLS_CA_FILE; default the system's)")
	fs.StringVar(&c.TLS.Cert, "tls-cert-file", "", "PEM `FILE` of the client certificate (env AMQP_TLS_CERT_FILE); ?auth_mechanism=external behind the url logs in by it")
	fs.StringVar(&c.TLS.Key, "tls-key-file", "", "PEM `FILE` of its key (env AMQP_TLS_KEY_FILE)")
	fs.StringVar(&c.TLS.ServerName, "tls-server-name", "", "`NAME` expected in the server's certificate (env AMQP_TLS_SERVER_NAME; default the url's host)")
	fs.BoolVarP(&c.TLS.Insecure, "insecure", "k", false, "accept any server certificate: for tests only")
	fs.DurationVar(&c.Heartbeat, "heartbeat", 10*time.Second, "give a connection up that was silent for twice as long")
	fs.DurationVar(&c.ConnectTimeout, "connect-timeout", defaultConnectTimeout, "how long to try to connect at the start")
	fs.Var(&c.Retry, "retry", "how long one outage may last after that; 0 for not at all, or forever")
	fs.StringVar(&c.Name, "name", "", "connection `NAME`, as the broker shows it (default tool, host and pid)")
	fs.Var(&c.Declare, "declare", "declare the durable queue named by -q: alone as quorum, or =classic or =stream")
	fs.Lookup("declare").NoOptDefVal = string(topology.Quorum)
}

// Config is what the flags and the environment say. Errors are usage errors.
// queue is declared if --declare was given.
func (c *Connection) Config(talk *Talk, queue string) (reconnect.Config, error) {
	if c.ConnectTimeout <= 0 {
		return reconnect.Config{}, Usagef("--connect-timeout must be more than 0")
	}
	if c.Heartbeat < time.Second {
		return reconnect.Config{}, Usagef("--heartbeat must be at least 1s")
	}
	if err := CheckName("--vhost", c.Vhost); err != nil {
		return reconnect.Config{}, err
	}
	urls, err := c.urls()
	if err != nil {
		return reconnect.Config{}, err
	}
	cfg := reconnect.Config{
		URLs:        urls,
		Vhost:       c.Vhost,
		Heartbeat:   c.Heartbeat,
		DialTimeout: min(longestDial, c.ConnectTimeout/10*9/time.Duration(len(urls))),
		Name:        c.Name,
		Logger:      talk.Logger(),
	}
	if cfg.Topology, err = c.Declare.topology(queue); err != nil {
		return reconnect.Config{}, err
	}
	files := c.tlsFiles()
	if files == (reconnect.TLSFiles{}) {
		return cfg, nil
	}
	if flag := c.tlsFlag(); flag != "" && !slices.ContainsFunc(urls, isTLS) {
		return reconnect.Config{}, Usagef("%s needs an amqps:// url", flag)
	}
	if cfg.TLS, err = files.Config(); err != nil {
		return reconnect.Config{}, &UsageError{Err: err}
	}
	if files.Insecure {
		talk.Note("the server's certificate is not checked (--insecure)")
	}
	return cfg, nil
}

// urls are those of --url, else of AMQP_URL, else the default, with --user in
// them and the password that is closest to the command: a password file, then
// one in --url (which is not that of another --user), then AMQP_PASSWORD, then
// one in AMQP_URL.
func (c *Connection) urls() ([]string, error) {
	urls, source := c.URLs, "--url"
	if slices.ContainsFunc(urls, isList) {
		return nil, Usagef("--url takes one url: repeat it for each node")
	}
	if len(urls) == 0 {
		source = reconnect.EnvURL
		for u := range strings.SplitSeq(os.Getenv(reconnect.EnvURL), ",") {
			if u = strings.TrimSpace(u); u != "" {
				urls = append(urls, u)
			}
		}
	}
	if len(urls) == 0 {
		urls = []string{defaultURL}
	}
	if _, err := reconnect.WithPassword(urls, "", ""); err != nil { // here it is known where they are from
		return nil, &UsageError{Err: fmt.Errorf("%s: %w", source, err)}
	}
	file, err := c.filePassword()
	if err != nil {
		return nil, err
	}
	env := os.Getenv(reconnect.EnvPassword)
	out := make([]string, len(urls))
	for i, s := range urls {
		own, has := passwordIn(s)
		password := own
		switch {
		case file != "":
			password = file
		case has && len(c.URLs) > 0 && c.User == "":
		case env != "":
			password = env
		}
		if c.User == "" && password == own {
			out[i] = s
			continue
		}
		changed, err := reconnect.WithPassword([]string{s}, c.User, password)
		if err != nil {
			return nil, err
		}
		out[i] = changed[0]
	}
	return out, nil
}

// passwordIn is the password in a URL. What does not parse has none: the library
// will say what is wrong with it, without repeating it.
func passwordIn(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return "", false
	}
	return u.User.Password()
}

func (c *Connection) filePassword() (string, error) {
	if c.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		var file *fs.PathError // its path may be the password
		if errors.As(err, &file) {
			err = file.Err
		}
		return "", Usagef("--password-file: cannot be read: %w; it takes the name of a file, not the password", err)
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if line == "" {
		return "", Usagef("--password-file: %s is empty", c.PasswordFile)
	}
	return line, nil
}

// tlsFiles are the flags, with the environment for those not given.
func (c *Connection) tlsFiles() reconnect.TLSFiles {
	f := c.TLS
	for _, v := range []struct {
		field *string
		env   string
	}{
		{&f.CA, reconnect.EnvTLSCAFile},
		{&f.Cert, reconnect.EnvTLSCertFile},
		{&f.Key, reconnect.EnvTLSKeyFile},
		{&f.ServerName, reconnect.EnvTLSServerName},
	} {
		if *v.field == "" {
			*v.field = os.Getenv(v.env)
		}
	}
	return f
}

// tlsFlag is a TLS flag that was given.
func (c *Connection) tlsFlag() string {
	switch {
	case c.TLS.CA != "":
		return "--tls-ca-file"
	case c.TLS.Cert != "":
		return "--tls-cert-file"
	case c.TLS.Key != "":
		return "--tls-key-file"
	case c.TLS.ServerName != "":
		return "--tls-server-name"
	case c.TLS.Insecure:
		return "--insecure"
	default:
		return ""
	}
}

// isList reports whether s is a list as AMQP_URL has it. A comma alone may be part
// of a password.
func isList(s string) bool {
	return strings.Contains(s, ",amqp://") || strings.Contains(s, ",amqps://")
}

func isTLS(u string) bool { return strings.HasPrefix(strings.ToLower(u), "amqps:") }

// Declare is the value of --declare: the type of the queue that is declared,
// empty for none.
type Declare topology.QueueType

// String is part of pflag.Value.
func (d *Declare) String() string { return string(*d) }

// Set is part of pflag.Value.
func (d *Declare) Set(s string) error {
	switch t := topology.QueueType(s); t {
	case topology.Quorum, topology.Classic, topology.Stream:
		*d = Declare(t)
		return nil
	default:
		return fmt.Errorf("must be quorum, classic or stream")
	}
}

// Type is part of pflag.Value.
func (d *Declare) Type() string { return "type" }

// topology is the queue to be declared, or nothing.
func (d Declare) topology(queue string) (topology.Topology, error) {
	switch {
	case d == "":
		return topology.Topology{}, nil
	case queue == "":
		return topology.Topology{}, Usagef("--declare declares the queue named by -q: give -q")
	}
	t := topology.Topology{Queues: []topology.Queue{{Name: queue, Type: topology.QueueType(d)}}}
	if err := t.Validate(); err != nil {
		return topology.Topology{}, &UsageError{Err: err}
	}
	return t, nil
}

// CheckArguments looks for what pflag cannot see: a type of --declare behind a
// space, which would be taken for something else.
func CheckArguments(args []string) error {
	for i, a := range args[:max(len(args)-1, 0)] {
		if a == "--" {
			break
		}
		var d Declare
		if next := args[i+1]; a == "--declare" && d.Set(next) == nil {
			return Usagef("--declare takes its type behind an equals sign: --declare=%s", next)
		}
	}
	return nil
}
