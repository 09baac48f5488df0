// Package broker runs real RabbitMQ nodes in containers for the integration
// tests, and gives them the faults a test needs: kill, stop, pause, partition.
//
//	node, err := broker.Find(ctx, broker.Options{})
//	if errors.Is(err, broker.ErrUnavailable) {
//		// no container engine, no image, no AMQP_URL: the error says which
//	}
//	defer node.Close(ctx)
//	conn, err := amqp.Dial(node.URL())
//
// # Which broker
//
// [Find] takes the first of these; [Launch] and [LaunchCluster], which need a
// node that they can control, leave out the first:
//
//  1. AMQP_URL: a broker that runs already. It is used as it is.
//  2. RABBITMQ_IMAGE: a container of that image, pulled if it is not present.
//  3. rabbitmq:4-management, or rabbitmq:$SERIES-management where SERIES is set,
//     if it is present.
//  4. mqkit/rabbitmq:$SERIES (4.3 where SERIES is not set), if it is present:
//     what integration/image/build.sh builds where no registry is reachable.
//  5. The image of step 3, pulled.
//
// # What it guarantees
//
// A node keeps its host ports, its name and its data over Kill and Start. Its
// ports are bound to the loopback interface. When Kill returns nil the container
// does not run; when WaitReady returns nil an AMQP connection was opened and
// closed. Close removes the container with its volumes.
//
// # What it does not
//
// The reaper of testcontainers is off, because it is one more image to pull. A
// test process that dies before Close leaves its containers behind; the next
// process that launches a node on the same machine removes them.
//
// All methods are safe for concurrent use, but the faults of one node are not
// ordered against each other: a test that kills and starts the same node from
// two goroutines gets whichever comes last.
package broker
