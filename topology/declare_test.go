package topology_test

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/amqppeer"
	"github.com/mqkit/mqkit/topology"
)

const exchangeDeclare = "[40 10]"

// What is Passive is not validated but for its name, so nothing else of it can be
// sent.
func TestDeclareSendsNoArgumentsOfWhatIsPassive(t *testing.T) {
	t.Parallel()
	peer, err := amqppeer.Listen("4.3.6")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peer.Close)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		m, err := peer.Next(t.Context(), exchangeDeclare, "connection.close")
		if err == nil && m.Name == exchangeDeclare {
			m.Conn.Send(frame(1, m.Channel, []byte{0, 40, 0, 11}))
		}
	}()
	conn, err := amqp.Dial(peer.URL())
	if err != nil {
		t.Fatal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
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
	<-answered
}
