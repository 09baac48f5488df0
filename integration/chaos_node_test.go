package integration_test

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/mqtest"
)

var chaosFaults = flag.Int("faults", 10, "how many faults TestChaos makes")

const (
	faultsOfRound = 20

	// These slow a connection down: it may well go on without a second's silence.
	late   = "each frame late, by another time"
	sliced = "frames in slices"
)

// TestChaos breaks a connection, a proxy in front of RabbitMQ, its node, or what it has.
func TestChaos(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	const user, password = "chaos", "sesame"
	one := &chaosNode{t: t, node: node, user: user, password: password}
	one.createUser()
	one.proxy = mqtest.NewProxy(t, as(t, node.URL(), user, password, "/"), mqtest.ProxyConfig{Journal: 1}) // its end is no use here
	c := newChaos(t, *chaosFaults)
	c.urls, c.broker = []string{one.proxy.URL()}, node.URL
	c.written = func() { settled(t, node) }
	c.faults = func(r *round) (list []*mishap) {
		for range c.left(faultsOfRound) {
			list = append(list, one.fault(r))
		}
		return list
	}
	for c.left(1) > 0 {
		c.round(manner{})
	}
	t.Log(c)
	made := sum(c.made) - c.made[late] - c.made[sliced]
	if seen := sum(c.seen) - c.seen[late] - c.seen[sliced]; seen < made*8/10 {
		t.Errorf("of %d faults the client has noticed %d", made, seen)
	}
}

// chaosNode is a node behind a proxy.
type chaosNode struct {
	t              *testing.T
	node           *broker.Node
	proxy          *mqtest.Proxy
	user, password string
}

func (n *chaosNode) ctl(args ...string) {
	if _, err := n.node.Ctl(n.t.Context(), args...); err != nil {
		n.t.Errorf("%v: %v", args, err)
	}
}

func (n *chaosNode) createUser() {
	n.ok(n.node.AddUser(n.t.Context(), n.user, n.password))
	n.permit()
}

func (n *chaosNode) permit() { n.ok(n.node.Permit(n.t.Context(), "/", n.user, ".*", ".*", ".*")) }

// ok takes the error of a step.
func (n *chaosNode) ok(err error) {
	if err != nil {
		n.t.Error(err)
	}
}

// struck is a fault on the wire, in one of the places that there are plenty of.
func (n *chaosNode) struck(r *rand.Rand, name string, do mqtest.Action, times int) *mishap {
	at := []mqtest.Fault{
		{Point: mqtest.Received, Method: "basic.publish"},
		{Point: mqtest.Applied, Method: "basic.publish"},
		{Point: mqtest.Received, Method: "basic.ack"},
		{Point: mqtest.Sending, Method: "basic.ack"},
		{Point: mqtest.Sending, Method: "basic.deliver"},
	}
	f := at[r.IntN(len(at))]
	f.Skip, f.Count, f.Do = r.IntN(50), times, do
	return &mishap{name, func() func() bool {
		fault := n.proxy.Inject(f)
		return func() bool {
			fault.Remove()
			return fault.Hits() > 0
		}
	}}
}

// fault chooses one.
func (n *chaosNode) fault(r *round) *mishap {
	none := func() bool { return true }
	ends := func(end func()) func() bool { return func() bool { end(); return true } }
	cut := func() func() bool {
		n := n.proxy.DropConnections()
		return func() bool { return n > 0 }
	}
	moment := func(most time.Duration) { pause(n.t.Context(), time.Duration(r.r.Int64N(int64(most)))) }
	switch k := r.r.IntN(100); {
	case k < 16:
		return &mishap{"all connections cut", cut}
	case k < 30:
		return n.struck(r.r, "cut at a frame", mqtest.Cut(), 1)
	case k < 42:
		return n.struck(r.r, "cut inside a frame", mqtest.CutInside(1+r.r.IntN(60)), 1)
	case k < 46:
		return n.struck(r.r, "reset", mqtest.Reset(), 1)
	case k < 49:
		return &mishap{"half-open", func() func() bool {
			n := n.proxy.Stall()
			return func() bool { return n > 0 }
		}}
	case k < 51:
		return n.struck(r.r, "nothing more is read", mqtest.StopReading(), 1)
	case k < 53:
		return n.struck(r.r, "nothing more is sent", mqtest.StopSending(), 1)
	case k < 56:
		return n.struck(r.r, late, mqtest.Delay(time.Duration(1+r.r.IntN(30))*time.Millisecond), 200)
	case k < 59:
		return n.struck(r.r, sliced, mqtest.Trickle(1+r.r.IntN(7), time.Millisecond), 100)
	case k < 62:
		return &mishap{"cut, and next to no bandwidth for the next subscription", func() func() bool {
			slow := n.proxy.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.consume", Do: mqtest.Trickle(1, 5*time.Millisecond)})
			cut()
			return func() bool {
				slow.Remove()
				return slow.Hits() > 0
			}
		}}
	case k < 69:
		return &mishap{"refused for a while", func() func() bool {
			n.proxy.RefuseConnections()
			cut()
			return ends(func() {
				moment(time.Second)
				n.ok(n.proxy.AcceptConnections())
			})
		}}
	case k < 74:
		return &mishap{"closed by the operator", func() func() bool { n.ok(n.node.CloseConnections(n.t.Context(), "chaos")); return none }}
	case k < 78:
		return &mishap{"memory alarm", func() func() bool {
			n.ok(n.node.Block(n.t.Context()))
			return ends(func() { n.ok(n.node.Unblock(n.t.Context())) })
		}}
	case k < 81:
		return &mishap{"disk alarm", func() func() bool {
			n.ctl("set_disk_free_limit", "10000GB")
			return ends(func() { n.ctl("set_disk_free_limit", "1MB") })
		}}
	case k < 84:
		return &mishap{"node paused", func() func() bool {
			n.ok(n.node.Pause(n.t.Context()))
			return ends(func() { n.ok(n.node.Unpause(n.t.Context())) })
		}}
	case k < 87:
		return &mishap{"node killed", func() func() bool {
			n.ok(n.node.Kill(n.t.Context()))
			return ends(func() {
				n.ok(n.node.Start(n.t.Context()))
				n.ok(n.node.WaitReady(n.t.Context()))
			})
		}}
	case k < 90:
		return &mishap{"user deleted and created again", func() func() bool { n.ok(n.node.DeleteUser(n.t.Context(), n.user)); return ends(n.createUser) }}
	case k < 93:
		return &mishap{"permissions revoked and given back", func() func() bool {
			n.ok(n.node.Forbid(n.t.Context(), "/", n.user))
			n.ok(n.node.CloseConnections(n.t.Context(), "chaos"))
			return ends(n.permit)
		}}
	case k < 97:
		return &mishap{"queue deleted", func() func() bool {
			_, ch := dial(n.t, n.node.URL())
			_, err := ch.QueueDelete(r.side, false, false, false)
			n.ok(err)
			return none
		}}
	default:
		return &mishap{"exchange deleted", func() func() bool {
			_, ch := dial(n.t, n.node.URL())
			n.ok(ch.ExchangeDelete(r.exchange, false, false))
			return none
		}}
	}
}
