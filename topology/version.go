package topology

import (
	"maps"
	"slices"
)

// For returns t as a broker of that version has to be told it. It changes one
// thing: a DeliveryLimit that is Unlimited is not sent to RabbitMQ before 4.0, which
// has no limit by default and takes -1 for 0. A major version of 0 means that it
// is not known, and changes nothing. reconnect.Pool and consumer do this by themselves;
// before a Declare of your own, it is up to you.
func (t Topology) For(major, minor int) Topology {
	t.Queues = slices.Clone(t.Queues)
	for i := range t.Queues {
		t.Queues[i] = t.Queues[i].For(major, minor)
	}
	return t
}

// For does for one queue what Topology.For does.
func (q Queue) For(major, _ int) Queue {
	if major == 0 || major >= 4 {
		return q
	}
	if q.DeliveryLimit == Unlimited {
		q.DeliveryLimit = 0
	}
	const key = "x-delivery-limit"
	if n, whole := wholeNumber(q.Arguments[key]); whole && n == Unlimited {
		q.Arguments = maps.Clone(q.Arguments)
		delete(q.Arguments, key)
	}
	return q
}
