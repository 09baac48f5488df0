package reconnect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

// said is an error that the broker sent, guessed one that the driver made up.
func said(code int, text string) error {
	return &amqp.Error{Code: code, Reason: text, Server: true}
}

func guessed(code int, text string) error { return &amqp.Error{Code: code, Reason: text} }

func round(errs ...error) error {
	e := &DialError{}
	for i, err := range errs {
		e.Attempts = append(e.Attempts, Attempt{Address: fmt.Sprintf("node-%d:5672", i+1), Err: err})
	}
	return e
}

func TestIsFatalOnlyForWhatARetryWillHardlyMend(t *testing.T) {
	t.Parallel()
	var (
		badPassword = said(403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.")
		refused     = fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
		cut         = fmt.Errorf("%w: %w", errCut, errPeerClosed)
		wrongCert   = fmt.Errorf("tls: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}})
	)
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"nothing", nil, false},
		{"bad password, said by the broker", badPassword, true},
		{"bad password, wrapped", fmt.Errorf("open: %w", badPassword), true},
		{"bad password, as a BrokerError", asBrokerError(badPassword), true},
		{"bad password, guessed by the driver", amqp.ErrCredentials, false},
		{"no access to the vhost, guessed by the driver", amqp.ErrVhost, false},
		{"any other code, guessed by the driver", guessed(404, "NOT_FOUND - no queue 'q' in vhost '/'"), false},
		{"no such queue", said(404, "NOT_FOUND - no queue 'q' in vhost '/'"), true},
		{"inequivalent arguments", said(406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type'"), true},
		{"not implemented", said(540, "NOT_IMPLEMENTED - basic.get on a stream queue"), true},
		{"exclusive elsewhere", said(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'"), false},
		{"forced", said(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"), false},
		{"a frame error", said(501, "FRAME_ERROR - type 2, all octets = <<>>"), false},
		{"an unexpected frame", said(505, "UNEXPECTED_FRAME"), false},
		{"resource error", said(506, "RESOURCE_ERROR - memory"), false},

		{"no such vhost", said(530, "NOT_ALLOWED - vhost nope not found"), true},
		{"no access to the vhost", said(530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u'"), true},
		{"a reused consumer tag", said(530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'"), true},
		{"vhost limit", said(530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u': connection limit (1) is reached"), false},
		{"user limit", said(530, "NOT_ALLOWED - connection refused for user 'u': user connection limit (1) is reached"), false},
		{"vhost down", said(530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u': vhost 'v' is down"), false},
		{"no such vhost, limit in its name", said(530, "NOT_ALLOWED - vhost limits not found"), true},
		{"no access to a vhost with limit in its name", said(530, "NOT_ALLOWED - access to vhost 'limits' refused for user 'limited'"), true},

		{"a deprecated feature", said(541, "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated. Its use is not permitted per the configuration"), true},
		{"no Khepri majority", said(541, "INTERNAL_ERROR - Could not declare queue 'q' in vhost '/' on node 'rabbit@a' because the metadata store operation timed out"), false},

		{"a fault of the topology", fmt.Errorf("declare: %w", &topology.Fault{Entity: topology.EntityQueue, Name: "q", Problem: "x"}), true},
		{"TLS on a plain url", errTLSPort, true},
		{"plain on a TLS url", errPlainPort, true},
		{"another protocol", errNotAMQP, true},
		{"no shared login mechanism", errNoShared, true},
		{"an unknown authority", wrongCert, true},
		{"a certificate for another host", fmt.Errorf("tls: %w", x509.HostnameError{Host: "h", Certificate: &x509.Certificate{}}), true},
		{"a cut in the handshake", cut, false},
		{"a cut", io.EOF, false},
		{"a ctx", context.DeadlineExceeded, false},
		{"refused by the kernel", refused, false},
		{"lost", fmt.Errorf("%w: %w", ErrLost, errPeerClosed), false},

		{"a round: nobody there", round(refused, cut), false},
		{"a round: nothing", round(), false},
		{"a round: one node refuses the password", round(refused, badPassword), true},
		{"a round: one node has another certificate", round(wrongCert, refused), false},
		{"a round: all have another certificate", round(wrongCert, errTLSPort), true},
		{"a round: one is full, one refuses the password", round(said(530, "connection limit (1) is reached"), badPassword), true},
		{"a round: all are full", round(said(530, "connection limit (1) is reached"), said(530, "connection limit (1) is reached")), false},
		{"a round: one drops as for a bad password", round(amqp.ErrCredentials), false},
		{"a round, wrapped by the wait that it ended", fmt.Errorf("no connection: %w (%w)", round(badPassword), context.Canceled), true},
	}
	for _, tt := range tests {
		if got := IsFatal(tt.err); got != tt.want {
			t.Errorf("%s: IsFatal(%v) = %v", tt.name, tt.err, got)
		}
	}
}

func TestADialErrorNamesEveryAddressAndUnwrapsToEachReason(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	err := round(syscall.ECONNREFUSED, other)
	if got, want := err.Error(), "node-1:5672: connection refused; node-2:5672: other"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, other) {
		t.Error("a reason is lost")
	}
}

func TestABrokerErrorIsTheBrokersOwnWordOnly(t *testing.T) {
	t.Parallel()
	be := asBrokerError(fmt.Errorf("declare: %w", said(404, "NOT_FOUND - no queue 'q'")))
	if be == nil || be.Code != 404 || be.Error() != "the broker said 404 NOT_FOUND - no queue 'q'" {
		t.Errorf("%+v", be)
	}
	var ae *amqp.Error
	if !errors.As(error(be), &ae) || ae.Code != 404 {
		t.Error("it does not unwrap to the driver's error")
	}
	for _, err := range []error{nil, io.EOF, amqp.ErrClosed, amqp.ErrCredentials, orNil(nil)} {
		if be := asBrokerError(err); be != nil {
			t.Errorf("%v is taken for the broker's word", err)
		}
	}
}

func TestMissingIsMendedByATopologyThatHasIt(t *testing.T) {
	t.Parallel()
	have := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "e"}, {Name: "theirs", Passive: true}},
		Queues:    []topology.Queue{{Name: "q"}, {Name: "foreign", Passive: true}},
	}
	seen := errors.New("the server cancelled")
	for name, want := range map[string]bool{"q": true, "e": true, "foreign": false, "theirs": false, "unknown": false} {
		err := fmt.Errorf("consume: %w", Missing(name, seen))
		if got := mendable(err, have); got != want {
			t.Errorf("mendable(Missing(%q)) = %v", name, got)
		}
		if !errors.Is(err, seen) || err.Error() != "consume: the server cancelled" {
			t.Errorf("%v lost what was seen", err)
		}
	}
	if mendable(seen, have) {
		t.Error("any error is mended by declaring")
	}
	if !mendable(asBrokerError(said(404, "NOT_FOUND - no queue 'q' in vhost '/'")), have) {
		t.Error("the broker's 404 for a queue of the topology is not mended")
	}
}
