package mqtest_test

import (
	"context"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// Confirmed publishes of 256 bytes with a thousand in flight, by the bare driver.
func BenchmarkConfirmedPublish(b *testing.B) {
	for name, journal := range map[string]int{"": 0, "journal": 4096} {
		b.Run("broker"+name, func(b *testing.B) {
			broker := started(b, journal)
			publishAll(b, broker.Stage)
		})
	}
	b.Run("proxy", func(b *testing.B) {
		p, err := mqtest.StartProxy(started(b, 0).URL(), mqtest.ProxyConfig{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(p.Close)
		publishAll(b, p.Stage)
	})
	b.Run("fault", func(b *testing.B) {
		broker := started(b, 0)
		broker.Inject(mqtest.Fault{MessageID: "none", Do: mqtest.Cut()})
		publishAll(b, broker.Stage)
	})
}

func started(b *testing.B, journal int) *mqtest.Broker {
	b.Helper()
	broker, err := mqtest.Start(mqtest.Config{Journal: journal})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(broker.Close)
	return broker
}

func publishAll(b *testing.B, s *mqtest.Stage) {
	c := connect(b, s)
	c.declare("q")
	window := make(chan *amqp.DeferredConfirmation, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for confirm := range window {
			if !confirm.Wait() {
				b.Error("nacked")
			}
		}
	}()
	go func() {
		for range c.confirms {
		}
	}()
	body := make([]byte, 256)
	for b.Loop() {
		m := amqp.Publishing{Body: body, DeliveryMode: amqp.Persistent}
		confirm, err := c.ch.PublishWithDeferredConfirmWithContext(context.Background(), "", "q", false, false, m)
		if err != nil {
			b.Fatal(err)
		}
		window <- confirm
	}
	close(window)
	<-done
}
