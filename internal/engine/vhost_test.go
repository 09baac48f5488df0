package engine_test

import (
	"testing"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// inVhost is dial for another vhost, which it makes.
func inVhost(t testing.TB, o engine.Options, defaultType string) (*engine.Broker, *client) {
	t.Helper()
	b := engine.New(o)
	t.Cleanup(b.Close)
	b.AddVhost("v", defaultType)
	conn, e := b.Connect(engine.ConnInfo{Vhost: "v", User: "guest", Name: "test"})
	if e != nil {
		t.Fatal(e)
	}
	t.Cleanup(conn.Close)
	return b, on(t, conn)
}

func TestAQueueThatCannotBeOfTheVhostsTypeIsClassic(t *testing.T) {
	t.Parallel()
	for _, defaultType := range []string{"", "classic", "quorum", "stream"} {
		for _, tc := range []struct {
			name    string
			declare wire.QueueDeclare
			ofType  bool // as the vhost's queues are
		}{
			{"durable", wire.QueueDeclare{Queue: "q", Durable: true}, true},
			{"transient", wire.QueueDeclare{Queue: "q"}, false},
			{"exclusive", wire.QueueDeclare{Queue: "q", Exclusive: true}, false},
			{"exclusive and durable", wire.QueueDeclare{Queue: "q", Exclusive: true, Durable: true}, false},
			{"auto-delete", wire.QueueDeclare{Queue: "q", Durable: true, AutoDelete: true}, false},
			{"server-named", wire.QueueDeclare{Exclusive: true}, false},
		} {
			b, c := inVhost(t, engine.Options{}, defaultType)
			ok, e := c.QueueDeclare(&tc.declare)
			if e != nil {
				t.Errorf("%s in a vhost of type %q: %v", tc.name, defaultType, e)
				continue
			}
			want := "classic"
			if tc.ofType && defaultType != "" {
				want = defaultType
			}
			if q, _ := b.Queue("v", ok.Queue); q.Type != want {
				t.Errorf("%s in a vhost of type %q is %s, want %s", tc.name, defaultType, q.Type, want)
			}
			if _, e := c.QueueDeclare(&tc.declare); e != nil {
				t.Errorf("%s in a vhost of type %q, declared again: %v", tc.name, defaultType, e)
			}
		}
	}
}

func TestWhatTheVhostsTypeStillRefuses(t *testing.T) {
	t.Parallel()
	_, c := inVhost(t, engine.Options{}, "quorum")
	_, e := c.QueueDeclare(&wire.QueueDeclare{Durable: true})
	expectException(t, e, 406, "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue")
	_, c = inVhost(t, engine.Options{}, "quorum")
	_, e = c.QueueDeclare(&wire.QueueDeclare{Queue: "q", Exclusive: true, Arguments: table("x-queue-type", "quorum")})
	expectException(t, e, 406, "PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue 'q' in vhost 'v'")
	_, c = inVhost(t, engine.Options{DenyTransientQueues: true}, "quorum")
	if _, e = c.QueueDeclare(&wire.QueueDeclare{Queue: "q"}); e == nil || e.Code != 541 {
		t.Errorf("a transient queue that is denied: %v", e)
	}
}
