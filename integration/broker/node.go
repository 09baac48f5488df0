package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
)

// The ports that a node listens on inside its container.
const (
	amqpPort       = 5672
	amqpsPort      = 5671
	managementPort = 15672
)

// Node is a RabbitMQ node: a container of this package, or the broker that
// AMQP_URL names.
type Node struct {
	engine *engine // nil for AMQP_URL
	id     string  // the container
	image  string
	host   string // its hostname, which its data belong to
	ports  map[int]int
	url    string

	mu      sync.Mutex // guards what follows; held for no call to engine or broker
	version string
	closed  bool
}

// Find returns the broker of AMQP_URL, ready; else a node of its own as [Launch]
// does. Options are for a container: with AMQP_URL they are not looked at.
func Find(ctx context.Context, opt Options) (*Node, error) {
	url := os.Getenv("AMQP_URL")
	if url == "" {
		return Launch(ctx, opt)
	}
	n := &Node{url: url}
	if err := n.WaitReady(ctx); err != nil {
		return nil, fmt.Errorf("use the broker of AMQP_URL: %w", err)
	}
	return n, nil
}

// Launch starts a node in a container and returns it ready for AMQP. The caller
// closes it. Without an engine or an image the error is [ErrUnavailable].
func Launch(ctx context.Context, opt Options) (*Node, error) {
	e, image, err := prepare(ctx, opt)
	if err != nil {
		return nil, err
	}
	name := "mqkit-" + randomName()
	n, err := e.launch(ctx, spec{image: image, name: name, host: name, options: opt})
	if err != nil {
		return nil, err
	}
	if err := n.WaitReady(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("launch a node of %s: %w", image, err), n.discard(ctx))
	}
	return n, nil
}

// prepare finds the engine and the image, and clears away what dead processes left.
func prepare(ctx context.Context, opt Options) (*engine, string, error) {
	e, err := theEngine()
	if err != nil {
		return nil, "", err
	}
	image, err := e.image(ctx, opt.Image)
	if err != nil {
		return nil, "", err
	}
	e.sweepOnce(ctx)
	return e, image, nil
}

// spec is one container to launch.
type spec struct {
	image    string
	name     string // of the container, for people
	host     string // part of the node's name
	options  Options
	networks []string // names; the first carries the published ports. Defaults to the engine's bridge
	alias    string   // the node's name on the last of the networks
}

// launch creates and starts a container, with ports tried again where another
// process was faster. It does not wait for the broker in it.
func (e *engine) launch(ctx context.Context, s spec) (*Node, error) {
	const attempts = 5 // each new draw from ten thousand ports
	for attempt := 1; ; attempt++ {
		n, err := e.launchOnce(ctx, s)
		if err == nil {
			return n, nil
		}
		if attempt == attempts || !isPortConflict(err) {
			return nil, fmt.Errorf("launch a container of %s: %w", s.image, err)
		}
	}
}

func (e *engine) launchOnce(ctx context.Context, s spec) (_ *Node, err error) {
	opt := s.options.clone()
	n := &Node{engine: e, image: s.image, host: s.host, ports: map[int]int{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.discard(ctx))
		}
	}()

	inside := []int{amqpPort, managementPort}
	if opt.TLS != nil {
		inside = append(inside, amqpsPort)
	}
	exposed := make([]string, 0, len(inside))
	bindings := network.PortMap{}
	for _, port := range inside {
		if n.ports[port], err = takePort(e.bind); err != nil {
			return nil, err
		}
		name := strconv.Itoa(port) + "/tcp"
		exposed = append(exposed, name)
		bindings[network.MustParsePort(name)] = []network.PortBinding{{
			HostIP:   e.bind,
			HostPort: strconv.Itoa(n.ports[port]),
		}}
	}
	n.url = "amqp://guest:guest@" + n.addr(amqpPort) + "/"

	req := testcontainers.ContainerRequest{
		Image:          s.image,
		Name:           s.name,
		Env:            opt.Env,
		ExposedPorts:   exposed,
		Labels:         labels(),
		Networks:       s.networks,
		ConfigModifier: func(c *container.Config) { c.Hostname = s.host },
		HostConfigModifier: func(h *container.HostConfig) {
			init := true
			h.Init = &init // or a stop takes the full ten seconds
			h.PortBindings = bindings
			// As in the official image: what the broker writes does not go through the
			// engine's layers of files.
			h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeVolume, Target: "/var/lib/rabbitmq"})
		},
	}
	if s.alias != "" {
		req.NetworkAliases = map[string][]string{s.networks[len(s.networks)-1]: {s.alias}}
	}
	for _, f := range opt.files() {
		if f.Mode == 0 {
			f.Mode = 0o644
		}
		req.Files = append(req.Files, testcontainers.ContainerFile{
			Reader:            strings.NewReader(string(f.Content)),
			ContainerFilePath: f.Path,
			FileMode:          f.Mode,
		})
	}
	created, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: req,
		Logger:           tclog.NewNoopLogger(),
	})
	if c, ok := created.(*testcontainers.DockerContainer); ok && c != nil {
		n.id = c.ID
	}
	if err != nil {
		return nil, err
	}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// isPortConflict knows the engines' texts; there is no type for it.
func isPortConflict(err error) bool {
	text := err.Error()
	return strings.Contains(text, "port is already allocated") || strings.Contains(text, "address already in use")
}

// URL returns the node's AMQP address as guest, on the vhost "/".
func (n *Node) URL() string { return n.url }

// TLSURL returns the node's AMQPS address, or "" where [Options.TLS] was not set.
func (n *Node) TLSURL() string {
	if n.ports[amqpsPort] == 0 {
		return ""
	}
	return "amqps://guest:guest@" + n.addr(amqpsPort) + "/"
}

// ManagementURL returns the address of the management API, without a path and
// without credentials (guest, guest), or "" for the broker of AMQP_URL.
func (n *Node) ManagementURL() string {
	if n.engine == nil {
		return ""
	}
	return "http://" + n.addr(managementPort)
}

// Name returns the Erlang node name, such as rabbit@rabbit1, or "" for the broker
// of AMQP_URL.
func (n *Node) Name() string {
	if n.engine == nil {
		return ""
	}
	return "rabbit@" + n.host
}

// Version returns what the broker called itself when it was last found ready, such
// as 4.3.6.
func (n *Node) Version() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version
}

// Image returns the image that the node runs, or "" for the broker of AMQP_URL.
func (n *Node) Image() string { return n.image }

// Controlled reports whether the node can be killed, stopped and asked: whether it
// is a container of this package.
func (n *Node) Controlled() bool { return n.engine != nil }

// IP returns the container's own address on the network that carries its published
// ports. Connecting to it goes around the engine's port proxy, which costs a copy
// of every byte and hides whether a peer reset or closed. It changes with a restart,
// and only Linux routes to it.
func (n *Node) IP(ctx context.Context) (netip.Addr, error) {
	state, err := n.inspect(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, endpoint := range state.NetworkSettings.Networks {
		if endpoint.IPAddress.IsValid() && endpoint.Gateway.IsValid() {
			return endpoint.IPAddress, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("find the address of %s: it has none", n.host)
}

// Close removes the container and its volumes, running or not. It is idempotent,
// and does nothing to the broker of AMQP_URL.
func (n *Node) Close(ctx context.Context) error {
	if n.engine == nil {
		return nil
	}
	n.mu.Lock()
	closed := n.closed
	n.closed = true
	n.mu.Unlock()
	if closed {
		return nil
	}
	for _, port := range n.ports {
		givePort(port)
	}
	if n.id == "" {
		return nil
	}
	defer n.engine.client.Close() // idle connections only
	_, err := n.engine.client.ContainerRemove(ctx, n.id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove container of %s: %w", n.host, err)
	}
	return nil
}

// discardTimeout bounds the removal of a container that did not come up.
const discardTimeout = 30 * time.Second

// discard closes a node whose launch failed, also when that was because of ctx.
func (n *Node) discard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	return n.Close(ctx)
}

func (n *Node) addr(inside int) string {
	return net.JoinHostPort(n.engine.host, strconv.Itoa(n.ports[inside]))
}

func randomName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
