package reconnect_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/mqkit/mqkit/internal/nameserver"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// TestANameThatMeansAnotherAddressLaterIsFollowed: names are looked up for each dial.
// It runs before the parallel tests: it replaces the resolver of the whole process.
func TestANameThatMeansAnotherAddressLaterIsFollowed(t *testing.T) {
	const name = "broker.mqkit.test"
	server, err := nameserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	before := net.DefaultResolver
	net.DefaultResolver = server.Resolver()
	t.Cleanup(func() { net.DefaultResolver = before })

	first := newPortFixture(t)
	_, port, err := net.SplitHostPort(first.broker.Addr())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := net.JoinHostPort("127.0.0.2", port)
	if l, err := net.Listen("tcp", elsewhere); err != nil {
		t.Skipf("this machine has no second loopback address: %v", err)
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	second := newPortFixture(t, mqtest.Config{Listen: elsewhere})

	cfg := first.config("amqp://app:" + secret + "@" + net.JoinHostPort(name, port))
	var refused int
	cfg.OnAttempt = func(a reconnect.Attempt) {
		if a.Err == nil {
			return
		}
		if reconnect.IsFatal(a.Err) {
			t.Errorf("%v is fatal", a.Err)
		}
		if refused++; refused == 3 { // the name is not there yet
			server.Set(name, netip.MustParseAddr("127.0.0.1"))
		}
	}
	p := open(t, cfg)
	first.await(t, reconnect.Connected)
	if n := [2]int{len(first.broker.Connections()), len(second.broker.Connections())}; n != [2]int{1, 0} {
		t.Fatalf("connections %v", n)
	}
	asked := server.Asked(name)

	server.Set(name, netip.MustParseAddr("127.0.0.2"))
	first.broker.DropConnections() // and it still listens
	first.await(t, reconnect.Waiting)
	if c := first.await(t, reconnect.Connected); c.Address != net.JoinHostPort(name, port) {
		t.Errorf("%v", c)
	}
	if err := acquire(t, p, reconnect.Publishing).Call(limited(t), "declare q", declare); err != nil {
		t.Error(err)
	}
	if n := [2]int{first.accepted.Hits(), second.accepted.Hits()}; n != [2]int{1, 1} {
		t.Errorf("connections made %v", n)
	}
	if asked == 0 || server.Asked(name) == asked {
		t.Errorf("the name was looked up %d times, and then %d", asked, server.Asked(name))
	}
}
