package consumer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// open starts a broker in this process and connects to it. Its queue "orders" has
// these bodies in it, keeps dead letters in "orders.dead", and gives a message out
// three times at most.
func open(orders ...string) (*mqtest.Broker, *reconnect.Pool) {
	broker, err := mqtest.Start(mqtest.Config{})
	if err != nil {
		panic(err)
	}
	pool, err := reconnect.Open(context.Background(), reconnect.Config{
		URLs:     []string{broker.URL()}, // or FromEnv
		First:    reconnect.Consuming,    // nothing is published
		Topology: topology.WithDeadLetters(topology.Queue{Name: "orders", DeliveryLimit: 2}),
	})
	if err != nil {
		panic(err)
	}
	for _, body := range orders {
		broker.Queue("orders").Enqueue(mqtest.Message{Body: []byte(body)})
	}
	return broker, pool
}

func ExampleConsumer_Run() {
	broker, pool := open("tea", "milk")
	defer broker.Close()
	defer pool.CloseNow()

	c, err := consumer.New(pool, consumer.Config{Queue: "orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // in a service, signal.NotifyContext
	defer stop()
	err = c.Run(ctx, func(_ context.Context, d *consumer.Delivery) error {
		fmt.Printf("%s\n", d.Body)
		if string(d.Body) == "milk" {
			stop()
		}
		return nil // acks it
	})
	// Run has drained: the ack of the last one has reached the broker as well.
	fmt.Println("left:", broker.Queue("orders").Len(), err)
	// Output:
	// tea
	// milk
	// left: 0 <nil>
}

// What cannot be decoded is never handled, and holds up nothing.
func ExampleJSON() {
	broker, pool := open(`{"item":"tea","n":2}`, `tea, please`, `{"item":"milk","n":1}`)
	defer broker.Close()
	defer pool.CloseNow()

	type order struct {
		Item string `json:"item"`
		N    int    `json:"n"`
	}
	c, err := consumer.New(pool, consumer.Config{Queue: "orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	err = c.Run(ctx, consumer.JSON(func(_ context.Context, o order, _ *consumer.Delivery) error {
		fmt.Println(o.N, o.Item)
		if o.Item == "milk" {
			stop()
		}
		return nil
	}))
	fmt.Println("dead letters:", broker.Queue("orders.dead").Bodies(), err)
	// Output:
	// 2 tea
	// 1 milk
	// dead letters: [tea, please] <nil>
}

// What will never succeed is not tried again.
func ExampleReject() {
	broker, pool := open("tea", "tobacco")
	defer broker.Close()
	defer pool.CloseNow()

	c, err := consumer.New(pool, consumer.Config{Queue: "orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	errNotSold := errors.New("not sold here")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	err = c.Run(ctx, func(_ context.Context, d *consumer.Delivery) error {
		if string(d.Body) == "tobacco" {
			stop()
			return consumer.Reject(errNotSold)
		}
		fmt.Printf("%s: sold\n", d.Body)
		return nil
	})
	fmt.Println("dead letters:", broker.Queue("orders.dead").Bodies(), err)
	// Output:
	// tea: sold
	// dead letters: [tobacco] <nil>
}

// A failure that may not repeat, at once and as often as the queue's delivery
// limit allows. (A plain error waits before, and has no limit on RabbitMQ 4.3.)
func ExampleRequeue() {
	broker, pool := open("tea")
	defer broker.Close()
	defer pool.CloseNow()

	c, err := consumer.New(pool, consumer.Config{Queue: "orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	errBroken := errors.New("the kettle is broken")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	err = c.Run(ctx, func(_ context.Context, d *consumer.Delivery) error {
		fmt.Printf("%s: attempt %d\n", d.Body, d.Attempt())
		if d.Attempt() == 3 {
			stop()
		}
		return consumer.Requeue(errBroken)
	})
	fmt.Println("dead letters:", broker.Queue("orders.dead").Bodies(), err)
	// Output:
	// tea: attempt 1
	// tea: attempt 2
	// tea: attempt 3
	// dead letters: [tea] <nil>
}

// Nothing has failed, it is only not the moment: from RabbitMQ 4.3 on that
// does not count towards the delivery limit.
func ExampleRelease() {
	broker, pool := open("tea")
	defer broker.Close()
	defer pool.CloseNow()

	c, err := consumer.New(pool, consumer.Config{Queue: "orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	tries := 0
	err = c.Run(ctx, func(_ context.Context, d *consumer.Delivery) error {
		if tries++; tries < 10 { // more than the limit of failures
			return consumer.Release(nil)
		}
		stop()
		fmt.Printf("%s: done on try %d\n", d.Body, tries)
		return nil
	})
	fmt.Println("dead letters:", broker.Queue("orders.dead").Len(), err)
	// Output:
	// tea: done on try 10
	// dead letters: 0 <nil>
}
