package reconnect_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// mutual is a broker on a port that asks for client certificates, and knows users by
// them if they log in by EXTERNAL.
type mutual struct {
	*fixture
	roots  *x509.CertPool  // that vouch for the broker
	client tls.Certificate // of the user app

	mu     sync.Mutex // guards what follows
	shown  []string   // common names of client certificates
	logins []mqtest.Login
}

// newMutual is one that takes logins by the given mechanism only.
func newMutual(t *testing.T, mechanism string) *mutual {
	t.Helper()
	m := &mutual{}
	cert, roots := certificate(t, "127.0.0.1")
	client, authority := certificateOf(t, "app")
	m.roots, m.client = roots, client
	m.fixture = newPortFixture(t, mqtest.Config{
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority,
			VerifyConnection: func(s tls.ConnectionState) error {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.shown = append(m.shown, s.PeerCertificates[0].Subject.CommonName)
				return nil
			},
		},
		Authenticate: func(l mqtest.Login) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.logins = append(m.logins, l)
			if l.Mechanism != mechanism || m.shown[len(m.shown)-1] != "app" {
				return errors.New("who?")
			}
			return nil
		},
	})
	return m
}

// url is the broker's without user and password.
func (m *mutual) url(query string) string { return "amqps://" + m.broker.Addr() + "/" + query }

func (m *mutual) login(t *testing.T) mqtest.Login {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.logins) != 1 {
		t.Fatalf("logins %+v, want one", m.logins)
	}
	return m.logins[0]
}

// wantExternal tests that there was one login, by the certificate alone.
func (m *mutual) wantExternal(t *testing.T) {
	t.Helper()
	if l := m.login(t); l.Mechanism != "EXTERNAL" {
		t.Errorf("%+v", l)
	}
	if response := m.methods("connection.start-ok")[0].Field("response"); response != "" {
		t.Errorf("it was sent %q", response)
	}
}

// config is that of a client with a certificate.
func (m *mutual) config(query string, certificates ...tls.Certificate) reconnect.Config {
	cfg := m.fixture.config(m.url(query))
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: m.roots, Certificates: certificates}
	return cfg
}

func TestAClientCertificateIsShownToABrokerThatAsks(t *testing.T) {
	t.Parallel()
	m := newMutual(t, "PLAIN")
	p := open(t, m.config("", m.client))
	if err := acquire(t, p, reconnect.Publishing).Call(limited(t), "declare q", declare); err != nil {
		t.Error(err)
	}
	if l := m.login(t); l.Mechanism != "PLAIN" || m.shown[0] != "app" {
		t.Errorf("%s of %q", l.Mechanism, m.shown)
	}
}

// TestExternalLogsInByTheClientCertificate, and sends neither user nor password.
func TestExternalLogsInByTheClientCertificate(t *testing.T) {
	t.Parallel()
	m := newMutual(t, "EXTERNAL")
	p := open(t, m.config("?auth_mechanism=external", m.client))
	if err := acquire(t, p, reconnect.Publishing).Call(limited(t), "declare q", declare); err != nil {
		t.Error(err)
	}
	m.wantExternal(t)
}

// TestExternalIsRefusedToAnotherCertificate, which is fatal.
func TestExternalIsRefusedToAnotherCertificate(t *testing.T) {
	t.Parallel()
	m := newMutual(t, "nobody's")
	_, err := reconnect.Open(limited(t), m.config("?auth_mechanism=external", m.client))
	wantWord(t, "Open", err, 403, true, "Login was refused using authentication mechanism EXTERNAL")
	m.login(t)
}

func TestExternalThatIsNotOfferedIsFatalAndSaysWhatItNeeds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t) // without Authenticate it does not offer it
		_, err := reconnect.Open(limited(t), f.config(f.broker.URL()+"?auth_mechanism=external"))
		wantText(t, err, "the server does not offer the login mechanism EXTERNAL", "client certificate", "rabbitmq_auth_mechanism_ssl")
		if !reconnect.IsFatal(err) || hits(f.accepted) != 1 || len(f.methods("connection.start-ok")) != 0 {
			t.Errorf("fatal %v, %d attempts", reconnect.IsFatal(err), hits(f.accepted))
		}
	})
}

// TestFromEnvLogsInByExternal: with the files that AMQP_TLS_ variables name.
func TestFromEnvLogsInByExternal(t *testing.T) {
	m := newMutual(t, "EXTERNAL")
	t.Setenv(reconnect.EnvURL, m.url("?auth_mechanism=external"))
	t.Setenv(reconnect.EnvPassword, secret) // is none of this broker's business
	t.Setenv(reconnect.EnvTLSServerName, "127.0.0.1")
	key, err := x509.MarshalPKCS8PrivateKey(m.client.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		reconnect.EnvTLSCAFile:   {Type: "CERTIFICATE", Bytes: m.root(t)},
		reconnect.EnvTLSCertFile: {Type: "CERTIFICATE", Bytes: m.client.Certificate[0]},
		reconnect.EnvTLSKeyFile:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		path := filepath.Join(t.TempDir(), strings.ToLower(name)+".pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(name, path)
	}
	cfg, err := reconnect.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, cfg)
	if err := acquire(t, p, reconnect.Publishing).Call(limited(t), "declare q", declare); err != nil {
		t.Error(err)
	}
	m.wantExternal(t)
}

// root is the broker's own certificate, as the broker shows it.
func (m *mutual) root(t *testing.T) []byte {
	t.Helper()
	conn, err := tls.Dial("tcp", m.broker.Addr(), &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: m.roots, Certificates: []tls.Certificate{m.client}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Raw
}

// TestAClientCertificateThatIsMissingOrNotTrustedIsFatal: with TLS 1.3 the broker says
// so only after the handshake is done for the client.
func TestAClientCertificateThatIsMissingOrNotTrustedIsFatal(t *testing.T) {
	t.Parallel()
	other, _ := certificateOf(t, "app")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, certificates := range map[string][]tls.Certificate{"missing": nil, "not trusted": {other}} {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				t.Parallel()
				m := newMutual(t, "PLAIN")
				cfg := m.config("", certificates...)
				cfg.TLS.MaxVersion = version
				_, err := reconnect.Open(limited(t), cfg)
				wantText(t, err, m.broker.Addr()+": tls: the server refuses our side of TLS", "remote error: tls: ")
				if !reconnect.IsFatal(err) || len(m.shown) != 0 || m.accepted.Hits() != 1 {
					t.Errorf("%v: fatal %v, %q shown, %d connections", err, reconnect.IsFatal(err), m.shown, m.accepted.Hits())
				}
			})
		}
	}
}
