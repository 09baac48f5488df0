package main

import (
	"context"
	"fmt"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// brokers are the nodes that the orders go to, each behind a proxy that can cut
// connections to it.
type brokers struct {
	cfg      reconnect.Config // leads to the proxies
	embedded *mqtest.Broker   // nil where AMQP_URL is used
	proxies  []*mqtest.Proxy
}

// findBrokers takes the broker of AMQP_URL, else starts one in this process.
func findBrokers(ctx context.Context, talk *talk) (_ *brokers, err error) {
	b := &brokers{}
	if b.cfg, err = reconnect.FromEnv(); err != nil {
		return nil, err
	}
	if os.Getenv(reconnect.EnvURL) == "" {
		if b.embedded, err = mqtest.Start(mqtest.Config{}); err != nil {
			return nil, fmt.Errorf("start a broker: %w", err)
		}
		b.cfg.URLs = []string{b.embedded.URL()}
		talk.line("AMQP_URL is not set: using mqtest, a broker inside this process")
	}
	if err := b.standBetween(ctx, talk); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// standBetween puts the proxies where the brokers were.
func (b *brokers) standBetween(ctx context.Context, talk *talk) error {
	// First without them: what is wrong with a broker is told best by itself.
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	pool, err := reconnect.Open(ctx, b.cfg)
	if err != nil {
		return err
	}
	pool.CloseNow()

	for i, upstream := range b.cfg.URLs {
		uri, err := amqp.ParseURI(upstream)
		if err != nil {
			return err // Open would have told
		}
		files := reconnect.TLSFiles{CA: uri.CACertFile, Cert: uri.CertFile, Key: uri.KeyFile, ServerName: uri.ServerName}
		behind := mqtest.ProxyConfig{UpstreamTLS: b.cfg.TLS}
		if files != (reconnect.TLSFiles{}) {
			if behind.UpstreamTLS, err = files.Config(); err != nil {
				return err
			}
		}
		proxy, err := mqtest.StartProxy(upstream, behind)
		if err != nil {
			return fmt.Errorf("start a proxy: %w", err)
		}
		b.proxies = append(b.proxies, proxy)
		b.cfg.URLs[i] = proxy.URL()
		talk.line(fmt.Sprintf("connections to %s:%d go through a proxy at %s, for cutting them", uri.Host, uri.Port, proxy.Addr()))
	}
	return nil
}

func (b *brokers) close() {
	for _, p := range b.proxies {
		p.Close()
	}
	if b.embedded != nil {
		b.embedded.Close()
	}
}

// openTime is how long the first connection may take.
const openTime = 15 * time.Second
