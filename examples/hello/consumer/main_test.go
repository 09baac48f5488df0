package main

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/mqkit/mqkit/consumer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example_onMessageReceived() {
	_ = onMessageReceived(context.Background(), &consumer.Delivery{Body: []byte("Hello, World!")})
	// Output: Received message: Hello, World!
}
