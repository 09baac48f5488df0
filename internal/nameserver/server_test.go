package nameserver_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/internal/nameserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestANameMeansWhatItWasLastSetTo(t *testing.T) {
	t.Parallel()
	s, err := nameserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	const name = "broker.mqkit.test"
	for _, to := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.1"} {
		s.Set(name, netip.MustParseAddr(to))
		if got, err := s.Resolver().LookupHost(t.Context(), name); err != nil || len(got) != 1 || got[0] != to {
			t.Errorf("%v, %v, want %s", got, err, to)
		}
	}
	if n := s.Asked(name); n != 3 {
		t.Errorf("asked %d times", n)
	}
	s.Set(name, netip.Addr{})
	_, err = s.Resolver().LookupHost(t.Context(), name)
	var unknown *net.DNSError
	if !errors.As(err, &unknown) || !unknown.IsNotFound {
		t.Errorf("%v, want that it is not found", err)
	}
}

// TestWhatIsNoQueryIsNotAnswered, and ends nothing.
func TestWhatIsNoQueryIsNotAnswered(t *testing.T) {
	t.Parallel()
	s, err := nameserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conn, err := s.Resolver().Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, query := range []string{"x", "0123456789ab", "\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x3fab", "\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00"} {
		if _, err := conn.Write([]byte(query)); err != nil {
			t.Fatal(err)
		}
	}
	s.Set("a.test", netip.MustParseAddr("127.0.0.3"))
	if got, err := s.Resolver().LookupHost(t.Context(), "a.test"); err != nil || got[0] != "127.0.0.3" {
		t.Errorf("%v, %v", got, err)
	}
}
