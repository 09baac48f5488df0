package topology_test

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

func TestUnlimitedIsNotSentToBrokersThatTakeItForNone(t *testing.T) {
	t.Parallel()
	args := amqp.Table{"x-delivery-limit": -1, "x": 1}
	top := topology.Topology{Queues: []topology.Queue{
		{Name: "field", DeliveryLimit: topology.Unlimited},
		{Name: "argument", Arguments: args},
		{Name: "five", DeliveryLimit: 5},
	}}
	sent := func(top topology.Topology) (limits [3]any) {
		for i, q := range top.Queues {
			limits[i] = q.DeclareArguments()["x-delivery-limit"]
		}
		return limits
	}
	all := sent(top)
	for _, c := range []struct {
		major, minor int
		want         [3]any
	}{
		{3, 10, [3]any{nil, nil, all[2]}},
		{3, 13, [3]any{nil, nil, all[2]}},
		{4, 0, all},
		{4, 3, all},
		{0, 0, all},
	} {
		if got := sent(top.For(c.major, c.minor)); got != c.want {
			t.Errorf("%d.%d: %v, want %v", c.major, c.minor, got, c.want)
		}
	}
	if top.Queues[0].DeliveryLimit != topology.Unlimited || len(args) != 2 {
		t.Error("the original was changed")
	}
}
