package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Certificates is a made-up authority with one server and one client that it
// vouches for, each in PEM.
type Certificates struct {
	CA         []byte
	Cert       []byte // the server's
	Key        []byte
	ClientCert []byte
	ClientKey  []byte
}

// certificateLife is longer than any test, and short enough that a set which was
// copied elsewhere is soon worthless.
const certificateLife = 24 * time.Hour

// IssueCertificates makes a new set. The server's certificate is for the given
// hosts, names or addresses; without any for 127.0.0.1, ::1 and localhost.
func IssueCertificates(hosts ...string) (*Certificates, error) {
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1", "::1", "localhost"}
	}
	now := time.Now()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial),
			Subject:      pkix.Name{CommonName: name},
			NotBefore:    now.Add(-time.Minute), // the container's clock may be behind
			NotAfter:     now.Add(certificateLife),
			KeyUsage:     x509.KeyUsageDigitalSignature,
		}
	}

	ca := template(1, "mqkit test authority")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make authority key: %w", err)
	}
	caPEM, _, err := issue(ca, ca, caKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}

	server := template(2, hosts[0])
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, host)
		}
	}
	peer := template(3, "mqkit test client")
	peer.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}

	set := &Certificates{CA: caPEM}
	if set.Cert, set.Key, err = issueNew(server, ca, caKey); err != nil {
		return nil, fmt.Errorf("make server certificate: %w", err)
	}
	if set.ClientCert, set.ClientKey, err = issueNew(peer, ca, caKey); err != nil {
		return nil, fmt.Errorf("make client certificate: %w", err)
	}
	return set, nil
}

// TLS returns the broker's side of the set, for [Options.TLS].
func (c *Certificates) TLS() *TLS { return &TLS{CA: c.CA, Cert: c.Cert, Key: c.Key} }

func issueNew(template, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (cert, key []byte, err error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return issue(template, ca, own, caKey)
}

func issue(template, ca *x509.Certificate, own, caKey *ecdsa.PrivateKey) (cert, key []byte, err error) {
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &own.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
