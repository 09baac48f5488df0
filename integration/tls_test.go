package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// external turns on logins by client certificate, beside those by password.
var external = broker.Options{
	Files: []broker.File{{
		Path:    "/etc/rabbitmq/enabled_plugins",
		Content: []byte("[rabbitmq_management,rabbitmq_auth_mechanism_ssl].\n"),
	}},
	Conf: []string{
		"auth_mechanisms.1 = EXTERNAL",
		"auth_mechanisms.2 = PLAIN",
		"ssl_cert_login_from = common_name",
	},
}

// TestLoginsOverMutualTLS: RabbitMQ asks for a certificate, and takes its common name
// for the user where EXTERNAL is asked for.
func TestLoginsOverMutualTLS(t *testing.T) {
	certs, err := broker.IssueCertificates()
	if err != nil {
		t.Fatal(err)
	}
	const later = "127.0.0.1:1" // the node's address takes its place
	var environment reconnect.Config
	t.Run("from the environment", func(t *testing.T) { // which is set before anything runs beside it
		t.Setenv(reconnect.EnvURL, "amqps://"+later+"/?auth_mechanism=external")
		for name, content := range map[string][]byte{
			reconnect.EnvTLSCAFile: certs.CA, reconnect.EnvTLSCertFile: certs.ClientCert, reconnect.EnvTLSKeyFile: certs.ClientKey,
		} {
			path := filepath.Join(t.TempDir(), "file.pem")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv(name, path)
		}
		if environment, err = reconnect.FromEnv(); err != nil {
			t.Fatal(err)
		}
	})
	t.Parallel()
	opt := external
	opt.TLS = certs.TLS()
	opt.TLS.RequireClientCert = true
	node := ownNode(t, opt)
	own, err := tls.X509KeyPair(certs.ClientCert, certs.ClientKey)
	if err != nil {
		t.Fatal(err)
	}
	const user = "mqkit test client" // of the certificate
	if cn := own.Leaf.Subject.CommonName; cn != user {
		t.Fatalf("the certificate is of %q", cn)
	}
	must(t, node.AddUser(t.Context(), user, "no password is asked for"))
	must(t, node.Permit(t.Context(), "/", user, ".*", ".*", ".*"))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certs.CA)
	with := func(certificates ...tls.Certificate) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: certificates}
	}
	address, err := url.Parse(node.TLSURL())
	if err != nil {
		t.Fatal(err)
	}
	byCertificate := "amqps://" + address.Host + "/?auth_mechanism=external"

	// loggedIn publishes, and looks up at the broker who has.
	loggedIn := func(t *testing.T, cfg reconnect.Config, want string) {
		t.Helper()
		queue := uniqueName(t)
		cfg.Topology = quorum(queue).Topology
		pool, _ := open(t, cfg)
		p := newProducer(t, pool, producer.Config{})
		mustBe(t, p.Publish(t.Context(), producer.Text("x").ToQueue(queue)), producer.Confirmed)
		out := ctl(t, node, "list_connections", "user", "auth_mechanism", "ssl", "peer_cert_subject", "--no-table-headers")
		if !strings.Contains(out, want) {
			t.Errorf("the broker lists\n%s\nwant %q", out, want)
		}
	}
	refused := func(t *testing.T, cfg reconnect.Config) error {
		t.Helper()
		made := &attempts{}
		made.of(&cfg)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		pool, err := reconnect.Open(ctx, cfg)
		if err == nil {
			pool.CloseNow()
			t.Fatal("Open succeeded")
		}
		if !reconnect.IsFatal(err) || len(made.failed()) != 1 {
			t.Errorf("%v: fatal %v, after %d attempts", err, reconnect.IsFatal(err), len(made.failed()))
		}
		t.Log(err)
		return err
	}

	t.Run("a password beside the certificate", func(t *testing.T) {
		loggedIn(t, reconnect.Config{URLs: []string{node.TLSURL()}, TLS: with(own)}, "guest\tPLAIN\ttrue\tCN="+user)
	})
	t.Run("EXTERNAL", func(t *testing.T) {
		loggedIn(t, reconnect.Config{URLs: []string{byCertificate}, TLS: with(own)}, user+"\tEXTERNAL\ttrue\tCN="+user)
	})
	t.Run("EXTERNAL from the environment", func(t *testing.T) {
		environment.URLs[0] = strings.Replace(environment.URLs[0], later, address.Host, 1)
		loggedIn(t, environment, user+"\tEXTERNAL\ttrue\tCN="+user)
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run("no certificate with "+tls.VersionName(version), func(t *testing.T) {
			cfg := reconnect.Config{URLs: []string{node.TLSURL()}, TLS: with()}
			cfg.TLS.MaxVersion = version
			err := refused(t, cfg)
			if !strings.Contains(err.Error(), "the server refuses our side of TLS") {
				t.Errorf("%v", err)
			}
		})
		t.Run("a certificate of another authority with "+tls.VersionName(version), func(t *testing.T) {
			others, err := broker.IssueCertificates()
			if err != nil {
				t.Fatal(err)
			}
			other, err := tls.X509KeyPair(others.ClientCert, others.ClientKey)
			if err != nil {
				t.Fatal(err)
			}
			cfg := reconnect.Config{URLs: []string{node.TLSURL()}, TLS: with()}
			cfg.TLS.MaxVersion = version
			// Certificates would not be shown: the broker has not named their authority.
			cfg.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &other, nil }
			err = refused(t, cfg)
			if !strings.Contains(err.Error(), "the server refuses our side of TLS") {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("a broker of another authority", func(t *testing.T) {
		others, err := broker.IssueCertificates()
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(others.CA)
		other, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		cfg := reconnect.Config{URLs: []string{node.TLSURL()}, TLS: with(own)}
		cfg.TLS.RootCAs = x509.NewCertPool()
		cfg.TLS.RootCAs.AddCert(other)
		var unknown *tls.CertificateVerificationError
		if err := refused(t, cfg); !errors.As(err, &unknown) {
			t.Errorf("%v", err)
		}
	})
	t.Run("EXTERNAL without TLS", func(t *testing.T) {
		err := refused(t, reconnect.Config{URLs: []string{node.URL() + "?auth_mechanism=external"}})
		if !strings.Contains(err.Error(), "does not offer the login mechanism EXTERNAL") {
			t.Errorf("%v", err)
		}
	})
	t.Run("EXTERNAL of a user that is not there", func(t *testing.T) {
		must(t, node.DeleteUser(t.Context(), user))
		err := refused(t, reconnect.Config{URLs: []string{byCertificate}, TLS: with(own)})
		var word *reconnect.BrokerError
		if !errors.As(err, &word) || word.Code != 403 || !strings.Contains(word.Text, "EXTERNAL") {
			t.Errorf("%v", err)
		}
	})
}
