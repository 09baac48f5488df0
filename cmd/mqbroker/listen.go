package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"

	"github.com/mqkit/mqkit/internal/cli"
)

// address is --listen with its name looked up, so that what is listened on is what
// was checked.
func (o *options) address() (*net.TCPAddr, error) {
	host, port, err := net.SplitHostPort(o.listen)
	if err != nil || port == "" || cli.IsLogin(o.listen) { // which is not looked up, either
		return nil, cli.Usagef("--listen: %s is not HOST:PORT, such as %s", cli.Repeated(o.listen), defaultListen)
	}
	addr, err := net.ResolveTCPAddr("tcp", o.listen)
	if err != nil {
		return nil, cli.Usagef("--listen: %s", reason(err))
	}
	if !addr.IP.IsLoopback() && !o.insecureListen {
		where := "from other machines as well"
		if host == "" || addr.IP.IsUnspecified() {
			where = "on all addresses of this machine"
		}
		return nil, cli.Usagef("--listen: %s can be reached %s, without TLS: listen on 127.0.0.1, or add --insecure-listen", o.listen, where)
	}
	return addr, nil
}

// cannotListen says why it cannot, and what to do.
func cannotListen(addr *net.TCPAddr, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("cannot listen on %s: the port is in use: end what listens there, or take another with --listen", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("cannot listen on %s: it is no address of this machine", addr)
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf("cannot listen on %s: no permission: take a port from 1024 on", addr)
	default:
		return fmt.Sprintf("cannot listen on %s: %s", addr, reason(err))
	}
}

// reason is an error of package net without the operation and the address, which
// the user knows, and without the port, which may be a password.
func reason(err error) string {
	var (
		op   *net.OpError
		dns  *net.DNSError
		addr *net.AddrError
	)
	switch {
	case errors.As(err, &addr):
		return addr.Err // such as: invalid port
	case errors.As(err, &dns) && strings.HasPrefix(dns.Name, "tcp/"):
		return "the port is neither a number nor the name of a service"
	case errors.As(err, &dns):
		return fmt.Sprintf("cannot look up %q: %s", dns.Name, dns.Err)
	case errors.As(err, &op):
		err = op.Err
	}
	return strings.TrimPrefix(err.Error(), "bind: ")
}

// brokerURL is where clients on this machine connect to. It has no slash at the
// end: to some clients that is the virtual host with an empty name, and no path at
// all is "/" to all of them.
func brokerURL(listening, name, password, vhost string) (string, error) {
	host, port, err := net.SplitHostPort(listening)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // Go listens on all addresses of both families
	}
	u := url.URL{Scheme: "amqp", User: url.UserPassword(name, password), Host: net.JoinHostPort(host, port)}
	if vhost == defaultVhost {
		return u.String(), nil
	}
	return u.String() + "/" + url.PathEscape(vhost), nil
}
