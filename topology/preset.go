package topology

import (
	"math"
	"time"
)

// deadSuffix is appended to the name of what dead letters come from.
const deadSuffix = ".dead"

// practicallyUnlimited is the delivery limit of queues that have nowhere to send
// a message on to. Unlimited would do from RabbitMQ 4.0 on, and means 0 before.
const practicallyUnlimited = math.MaxInt32

// WorkQueue is one queue whose messages are shared out among consumers (tutorial
// two), with a place for those that cannot be handled: the durable quorum queue
// name, and WithDeadLetters for it.
func WorkQueue(name string) Topology { return WithDeadLetters(Queue{Name: name}) }

// WithDeadLetters is the queue q with the fanout exchange and the quorum queue
// "<name>.dead" behind it, where rejected and expired messages and those over the
// delivery limit are kept with their routing key and headers until somebody looks.
//
// A quorum queue hands its dead letters on at least once: the three settings that
// this needs are made together, DeadLetterStrategy, DeadLetterExchange and
// Overflow: RejectPublish, so that with a MaxLength a full queue nacks what is
// published. Set DeadLetterStrategy: AtMostOnce in q to have neither; a classic
// queue knows nothing else. The other fields of q are kept, but not a DeadLetterExchange.
func WithDeadLetters(q Queue) Topology {
	dead := q.Name + deadSuffix
	q = deadLetterTo(q, dead)
	return Topology{Queues: []Queue{q}}.Merge(deadLetterPlace(dead))
}

func deadLetterTo(q Queue, exchange string) Queue {
	q.DeadLetterExchange = exchange
	if q.DeclaredType() == Quorum && q.DeadLetterStrategy == "" {
		q.DeadLetterStrategy = AtLeastOnce
	}
	if q.DeadLetterStrategy == AtLeastOnce && q.Overflow == "" {
		q.Overflow = RejectPublish
	}
	return q
}

func deadLetterPlace(name string) Topology {
	return Topology{
		Exchanges: []Exchange{{Name: name, Kind: KindFanout}},
		Queues:    []Queue{{Name: name, DeliveryLimit: practicallyUnlimited}},
		Bindings:  []Binding{{Exchange: name, Queue: name}},
	}
}

// Fanout is an exchange that gives a copy of each message to every queue
// (tutorial three). The queues are durable quorum queues that share one place for
// dead letters, "<exchange>.dead", as WithDeadLetters makes it; x-first-death-queue
// in a dead letter says which of them it was in. The tutorial's own queues, one
// per running program, are made by the consumer: Queue{Exclusive: true}.
func Fanout(exchange string, queues ...string) Topology {
	routes := make([]Route, len(queues))
	for i, q := range queues {
		routes[i] = Route{Queue: q, Keys: []string{""}}
	}
	return routed(Exchange{Name: exchange, Kind: KindFanout}, routes)
}

// Route says which routing keys lead to a queue.
type Route struct {
	Queue string
	Keys  []string
}

// To is the route of keys, or of patterns for a topic exchange, to queue.
func To(queue string, keys ...string) Route { return Route{Queue: queue, Keys: keys} }

// Direct is an exchange that gives each message to the queues that asked for its
// routing key (tutorial four). The queues are as in Fanout.
func Direct(exchange string, routes ...Route) Topology {
	return routed(Exchange{Name: exchange, Kind: KindDirect}, routes)
}

// Topic is an exchange that gives each message to the queues with a pattern that
// matches its routing key: * is one word, # is any number of them (tutorial
// five). The queues are as in Fanout.
func Topic(exchange string, routes ...Route) Topology {
	return routed(Exchange{Name: exchange, Kind: KindTopic}, routes)
}

func routed(e Exchange, routes []Route) Topology {
	t := Topology{Exchanges: []Exchange{e}}
	dead := e.Name + deadSuffix
	for _, r := range routes {
		t.Queues = append(t.Queues, deadLetterTo(Queue{Name: r.Queue}, dead))
		for _, k := range r.Keys {
			t.Bindings = append(t.Bindings, Binding{Exchange: e.Name, Queue: r.Queue, RoutingKey: k})
		}
	}
	if len(routes) > 0 {
		t = t.Merge(deadLetterPlace(dead))
	}
	return t
}

// RetryLadder is one waiting queue per delay for the messages of queue, called
// RetryQueue(queue, delay). A message that is published into one of them, through
// the default exchange, comes back to the end of queue after the delay. It is how
// retries of any spacing are made on every version of RabbitMQ; the alternative,
// DelayedRetry, is linear and needs 4.3. The way back is at least once.
func RetryLadder(queue string, delays ...time.Duration) Topology {
	var t Topology
	for _, d := range delays {
		t.Queues = append(t.Queues, Queue{
			Name:               RetryQueue(queue, d),
			MessageTTL:         d,
			DeadLetterQueue:    queue,
			DeadLetterStrategy: AtLeastOnce,
			Overflow:           RejectPublish,
		})
	}
	return t
}

// RetryQueue is the name of the waiting queue of that delay in RetryLadder, as in
// "orders.retry.30s".
func RetryQueue(queue string, delay time.Duration) string {
	return queue + ".retry." + formatDuration(delay)
}
