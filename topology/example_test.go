package topology_test

import (
	"fmt"
	"os"
	"strings"

	"github.com/mqkit/mqkit/topology"
)

func ExampleTopology_Validate() {
	t := topology.Topology{Queues: []topology.Queue{
		{Name: "orders", Type: topology.Quorum, Exclusive: true, MaxPriority: 5},
	}}
	fmt.Println(t.Validate())
	// Output:
	// queue "orders": Exclusive: a quorum queue cannot be exclusive; leave Type out, or set it to topology.Classic
	// queue "orders": MaxPriority: a quorum queue has no x-max-priority; use a classic queue
}

func ExampleTopology_Lint() {
	t := topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	for _, w := range t.Lint() {
		fmt.Println(w)
	}
	// Output:
	// queue "orders": DeliveryLimit: the default is 20 since RabbitMQ 4.0, and with no dead-letter exchange a message that failed 21 times is dropped; set DeadLetterExchange or DeadLetterQueue, or a DeliveryLimit
}

func ExampleLoad() {
	_, err := topology.Load(strings.NewReader(`
queues:
  - name: orders
    durable: true
    message_ttl: 30000
`), topology.LoadOptions{})
	fmt.Println(err)
	// Output:
	// line 4: queues[0]: unknown field "durable": everything is durable, unless it says transient: true
	// line 5: queues[0].message_ttl: needs a unit, as in 30s, 500ms, 1h30m or 7d, and is 30000
}

func ExampleWorkQueue() {
	data, err := topology.Marshal(topology.WorkQueue("orders"), topology.FormatYAML)
	if err != nil {
		fmt.Println(err)
	}
	os.Stdout.Write(data)
	// Output:
	// exchanges:
	//   - name: orders.dead
	//     kind: fanout
	// queues:
	//   - name: orders
	//     dead_letter_exchange: orders.dead
	//     dead_letter_strategy: at-least-once
	//     overflow: reject-publish
	//   - name: orders.dead
	//     delivery_limit: 2147483647
	// bindings:
	//   - exchange: orders.dead
	//     queue: orders.dead
}

func ExampleTopic() {
	t := topology.Topic("logs",
		topology.To("kernel", "kern.*"),
		topology.To("alarms", "*.critical", "*.error"),
	)
	for _, b := range t.Bindings {
		fmt.Println(b)
	}
	// Output:
	// "logs" to queue "kernel" with key "kern.*"
	// "logs" to queue "alarms" with key "*.critical"
	// "logs" to queue "alarms" with key "*.error"
	// "logs.dead" to queue "logs.dead" with key ""
}
