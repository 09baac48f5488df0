package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
)

// ClusterSize is the number of nodes of a [Cluster]: the least that has a majority
// without one of them.
const ClusterSize = 3

// Cluster is three nodes that found each other by classic_config peer discovery.
//
// Its nodes talk to each other on a network of their own. Their published ports are
// on the engine's default bridge, which resolves no names, so that a partition cuts
// off the other nodes and not the clients.
type Cluster struct {
	engine *engine
	nodes  []*Node
	back   string // the network between the nodes
}

// LaunchCluster starts a cluster and returns it formed and ready for AMQP on every
// node. Options hold for each node. The caller closes it. Without an engine or an
// image the error is [ErrUnavailable].
func LaunchCluster(ctx context.Context, opt Options) (_ *Cluster, err error) {
	e, image, err := prepare(ctx, opt)
	if err != nil {
		return nil, err
	}
	c := &Cluster{engine: e}
	defer func() {
		if err != nil {
			closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
			defer cancel()
			err = errors.Join(fmt.Errorf("launch a cluster of %s: %w", image, err), c.Close(closeCtx))
		}
	}()

	// An internal network is never the default route: the published ports stay on
	// the bridge whatever this one is called.
	back, err := tcnetwork.New(ctx, tcnetwork.WithLabels(labels()), tcnetwork.WithInternal())
	if err != nil {
		return nil, err
	}
	c.back = back.Name

	opt = opt.clone()
	if opt.Env["RABBITMQ_ERLANG_COOKIE"] == "" {
		opt.Env["RABBITMQ_ERLANG_COOKIE"] = randomName() + randomName()
	}
	discovery := []string{"cluster_formation.peer_discovery_backend = classic_config"}
	for i := range ClusterSize {
		discovery = append(discovery, fmt.Sprintf("cluster_formation.classic_config.nodes.%d = rabbit@%s", i+1, clusterHost(i)))
	}
	opt.Conf = append(discovery, opt.Conf...)

	// At the same time: the first two of them wait for each other.
	prefix := "mqkit-" + randomName() + "-"
	nodes, errs := make([]*Node, ClusterSize), make([]error, ClusterSize)
	var wg sync.WaitGroup
	for i := range ClusterSize {
		wg.Go(func() {
			nodes[i], errs[i] = e.launch(ctx, spec{
				image: image, name: prefix + clusterHost(i), host: clusterHost(i), options: opt,
				networks: []string{testcontainers.Bridge, c.back}, alias: clusterHost(i),
			})
		})
	}
	wg.Wait()
	for _, n := range nodes {
		if n != nil {
			c.nodes = append(c.nodes, n)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := c.WaitFormed(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func clusterHost(i int) string { return fmt.Sprintf("rabbit%d", i+1) }

// Nodes returns the nodes in the order of their names, whether they run or not.
func (c *Cluster) Nodes() []*Node { return slices.Clone(c.nodes) }

// URLs returns the AMQP addresses in the order of [Cluster.Nodes].
func (c *Cluster) URLs() []string {
	urls := make([]string, 0, len(c.nodes))
	for _, n := range c.nodes {
		urls = append(urls, n.URL())
	}
	return urls
}

// Version returns the version of the first node.
func (c *Cluster) Version() string { return c.nodes[0].Version() }

// WaitFormed returns nil once every node takes AMQP connections and sees all
// others running. Use it after a fault was healed, too. It is bounded like
// [Node.WaitReady].
func (c *Cluster) WaitFormed(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("waited %s", readyTimeout))
	defer cancel()
	return c.each(func(n *Node) error {
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
		var seen []string
		err := poll(ctx, 500*time.Millisecond, func() (bool, error) {
			out, err := n.Eval(ctx, runningQuery)
			if err != nil {
				return false, transient(ctx, err)
			}
			seen = atom.FindAllString(out, -1)
			return len(seen) == len(c.nodes), nil
		})
		if err != nil {
			return fmt.Errorf("wait until %s sees %d nodes (it sees %s): %w", n.Name(), len(c.nodes), strings.Join(seen, ", "), err)
		}
		return nil
	})
}

// runningQuery is what cluster_status calls running nodes, from 4.0 on and before.
const runningQuery = `case erlang:function_exported(rabbit_nodes, list_running, 0) of
	true -> rabbit_nodes:list_running();
	false -> rabbit_nodes:all_running()
end.`

// SyncQueues is [Node.SyncQueues] for every node.
func (c *Cluster) SyncQueues(ctx context.Context) error {
	return c.each(func(n *Node) error { return n.SyncQueues(ctx) })
}

// Isolate cuts the node off from the others; clients still reach it. The others
// notice it by silence: quorum queues after some seconds, the cluster after the
// net tick time (60 s unless Options.Conf says otherwise). After that a cluster of
// 4.0 or older, which keeps its metadata in Mnesia, does not heal by itself; see
// cluster_partition_handling.
func (c *Cluster) Isolate(ctx context.Context, n *Node) error {
	defer c.engine.client.Close() // idle connections only
	_, err := c.engine.client.NetworkDisconnect(ctx, c.back, client.NetworkDisconnectOptions{Container: n.id, Force: true})
	if err != nil {
		return fmt.Errorf("isolate %s: %w", n.Name(), err)
	}
	return nil
}

// Rejoin ends what [Cluster.Isolate] began. It does not wait; see [Cluster.WaitFormed].
func (c *Cluster) Rejoin(ctx context.Context, n *Node) error {
	defer c.engine.client.Close() // idle connections only
	_, err := c.engine.client.NetworkConnect(ctx, c.back, client.NetworkConnectOptions{
		Container:      n.id,
		EndpointConfig: &network.EndpointSettings{Aliases: []string{n.host}},
	})
	if err != nil {
		return fmt.Errorf("rejoin %s: %w", n.Name(), err)
	}
	return nil
}

// Close removes the nodes with their volumes, and their network. It is idempotent.
func (c *Cluster) Close(ctx context.Context) error {
	errs := []error{c.each(func(n *Node) error { return n.Close(ctx) })}
	defer c.engine.client.Close() // idle connections only
	if c.back != "" {
		_, err := c.engine.client.NetworkRemove(ctx, c.back, client.NetworkRemoveOptions{})
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove network %s: %w", c.back, err))
		}
	}
	return errors.Join(errs...)
}

// each runs do for all nodes at the same time and joins their errors.
func (c *Cluster) each(do func(*Node) error) error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// transient returns nil for a failure that asking again may cure: the program ran
// and did not like what it found, as it does while nodes come and go.
func transient(ctx context.Context, err error) error {
	var exit *ExecError
	if ctx.Err() == nil && errors.As(err, &exit) {
		return nil
	}
	return err
}
