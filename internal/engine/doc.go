// Package engine is the broker without the network: vhosts, exchanges, queues,
// messages, consumers, settlement, confirms and transactions, held to RabbitMQ's
// behaviour down to its codes and texts.
//
//	b := engine.New(engine.Options{})
//	conn, exc := b.Connect(engine.ConnInfo{Vhost: "/", User: "guest"})
//	ch := conn.Channel(1, sink)
//	_, exc = ch.QueueDeclare(&wire.QueueDeclare{Queue: "orders", Durable: true})
//	exc = ch.Publish(&wire.BasicPublish{RoutingKey: "orders"}, nil, []byte("1"))
//
// There is one method per AMQP method. It takes what came off the wire, applies
// it, and returns what the reply needs, or the [Exception] that RabbitMQ would
// close the channel or the connection with. What the broker sends by itself
// (deliveries, returns, confirms, cancels) goes to the channel's [Sink].
//
// One mutex guards the whole broker: a queue's messages, its consumers and the
// channels that hold its deliveries change together, in an order that every
// observer agrees on. Nothing here blocks, and nothing is started: time passes
// by the timers of package time alone, so that testing/synctest works.
//
// Not kept: permissions (whoever may connect may do all), policies, clusters,
// plugins.
package engine
