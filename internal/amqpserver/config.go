package amqpserver

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// Defaults of [Config] and [Tune], all RabbitMQ's.
const (
	DefaultVersion          = "4.3.6"
	DefaultChannelMax       = 2047
	DefaultFrameMax         = 131072
	DefaultHeartbeat        = 60 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
)

// Config says what a connection serves, and to whom. Only Broker is required.
type Config struct {
	// Broker holds what the connection works on.
	Broker *engine.Broker
	// Name names the connection in the engine's events. Defaults to "".
	Name string

	// Authenticate decides on a login, and names the user. The error stays here:
	// the client learns no more than that it was refused. Defaults to user guest
	// with password guest.
	Authenticate func(Login) (user string, err error)
	// Authorize decides whether a user may open a vhost. The error stays here.
	// Defaults to yes. Whether the vhost exists is the engine's to say.
	Authorize func(user, vhost string) error
	// UpdateSecret takes a new secret from a client that is logged in. The error
	// stays here. Defaults to taking any. Authorize is asked again afterwards.
	UpdateSecret func(user, secret, reason string) error

	// Tune is what the client is offered.
	Tune Tune
	// Mechanisms that the client may choose from. Defaults to PLAIN, AMQPLAIN and
	// ANONYMOUS, as RabbitMQ's without plugins; EXTERNAL may be added for
	// Authenticate to decide.
	Mechanisms []string
	// Version is the server property. Defaults to DefaultVersion.
	Version string
	// Properties replace server properties of the same key, and add others. A nil
	// value removes a property. Defaults to none.
	Properties wire.Table

	// MaxMessageSize is the engine's. Defaults to engine.DefaultMaxMessageSize.
	MaxMessageSize int
	// HandshakeTimeout is how long a client may take until its connection is open.
	// Defaults to 10 s.
	HandshakeTimeout time.Duration
	// RefusalDelay is how long a client that is refused without an answer waits
	// for the end. RabbitMQ: 3 s. Defaults to 0.
	RefusalDelay time.Duration
}

// Tune is what connection.tune offers.
type Tune struct {
	ChannelMax uint16        // defaults to 2047
	FrameMax   uint32        // defaults to 131072
	Heartbeat  time.Duration // in whole seconds; defaults to 60 s, negative: none
}

// Login is what a client says of itself.
type Login struct {
	Mechanism string
	User      string // guest for ANONYMOUS, with password guest; empty for EXTERNAL
	Password  string
	Response  string // as it was sent
	// Properties are the client's.
	Properties wire.Table
}

// ErrCredentials is what the default of [Config.Authenticate] refuses with.
var ErrCredentials = errors.New("wrong user or password")

func guestOnly(l Login) (string, error) {
	if l.User != "guest" || l.Password != "guest" {
		return "", ErrCredentials
	}
	return l.User, nil
}

func (c Config) withDefaults() Config {
	if c.Authenticate == nil {
		c.Authenticate = guestOnly
	}
	if c.Authorize == nil {
		c.Authorize = func(string, string) error { return nil }
	}
	if c.UpdateSecret == nil {
		c.UpdateSecret = func(string, string, string) error { return nil }
	}
	if c.Tune.ChannelMax == 0 {
		c.Tune.ChannelMax = DefaultChannelMax
	}
	if c.Tune.FrameMax == 0 {
		c.Tune.FrameMax = DefaultFrameMax
	}
	if c.Tune.Heartbeat == 0 {
		c.Tune.Heartbeat = DefaultHeartbeat
	}
	if c.Mechanisms == nil {
		c.Mechanisms = []string{mechanismPlain, mechanismAMQPlain, mechanismAnonymous}
	}
	if c.Version == "" {
		c.Version = DefaultVersion
	}
	if c.MaxMessageSize == 0 {
		c.MaxMessageSize = engine.DefaultMaxMessageSize
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = DefaultHandshakeTimeout
	}
	return c
}

// serverProperties are in the order of RabbitMQ: sorted by key.
func (c Config) serverProperties() wire.Table {
	capabilities := wire.Table{}
	for _, name := range []string{
		"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
		"connection.blocked", "consumer_priorities", "authentication_failure_close",
		"per_consumer_qos", "direct_reply_to",
	} {
		capabilities = append(capabilities, wire.Field{Key: name, Value: true})
	}
	properties := wire.Table{
		{Key: "capabilities", Value: capabilities},
		{Key: "cluster_name", Value: "mqtest"},
		{Key: "copyright", Value: "The mqkit authors"},
		{Key: "information", Value: "mqtest, in the process of a test, speaking as RabbitMQ does"},
		{Key: "platform", Value: "Go"},
		{Key: "product", Value: "RabbitMQ"},
		{Key: "version", Value: c.Version},
	}
	for _, f := range c.Properties {
		properties.Delete(f.Key)
		if f.Value != nil {
			properties = append(properties, f)
		}
	}
	slices.SortStableFunc(properties, func(a, b wire.Field) int { return strings.Compare(a.Key, b.Key) })
	return properties
}
