package broker

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// readyTimeout bounds WaitReady where ctx does not: a node starts in 5 s, a
	// cluster in 10 s, and a machine may be busy with other tests.
	readyTimeout = 5 * time.Minute

	// foreignTimeout is its place for the broker of AMQP_URL, which should run already.
	foreignTimeout = 15 * time.Second

	// probeTimeout bounds one attempt: a paused node takes a connection and says nothing.
	probeTimeout = 5 * time.Second

	// probeInterval is short against a start, and long enough not to slow it down.
	probeInterval = 100 * time.Millisecond
)

// WaitReady returns nil once an AMQP connection to the node was opened and closed,
// and a TLS handshake was made where it has an AMQPS listener. It waits as long as
// ctx allows, and at most five minutes (15 s for the broker of AMQP_URL); a container
// that has ended is an error at once, with the end of its log.
func (n *Node) WaitReady(ctx context.Context) error {
	limit := readyTimeout
	if n.engine == nil {
		limit = foreignTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %s", limit))
	defer cancel()
	var last error
	err := poll(ctx, probeInterval, func() (bool, error) {
		version, err := probe(ctx, n.url)
		if err == nil && n.ports[amqpsPort] != 0 {
			err = probeTLS(ctx, n.addr(amqpsPort)) // it listens a little later
		}
		if err == nil {
			n.mu.Lock()
			n.version = version
			n.mu.Unlock()
			return true, nil
		}
		if ctx.Err() == nil {
			last = err
		}
		if n.engine == nil {
			return false, nil
		}
		running, err := n.Running(ctx)
		if err != nil || running {
			return false, err
		}
		return false, fmt.Errorf("the container has ended: %s", n.lastWords(ctx))
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && last != nil:
		return fmt.Errorf("wait for an AMQP connection: %w (last attempt: %w)", err, last)
	default:
		return fmt.Errorf("wait for an AMQP connection: %w", err)
	}
}

// lastWords returns the end of the node's log, for an error.
func (n *Node) lastWords(ctx context.Context) string {
	tail, err := n.logs(ctx, "15")
	if err != nil {
		return err.Error()
	}
	return "the end of its log:\n" + strings.TrimSpace(tail)
}

// probe opens and closes one connection and returns the broker's version.
func probe(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var stop func() bool
	conn, err := amqp.DialConfig(url, amqp.Config{
		Dial: func(network, addr string) (net.Conn, error) {
			var d net.Dialer
			raw, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			// The driver knows no ctx, and takes off any deadline set here.
			stop = context.AfterFunc(ctx, func() { raw.Close() })
			return raw, nil
		},
	})
	if stop != nil {
		defer stop()
	}
	if err != nil {
		return "", err
	}
	version, _ := conn.Properties["version"].(string)
	if err := conn.Close(); err != nil {
		return "", err
	}
	return version, nil
}

// probeTLS makes a handshake and no more: the broker may ask for a certificate that
// only the test has, and in TLS 1.3 refuses its absence after the handshake.
func probeTLS(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("tls handshake: %w", err)
	}
	return conn.Close()
}
