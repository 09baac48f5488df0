// Package topology describes exchanges, queues and bindings as values, and
// checks, declares, deletes, reads and writes them.
//
//	t := topology.Topology{
//		Exchanges: []topology.Exchange{{Name: "orders", Kind: topology.KindTopic}},
//		Bindings:  []topology.Binding{{Exchange: "orders", Queue: "billing", RoutingKey: "order.*"}},
//	}.Merge(topology.WithDeadLetters(topology.Queue{Name: "billing", DeliveryLimit: 5}))
//	for _, w := range t.Lint() {
//		log.Print(w)
//	}
//	if err := topology.Declare(ctx, ch, t); err != nil { // validates first
//		return err
//	}
//
// Give a Topology to reconnect.Config and it is declared on each new connection.
//
// # What it guarantees
//
//   - A zero value is the safe choice: Queue{Name: "q"} is a durable quorum queue,
//     Exchange{Name: "x"} a durable direct exchange, DeleteOptions{} deletes
//     nothing that is in use, and nothing that holds messages or cannot tell.
//   - Validate reports every fault at once and before anything is sent. What it
//     says the broker refuses, RabbitMQ 4.3.6 was seen to refuse, and the
//     integration tests show it again.
//   - x-queue-type is always sent, so that a queue's type does not depend on the
//     broker's default. Integers are sent as integers of 64 bits.
//   - An error of Declare names the exchange, queue or binding, what differs from
//     what exists, and the ways out, and wraps the driver's error.
//   - Load is strict: an unknown field, a repeated key, a value of another type, a
//     duration without a unit or a 0 that would not be sent is an error with its
//     line. What Marshal writes of a valid topology, Load reads back.
//
// # What it does not
//
//   - One call to the broker is not bounded in time here; reconnect bounds it.
//   - Declare is not a transaction. It stops at the first error, and what it has
//     declared stays. It also removes nothing: a binding that was taken out of the
//     topology stays on the broker.
//   - An existing queue is never changed: its arguments cannot be. That is what the
//     error says, and what policies are for.
//   - Lint sees the topology and no broker: neither its version nor its policies.
//
// # The file format
//
// YAML or JSON, with three lists. Every field is one of Exchange, Queue or
// Binding, written in snake case, and has the same default. Durations carry a
// unit (500ms, 30s, 1h30m, 7d); delivery_limit can be unlimited; arguments take
// any value, and integers stay integers.
//
//	exchanges:
//	  - name: orders
//	    kind: topic             # direct if left out; fanout, headers, x-...
//	    alternate_exchange: unrouted
//	  - name: unrouted
//	    kind: fanout
//	  - name: billing.dead
//	    kind: fanout
//	queues:
//	  - name: billing           # durable, quorum
//	    dead_letter_exchange: billing.dead
//	    dead_letter_strategy: at-least-once
//	    overflow: reject-publish
//	    delivery_limit: 5
//	    delayed_retry: {min: 1s, max: 1m}
//	  - name: billing.dead
//	    delivery_limit: unlimited
//	  - name: audit
//	    type: stream
//	    max_age: 30d
//	    arguments: {x-queue-leader-locator: balanced}
//	bindings:
//	  - {exchange: orders, queue: billing, routing_key: "order.*"}
//	  - {exchange: orders, queue: audit, routing_key: "#"}   # quoted: # begins a comment
//	  - {exchange: orders, to_exchange: amq.topic, routing_key: "order.paid"}
//	  - {exchange: billing.dead, queue: billing.dead}
//
// The other fields are, of an exchange, transient, auto_delete, internal, passive
// and arguments; of a queue transient, exclusive, auto_delete, passive,
// dead_letter_routing_key, dead_letter_queue, message_ttl, expires, max_length,
// max_length_bytes, max_priority, single_active_consumer, consumer_timeout and
// max_segment_bytes; of a binding arguments. Anchors, aliases and merge keys work
// in YAML; tags do not.
//
// Load also reads the JSON that a broker exports as its definitions (rabbitmqctl
// export_definitions, the management API, for all virtual hosts or for one). It
// takes exchanges, queues and bindings of one virtual host, see
// LoadOptions.VHost, and leaves out users, permissions, parameters and policies.
// The broker itself leaves internal exchanges out of its exports.
package topology
