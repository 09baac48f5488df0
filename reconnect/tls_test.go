package reconnect_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// certificate is one for names and addresses that signs itself, and a pool that
// trusts it.
func certificate(t *testing.T, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	return certificateOf(t, "", names...)
}

// certificateOf is one with a common name as well.
func certificateOf(t *testing.T, commonName string, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: commonName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
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
	mu   sync.Mutex // guards what follows
	seen []string
}

func (n *names) add(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, s)
}

func (n *names) list() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen)
}

// newTLSFixture is one on a port with TLS.
func newTLSFixture(t *testing.T, cert tls.Certificate, asked *names) *fixture {
	t.Helper()
	return newPortFixture(t, mqtest.Config{TLS: &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			asked.add(h.ServerName)
			return &cert, nil
		},
	}})
}

func TestTLSNamesTheHostOfEachAddressAndLeavesTheCallersConfigAlone(t *testing.T) {
	t.Parallel()
	cert, roots := certificate(t, "127.0.0.1", "localhost")
	asked := &names{}
	f := newTLSFixture(t, cert, asked)
	_, port, err := net.SplitHostPort(f.broker.Addr())
	if err != nil {
		t.Fatal(err)
	}
	// What is asked for by SNI at an address: another address is never sent.
	want := map[string]string{net.JoinHostPort("localhost", port): "localhost", net.JoinHostPort("127.0.0.1", port): ""}
	var urls []string
	for address := range want {
		urls = append(urls, "amqps://app:"+secret+"@"+address)
	}
	callers := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	cfg := f.config(urls...)
	cfg.TLS = callers
	open(t, cfg)
	seen := map[string]bool{}
	for n := 0; len(seen) < 2; n++ { // their order is random
		at := f.await(t, reconnect.Connected).Address
		seen[at] = true
		if name := asked.list()[n]; name != want[at] {
			t.Errorf("asked for %q at %s, want %q", name, at, want[at])
		}
		f.broker.DropConnections()
	}
	if callers.ServerName != "" {
		t.Errorf("the caller's ServerName became %q", callers.ServerName)
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
			asked := &names{}
			f := newTLSFixture(t, cert, asked)
			c := f.config()
			c.TLS = cfg
			_, err := reconnect.Open(limited(t), c)
			wantText(t, err, f.broker.Addr()+": tls: ")
			if !reconnect.IsFatal(err) {
				t.Errorf("%v is not fatal", err)
			}
			if n := len(asked.list()); n != 1 {
				t.Errorf("the certificate was shown %d times", n)
			}
		})
	}
}

func TestAPlainURLToATLSPortSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		// What Erlang's TLS answers (fatal, unexpected_message); Go's server only
		// hangs up, which nobody can tell from a cut.
		alert := []byte{0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a}
		f := newFixture(t)
		said := f.broker.Inject(mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.SendRaw(alert).Then(mqtest.Cut())})
		_, err := reconnect.Open(limited(t), f.config())
		wantText(t, err, f.broker.Addr()+": the server answers with TLS on this port: use an amqps:// url")
		if !reconnect.IsFatal(err) {
			t.Errorf("%v is not fatal", err)
		}
		f.struck(said)
	})
}

// TestATLSURLToAPlainPortSaysSo: RabbitMQ answers what is no AMQP header with one
// of its own.
func TestATLSURLToAPlainPortSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		_, err := reconnect.Open(limited(t), f.config("amqps://"+f.broker.Addr()))
		wantText(t, err, f.broker.Addr()+": the server does not speak TLS on this port: use an amqp:// url")
		if !reconnect.IsFatal(err) {
			t.Errorf("%v is not fatal", err)
		}
		var answered string
		for _, r := range f.broker.Journal().Records() {
			if r.Kind == mqtest.ToClient {
				answered += string(r.Frame)
			}
		}
		if !strings.HasPrefix(answered, "AMQP") {
			t.Errorf("the broker answered %q", answered)
		}
	})
}
