package reconnect

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var errNoAnswerYet = errors.New("no answer yet")

// dialRound tries every address once, in random order, those that failed in the last round at the
// end, behind them the one that was given up for its silence, and returns the first connection made. It
// ends early when the broker itself refused the login: the nodes of one cluster
// agree on that, and repeating it only locks accounts.
func (l *link) dialRound(ctx context.Context) (*life, error) {
	last := func(i int) int {
		switch {
		case l.pool.addrs[i] == l.useless:
			return 2
		case l.failed[i]:
			return 1
		default:
			return 0
		}
	}
	order := rand.Perm(len(l.pool.addrs))
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(last(a), last(b)) })
	round := &DialError{}
	for _, i := range order {
		addr := l.pool.addrs[i]
		l.try(round.Attempts, addr)
		began := time.Now()
		lf, err := l.dial(ctx, addr)
		l.failed[i] = err != nil
		attempt := Attempt{Role: l.role, Address: addr.String(), At: began, Took: time.Since(began), Err: err}
		l.tried(attempt)
		if err == nil {
			l.useless = nil // it may have been for a while
			return lf, nil
		}
		round.Attempts = append(round.Attempts, attempt)
		if ctx.Err() != nil {
			break
		}
		if be := asBrokerError(err); be != nil && fatalReply(be) {
			break
		}
	}
	return nil, round
}

// tried counts an attempt and tells of it.
func (l *link) tried(a Attempt) {
	l.note(func(s *ConnectionStats) {
		s.Attempts++
		if a.Err != nil {
			s.Failures++
		}
	})
	l.pool.notifier.relay.Tell(a)
}

// dial makes one connection: TCP, TLS, our conn above both, AMQP handshake,
// and the topology.
func (l *link) dial(running context.Context, addr *address) (*life, error) {
	cfg := &l.pool.cfg
	timeout := cfg.DialTimeout
	if addr.dialTimeout > 0 {
		timeout = addr.dialTimeout
	}
	ctx, cancel := context.WithTimeoutCause(running, timeout, fmt.Errorf("no connection within %v", timeout))
	defer cancel()
	deadline, _ := ctx.Deadline()

	creds := addr.creds
	if cfg.Credentials != nil {
		var err error
		if creds, err = cfg.Credentials(ctx); err != nil {
			return nil, fmt.Errorf("get credentials: %w", err)
		}
	}
	socket, err := cfg.Dial(ctx, "tcp", addr.String())
	if err != nil {
		return nil, shortDialError(ctx, err)
	}
	if socket == nil {
		return nil, errors.New("Config.Dial returned no connection and no error")
	}
	under := socket
	if addr.secure {
		if under, err = cfg.secure(ctx, socket, addr); err != nil {
			return nil, err
		}
	}

	lf := newLife(l, addr)
	lf.creds = creds
	lf.conn = newConn(under, socket, deadline, lf.barrier)
	stop := context.AfterFunc(ctx, func() { lf.conn.abort(context.Cause(ctx)) })
	props := amqp.Table{
		"product":         "mqkit",
		"platform":        "go",
		"connection_name": fmt.Sprintf("%s %s", cfg.Name, l.role),
	}
	heartbeat := cfg.Heartbeat
	if addr.heartbeat != nil {
		heartbeat = *addr.heartbeat
	}
	raw, err := amqp.Open(lf.conn, amqp.Config{
		SASL:       []amqp.Authentication{&login{props: props, creds: creds, external: addr.external}},
		Vhost:      addr.vhost,
		Heartbeat:  heartbeat,
		Properties: props,
		Locale:     "en_US",
	})
	if !stop() || err != nil {
		lf.conn.abort(err)
		<-lf.conn.flushed
		err = handshakeError(ctx, err, lf.conn.reason())
		if addr.external && errors.Is(err, errNoShared) {
			err = errNoExternal
		}
		return nil, err
	}
	lf.start(raw)
	if err := lf.declare(running); err != nil { // as long as it takes: each answer is bounded
		lf.drop(err)
		return nil, err
	}
	return lf, nil
}

// secure makes the TLS handshake; a socket with which that fails is closed.
func (cfg *Config) secure(ctx context.Context, socket net.Conn, addr *address) (net.Conn, error) {
	secure := tls.Client(socket, cfg.tlsFor(addr))
	err := secure.HandshakeContext(ctx)
	if err == nil {
		return secure, nil
	}
	_ = socket.Close()
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		return nil, errPlainPort
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case refusesTLS(err):
		err = fmt.Errorf("%w: %w", errTLSRefused, err)
	}
	return nil, fmt.Errorf("tls: %w", err)
}

// handshakeError finds the best word for a handshake that failed: the
// broker's own, else what our conn saw, never the driver's guess.
func handshakeError(ctx context.Context, err, seen error) error {
	if be := asBrokerError(err); be != nil {
		return be
	}
	switch {
	case errors.Is(seen, errTLSPort):
		return errTLSPort
	case refusesTLS(seen):
		return fmt.Errorf("tls: %w: %w", errTLSRefused, seen)
	case errors.Is(err, amqp.ErrSASL):
		return errNoShared
	case errors.Is(seen, errNotAMQP):
		return errNotAMQP
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(seen, os.ErrDeadlineExceeded):
		<-ctx.Done() // it is the ctx's deadline, the socket was just the first to see it
		return context.Cause(ctx)
	case errors.Is(seen, errPeerClosed):
		return fmt.Errorf("%w: %w", errCut, errPeerClosed)
	case seen != nil:
		return fmt.Errorf("%w: %w", errCut, seen)
	default:
		return fmt.Errorf("%w: %w", errCut, err)
	}
}

// shortDialError takes the address off net's error: DialError names it.
func shortDialError(ctx context.Context, err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Errorf("look up %s: %w", dns.Name, dnsReason(dns))
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err // as in "connection refused"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

func dnsReason(e *net.DNSError) error {
	if e.IsNotFound {
		return errors.New("no such host")
	}
	return errors.New(e.Err)
}

// tlsFor returns a configuration for one dial: what the caller gave, or the
// address's own, or the system's, and never the same one twice.
func (cfg *Config) tlsFor(addr *address) *tls.Config {
	var t *tls.Config
	switch {
	case cfg.TLS != nil:
		t = cfg.TLS.Clone()
	case addr.tls != nil:
		t = addr.tls.Clone()
	default:
		t = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if t.ServerName == "" {
		t.ServerName = addr.host
	}
	return t
}

// heartbeatOf is what both sides agreed on.
func heartbeatOf(raw *amqp.Connection) time.Duration { return raw.Config.Heartbeat }
