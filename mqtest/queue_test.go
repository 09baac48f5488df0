package mqtest_test

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

func TestTheLengthOfAStreamIsThatOfItsLog(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	c := connect(t, b.Stage)
	if _, err := c.ch.QueueDeclare("s", true, false, false, false, amqp.Table{"x-queue-type": "stream"}); err != nil {
		t.Fatal(err)
	}
	b.Queue("s").Enqueue(mqtest.Message{Body: []byte("1")}, mqtest.Message{Body: []byte("2")})
	if err := c.ch.Qos(10, 0, false); err != nil {
		t.Fatal(err)
	}
	ds, err := c.ch.Consume("s", "c", false, false, false, false, amqp.Table{"x-stream-offset": "first"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		receive(t, ds)
	}
	if s := b.Queue("s"); s.Len() != 2 || len(s.Messages()) != 2 || s.Info().Unacked != 2 {
		t.Errorf("length %d, %d messages, %+v", s.Len(), len(s.Messages()), s.Info())
	}
}
