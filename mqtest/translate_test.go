package mqtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// Whatever happens to its neighbours, each publish gets the verdict that is its
// own, and the queue holds what was applied, in order.
func TestEachPublishGetsItsOwnVerdict(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		stored := mixedVerdicts(t, s, "q", 1)
		same(t, "queue", b.Queue("q").Bodies(), stored)
	})
}

// On the broker that MQTEST_UPSTREAM names, whose acks are for as many as it
// likes.
func TestEachPublishGetsItsOwnVerdictOnAnotherBroker(t *testing.T) {
	t.Parallel()
	upstream := os.Getenv("MQTEST_UPSTREAM")
	if upstream == "" {
		t.Skip("MQTEST_UPSTREAM is not set")
	}
	p := mqtest.NewProxy(t, upstream)
	queue := fmt.Sprintf("mqtest-%d", time.Now().UnixNano())
	stored := mixedVerdicts(t, p.Stage, queue, uint64(time.Now().UnixNano()))
	c := connect(t, p.Stage)
	var got []string
	for range stored {
		d, ok, err := c.ch.Get(queue, true)
		if err != nil || !ok {
			t.Fatalf("after %d: %v, %v", len(got), ok, err)
		}
		got = append(got, string(d.Body))
	}
	same(t, "queue", got, stored)
	if n, err := c.ch.QueueDelete(queue, false, false, false); err != nil || n != 0 {
		t.Errorf("%d more messages, %v", n, err)
	}
}

// mixedVerdicts publishes a thousand messages, some of which are nacked, returned,
// doubled, or given a verdict that is not theirs, and returns what was stored.
func mixedVerdicts(t *testing.T, s *mqtest.Stage, queue string, seed uint64) (stored []string) {
	t.Helper()
	const n = 1000
	fates := make([]int, n)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range fates {
		fates[i] = random.IntN(12)
	}
	c := connect(t, s)
	c.declare(queue)
	s.Intercept(func(e *mqtest.Event) mqtest.Action {
		i, err := strconv.Atoi(e.MessageID)
		if err != nil || e.Method != publish || e.Point == mqtest.Sending {
			return mqtest.Pass()
		}
		if e.Number != uint64(i)+1 {
			t.Errorf("message %d has number %d", i, e.Number)
		}
		switch fate := fates[i]; {
		case e.Point == mqtest.Received && fate == 0:
			return mqtest.Nack()
		case e.Point == mqtest.Received && fate == 1:
			return mqtest.Return(312, "NO_ROUTE")
		case e.Point == mqtest.Received && fate == 2:
			return mqtest.Twice()
		case e.Point == mqtest.Applied && fate == 3:
			return mqtest.Nack()
		case e.Point == mqtest.Applied && fate == 4 && i%100 == 0:
			return mqtest.Delay(time.Millisecond)
		}
		return mqtest.Pass()
	})
	confirms := make([]*amqp.DeferredConfirmation, n)
	for i := range confirms {
		m := amqp.Publishing{Body: []byte(strconv.Itoa(i)), MessageId: strconv.Itoa(i), DeliveryMode: amqp.Persistent}
		var err error
		confirms[i], err = c.ch.PublishWithDeferredConfirmWithContext(context.Background(), "", queue, false, false, m)
		if err != nil {
			t.Fatal(err)
		}
		switch fates[i] {
		case 0, 1:
		case 2:
			stored = append(stored, strconv.Itoa(i))
			fallthrough
		default:
			stored = append(stored, strconv.Itoa(i))
		}
	}
	ctx := timeout(t)
	for i, confirm := range confirms {
		ack, err := confirm.WaitContext(ctx)
		if want := fates[i] != 0 && fates[i] != 3; err != nil || ack != want {
			t.Fatalf("message %d, fate %d: confirmed %v, %v", i, fates[i], ack, err)
		}
	}
	c.settled()
	return stored
}
