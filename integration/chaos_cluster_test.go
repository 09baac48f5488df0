package integration_test

import (
	"context"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/reconnect"
)

var clusterFaults = flag.Int("cluster-faults", 1, "how many faults TestClusterChaos makes")

const clusterFaultsOfRound = 8

// manners are those of a round, one after the other. Few faults are spread over many.
var manners = []manner{
	{},
	{sync: true},
	{get: true},
	{deadLetters: true},
	{get: true, sync: true},
	{sync: true, deadLetters: true},
	{get: true, deadLetters: true},
}

// TestClusterChaos breaks nodes of a cluster, and the network between them, under a quorum
// queue. The client knows all three.
func TestClusterChaos(t *testing.T) {
	t.Parallel()
	if *clusterFaults == 0 && *chaosDuration == 0 {
		t.Skip("-cluster-faults 0")
	}
	cl := cluster(t)
	if met, err := meets(cl.Nodes()[0].Version(), ">=4.3"); err != nil || !met && *clusterFaults > 1 {
		t.Fatal("-cluster-faults (CLUSTER) needs RabbitMQ 4.3: before, a cluster that was parted does not heal by itself; 0 leaves it out")
	}
	requireVersion(t, cl.Nodes()[0], ">=4.3")
	c := newChaos(t, *clusterFaults)
	all := &chaosCluster{t: t, cl: cl}
	c.urls, c.broker = cl.URLs(), cl.Nodes()[0].URL
	c.written = func() { settled(t, cl) }
	c.patient, c.overdue = 3*time.Minute, forgotten
	next, first := c.r.IntN(1000), c.r.IntN(len(manners))
	ofRound := clusterFaultsOfRound
	if *chaosDuration == 0 {
		ofRound = min(ofRound, max(1, *clusterFaults/len(manners)))
	}
	c.faults = func(r *round) (list []*mishap) {
		shapes := all.shapes(r)
		for range c.left(ofRound) {
			list = append(list, shapes[next%len(shapes)])
			next++
		}
		return list
	}
	for n := 0; c.left(1) > 0; n++ {
		c.round(manners[(first+n)%len(manners)])
	}
	t.Log(c)
	if killed := "the client's node killed"; c.seen[killed] < c.made[killed] {
		t.Errorf("of %d times that its node was killed the client has noticed %d", c.made[killed], c.seen[killed])
	}
}

// chaosCluster is three nodes.
type chaosCluster struct {
	t  *testing.T
	cl *broker.Cluster
}

func (a *chaosCluster) ok(err error) bool {
	if err != nil {
		a.t.Error(err)
	}
	return err == nil
}

// shapes are all faults. Those that take nothing from the client are there as well: a
// follower, where it is not connected.
func (a *chaosCluster) shapes(r *round) []*mishap {
	leader := func() *broker.Node {
		n, err := a.cl.Leader(a.t.Context(), r.queue)
		if err != nil {
			a.t.Fatal(err)
		}
		return n
	}
	follower := func() *broker.Node {
		list, err := a.cl.Followers(a.t.Context(), r.queue)
		if err != nil {
			a.t.Fatal(err)
		}
		return list[r.r.IntN(len(list))]
	}
	mine := func() *broker.Node { return a.at(r.pool.Status(reconnect.Publishing).Address) }
	killed := func(which func() *broker.Node) func() func() bool {
		return func() func() bool {
			n := which()
			a.ok(n.Kill(a.t.Context()))
			return func() bool { return a.start(n) }
		}
	}
	apart := func(which func() *broker.Node, d time.Duration) func() func() bool {
		return func() func() bool {
			n := which()
			a.ok(a.cl.Isolate(a.t.Context(), n))
			ended := time.After(d)
			return func() bool {
				<-ended
				a.ok(a.cl.Rejoin(a.t.Context(), n))
				return a.ok(a.cl.WaitFormed(a.t.Context()))
			}
		}
	}
	paused := func(which func() *broker.Node, d time.Duration) func() func() bool {
		return func() func() bool {
			n := which()
			a.ok(n.Pause(a.t.Context()))
			ended := time.After(d)
			return func() bool {
				<-ended
				a.ok(n.Unpause(a.t.Context()))
				return a.ok(a.cl.WaitFormed(a.t.Context()))
			}
		}
	}
	return []*mishap{
		{"leader killed", killed(leader)},
		{"leader parted from the majority for 10 s", apart(leader, 10*time.Second)},
		{"follower killed", killed(follower)},
		{"leader paused for 10 s", paused(leader, 10*time.Second)},
		{"the client's node parted for 10 s", apart(mine, 10*time.Second)},
		{"rolling restart", a.rollingRestart},
		{"leader parted from the majority for 30 s", apart(leader, 30*time.Second)},
		{"the client's node killed", killed(mine)},
	}
}

// at is the node with that address, the first if the client has none now.
func (a *chaosCluster) at(address string) *broker.Node {
	for _, n := range a.cl.Nodes() {
		if strings.Contains(n.URL(), "@"+address+"/") {
			return n
		}
	}
	return a.cl.Nodes()[0]
}

func (a *chaosCluster) start(n *broker.Node) bool {
	ctx, cancel := context.WithTimeout(a.t.Context(), launchTimeout)
	defer cancel()
	a.ok(n.Start(ctx))
	a.ok(n.WaitReady(ctx))
	return a.ok(a.cl.WaitFormed(ctx))
}

func (a *chaosCluster) rollingRestart() func() bool {
	for _, n := range a.cl.Nodes() {
		a.ok(n.Stop(a.t.Context()))
		a.start(n)
	}
	return func() bool { return true }
}
