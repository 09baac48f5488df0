package cli_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// parsed is what a command line and an environment mean.
func parsed(t *testing.T, env map[string]string, queue string, args ...string) (cfg reconnect.Config, said string, err error) {
	t.Helper()
	for _, name := range []string{"AMQP_URL", "AMQP_PASSWORD", "AMQP_TLS_CA_FILE", "AMQP_TLS_CERT_FILE", "AMQP_TLS_KEY_FILE", "AMQP_TLS_SERVER_NAME"} {
		t.Setenv(name, env[name])
	}
	var c cli.Connection
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cfg, err = c.Config(cli.NewTalk(&stderr, "test", false, false), queue)
	return cfg, stderr.String(), err
}

func TestTheClosestPasswordWins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"AMQP_PASSWORD": "env"}
	envURL := map[string]string{"AMQP_PASSWORD": "env", "AMQP_URL": " amqp://a:url@h1/ ,amqp://b@h2/,"}
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		want []string
	}{
		{"default", nil, nil, []string{"amqp://guest:guest@localhost:5672/"}},
		{"url", nil, []string{"-u", "amqp://a:p@h/"}, []string{"amqp://a:p@h/"}},
		{"environment", map[string]string{"AMQP_URL": "amqp://a:p@h/,amqp://a:p@i/"}, nil, []string{"amqp://a:p@h/", "amqp://a:p@i/"}},
		{"flag instead of environment", map[string]string{"AMQP_URL": "amqp://a:p@h/"}, []string{"-u", "amqp://x:y@i/"}, []string{"amqp://x:y@i/"}},
		{"environment's password for the default", env, nil, []string{"amqp://guest:env@localhost:5672/"}},
		{"environment's password for the environment's url", envURL, nil, []string{"amqp://a:env@h1/", "amqp://b:env@h2/"}},
		{"environment's password for a url without", env, []string{"-u", "amqp://a@h/"}, []string{"amqp://a:env@h/"}},
		{"a url's own password before the environment's", env, []string{"-u", "amqp://a:own@h/"}, []string{"amqp://a:own@h/"}},
		{"another user's password is the environment's", env, []string{"-u", "amqp://a:own@h/", "--user", "b"}, []string{"amqp://b:env@h/"}},
		{"file before all", envURL, []string{"-u", "amqp://a:own@h/", "--password-file", file}, []string{"amqp://a:from%20file@h/"}},
		{"user alone", nil, []string{"-u", "amqp://a:own@h/", "--user", "b/c"}, []string{"amqp://b%2Fc:own@h/"}},
	} {
		cfg, _, err := parsed(t, c.env, "", c.args...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !slices.Equal(cfg.URLs, c.want) {
			t.Errorf("%s: %q, want %q", c.name, cfg.URLs, c.want)
		}
	}
}

func TestBadURLsAreUsageErrorsWithoutPasswords(t *testing.T) {
	for _, args := range [][]string{
		{"-u", "amqp://guest:s3cret@h:56 72/", "--user", "other"},
		{"-u", "http://guest:s3cret@h/", "--user", "other"},
		{"-u", "amqp://guest:s3cret%@h/", "--user", "other"},
		{"-u", "s3cret", "--user", "other"},
	} {
		_, _, err := parsed(t, map[string]string{"AMQP_PASSWORD": "s3cret"}, "", args...)
		if cli.CodeOf(err) != cli.ExitUsage {
			t.Errorf("%q: %v, want a usage error", args, err)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the error has the password in it: %v", args, err)
		}
	}
}

func TestAListOfURLsBelongsIntoTheEnvironment(t *testing.T) {
	_, _, err := parsed(t, nil, "", "-u", "amqp://a:s3cret@h1,amqp://a:s3cret@h2")
	if cli.CodeOf(err) != cli.ExitUsage || err.Error() != "--url takes one url: repeat it for each node" {
		t.Errorf("a list of urls: %v", err)
	}
	if cfg, _, err := parsed(t, nil, "", "-u", "amqp://a:p,q@h/"); err != nil || cfg.URLs[0] != "amqp://a:p,q@h/" {
		t.Errorf("a comma in a password: %q, %v", cfg.URLs, err)
	}
}

func TestEveryAddressGetsItsShareOfTheConnectTimeout(t *testing.T) {
	for _, c := range []struct {
		args []string
		want time.Duration
	}{
		{nil, 5 * time.Second},
		{[]string{"--connect-timeout", "2s"}, 1800 * time.Millisecond},
		{[]string{"--connect-timeout", "1000000h"}, 5 * time.Second},
		{[]string{"--connect-timeout", "2562047h", "-u", "amqp://a", "-u", "amqp://b"}, 5 * time.Second},
		{[]string{"--connect-timeout", "10s", "-u", "amqp://a", "-u", "amqp://b", "-u", "amqp://c"}, 3 * time.Second},
	} {
		cfg, _, err := parsed(t, nil, "", c.args...)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.DialTimeout != c.want {
			t.Errorf("%q: %v for each, want %v", c.args, cfg.DialTimeout, c.want)
		}
	}
}

func TestDeclareMakesADurableQueue(t *testing.T) {
	for arg, want := range map[string]topology.QueueType{
		"--declare": topology.Quorum, "--declare=quorum": topology.Quorum,
		"--declare=classic": topology.Classic, "--declare=stream": topology.Stream,
	} {
		cfg, _, err := parsed(t, nil, "q", arg)
		if err != nil {
			t.Fatal(err)
		}
		q, ok := cfg.Topology.Queue("q")
		if !ok || q.DeclaredType() != want || q.Transient || q.Exclusive || q.AutoDelete {
			t.Errorf("%s declares %+v", arg, q)
		}
	}
	cfg, _, err := parsed(t, nil, "q")
	if err != nil || len(cfg.Topology.Queues) != 0 {
		t.Errorf("without --declare: %+v, %v", cfg.Topology, err)
	}
	for queue, arg := range map[string]string{"": "--declare", strings.Repeat("q", 300): "--declare"} {
		if _, _, err := parsed(t, nil, queue, arg); cli.CodeOf(err) != cli.ExitUsage {
			t.Errorf("%s of queue %q: %v, want a usage error", arg, queue, err)
		}
	}
}

func TestTLSFlags(t *testing.T) {
	if _, _, err := parsed(t, nil, "", "-k"); err == nil || err.Error() != "--insecure needs an amqps:// url" {
		t.Errorf("-k for amqp://: %v", err)
	}
	cfg, said, err := parsed(t, nil, "", "-k", "-u", "amqps://h")
	if err != nil || cfg.TLS == nil || !cfg.TLS.InsecureSkipVerify {
		t.Errorf("-k: %+v, %v", cfg.TLS, err)
	}
	if !strings.Contains(said, "not checked") {
		t.Errorf("-k says %q", said)
	}
	cfg, said, err = parsed(t, nil, "", "-u", "amqps://h", "--tls-server-name", "other")
	if err != nil || cfg.TLS == nil || cfg.TLS.InsecureSkipVerify || cfg.TLS.ServerName != "other" || said != "" {
		t.Errorf("--tls-server-name: %+v, %v, %q", cfg.TLS, err, said)
	}
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, args := range [][]string{
		{"-u", "amqps://h", "--tls-ca-file", missing},
		{"-u", "amqps://h", "--tls-cert-file", missing},
		{"-u", "amqps://h", "--tls-cert-file", missing, "--tls-key-file", missing},
	} {
		if _, _, err := parsed(t, nil, "", args...); cli.CodeOf(err) != cli.ExitUsage {
			t.Errorf("%q: %v, want a usage error", args, err)
		}
	}
	// The environment may be meant for other urls: it is no conflict.
	if cfg, _, err := parsed(t, map[string]string{"AMQP_TLS_SERVER_NAME": "n"}, ""); err != nil || cfg.TLS == nil {
		t.Errorf("environment: %+v, %v", cfg.TLS, err)
	}
}

func TestRetryIsADurationOrForever(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"30s": "30s", "0": "0", "0s": "0", "forever": "forever", "90m": "1h30m", "60s": "1m", "1h": "1h", "100ms": "100ms"} {
		var r cli.Retry
		if err := r.Set(in); err != nil || r.String() != want {
			t.Errorf("--retry %s is %v, %v; want %s", in, &r, err, want)
		}
	}
	for _, in := range []string{"", "ever", "-1s", "30"} {
		if err := new(cli.Retry).Set(in); err == nil {
			t.Errorf("--retry %s is taken", in)
		}
	}
}

func TestATypeBehindASpaceIsNoTypeOfDeclare(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-q", "a", "--declare", "classic"}, {"--declare", "stream", "x"}} {
		var usage *cli.UsageError
		if err := cli.CheckArguments(args); !errors.As(err, &usage) {
			t.Errorf("%q is taken: %v", args, err)
		}
	}
	for _, args := range [][]string{nil, {"--declare"}, {"--declare", "hello"}, {"--declare=classic", "x"}, {"--declare", "--", "classic"}, {"--", "--declare", "classic"}} {
		if err := cli.CheckArguments(args); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
}
