package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/mqkit/mqkit/reconnect"
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
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		fault := refuses("connection.start-ok", 403, "ACCESS_REFUSED - Login was refused")
		fault.Conn = 2
		refused := f.broker.Inject(fault)
		p := open(t, f.config())
		ended := consumingRun(t, p)
		c := f.await(t, reconnect.Waiting)
		if c.Role != reconnect.Consuming || !reconnect.IsFatal(c.Cause) || c.Wait != reconnect.LongestWait || hits(refused) != 1 {
			t.Errorf("%v, wait %v, after %d refusals", c, c.Wait, hits(refused))
		}
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("Run returned %v before the error was mended", err)
		default:
		}
		if err := await(t, ended, "Run on the connection that is made then"); err != nil {
			t.Errorf("Run: %v", err)
		}
		wantAfter(t, c.At, reconnect.LongestWait)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.Sessions != 1 {
			t.Errorf("the first connection: %+v", s)
		}
	})
}

// TestATopologyRefusedToTheSecondConnectionIsAFaultInStatus: it keeps nobody from
// working, and is gone when it is mended.
func TestATopologyRefusedToTheSecondConnectionIsAFaultInStatus(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = orders()
		p := open(t, cfg)
		f.await(t, reconnect.Connected)
		refused := f.broker.Inject(inequivalent())
		if err := await(t, consumingRun(t, p), "Run"); err != nil {
			t.Fatalf("Run: %v", err)
		}
		if s := p.Status(reconnect.Consuming); s.State != reconnect.Connected || !reconnect.IsFatal(s.TopologyFault) || hits(refused) != 1 {
			t.Errorf("%+v after %d refusals", s, hits(refused))
		}
		refused.Remove()
		f.cut(2)
		for range 2 { // both
			f.await(t, reconnect.Waiting)
		}
		if err := await(t, consumingRun(t, p), "Run"); err != nil {
			t.Errorf("mended: %v", err)
		}
		if s := p.Status(reconnect.Consuming); s.TopologyFault != nil {
			t.Errorf("mended: %+v", s)
		}
	})
}

// TestAQueueThatCannotBeUsedAtTheMomentIsNotMissing: RabbitMQ says 404 for that as well, and
// it passes.
func TestAQueueThatCannotBeUsedAtTheMomentIsNotMissing(t *testing.T) {
	t.Parallel()
	for text, missing := range map[string]bool{
		"NOT_FOUND - no queue 'orders' in vhost '/'":                                                                                  true,
		"NOT_FOUND - no exchange 'orders' in vhost '/'":                                                                               true,
		"NOT_FOUND - no binding 'k' between exchange 'orders' in vhost '/' and queue 'orders' in vhost '/'":                           true,
		"NOT_FOUND - no previously declared queue":                                                                                    true,
		"NOT_FOUND - home node 'rabbit@b' of durable queue 'orders' in vhost '/' is down or inaccessible":                             false,
		"NOT_FOUND - queue 'no queue ' in vhost '/' process is stopped by supervisor":                                                 false,
		"NOT_FOUND - queue 'orders' in vhost '/' has crashed and failed to restart":                                                   false,
		"NOT_FOUND - failed to perform operation on queue 'orders' in vhost '/' due to timeout":                                       false,
		"NOT_FOUND - failed to perform operation on queue 'orders' in vhost '/': its leader <0.1.0> may be stopping or being demoted": false,
		"NOT_FOUND": false,
	} {
		err := &reconnect.BrokerError{Code: 404, Text: text}
		for _, err := range []error{err, fmt.Errorf("consume: %w", err), errors.Join(reconnect.ErrLost, err)} {
			if reconnect.IsMissing(err) != missing || reconnect.IsFatal(err) != missing {
				t.Errorf("%v: missing %v, fatal %v; want %v", err, reconnect.IsMissing(err), reconnect.IsFatal(err), missing)
			}
		}
	}
	for _, err := range []error{nil, errors.New("no queue"), &reconnect.BrokerError{Code: 403, Text: "NOT_FOUND - no queue 'q'"}} {
		if reconnect.IsMissing(err) {
			t.Errorf("%v: missing", err)
		}
	}
}
