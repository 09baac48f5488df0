package reconnect_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/reconnect"
)

// certificate is one for names and addresses that signs itself, and a pool that
// trusts it.
func certificate(t *testing.T, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// names collects what clients asked for by SNI.
type names struct {
	mu   sync.Mutex
	seen []string
}

func (n *names) add(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, s)
}

func tlsPeer(t *testing.T, cert tls.Certificate, asked *names) *reconnect.Peer {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			asked.add(h.ServerName)
			return &cert, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return reconnect.NewPeerOn(t, l, reconnect.Willing)
}

func TestTLSNamesTheHostOfEachAddressAndLeavesTheCallersConfigAlone(t *testing.T) {
	t.Parallel()
	cert, roots := certificate(t, "127.0.0.1", "localhost")
	asked := &names{}
	peer := tlsPeer(t, cert, asked)
	_, port, err := net.SplitHostPort(peer.Addr)
	if err != nil {
		t.Fatal(err)
	}
	callers := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		cfg := config(newLog(), "amqps://"+net.JoinHostPort(host, port))
		cfg.TLS = callers
		p := open(t, cfg)
		if got := p.Status(reconnect.Publishing).Address; got != net.JoinHostPort(host, port) {
			t.Errorf("connected to %s", got)
		}
	}
	if callers.ServerName != "" {
		t.Errorf("the caller's ServerName became %q", callers.ServerName)
	}
	asked.mu.Lock()
	defer asked.mu.Unlock()
	if len(asked.seen) != 2 || asked.seen[0] != "localhost" || asked.seen[1] != "" { // an address is never sent as SNI
		t.Errorf("asked for %q", asked.seen)
	}
}

func TestACertificateThatIsNotTrustedOrForAnotherHostIsFatal(t *testing.T) {
	t.Parallel()
	cert, roots := certificate(t, "elsewhere.example")
	for name, cfg := range map[string]*tls.Config{
		"not trusted":  {MinVersion: tls.VersionTLS12},
		"another host": {MinVersion: tls.VersionTLS12, RootCAs: roots},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peer := tlsPeer(t, cert, &names{})
			c := config(newLog(), "amqps://"+peer.Addr)
			c.TLS = cfg
			_, err := reconnect.Open(limited(t), c)
			wantText(t, err, peer.Addr+": tls: ")
			if !reconnect.IsFatal(err) {
				t.Errorf("%v is not fatal", err)
			}
		})
	}
}

func TestAPlainURLToATLSPortSaysSo(t *testing.T) {
	t.Parallel()
	// What Erlang's TLS answers (fatal, unexpected_message); Go's server only
	// hangs up, which nobody can tell from a cut.
	peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
		_, _ = io.ReadFull(c, make([]byte, 8))
		_, _ = c.Write([]byte{0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a})
	})
	_, err := reconnect.Open(limited(t), config(newLog(), peer.URL()))
	wantText(t, err, peer.Addr+": the server answers with TLS on this port: use an amqps:// url")
	if !reconnect.IsFatal(err) {
		t.Errorf("%v is not fatal", err)
	}
}

func TestATLSURLToAPlainPortSaysSo(t *testing.T) {
	t.Parallel()
	// RabbitMQ answers what is no AMQP header with one of its own.
	peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = c.Write([]byte("AMQP\x00\x00\x09\x01"))
	})
	_, err := reconnect.Open(limited(t), config(newLog(), "amqps://"+peer.Addr))
	wantText(t, err, peer.Addr+": the server does not speak TLS on this port: use an amqp:// url")
	if !reconnect.IsFatal(err) {
		t.Errorf("%v is not fatal", err)
	}
}
