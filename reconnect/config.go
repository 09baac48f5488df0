package reconnect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mqkit/mqkit/topology"
)

const (
	// defaultURL is RabbitMQ's own default on the local machine.
	defaultURL = "amqp://guest:guest@localhost:5672/"

	// defaultHeartbeat follows RabbitMQ's advice of 5 to 20 seconds; below 5
	// seconds a busy machine gives false alarms.
	defaultHeartbeat = 10 * time.Second

	longestHeartbeat = 65535 * time.Second

	// leastRPCTimeout is below what an answer takes anywhere but on the same machine: what is
	// less was meant in another unit.
	leastRPCTimeout = 10 * time.Millisecond

	// defaultDialTimeout bounds one address: name, TCP, TLS and AMQP handshake.
	defaultDialTimeout = 5 * time.Second

	// Waits are drawn from [0, d] where d grows from 100 ms to 5 s (full
	// jitter, so that the clients of a restarted broker do not come in waves).
	// backoff/v4 with a factor of 1 draws from [0, 2d], hence the halves.
	backoffFirst   = 50 * time.Millisecond
	backoffLongest = 2500 * time.Millisecond
	backoffGrowth  = 2

	// longestWait is the pause after an error that a retry will hardly mend.
	longestWait = 4 * time.Second

	// A session that may have cost everyone the connection by what it said to set itself up
	// (a queue without a majority answers a consume so) is tried again when there is another
	// one and a wait has passed, drawn from the upper half of what grows from 1 s to 5 min:
	// meanwhile the others work. Threefold, because each time that the connection is lost
	// counts as a failed delivery for all that they hold.
	costlyFirst   = time.Second
	costlyLongest = 5 * time.Minute
	costlyGrowth  = 3

	// stableAfter is how long a connection or session must have lived before
	// its backoff starts afresh: a broker that accepts and drops at once must
	// not be dialled in a hot loop.
	stableAfter = 5 * time.Second
)

// Config says where the broker is and how to come back to it. The zero value
// connects to amqp://guest:guest@localhost:5672/. Open copies what it keeps:
// changing a Config afterwards has no effect.
type Config struct {
	// URLs are the nodes of one cluster, each amqp:// or amqps://. Every
	// round of dialling tries them all in random order, those that failed last
	// time at the end. The heartbeat, connection_timeout, cacertfile, certfile,
	// keyfile, server_name_indication and auth_mechanism parameters of RabbitMQ's
	// URI query specification are honoured; auth_mechanism=external logs in as whom
	// the client certificate names, and takes user and password from nowhere. All
	// must name the same vhost. Defaults to amqp://guest:guest@localhost:5672/.
	URLs []string

	// Vhost is used instead of the one in URLs. Defaults to the one in URLs.
	Vhost string

	// TLS is used for amqps:// addresses; it is cloned for each dial, and
	// ServerName is the host of the address when empty. Defaults to the
	// system's certificate authorities.
	TLS *tls.Config

	// Credentials is asked before every dial when set, and its answer is used
	// instead of what the URLs say. If that says when it expires, Credentials is asked
	// again before that, a minute or a quarter of the time, whichever is less,
	// and the broker is told the new password by connection.update-secret (RabbitMQ's
	// way to renew an OAuth 2 token). It may be called from two goroutines at
	// once, and has DialTimeout to answer. An error counts as a failed attempt. Defaults to the URLs' user
	// and password.
	Credentials func(context.Context) (Credentials, error)

	// Heartbeat is asked of the broker; the lower of both sides' values
	// rules. A connection on which nothing arrived for two heartbeats is given
	// up. AMQP counts in whole seconds, 1s to 65535s; below 5s a busy
	// machine gives false alarms. A heartbeat in a URL wins. Defaults to 10s.
	Heartbeat time.Duration

	// Dial opens the connection to an address, host:port, below TLS; network is "tcp". It
	// must end with ctx, which is that of DialTimeout, and may be called for both roles
	// at once. For a broker in memory (mqtest's DialContext), a proxy, a network of the
	// test's own. Defaults to net.Dialer, which looks the name up each time.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// DialTimeout bounds one attempt at one address, from the look-up of its
	// name to the end of the AMQP handshake. Defaults to 5s.
	DialTimeout time.Duration

	// RPCTimeout is how long the broker may take to answer a qos, cancel, open or
	// close before its connection is given up; for a declare and a consume, which may
	// have to wait for a queue's node, it is at least two minutes. At least 10ms. Defaults to
	// twice Heartbeat; a heartbeat in a URL, and what the broker makes of it, do not count.
	RPCTimeout time.Duration

	// Backoff makes the waits between attempts; backoff.Stop is read as the
	// longest wait, not as an end. Called once per connection and per Run.
	// Defaults to exponential from 100ms to 5s with full jitter, endless.
	Backoff func() backoff.BackOff

	// Topology is declared on each new connection, before anything else uses
	// it. From the second connection on, what the broker refuses, or does not answer in
	// time, is passed over: see Status.TopologyFault. What it refuses by closing the
	// connection is left out for five minutes. It must be durable: what belongs to one session (exclusive,
	// auto-delete and server-named queues) is declared by the consumer that
	// uses it. Defaults to nothing.
	Topology topology.Topology

	// NoRedeclare has Topology declared once, on the first connection, so that what
	// somebody deletes meanwhile stays deleted. Defaults to false: it is declared again
	// on each new connection, and when a session ended because something in it was
	// missing.
	NoRedeclare bool

	// StopOnFatal ends the pool's connection for good when the broker says
	// something that a retry will hardly mend, even after the first success.
	// Defaults to false: retried at the longest wait, with the cause in
	// Status.
	StopOnFatal bool

	// First is the role whose connection Open makes; the other connection is
	// made when its role is first used. Defaults to Publishing.
	First Role

	// Name is shown in the management UI as the connection's name, followed
	// by the role. Defaults to the program's name, host and process id.
	Name string

	// Logger gets state changes at Info, failed attempts at Warn. Defaults to
	// none.
	Logger *slog.Logger

	// OnStateChange is called with every change of a connection's state, in
	// order, from one goroutine of the pool that holds no lock. While it
	// blocks, later changes and attempts wait; nothing else does. A panic in it ends the
	// process.
	OnStateChange func(StateChange)

	// OnAttempt is called after every attempt to connect to one address, whether it
	// succeeded or not, from the goroutine of OnStateChange and in order with it.
	OnAttempt func(Attempt)
}

// String is everything but the passwords in URLs, which are shown as
// user, address and vhost.
func (cfg Config) String() string {
	type fields Config // without this method
	shown := fields(cfg)
	shown.URLs = make([]string, len(cfg.URLs))
	for i, u := range cfg.URLs {
		shown.URLs[i] = withoutPassword(u)
	}
	return fmt.Sprintf("%+v", shown)
}

// GoString hides the passwords.
func (cfg Config) GoString() string { return "reconnect.Config" + cfg.String() }

// LogValue hides the passwords from handlers that show fields, as slog's JSON
// handler does.
func (cfg Config) LogValue() slog.Value { return slog.StringValue(cfg.String()) }

// Credentials are what a connection logs in with.
type Credentials struct {
	Username string
	Password string // or token

	// Expires is when the broker will not take Password any more; the zero time
	// means never.
	Expires time.Time
}

// String hides the password.
func (c Credentials) String() string {
	return fmt.Sprintf("{Username:%q Password:[redacted]}", c.Username)
}

// GoString hides the password.
func (c Credentials) GoString() string { return "reconnect.Credentials" + c.String() }

// LogValue hides the password from handlers that show fields, as slog's JSON
// handler does.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// withDefaults returns a copy of cfg in which nothing is shared with the
// caller and every field has its value, and the parsed addresses.
func (cfg Config) withDefaults() (Config, []*address, error) {
	var faults []error
	cfg.URLs = slices.Clone(cfg.URLs)
	if len(cfg.URLs) == 0 {
		cfg.URLs = []string{defaultURL}
	}
	addrs := make([]*address, 0, len(cfg.URLs))
	for i, u := range cfg.URLs {
		a, err := parseURL(u)
		if err != nil {
			faults = append(faults, fmt.Errorf("url %d: %w", i+1, err))
			continue
		}
		if cfg.Vhost != "" {
			a.vhost = cfg.Vhost
		}
		if len(addrs) > 0 && addrs[0].vhost != a.vhost {
			faults = append(faults, fmt.Errorf("url %d: vhost %q differs from the first url's %q: urls are the nodes of one cluster", i+1, a.vhost, addrs[0].vhost))
		}
		addrs = append(addrs, a)
	}
	durations := []struct {
		name string
		v    *time.Duration
		or   time.Duration
	}{
		{"Heartbeat", &cfg.Heartbeat, defaultHeartbeat},
		{"DialTimeout", &cfg.DialTimeout, defaultDialTimeout},
	}
	for _, d := range durations {
		switch {
		case *d.v < 0:
			faults = append(faults, fmt.Errorf("%s is %v: must not be negative", d.name, *d.v))
		case *d.v == 0:
			*d.v = d.or
		}
	}
	switch {
	case cfg.Heartbeat > 0 && cfg.Heartbeat < time.Second:
		faults = append(faults, fmt.Errorf("the heartbeat is %v: at least 1s, AMQP counts in seconds", cfg.Heartbeat))
	case cfg.Heartbeat > longestHeartbeat:
		faults = append(faults, fmt.Errorf("the heartbeat is %v: at most %v, AMQP counts in 16 bits", cfg.Heartbeat, longestHeartbeat))
	}
	switch {
	case cfg.RPCTimeout < 0:
		faults = append(faults, fmt.Errorf("RPCTimeout is %v: must not be negative", cfg.RPCTimeout))
	case cfg.RPCTimeout == 0:
		cfg.RPCTimeout = 2 * cfg.Heartbeat
	case cfg.RPCTimeout < leastRPCTimeout:
		faults = append(faults, fmt.Errorf("RPCTimeout is %v: at least %v, or no connection lasts", cfg.RPCTimeout, leastRPCTimeout))
	}
	if cfg.First != Publishing && cfg.First != Consuming {
		faults = append(faults, fmt.Errorf("unknown role %d in First", cfg.First))
	}
	if err := cfg.Topology.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("topology: %w", err))
	}
	for _, q := range cfg.Topology.Queues {
		if q.PerSession() {
			faults = append(faults, fmt.Errorf("topology: queue %q is exclusive, auto-delete or server-named: it belongs to a consumer's session, declare it in consumer.Config.Declare", q.Name))
		}
	}
	if len(faults) > 0 {
		return Config{}, nil, fmt.Errorf("%w: %w", ErrConfig, errors.Join(faults...))
	}
	cfg.Topology = cfg.Topology.Clone()
	if cfg.TLS != nil {
		cfg.TLS = cfg.TLS.Clone()
	}
	if cfg.Backoff == nil {
		cfg.Backoff = defaultBackoff
	}
	if cfg.Name == "" {
		cfg.Name = defaultName()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	return cfg, addrs, nil
}

// costlyWait is how long a session waits that may have cost the connection so often in a row.
func costlyWait(times int) time.Duration {
	d := costlyFirst
	for ; times > 1 && d < costlyLongest; times-- {
		d *= costlyGrowth
	}
	d = min(d, costlyLongest)
	return d/2 + rand.N(d/2)
}

func defaultBackoff() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(backoffFirst),
		backoff.WithMaxInterval(backoffLongest),
		backoff.WithMultiplier(backoffGrowth),
		backoff.WithRandomizationFactor(1),
		backoff.WithMaxElapsedTime(0),
	)
}

// nextWait reads the next wait of b; a backoff that wants to stop is asked to
// go on at the longest wait, because ending is ctx's and Close's business.
func nextWait(b backoff.BackOff) time.Duration {
	if d := b.NextBackOff(); d >= 0 {
		return d
	}
	return longestWait
}
