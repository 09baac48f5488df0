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

func TestEnqueueIsRefusedAsAPublishIs(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	c := connect(t, b.Stage)
	for kind, want := range map[string]int{"classic": 1, "quorum": 2} {
		args := amqp.Table{"x-queue-type": kind, "x-max-length": int32(1), "x-overflow": "reject-publish"}
		if _, err := c.ch.QueueDeclare(kind, true, false, false, false, args); err != nil {
			t.Fatal(err)
		}
		n := 0
		for range 5 {
			if b.Queue(kind).Enqueue(mqtest.Message{Body: []byte("m")}) {
				n++
			}
		}
		if n != want || b.Queue(kind).Len() != want {
			t.Errorf("%s: %d taken, %d there, want %d", kind, n, b.Queue(kind).Len(), want)
		}
		if b.Queue(kind).Purge(); !b.Queue(kind).Enqueue(mqtest.Message{}) {
			t.Errorf("%s refuses though it is empty", kind)
		}
	}
	c.declare("q")
	if !b.Queue("q").Enqueue(mqtest.Message{Body: make([]byte, 16<<20)}) {
		t.Error("16 MiB are refused")
	}
	for what, m := range map[string]mqtest.Message{
		"more than 16 MiB":   {Body: make([]byte, 16<<20+1)},
		"a wrong expiration": {Expiration: "soon"},
	} {
		if b.Queue("q").Enqueue(m, mqtest.Message{}) || b.Queue("q").Len() != 1 {
			t.Errorf("%s is taken: %d there", what, b.Queue("q").Len())
		}
	}
	if b.Queue("nosuch").Enqueue(mqtest.Message{}) {
		t.Error("a queue that is not there has taken a message")
	}
}
