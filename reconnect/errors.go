package reconnect

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

var (
	// ErrConfig is wrapped by every error that Open and FromEnv return for a
	// configuration that cannot work; all its faults are joined.
	ErrConfig = errors.New("invalid configuration")

	// ErrClosed is returned to who begins to use a role of the pool (Run, Acquire,
	// Declare, Delete, OnClose) once Close or CloseNow has begun to drain it, Consuming first; and to
	// who still uses it when the connections are hung up.
	ErrClosed = errors.New("the pool is closed")

	// ErrLost is wrapped by the cause with which a session's context ends when
	// its channel or connection ended.
	ErrLost = errors.New("session lost")

	// ErrRPCTimeout is wrapped by the cause of a connection that was given up
	// because the broker did not answer within Config.RPCTimeout.
	ErrRPCTimeout = errors.New("no answer from the broker")

	errTLSPort    = errors.New("the server answers with TLS on this port: use an amqps:// url")
	errPlainPort  = errors.New("the server does not speak TLS on this port: use an amqp:// url, or its TLS port (5671 by default)")
	errCut        = errors.New("the connection ended during the handshake")
	errTLSRefused = errors.New("the server refuses our side of TLS, perhaps for want of a client certificate that it trusts")
	errNotAMQP    = errors.New("the server does not speak AMQP 0-9-1 on this port")
	errNoShared   = errors.New("the server offers none of our login mechanisms")
	errNoExternal = errors.New("the server does not offer the login mechanism EXTERNAL: it needs TLS with a client certificate, and in RabbitMQ the plugin rabbitmq_auth_mechanism_ssl and EXTERNAL in auth_mechanisms")
	errPeerClosed = errors.New("closed by the other side")
)

// BrokerError is what the broker itself said when it closed a connection or
// a channel, or refused to open one. It unwraps to the driver's *amqp.Error.
type BrokerError struct {
	Code int    // AMQP reply code, such as 404
	Text string // as the broker says it, such as "NOT_FOUND - no queue 'q' in vhost '/'"

	err *amqp.Error
}

func (e *BrokerError) Error() string { return fmt.Sprintf("the broker said %d %s", e.Code, e.Text) }

// Unwrap returns the driver's error.
func (e *BrokerError) Unwrap() error { return e.err }

// asBrokerError returns err as the broker's own word, or nil if the driver or
// the network made it. Only Server tells: the driver reports a cut in the
// handshake with the same codes.
func asBrokerError(err error) *BrokerError {
	var be *BrokerError
	if errors.As(err, &be) {
		return be
	}
	var ae *amqp.Error
	if errors.As(err, &ae) && ae.Server {
		return &BrokerError{Code: ae.Code, Text: ae.Reason, err: ae}
	}
	return nil
}

// IsMissing reports whether the broker said that a queue, exchange or binding does not
// exist. Its code for that, 404, is also the one for a queue that is there and cannot be
// used at the moment: its node is down, its process was stopped or has crashed, its leader
// changes, it does not answer in time.
func IsMissing(err error) bool {
	be := asBrokerError(err)
	return be != nil && isMissing(be)
}

// isMissing goes by the text, as rabbit_amqqueue's not_found and priv_absent put it:
// "NOT_FOUND - no queue 'q' in vhost '/'", and "NOT_FOUND - queue 'q' in vhost '/'
// process is stopped by supervisor".
func isMissing(e *BrokerError) bool {
	return e.Code == amqp.NotFound && strings.HasPrefix(e.Text, "NOT_FOUND - no ")
}

// MissingError says that a queue or exchange that a session used has gone,
// without the broker's 404 for it.
type MissingError struct {
	Name string
	Err  error
}

func (e *MissingError) Error() string { return e.Err.Error() }

// Unwrap returns what was seen.
func (e *MissingError) Unwrap() error { return e.Err }

// Missing is returned by a session that ended because name is gone: if
// Config.Topology has it, Run declares the topology before the next session.
func Missing(name string, err error) error { return &MissingError{Name: name, Err: err} }

// mendable reports whether declaring t again may mend what ended a session.
func mendable(err error, t topology.Topology) bool {
	if t.Covers(err) {
		return true
	}
	var m *MissingError
	if !errors.As(err, &m) {
		return false
	}
	q, queue := t.Queue(m.Name)
	e, exchange := t.Exchange(m.Name)
	return queue && !q.Passive || exchange && !e.Passive
}

// DialError is one round of dialling in which no address answered as wanted.
type DialError struct {
	Attempts []Attempt
}

// Attempt is one attempt to connect to one address: name, TCP, TLS, AMQP handshake and
// topology.
type Attempt struct {
	Role    Role
	Address string // host:port
	At      time.Time
	Took    time.Duration
	Err     error // why it failed, nil if it did not
}

func (e *DialError) Error() string {
	parts := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		parts[i] = fmt.Sprintf("%s: %v", a.Address, a.Err)
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns the error of each attempt.
func (e *DialError) Unwrap() []error {
	errs := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		errs[i] = a.Err
	}
	return errs
}

// Inflicted reports whether a connection ended because of something that was said on it,
// not of what happened to it: the broker gave one of the codes with which it answers
// what it cannot take, or the driver could not read or write a frame. The same will
// happen again if the same is said again. What was said may have been a message: where the
// broker's text speaks of a declare or a subscription that failed (a queue without a
// majority, a deprecated feature), Inflicted is false.
func Inflicted(err error) bool {
	be := asBrokerError(err)
	return saidOnIt(err) && (be == nil || !setUpFailed.MatchString(be.Text))
}

// setUpFailed is how RabbitMQ 3.10 to 4.3 begins what it says when a declare, a bind or a
// consume costs the connection.
var setUpFailed = regexp.MustCompile("^INTERNAL_ERROR - (timed out consuming |failed consuming |Could not |Cannot |Feature `)")

// saidOnIt is Inflicted for messages and all else.
func saidOnIt(err error) bool {
	code := 0
	var said *amqp.Error
	if be := asBrokerError(err); be != nil {
		code = be.Code
	} else if errors.As(err, &said) && said != amqp.ErrClosed { // that only says that it is closed
		code = said.Code
	}
	switch code {
	case amqp.FrameError, amqp.SyntaxError, amqp.CommandInvalid, amqp.ChannelError, amqp.UnexpectedFrame, amqp.NotImplemented, amqp.InternalError:
		return true
	default:
		return false
	}
}

// IsFatal reports whether err is one that a retry will hardly mend: the broker
// itself refused the credentials, the vhost, a declaration or a subscription,
// or at every address the other side's certificate or protocol is not what was
// asked for, or our certificate not what it asks for. A cut of the connection is
// never fatal, at whatever moment it comes.
func IsFatal(err error) bool {
	var de *DialError
	if errors.As(err, &de) {
		// One node's word about credentials or vhost holds for its cluster; a
		// wrong certificate or protocol on one node says nothing of the others.
		all := len(de.Attempts) > 0
		for _, a := range de.Attempts {
			if be := asBrokerError(a.Err); be != nil && fatalReply(be) {
				return true
			}
			all = all && fatalPeer(a.Err)
		}
		return all
	}
	if be := asBrokerError(err); be != nil {
		return fatalReply(be)
	}
	var fault *topology.Fault
	return fatalPeer(err) || errors.As(err, &fault)
}

// fatalReply sorts the broker's reply codes. 530 and 541 mean several things:
// those are told apart by their text, as RabbitMQ 3.10 to 4.3 says it.
func fatalReply(e *BrokerError) bool {
	switch e.Code {
	case amqp.NotFound:
		return isMissing(e)
	case amqp.AccessRefused, amqp.PreconditionFailed, amqp.NotImplemented:
		return true
	case amqp.NotAllowed:
		// A limit is reached or a vhost is starting: both pass. A vhost or user
		// may itself be called "limits".
		text := withoutQuoted(e.Text)
		return strings.Contains(text, "not found") || !strings.Contains(text, "limit") && !strings.Contains(text, "is down")
	case amqp.InternalError:
		// A refused deprecated feature is for good, a missing Khepri majority
		// is not.
		return strings.Contains(e.Text, "is deprecated")
	default:
		return false
	}
}

// withoutQuoted leaves out the names that the broker quotes.
func withoutQuoted(text string) string {
	var b strings.Builder
	for i, part := range strings.Split(text, "'") {
		if i%2 == 0 {
			b.WriteString(part)
		}
	}
	return b.String()
}

// fatalPeer reports whether what answers is not the broker that was asked for.
func fatalPeer(err error) bool {
	if errors.Is(err, errTLSPort) || errors.Is(err, errPlainPort) || errors.Is(err, errNotAMQP) ||
		errors.Is(err, errTLSRefused) || errors.Is(err, errNoShared) || errors.Is(err, errNoExternal) {
		return true
	}
	var (
		verify *tls.CertificateVerificationError
		host   x509.HostnameError
		auth   x509.UnknownAuthorityError
	)
	return errors.As(err, &verify) || errors.As(err, &host) || errors.As(err, &auth)
}

// refusesTLS reports whether err is an alert by which the other side ends a TLS
// handshake because of what we are or can: ours to mend. With TLS 1.3 one about our
// certificate comes when the handshake is done for us.
func refusesTLS(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" { // as crypto/tls marks them; their type it keeps to itself
		return false
	}
	switch strings.TrimPrefix(op.Err.Error(), "tls: ") {
	case "handshake failure", "protocol version not supported", "access denied",
		"bad certificate", "unsupported certificate", "revoked certificate", "expired certificate",
		"unknown certificate", "unknown certificate authority", "certificate required":
		return true
	default:
		return false
	}
}
