package topology_test

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/topology"
)

// What is Passive is not validated but for its name, so nothing else of it can be
// sent.
func TestDeclareSendsNoArgumentsOfWhatIsPassive(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	conn, err := amqp.Dial(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Declare(t.Context(), ch, topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x"}},
		Queues:    []topology.Queue{{Name: "q"}},
	}); err != nil {
		t.Fatal(err)
	}
	unsendable := amqp.Table{"n": uint64(1)}
	if err := topology.Declare(t.Context(), ch, topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x", Passive: true, Arguments: unsendable}},
		Queues:    []topology.Queue{{Name: "q", Passive: true, Arguments: unsendable}},
	}); err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
