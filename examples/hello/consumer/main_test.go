package main

import (
	"context"

	"github.com/mqkit/mqkit/consumer"
)

func Example_onMessageReceived() {
	_ = onMessageReceived(context.Background(), &consumer.Delivery{Body: []byte("Hello, World!")})
	// Output: Received message: Hello, World!
}
