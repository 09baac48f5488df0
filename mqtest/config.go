package mqtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// Rules is the series of RabbitMQ whose behaviour is kept where they differ.
type Rules string

// The series.
const (
	Rules43 Rules = "4.3"
	Rules42 Rules = "4.2"
)

// Config says what a [Broker] is like. The zero value is RabbitMQ 4.3 as it is
// installed, with the vhost "/" and the user guest with password guest.
type Config struct {
	// Listen is where it listens. Defaults to a free port of 127.0.0.1. In memory it is
	// only the name in its URL, by which a test tells several brokers apart; there it
	// defaults to mqtest.invalid:5672.
	Listen string
	// TLS has clients connect by TLS. Defaults to plain TCP.
	TLS *tls.Config

	// Rules defaults to Rules43.
	Rules Rules
	// Vhosts are there from the start. The URL leads to "/" if it is one of them, else
	// to the first. Defaults to "/".
	Vhosts []string
	// Users are names and passwords. Defaults to guest with password guest, from
	// anywhere.
	Users map[string]string
	// Authenticate decides on logins in place of Users; an error refuses, and stays
	// here. It must not call the Broker. Where it is set EXTERNAL is offered too.
	// Defaults to comparing with Users.
	Authenticate func(Login) error
	// UpdateSecret takes a new secret from a client that is logged in; an error refuses,
	// which ends the connection. It must not call the Broker. Defaults to taking any.
	UpdateSecret func(user, secret, reason string) error
	// Authorize decides whether a user may open a vhost. It must not call the
	// Broker. Defaults to yes.
	Authorize func(user, vhost string) error

	// MaxMessageSize is the largest body. Defaults to 16 MiB.
	MaxMessageSize int
	// ChannelMax is what clients are offered. Defaults to 2047.
	ChannelMax uint16
	// FrameMax is what clients are offered, at least 8192. Defaults to 131072.
	FrameMax uint32
	// Heartbeat is what clients are offered, in whole seconds; negative is none.
	// Defaults to 60 s.
	Heartbeat time.Duration
	// ConsumerTimeout is how long a delivery may stay unsettled; negative is for
	// ever. Defaults to 30 minutes.
	ConsumerTimeout time.Duration
	// DenyTransientQueues refuses queues that are neither durable nor exclusive, as
	// later series do. Defaults to taking them.
	DenyTransientQueues bool

	// Strict fails the test if something is declared, bound or consumed with an x-
	// argument that RabbitMQ does not know, and takes in silence. Only for New and
	// NewInMemory.
	Strict bool
	// Journal is how many records are kept; negative keeps all. Unless it is
	// negative, frames and bodies are kept of the newest records only, 16 MiB of
	// them together; older records have neither, and of one larger than 1 MiB its
	// first 40 bytes are kept. Defaults to 4096 for New and NewInMemory, and to none
	// for Start.
	Journal int
}

// Login is what a client says of itself.
type Login struct {
	Mechanism  string // PLAIN, AMQPLAIN, ANONYMOUS or EXTERNAL
	User       string // empty for EXTERNAL; guest, with password guest, for ANONYMOUS
	Password   string
	Properties map[string]any // the client's
}

var errLogin = errors.New("wrong user or password")

func (c Config) authenticate() func(amqpserver.Login) (string, error) {
	users := maps.Clone(c.Users)
	if users == nil {
		users = map[string]string{"guest": "guest"}
	}
	ask := c.Authenticate
	if ask == nil {
		ask = func(l Login) error {
			if password, ok := users[l.User]; !ok || password != l.Password {
				return errLogin
			}
			return nil
		}
	}
	return func(l amqpserver.Login) (string, error) {
		properties, _ := plain(l.Properties).(map[string]any)
		return l.User, ask(Login{l.Mechanism, l.User, l.Password, properties})
	}
}

// mechanisms are RabbitMQ's; EXTERNAL is a plugin's there.
func (c Config) mechanisms() []string {
	list := []string{"PLAIN", "AMQPLAIN", "ANONYMOUS"}
	if c.Authenticate != nil {
		list = append(list, "EXTERNAL")
	}
	return list
}

// validate finds what a client could make nothing of, or would be offered otherwise.
func (c Config) validate() error {
	var faults []error
	if c.FrameMax != 0 && c.FrameMax < wire.MinFrameMax {
		faults = append(faults, fmt.Errorf("FrameMax is %d: at least %d, or no client connects", c.FrameMax, wire.MinFrameMax))
	}
	if c.Heartbeat > 0 && (c.Heartbeat%time.Second != 0 || c.Heartbeat > math.MaxUint16*time.Second) {
		faults = append(faults, fmt.Errorf("the Heartbeat is %v: whole seconds, at most %d", c.Heartbeat, math.MaxUint16))
	}
	return errors.Join(faults...)
}

func (c Config) rules() (engine.Rules, string, error) {
	switch c.Rules {
	case "", Rules43:
		return engine.Rules43, "", nil
	case Rules42:
		return engine.Rules42, "4.2.1", nil
	}
	return 0, "", fmt.Errorf("there are no rules of %q: %q and %q are known", c.Rules, Rules43, Rules42)
}
