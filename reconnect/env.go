package reconnect

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// The environment that FromEnv and the command-line tools read.
const (
	EnvURL           = "AMQP_URL"             // one or more URLs, separated by commas
	EnvPassword      = "AMQP_PASSWORD"        // used instead of the password in the URLs
	EnvTLSCAFile     = "AMQP_TLS_CA_FILE"     // PEM file of certificate authorities
	EnvTLSCertFile   = "AMQP_TLS_CERT_FILE"   // PEM file of the client certificate
	EnvTLSKeyFile    = "AMQP_TLS_KEY_FILE"    // PEM file of its key
	EnvTLSServerName = "AMQP_TLS_SERVER_NAME" // expected in the server's certificate
)

// FromEnv returns a Config from the environment: AMQP_URL, AMQP_PASSWORD and the
// AMQP_TLS_ variables. What is not set keeps its default, so an empty
// environment is RabbitMQ on the local machine. A client certificate is shown to
// every broker that asks for one; to log in with it, without a password, the URL says
// so: amqps://host/?auth_mechanism=external. The error wraps ErrConfig.
func FromEnv() (Config, error) {
	var cfg Config
	for u := range strings.SplitSeq(os.Getenv(EnvURL), ",") {
		if u = strings.TrimSpace(u); u != "" {
			cfg.URLs = append(cfg.URLs, u)
		}
	}
	if password := os.Getenv(EnvPassword); password != "" {
		if len(cfg.URLs) == 0 {
			cfg.URLs = []string{defaultURL}
		}
		urls, err := WithPassword(cfg.URLs, "", password)
		if err != nil {
			return Config{}, fmt.Errorf("%w: %s: %w", ErrConfig, EnvURL, err)
		}
		cfg.URLs = urls
	}
	files := TLSFiles{
		CA:         os.Getenv(EnvTLSCAFile),
		Cert:       os.Getenv(EnvTLSCertFile),
		Key:        os.Getenv(EnvTLSKeyFile),
		ServerName: os.Getenv(EnvTLSServerName),
	}
	if files != (TLSFiles{}) {
		t, err := files.Config()
		if err != nil {
			return Config{}, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		cfg.TLS = t
	}
	// Told here, where the variable's name can be named.
	if _, _, err := cfg.withDefaults(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", EnvURL, err)
	}
	return cfg, nil
}

// WithPassword returns urls with another user (unless empty) and password. Its
// error repeats no part of a URL.
func WithPassword(urls []string, user, password string) ([]string, error) {
	out := make([]string, len(urls))
	for i, s := range urls {
		if _, err := parseURL(s); err != nil {
			return nil, fmt.Errorf("url %d: %w", i+1, err)
		}
		u, err := url.Parse(s)
		if err != nil {
			return nil, errors.New("cannot be parsed") // parseURL would have said so
		}
		name := user
		if name == "" {
			name = u.User.Username()
		}
		if name == "" {
			name = "guest"
		}
		u.User = url.UserPassword(name, password)
		out[i] = u.String()
	}
	return out, nil
}
