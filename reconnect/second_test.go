package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// consumingRun runs sessions of the second role until one is ready.
func consumingRun(t *testing.T, p *reconnect.Pool) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	ctx := limited(t)
	go func() {
		ended <- p.Run(ctx, reconnect.Consuming, func(_ context.Context, ch *reconnect.Channel) error {
			ch.Ready()
			return nil
		}, nil)
	}()
	return ended
}

// TestALoginRefusedToTheSecondConnectionIsRetried: the first one proves that it
// may well succeed, as after a password was changed and changed back.
func TestALoginRefusedToTheSecondConnectionIsRetried(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, func(n int, c *reconnect.PeerConn) {
		if n != 2 {
			reconnect.Willing(n, c)
		} else if c.Start() == nil {
			c.SendClose(0, 403, "ACCESS_REFUSED - Login was refused")
			c.Serve(nil)
		}
	})
	l := newLog()
	p := open(t, config(l, peer.URL()))
	ended := consumingRun(t, p)
	c := l.await(t, reconnect.Waiting)
	if c.Role != reconnect.Consuming || !reconnect.IsFatal(c.Cause) || c.Wait < time.Second {
		t.Errorf("%v", c)
	}
	select {
	case err := <-ended:
		t.Fatalf("Run returned %v before the error was mended", err)
	default:
	}
	if err := reconnect.Await(t, ended, "Run on the connection that is made then"); err != nil {
		t.Errorf("Run: %v", err)
	}
	if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.Sessions != 1 {
		t.Errorf("the first connection: %+v", s)
	}
}

// TestATopologyRefusedToTheSecondConnectionIsAFaultInStatus: it keeps nobody from
// working, and is gone when it is mended.
func TestATopologyRefusedToTheSecondConnectionIsAFaultInStatus(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
		if c.Handshake() == nil {
			c.Serve(func(f reconnect.Frame) bool {
				if f.Method() == reconnect.MQueueDeclare && refuse.Load() {
					c.SendClose(f.Channel, 406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'orders' in vhost '/'")
					return true
				}
				return false
			})
		}
	})
	l := newLog()
	cfg := config(l, peer.URL())
	cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	p := open(t, cfg)
	l.await(t, reconnect.Connected)
	refuse.Store(true)
	if err := reconnect.Await(t, consumingRun(t, p), "Run"); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if s := p.Status(reconnect.Consuming); s.State != reconnect.Connected || !reconnect.IsFatal(s.TopologyFault) {
		t.Errorf("%+v", s)
	}
	refuse.Store(false)
	peer.CutAll()
	for range 2 { // both
		l.await(t, reconnect.Waiting)
	}
	if err := reconnect.Await(t, consumingRun(t, p), "Run"); err != nil {
		t.Errorf("mended: %v", err)
	}
	if s := p.Status(reconnect.Consuming); s.TopologyFault != nil {
		t.Errorf("mended: %+v", s)
	}
}

// TestANodeThatIsDownIsNotFatal: RabbitMQ says 404 for a classic queue whose node
// is not there, and means later.
func TestANodeThatIsDownIsNotFatal(t *testing.T) {
	t.Parallel()
	for text, fatal := range map[string]bool{
		"NOT_FOUND - no queue 'orders' in vhost '/'":                                                      true,
		"NOT_FOUND - home node 'rabbit@b' of durable queue 'orders' in vhost '/' is down or inaccessible": false,
	} {
		err := &reconnect.BrokerError{Code: 404, Text: text}
		for _, err := range []error{err, fmt.Errorf("consume: %w", err), errors.Join(reconnect.ErrLost, err)} {
			if reconnect.IsFatal(err) != fatal {
				t.Errorf("%v: fatal is %v", err, !fatal)
			}
		}
	}
}
