package broker

import (
	"errors"
	"maps"
	"slices"
)

var (
	// ErrUnavailable is returned, wrapped with the reason, when there is no broker
	// to be had here: no container engine and no AMQP_URL, or an image that is
	// neither present nor can be pulled. Tests skip on it.
	ErrUnavailable = errors.New("no broker available")

	// ErrNoControl is returned by every method that needs a container when the
	// node is a broker named by AMQP_URL.
	ErrNoControl = errors.New("the broker of AMQP_URL is not under control of the tests")
)

// Options say how a node is to be set up. The zero value is a plain node.
type Options struct {
	// Image is the container image. Defaults to the choice described in the
	// package documentation.
	Image string

	// Conf holds extra lines of rabbitmq.conf, which win over the image's own.
	// Defaults to none.
	Conf []string

	// Files are copied into the container before its first start. Defaults to none.
	Files []File

	// Env is set in the container. Defaults to none.
	Env map[string]string

	// TLS, when set, adds an AMQPS listener; see [Node.TLSURL]. Defaults to none.
	TLS *TLS
}

// File is a file that the container starts with.
type File struct {
	Path    string // absolute path in the container
	Content []byte
	Mode    int64 // permission bits; defaults to 0o644: the broker does not run as root
}

// TLS is what an AMQPS listener needs, each in PEM. [IssueCertificates] makes a set.
type TLS struct {
	CA   []byte // authorities that client certificates are checked against
	Cert []byte // the server's certificate, with its chain
	Key  []byte // the server's private key

	// RequireClientCert makes the broker refuse clients without a certificate of CA.
	// Defaults to false: a client certificate is neither asked for nor checked.
	RequireClientCert bool
}

const (
	confPath = "/etc/rabbitmq/conf.d/90-mqkit.conf"
	tlsDir   = "/etc/rabbitmq/mqkit-tls/"
)

// clone copies what launching a node adds to, so that the caller's Options can be
// used for several nodes.
func (o Options) clone() Options {
	o.Conf = slices.Clone(o.Conf)
	o.Files = slices.Clone(o.Files)
	o.Env = maps.Clone(o.Env)
	if o.Env == nil {
		o.Env = map[string]string{}
	}
	return o
}

// files returns everything to copy into the container: the caller's files, the
// certificates, and the configuration that ties them in.
func (o Options) files() []File {
	// The images say so themselves; one named by RABBITMQ_IMAGE may not.
	conf := []string{"loopback_users.guest = false"}
	files := slices.Clone(o.Files)
	if o.TLS != nil {
		files = append(files,
			File{Path: tlsDir + "ca.pem", Content: o.TLS.CA},
			File{Path: tlsDir + "cert.pem", Content: o.TLS.Cert},
			File{Path: tlsDir + "key.pem", Content: o.TLS.Key},
		)
		conf = append(conf,
			"listeners.ssl.default = 5671",
			"ssl_options.cacertfile = "+tlsDir+"ca.pem",
			"ssl_options.certfile = "+tlsDir+"cert.pem",
			"ssl_options.keyfile = "+tlsDir+"key.pem",
		)
		if o.TLS.RequireClientCert {
			conf = append(conf, "ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = true")
		} else {
			conf = append(conf, "ssl_options.verify = verify_none", "ssl_options.fail_if_no_peer_cert = false")
		}
	}
	conf = append(conf, o.Conf...)

	var content []byte
	for _, line := range conf {
		content = append(append(content, line...), '\n')
	}
	return append(files, File{Path: confPath, Content: content})
}
