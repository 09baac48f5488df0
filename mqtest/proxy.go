package mqtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

// ProxyConfig says how a [Proxy] listens. The zero value works.
type ProxyConfig struct {
	// Listen is where it listens. Defaults to a free port of 127.0.0.1.
	Listen string
	// TLS has clients connect by TLS, to be given to them as amqps. What is behind
	// the proxy is reached as its URL says. Defaults to plain TCP.
	TLS *tls.Config
	// UpstreamTLS is used for an upstream that is an amqps URL. Defaults to the
	// host's certificates.
	UpstreamTLS *tls.Config
	// Journal is how many records are kept; negative keeps all. Their frames are
	// bounded as those of Config.Journal are. Defaults to 4096
	// for NewProxy and to none for StartProxy.
	Journal int
}

// Proxy is a stage in front of any broker: clients that use its URL are the
// upstream's, and everything that faults can do happens to them on the way. Its
// port stays the same when the broker moves to another.
type Proxy struct {
	*Stage

	tls *tls.Config

	mu       sync.Mutex // guards what follows
	upstream *url.URL
}

// dialTimeout bounds the way to an upstream.
const dialTimeout = 5 * time.Second

// NewProxy starts a proxy for a test, which ends with it.
func NewProxy(tb TB, upstream string, cfg ...ProxyConfig) *Proxy {
	tb.Helper()
	var c ProxyConfig
	if len(cfg) > 0 {
		c = cfg[0]
	}
	p, err := startProxy(upstream, c, newJournal(c.Journal))
	if err != nil {
		tb.Fatalf("mqtest: %v", err)
	}
	tb.Cleanup(func() {
		p.logTail(tb)
		p.Close()
	})
	return p
}

// StartProxy starts a proxy for a program, which closes it.
func StartProxy(upstream string, cfg ProxyConfig) (*Proxy, error) {
	var j *Journal
	if cfg.Journal != 0 {
		j = newJournal(cfg.Journal)
	}
	return startProxy(upstream, cfg, j)
}

func startProxy(upstream string, cfg ProxyConfig, j *Journal) (*Proxy, error) {
	p := &Proxy{tls: cfg.UpstreamTLS}
	p.Stage = &Stage{connect: p.dial, journal: j, tls: cfg.TLS, conns: map[int]*conn{}}
	if err := p.SetUpstream(upstream); err != nil {
		return nil, err
	}
	p.user = p.upstream.User
	p.vhost = strings.TrimPrefix(p.upstream.EscapedPath(), "/")
	listen := cfg.Listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	if err := p.listen(listen); err != nil {
		return nil, err
	}
	return p, nil
}

// SetUpstream has new connections go to another broker, an amqp or amqps URL of
// which only host and port count from now on. Open connections stay where they
// are.
func (p *Proxy) SetUpstream(upstream string) error {
	u, err := url.Parse(upstream)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // without the URL, which may hold a password
		}
		return fmt.Errorf("upstream: %w", err)
	}
	port := map[string]string{"amqp": "5672", "amqps": "5671"}[u.Scheme]
	if port == "" || u.Hostname() == "" {
		return fmt.Errorf("upstream %s is no amqp URL", u.Redacted())
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = u
	return nil
}

// dial reaches the broker for a client.
func (p *Proxy) dial(c *conn) (upstream, error) {
	p.mu.Lock()
	to := p.upstream
	p.mu.Unlock()
	sock, err := (&net.Dialer{Timeout: dialTimeout}).Dial("tcp", to.Host)
	if err != nil {
		return nil, err
	}
	if to.Scheme == "amqps" {
		cfg := p.tls.Clone()
		if cfg == nil {
			cfg = &tls.Config{}
		}
		if cfg.ServerName == "" {
			cfg.ServerName = to.Hostname()
		}
		sock = tls.Client(sock, cfg)
	}
	return newRemote(c, sock), nil
}

// Close ends the proxy and its connections, and waits for their goroutines.
func (p *Proxy) Close() {
	p.running.Lock()
	defer p.running.Unlock()
	p.shut(true)
}
