package broker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
)

// engine is the container engine of this machine, as far as nodes need it.
type engine struct {
	client client.APIClient
	host   string     // where published ports are reached
	bind   netip.Addr // where they are bound
}

// theEngine connects to the container engine on first use. Its outcome is kept for
// the whole process: testcontainers keeps its own as well.
var theEngine = sync.OnceValues(connect)

// connectTimeout bounds the first contact with an engine. A socket that nobody
// serves fails at once; this is for a remote one.
const connectTimeout = 20 * time.Second

func connect() (*engine, error) {
	// The reaper is a second image to pull, and privileged. What it is for, sweep
	// does. Testcontainers reads the variable once, so it is set before anything else.
	if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
		return nil, fmt.Errorf("set TESTCONTAINERS_RYUK_DISABLED: %w", err)
	}
	// Connecting prints a paragraph about the engine to whatever is the default.
	tclog.SetDefault(tclog.NewNoopLogger())

	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	generic, err := testcontainers.ProviderDefault.GetProvider()
	if err != nil {
		return nil, fmt.Errorf("%w: no container engine and no AMQP_URL: %w", ErrUnavailable, err)
	}
	provider, ok := generic.(*testcontainers.DockerProvider)
	if !ok {
		return nil, fmt.Errorf("%w: container provider %T has no docker client", ErrUnavailable, generic)
	}
	if err := provider.Health(ctx); err != nil {
		return nil, fmt.Errorf("%w: no container engine and no AMQP_URL: %w", ErrUnavailable, err)
	}
	host, err := publishedHost(ctx, provider)
	if err != nil {
		return nil, fmt.Errorf("find the host of published ports: %w", err)
	}
	e := &engine{client: provider.Client(), host: host, bind: netip.IPv4Unspecified()}
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsLoopback() {
		e.bind = addr
	}
	return e, nil
}

// publishedHost returns the address at which published ports are reached.
//
// Testcontainers takes a machine with a /.dockerenv for a container beside its
// own, and answers with a gateway, where nothing bound to the loopback listens.
// That is right for a container which was given its host's socket, and wrong where
// the engine runs inside the same container. The two differ in who has the
// engine's bridge among its interfaces.
func publishedHost(ctx context.Context, provider *testcontainers.DockerProvider) (string, error) {
	const loopback = "127.0.0.1"
	if _, chosen := os.LookupEnv("TESTCONTAINERS_HOST_OVERRIDE"); !chosen && hasBridge(ctx, provider.Client()) {
		return loopback, nil
	}
	host, err := provider.DaemonHost(ctx)
	if err != nil {
		return "", err
	}
	if host == "localhost" {
		return loopback, nil // it may mean ::1 first, where nothing is bound
	}
	return host, nil
}

// hasBridge reports whether the default bridge of an engine on a local socket is
// an interface of this machine.
func hasBridge(ctx context.Context, api client.APIClient) bool {
	daemon, err := url.Parse(api.DaemonHost())
	if err != nil || daemon.Scheme != "unix" {
		return false
	}
	inspected, err := api.NetworkInspect(ctx, testcontainers.Bridge, client.NetworkInspectOptions{})
	if err != nil {
		return false
	}
	bridge, err := net.InterfaceByName(inspected.Network.Options["com.docker.network.bridge.name"])
	if err != nil {
		return false
	}
	addrs, err := bridge.Addrs()
	if err != nil {
		return false
	}
	for _, subnet := range inspected.Network.IPAM.Config {
		for _, addr := range addrs {
			if prefix, err := netip.ParsePrefix(addr.String()); err == nil && subnet.Subnet.Contains(prefix.Addr()) {
				return true
			}
		}
	}
	return false
}
