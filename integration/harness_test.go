// Package integration_test keeps the promises of the other packages against real
// RabbitMQ. This file starts and hands out the brokers; see broker for how one is
// chosen.
//
// Without a container engine and without AMQP_URL every test skips, saying why.
// Where that must not pass unnoticed, set MQKIT_REQUIRE_BROKER=1.
package integration_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/integration/broker"
)

const (
	// launchTimeout bounds finding or launching a broker, an image to pull included.
	launchTimeout = 5 * time.Minute

	// closeTimeout bounds the removal of containers.
	closeTimeout = time.Minute
)

// shared is the one node of the package, launched by the first test that asks.
var shared struct {
	once sync.Once
	node *broker.Node
	err  error
}

// idleConnections is what testcontainers leaves behind: it makes a client for each
// of its calls and closes that client's idle connections while the last one may
// still be on its way back into the pool. They end by their idle timeout.
var idleConnections = []goleak.Option{
	goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
	goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
}

func TestMain(m *testing.M) {
	moreInParallel()
	code := m.Run()
	if shared.node != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		if err := shared.node.Close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			code = cmp.Or(code, 1)
		}
		cancel()
	}
	if code == 0 {
		if err := goleak.Find(idleConnections...); err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// moreInParallel has more tests run side by side than there are processors, unless
// -parallel says how many: they mostly wait for a broker to start, to stop, or to
// give up on somebody.
func moreInParallel() {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))) // a number it takes
	}
}

// sharedNode returns the node that all tests of the package use side by side: no
// faults, no policies, no alarms on it, and names from uniqueName.
func sharedNode(t *testing.T) *broker.Node {
	t.Helper()
	skipShort(t)
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), launchTimeout)
		defer cancel()
		begin := time.Now()
		shared.node, shared.err = broker.Find(ctx, broker.Options{})
		if shared.err == nil {
			from := "of AMQP_URL"
			if shared.node.Controlled() {
				from = fmt.Sprintf("in a container of %s, ready after %.1fs", shared.node.Image(), time.Since(begin).Seconds())
			}
			fmt.Fprintf(os.Stderr, "integration: RabbitMQ %s %s\n", shared.node.Version(), from)
		}
	})
	skipUnavailable(t, shared.err)
	return shared.node
}

// ownNode launches a node for this test alone, for faults and settings. It is
// always a container, also where AMQP_URL is set.
func ownNode(t *testing.T, opts ...broker.Options) *broker.Node {
	t.Helper()
	skipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), launchTimeout)
	defer cancel()
	node, err := broker.Launch(ctx, oneOf(t, opts))
	skipUnavailable(t, err)
	closeAfter(t, node)
	return node
}

// cluster launches three nodes for this test alone.
func cluster(t *testing.T, opts ...broker.Options) *broker.Cluster {
	t.Helper()
	skipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), launchTimeout)
	defer cancel()
	c, err := broker.LaunchCluster(ctx, oneOf(t, opts))
	skipUnavailable(t, err)
	closeAfter(t, c)
	return c
}

func oneOf(t *testing.T, opts []broker.Options) broker.Options {
	t.Helper()
	switch len(opts) {
	case 0:
		return broker.Options{}
	case 1:
		return opts[0]
	default:
		t.Fatal("give at most one broker.Options")
		panic("unreachable")
	}
}

func closeAfter(t *testing.T, c interface{ Close(context.Context) error }) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a broker: not with -short")
	}
}

// skipUnavailable skips the test when there is no broker to be had here, and fails
// it for any other error, and for that one too when MQKIT_REQUIRE_BROKER=1.
func skipUnavailable(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, broker.ErrUnavailable) && os.Getenv("MQKIT_REQUIRE_BROKER") != "1":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// requireVersion skips the test unless the node's version meets the constraint, as
// in ">=4.3" or ">=4.0 <4.3". Only as many parts are compared as it names.
func requireVersion(t *testing.T, node interface{ Version() string }, constraint string) {
	t.Helper()
	met, err := meets(node.Version(), constraint)
	if err != nil {
		t.Fatal(err)
	}
	if !met {
		t.Skipf("needs RabbitMQ %s, this is %s", constraint, node.Version())
	}
}

func meets(version, constraint string) (bool, error) {
	for one := range strings.FieldsSeq(constraint) {
		want := strings.TrimLeft(one, "<>=")
		op := strings.TrimSuffix(one, want)
		order, err := compareVersions(version, want)
		if err != nil {
			return false, fmt.Errorf("version constraint %q: %w", constraint, err)
		}
		var met bool
		switch op {
		case ">=":
			met = order >= 0
		case ">":
			met = order > 0
		case "<":
			met = order < 0
		case "<=":
			met = order <= 0
		case "=", "":
			met = order == 0
		default:
			return false, fmt.Errorf("version constraint %q: no operator %q", constraint, op)
		}
		if !met {
			return false, nil
		}
	}
	return true, nil
}

// compareVersions compares the parts that want names: 4.3.6 equals 4.3.
func compareVersions(version, want string) (int, error) {
	have := strings.Split(version, ".")
	for i, part := range strings.Split(want, ".") {
		w, err := strconv.Atoi(part)
		if err != nil {
			return 0, err
		}
		h := 0
		if i < len(have) {
			digits, _, _ := strings.Cut(have[i], "-") // as in 4.4.0-rc.1
			if h, err = strconv.Atoi(digits); err != nil {
				return 0, err
			}
		}
		if order := cmp.Compare(h, w); order != 0 {
			return order, nil
		}
	}
	return 0, nil
}

// uniqueName returns a name for a queue or an exchange that no other test, and no
// earlier run against the same broker, has used.
func uniqueName(t *testing.T) string {
	t.Helper()
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%s.%s", t.Name(), hex.EncodeToString(b[:]))
}
