package mqtest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

func Example() {
	broker, err := mqtest.Start(mqtest.Config{}) // in a test: mqtest.New(t)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer broker.Close()

	conn, err := amqp.Dial(broker.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := ch.QueueDeclare("orders", true, false, false, false, nil); err != nil {
		fmt.Println(err)
		return
	}
	broker.Queue("orders").Enqueue(mqtest.Message{Body: []byte("tea"), MessageID: "1"})
	d, ok, err := ch.Get("orders", true)
	fmt.Println(string(d.Body), ok, err, broker.Queue("orders").Len())
	// Output: tea true <nil> 0
}

// The same loss at two moments: the publisher sees the same, the queue does not.
func ExampleStage_Inject() {
	for _, point := range []mqtest.Point{mqtest.Received, mqtest.Applied} {
		broker, err := mqtest.Start(mqtest.Config{})
		if err != nil {
			fmt.Println(err)
			return
		}
		cut := broker.Inject(mqtest.Fault{Point: point, Method: "basic.publish", Count: 1, Do: mqtest.Cut()})
		confirmed := publishOne(broker.URL(), "orders")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := cut.Wait(ctx); err != nil {
			fmt.Println(err)
		}
		cancel()
		fmt.Printf("%v: confirmed %v, stored %d\n", point, confirmed, broker.Queue("orders").Len())
		broker.Close()
	}
	// Output:
	// received: confirmed false, stored 0
	// applied: confirmed false, stored 1
}

func publishOne(url, queue string) (confirmed bool) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return false
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return false
	}
	_, err = ch.QueueDeclare(queue, true, false, false, false, nil)
	if err = errors.Join(err, ch.Confirm(false)); err != nil {
		return false
	}
	c, err := ch.PublishWithDeferredConfirm("", queue, false, false, amqp.Publishing{Body: []byte("tea")})
	return err == nil && c.Wait()
}

// A program can stand in front of a broker and harm its connections.
func ExampleStartProxy() {
	broker, err := mqtest.Start(mqtest.Config{}) // or a RabbitMQ anywhere
	if err != nil {
		fmt.Println(err)
		return
	}
	defer broker.Close()
	proxy, err := mqtest.StartProxy(broker.URL(), mqtest.ProxyConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer proxy.Close()

	proxy.Inject(mqtest.Fault{
		Point: mqtest.Received, Method: "connection.open", Count: 1,
		Do: mqtest.CloseConnection(530, "NOT_ALLOWED - vhost / not found"),
	})
	_, err = amqp.Dial(proxy.URL())
	fmt.Println(err)
	conn, err := amqp.Dial(proxy.URL())
	if err == nil {
		err = conn.Close()
	}
	fmt.Println(err)
	// Output:
	// Exception (530) Reason: "NOT_ALLOWED - vhost / not found"
	// <nil>
}
