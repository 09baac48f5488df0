package producer_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// shop is a broker inside this process, a pool that is connected to it and declares
// the queue "orders", and a producer.
func shop() (broker *mqtest.Broker, p *producer.Producer, closeAll func(), err error) {
	broker, err = mqtest.Start(mqtest.Config{})
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	pool, err := reconnect.Open(ctx, reconnect.Config{
		URLs: []string{broker.URL()},
		Topology: topology.Topology{Queues: []topology.Queue{
			{Name: "orders"},
			{Name: "full", Type: topology.Classic, MaxLength: 1, Overflow: topology.RejectPublish},
		}},
	})
	if err == nil {
		p, err = producer.New(pool, producer.Config{})
	}
	return broker, p, func() {
		if pool != nil {
			pool.CloseNow()
		}
		cancel()
		broker.Close()
	}, err
}

func ExampleProducer_Publish() {
	broker, p, closeAll, err := shop() // in a program: reconnect.Open and producer.New
	if err != nil {
		fmt.Println(err)
		return
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	// Nil: the broker has confirmed it, and the queue has it.
	err = p.Publish(ctx, producer.Text("tea").ToQueue("orders"))
	fmt.Println(err, broker.Queue("orders").Bodies())

	// No queue has this name: the broker gives the message back.
	err = p.Publish(ctx, producer.Text("milk").ToQueue("order"))
	var returned *producer.ReturnedError
	fmt.Println(errors.As(err, &returned), returned)
	// Output:
	// <nil> [tea]
	// true returned by the broker: 312 NO_ROUTE: there is no queue "order"
}

// Confirmations may come late and together; nothing waits for one of them.
func ExampleProducer_PublishAsync() {
	broker, p, closeAll, err := shop()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	var sent []*producer.Confirmation
	for _, order := range []string{"tea", "coffee", "milk"} {
		c, err := p.PublishAsync(ctx, producer.Text(order).ToQueue("orders"))
		if err != nil { // refused, or no room within ctx
			fmt.Println(err)
			return
		}
		sent = append(sent, c)
	}
	for _, c := range sent {
		if err := c.Wait(ctx); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(broker.Queue("orders").Bodies())
	fmt.Println(p.Close(ctx), p.Stats().Confirmed)
	// Output:
	// [tea coffee milk]
	// <nil> 3
}

// The connection is cut when the broker has the message and its confirm is on the
// way: it is published again, with the same MessageID.
func ExampleProducer_Publish_lostConnection() {
	broker, p, closeAll, err := shop()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Count: 1, Do: mqtest.Cut()})

	m := producer.Text("tea").ToQueue("orders")
	m.MessageID = "order-1"
	fmt.Println(p.Publish(ctx, m))
	for _, m := range broker.Queue("orders").Messages() {
		fmt.Println(string(m.Body), m.MessageID)
	}
	fmt.Println("sent again:", p.Stats().Republished)
	// Output:
	// <nil>
	// tea order-1
	// tea order-1
	// sent again: 1
}

// Every message has one verdict. Only some of them say that no queue has it.
func ExampleSafeToRetry() {
	broker, p, closeAll, err := shop()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	publish := func(ctx context.Context, m producer.Message) {
		err := p.Publish(ctx, m)
		fmt.Printf("%v: safe to retry %v\n", producer.VerdictOf(err), producer.SafeToRetry(err))
	}

	publish(ctx, producer.Text("tea").ToQueue("orders"))
	publish(ctx, producer.Text("no such queue").ToQueue("order"))
	publish(ctx, producer.Message{RoutingKey: "orders", Expiration: "soon"}) // no number of milliseconds

	broker.Queue("full").Enqueue(mqtest.Message{Body: []byte("there already")})
	publish(ctx, producer.Text("one too many").ToQueue("full"))

	over, giveUp := context.WithCancel(ctx)
	giveUp()
	publish(over, producer.Text("too late").ToQueue("orders"))

	// The broker takes it, and its confirm is lost: whoever gives up now cannot know.
	lost := broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Do: mqtest.Drop()})
	impatient, giveUp := context.WithCancel(ctx)
	go func() {
		_ = lost.Wait(ctx)
		giveUp()
	}()
	publish(impatient, producer.Text("milk").ToQueue("orders"))
	fmt.Println(broker.Queue("orders").Bodies())
	// Output:
	// confirmed: safe to retry false
	// returned: safe to retry true
	// refused: safe to retry true
	// nacked: safe to retry false
	// not sent: safe to retry true
	// unknown: safe to retry false
	// [tea milk]
}
