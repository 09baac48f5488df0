package reconnect_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/mqkit/mqkit/reconnect"
)

func TestTLSFilesAreReadAndTheirFaultsNamed(t *testing.T) {
	t.Parallel()
	cert, _ := certificate(t, "broker.test")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile, keyFile := file("cert.pem", "CERTIFICATE", cert.Certificate[0]), file("key.pem", "PRIVATE KEY", key)

	cfg, err := reconnect.TLSFiles{CA: certFile, Cert: certFile, Key: keyFile, ServerName: "broker.test"}.Config()
	if err != nil {
		t.Fatal(err)
	}
	self, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := self.Verify(x509.VerifyOptions{Roots: cfg.RootCAs, DNSName: cfg.ServerName}); err != nil {
		t.Errorf("the authority of the file is not trusted: %v", err)
	}
	if len(cfg.Certificates) != 1 || cfg.InsecureSkipVerify {
		t.Errorf("%d certificates, insecure %v", len(cfg.Certificates), cfg.InsecureSkipVerify)
	}
	if cfg, err := (reconnect.TLSFiles{Insecure: true}).Config(); err != nil || !cfg.InsecureSkipVerify || cfg.RootCAs != nil {
		t.Errorf("insecure: %+v, %v", cfg, err)
	}

	for part, files := range map[string]reconnect.TLSFiles{
		"gone.pem":                 {CA: filepath.Join(dir, "gone.pem")},
		"holds no PEM certificate": {CA: keyFile},
		"needs both its certificate file and its key file":        {Cert: certFile},
		"client certificate needs both its certificate file and ": {Key: keyFile},
		"read tls client certificate: tls: ":                      {Cert: keyFile, Key: certFile},
	} {
		if _, err := files.Config(); err == nil {
			t.Errorf("%+v is taken", files)
		} else {
			wantText(t, err, part)
		}
	}
}
