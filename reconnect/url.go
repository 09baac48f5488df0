package reconnect

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// address is one node of the cluster as its URL names it.
type address struct {
	host      string
	port      string
	vhost     string
	secure    bool // amqps
	creds     Credentials
	external  bool           // auth_mechanism=external: a client certificate says who we are
	heartbeat *time.Duration // from the query; 0 takes what the broker asks for
	tls       *tls.Config    // from the query, nil if it names nothing

	dialTimeout time.Duration // connection_timeout of the query, else 0
}

// String is the address as errors and states show it: host and port, nothing
// secret.
func (a *address) String() string { return net.JoinHostPort(a.host, a.port) }

// parseURL reads an amqp:// or amqps:// URL. Its errors never repeat any part
// of the URL in which a password can hide, not even what net/url says of it.
func parseURL(s string) (*address, error) {
	const form = "expected amqp://user:password@host:port/vhost"
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("cannot be parsed: %s, with reserved characters in user, password and vhost percent-encoded", form)
	}
	if u.Scheme != "amqp" && u.Scheme != "amqps" {
		return nil, fmt.Errorf("its scheme is neither amqp nor amqps: %s", form)
	}
	if u.Opaque != "" {
		return nil, fmt.Errorf("cannot be parsed: %s", form)
	}
	// An '@' after the host is the one that ends user and password: a '/' or '?'
	// in them cut them in two, and what looks like host, port or vhost is a part
	// of the password that errors would show.
	if strings.Contains(u.EscapedPath(), "@") || strings.Contains(u.RawQuery, "@") {
		return nil, fmt.Errorf("has an '@' behind the host: percent-encode '/' and '?' in user and password, and write %%40 for it in a vhost; %s", form)
	}
	if strings.Contains(u.Host, ",") {
		return nil, fmt.Errorf("has a ',' in its host: each node takes a url of its own, amqp:// and all; %s", form)
	}
	// As in user:password:host:port, with ':' where '@' belongs.
	if strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(u.Host, "[") {
		return nil, fmt.Errorf("has a ':' in its host: an '@' ends user and password, and an IPv6 address stands in brackets; %s", form)
	}
	if u.Fragment != "" {
		return nil, fmt.Errorf("has a '#': write %%23 for it in user, password and vhost; %s", form)
	}
	if strings.Count(strings.TrimPrefix(u.Path, "/"), "/") > 0 && !strings.Contains(strings.ToLower(u.EscapedPath()), "%2f") {
		return nil, fmt.Errorf("has more than one path segment: write %%2F for a '/' in a vhost; %s", form)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("its port is not a number from 1 to 65535; %s", form)
		}
	}
	// The driver's own parser knows the defaults and the query parameters.
	uri, err := amqp.ParseURI(s)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %s; heartbeat, connection_timeout and channel_max are whole numbers", form)
	}
	a := &address{
		host:   uri.Host,
		port:   strconv.Itoa(uri.Port),
		vhost:  uri.Vhost,
		secure: uri.Scheme == "amqps",
		creds:  Credentials{Username: uri.Username, Password: uri.Password},
	}
	for _, m := range uri.AuthMechanism {
		switch strings.ToLower(m) {
		case "external":
			a.external = true
		case "plain":
		default:
			return nil, errors.New("its auth_mechanism is neither plain nor external")
		}
	}
	if q := u.Query(); q.Has("heartbeat") {
		n, err := strconv.ParseUint(q.Get("heartbeat"), 10, 16)
		if err != nil {
			return nil, errors.New("its heartbeat is not a number of seconds")
		}
		d := time.Duration(n) * time.Second
		a.heartbeat = &d
	}
	if uri.ConnectionTimeout > 0 {
		a.dialTimeout = time.Duration(uri.ConnectionTimeout) * time.Millisecond
	}
	if uri.CACertFile != "" || uri.CertFile != "" || uri.KeyFile != "" || uri.ServerName != "" {
		a.tls, err = TLSFiles{CA: uri.CACertFile, Cert: uri.CertFile, Key: uri.KeyFile, ServerName: uri.ServerName}.Config()
		if err != nil {
			return nil, err
		}
	}
	return a, nil
}

// withoutPassword is what may be shown of a URL: not its query, nor anything of one
// that is malformed, in which a password can be anywhere.
func withoutPassword(s string) string {
	a, err := parseURL(s)
	if err != nil {
		return "[malformed]"
	}
	scheme := "amqp"
	if a.secure {
		scheme = "amqps"
	}
	u := url.URL{Scheme: scheme, User: url.User(a.creds.Username), Host: a.String()}
	return u.String() + "/" + url.PathEscape(a.vhost)
}

// TLSFiles names the PEM files of a TLS configuration.
type TLSFiles struct {
	CA         string // certificate authorities; the system's when empty
	Cert       string // client certificate, for mutual TLS
	Key        string // its key
	ServerName string // expected in the server's certificate; the address's host when empty
	Insecure   bool   // accept any certificate: for tests only
}

// Config loads the files. The error names the file and what is wrong with it.
func (f TLSFiles) Config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName, InsecureSkipVerify: f.Insecure}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("read tls ca file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read tls ca file: %s holds no PEM certificate", f.CA)
		}
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, errors.New("a tls client certificate needs both its certificate file and its key file")
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("read tls client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func defaultName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s %s %d", filepath.Base(os.Args[0]), host, os.Getpid())
}
