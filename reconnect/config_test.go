package reconnect

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

func TestTheZeroConfigIsRabbitMQOnThisMachine(t *testing.T) {
	t.Parallel()
	cfg, addrs, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if len(addrs) != 1 || addrs[0].String() != "localhost:5672" || addrs[0].vhost != "/" || addrs[0].creds != (Credentials{Username: "guest", Password: "guest"}) {
		t.Errorf("addresses %v", addrs)
	}
	if cfg.Heartbeat != 10*time.Second || cfg.DialTimeout != 5*time.Second || cfg.RPCTimeout != 20*time.Second {
		t.Errorf("heartbeat %v, dial %v, rpc %v", cfg.Heartbeat, cfg.DialTimeout, cfg.RPCTimeout)
	}
	if cfg.Logger == nil || cfg.Backoff == nil || cfg.Name == "" || cfg.First != Publishing || cfg.StopOnFatal {
		t.Errorf("%+v", cfg)
	}
}

func TestRPCTimeoutDefaultsToTwiceTheHeartbeat(t *testing.T) {
	t.Parallel()
	cfg, _, err := Config{Heartbeat: 7 * time.Second}.withDefaults()
	if err != nil || cfg.RPCTimeout != 14*time.Second {
		t.Errorf("%v, %v", cfg.RPCTimeout, err)
	}
	cfg, _, err = Config{Heartbeat: 7 * time.Second, RPCTimeout: time.Second}.withDefaults()
	if err != nil || cfg.RPCTimeout != time.Second {
		t.Errorf("%v, %v", cfg.RPCTimeout, err)
	}
	cfg, _, err = Config{URLs: []string{"amqp://a/?heartbeat=60"}}.withDefaults()
	if err != nil || cfg.RPCTimeout != 20*time.Second {
		t.Errorf("with a heartbeat in the URL: %v, %v", cfg.RPCTimeout, err)
	}
}

// TestADurationInAWrongUnitIsRefused: 30 is nanoseconds, and no connection would last.
func TestADurationInAWrongUnitIsRefused(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]Config{
		"RPCTimeout is 30ns: at least 10ms":             {RPCTimeout: 30},
		"the heartbeat is 10ns: at least 1s":            {Heartbeat: 10},
		"the heartbeat is 18h12m16s: at most 18h12m15s": {Heartbeat: 65536 * time.Second},
	} {
		_, _, err := cfg.withDefaults()
		wantText(t, err, want)
	}
	if _, _, err := (Config{RPCTimeout: 10 * time.Millisecond, Heartbeat: 65535 * time.Second}).withDefaults(); err != nil {
		t.Error(err)
	}
}

func TestEveryFaultOfAConfigIsTold(t *testing.T) {
	t.Parallel()
	cfg := Config{
		URLs:        []string{"amqp://a/one", "http://b", "amqp://c/two"},
		Heartbeat:   -1,
		DialTimeout: -2,
		RPCTimeout:  -3,
		First:       roles,
		Topology: topology.Topology{
			Exchanges: []topology.Exchange{{Name: "amq.mine", Kind: "nonsense"}},
			Queues:    []topology.Queue{{Name: "mine", Exclusive: true}},
		},
	}
	_, _, err := cfg.withDefaults()
	if !errors.Is(err, ErrConfig) {
		t.Fatalf("%v does not wrap ErrConfig", err)
	}
	wantText(t, err,
		"url 2: its scheme is neither", `url 3: vhost "two" differs from the first url's "one"`,
		"Heartbeat is -1ns", "DialTimeout is -2ns", "RPCTimeout is -3ns", "unknown role 2 in First",
		"topology: ", `queue "mine" is exclusive, auto-delete or server-named`)
	var fault *topology.Fault
	if !errors.As(err, &fault) {
		t.Errorf("%v holds no *topology.Fault", err)
	}
	if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrConfig) {
		t.Errorf("Open: %v", err)
	}
}

func TestAHeartbeatBelowASecondIsRefused(t *testing.T) {
	t.Parallel()
	_, _, err := Config{Heartbeat: 500 * time.Millisecond}.withDefaults()
	wantText(t, err, "the heartbeat is 500ms: at least 1s")
}

func TestTheVhostOfConfigRulesOverThoseOfURLs(t *testing.T) {
	t.Parallel()
	_, addrs, err := Config{URLs: []string{"amqp://a/one", "amqp://b/two"}, Vhost: "three"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if a.vhost != "three" {
			t.Errorf("%v has vhost %q", a, a.vhost)
		}
	}
}

func TestConfigKeepsNothingThatTheCallerCanChange(t *testing.T) {
	t.Parallel()
	in := Config{URLs: []string{"amqp://a"}, TLS: &tls.Config{ServerName: "before"}} //nolint:gosec // no handshake is made
	in.Topology.Queues = []topology.Queue{{Name: "q", Arguments: amqp.Table{"k": "before"}}}
	cfg, _, err := in.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	in.URLs[0], in.TLS.ServerName = "amqp://b", "after"
	in.Topology.Queues[0].Name, in.Topology.Queues[0].Arguments["k"] = "other", "after"
	shown := (&Pool{cfg: cfg}).Topology()
	shown.Queues[0].Name = "another"
	if cfg.URLs[0] != "amqp://a" || cfg.TLS.ServerName != "before" {
		t.Errorf("%q, %q", cfg.URLs[0], cfg.TLS.ServerName)
	}
	if q := cfg.Topology.Queues[0]; q.Name != "q" || q.Arguments["k"] != "before" {
		t.Errorf("%+v", q)
	}
}

func TestTLSForAnAddressIsNeverSharedAndNamesItsHost(t *testing.T) {
	t.Parallel()
	caller := &tls.Config{MinVersion: tls.VersionTLS13}
	own := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "named.example"}
	for _, tt := range []struct {
		name string
		cfg  *tls.Config
		addr *address
		want string
	}{
		{"the caller's", caller, &address{host: "a.example"}, "a.example"},
		{"the caller's again", caller, &address{host: "b.example"}, "b.example"},
		{"the url's", nil, &address{host: "a.example", tls: own}, "named.example"},
		{"the system's", nil, &address{host: "a.example"}, "a.example"},
	} {
		got := (&Config{TLS: tt.cfg}).tlsFor(tt.addr)
		if got == tt.cfg || got == tt.addr.tls || got.ServerName != tt.want || got.MinVersion < tls.VersionTLS12 {
			t.Errorf("%s: %q, min %x", tt.name, got.ServerName, got.MinVersion)
		}
	}
	if caller.ServerName != "" {
		t.Errorf("the caller's ServerName became %q", caller.ServerName)
	}
}

func TestTheDefaultBackoffIsEndlessWithFullJitterFrom100MillisecondsTo5Seconds(t *testing.T) {
	t.Parallel()
	const draws = 300
	var low, high [30]time.Duration
	for range draws {
		b := defaultBackoff()
		for i := range low {
			d := b.NextBackOff()
			if d < 0 {
				t.Fatalf("wait %d is Stop", i)
			}
			if low[i] == 0 || d < low[i] {
				low[i] = d
			}
			high[i] = max(high[i], d)
		}
	}
	if high[0] > 100*time.Millisecond || high[0] < 80*time.Millisecond {
		t.Errorf("the first wait is up to %v, want 100ms", high[0])
	}
	for i := 10; i < len(low); i++ {
		if high[i] > 5*time.Second || high[i] < 4*time.Second || low[i] > time.Second {
			t.Errorf("wait %d is from %v to %v, want 0 to 5s", i, low[i], high[i])
		}
	}
}

func TestABackoffThatWantsToStopIsAskedToGoOn(t *testing.T) {
	t.Parallel()
	if d := nextWait(&backoff.StopBackOff{}); d != longestWait {
		t.Errorf("%v, want %v", d, longestWait)
	}
	if d := nextWait(backoff.NewConstantBackOff(time.Minute)); d != time.Minute {
		t.Errorf("%v", d)
	}
}

func TestFromEnvReadsURLsAndPassword(t *testing.T) {
	t.Setenv(EnvURL, " amqp://app@a/v , amqp://app@b/v,")
	t.Setenv(EnvPassword, "hunter2")
	cfg, err := FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	_, addrs, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if len(addrs) != 2 {
		t.Fatalf("addresses %v", addrs)
	}
	for i, host := range []string{"a", "b"} {
		if a := addrs[i]; a.host != host || a.vhost != "v" || a.creds != (Credentials{Username: "app", Password: "hunter2"}) {
			t.Errorf("address %d: %v of %q", i+1, a, a.vhost)
		}
	}
}

func TestFromEnvInAnEmptyEnvironmentIsTheZeroConfig(t *testing.T) {
	for _, name := range []string{EnvURL, EnvPassword, EnvTLSCAFile, EnvTLSCertFile, EnvTLSKeyFile, EnvTLSServerName} {
		t.Setenv(name, "")
	}
	cfg, err := FromEnv()
	if err != nil || len(cfg.URLs) != 0 || cfg.TLS != nil {
		t.Errorf("%+v, %v", cfg, err)
	}
	t.Setenv(EnvPassword, "hunter2")
	cfg, err = FromEnv()
	if err != nil || len(cfg.URLs) != 1 || !strings.Contains(cfg.URLs[0], "guest:hunter2@localhost") {
		t.Errorf("%d urls, %v", len(cfg.URLs), err)
	}
}

func TestFromEnvNamesTheVariableAndNoPassword(t *testing.T) {
	for _, u := range strayPasswords {
		t.Setenv(EnvURL, strings.NewReplacer("\x00", "").Replace(u))
		for _, pw := range []string{"", "hunter2"} {
			t.Setenv(EnvPassword, pw)
			_, err := FromEnv()
			if !errors.Is(err, ErrConfig) {
				t.Errorf("%q: %v", u, err)
				continue
			}
			wantText(t, err, EnvURL)
			wantNoSecret(t, fmt.Sprintf("the error for %q", u), err.Error())
		}
	}
	t.Setenv(EnvURL, "amqp://user:4711,hunter2@host/") // a comma in a password
	t.Setenv(EnvPassword, "")
	_, err := FromEnv()
	if err == nil {
		t.Fatal("taken")
	}
	wantNoSecret(t, "the error for a comma", err.Error())
}

func TestFromEnvNamesTheTLSFileThatIsMissing(t *testing.T) {
	t.Setenv(EnvURL, "amqps://h/")
	t.Setenv(EnvPassword, "")
	t.Setenv(EnvTLSCAFile, "/no/such/ca.pem")
	_, err := FromEnv()
	if !errors.Is(err, ErrConfig) {
		t.Errorf("%v", err)
	}
	wantText(t, err, "/no/such/ca.pem")
}
