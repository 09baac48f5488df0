package producer_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestNackedByOneQueueIsStoredInAnother: one that is full has the broker nack a message
// which the others keep. To publish it again makes a duplicate there.
func TestNackedByOneQueueIsStoredInAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, producer.Config{}, func(pool *reconnect.Config) {
			pool.Topology = topology.Topology{
				Exchanges: []topology.Exchange{{Name: "all", Kind: topology.KindFanout}},
				Queues:    []topology.Queue{{Name: "q"}, {Name: "full", Type: topology.Classic, MaxLength: 1, Overflow: topology.RejectPublish}},
				Bindings:  []topology.Binding{{Exchange: "all", Queue: "q"}, {Exchange: "all", Queue: "full"}},
			}
		})
		first, second := f.message(producer.Text("1").To("all", "")), f.message(producer.Text("2").To("all", ""))
		f.verdict(first, producer.Confirmed)
		err := f.verdict(second, producer.Nacked)
		if !errors.Is(err, producer.ErrNacked) || producer.SafeToRetry(err) {
			t.Errorf("%v, safe to retry: %v", err, producer.SafeToRetry(err))
		}
		f.stored("1", "2")
		if got := f.broker.Queue("full").Bodies(); !slices.Equal(got, []string{"1"}) {
			t.Errorf("the full queue has %q", got)
		}
	})
}

// TestADirectReplyToWithoutAConsumerIsRefusedAlone: replies come only on the channel that
// asks, so the broker closes it where nothing consumes them, as on ours.
func TestADirectReplyToWithoutAConsumerIsRefusedAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, producer.Config{}, backoffOf(time.Second))
		closes := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close"})
		cs := f.publish("1")
		asks := producer.Text("asks").ToQueue("q")
		asks.ReplyTo = "amq.rabbitmq.reply-to"
		asking := f.message(asks)
		cs = append(cs, f.publish("2")...)
		var told *reconnect.BrokerError
		if err := f.verdict(asking, producer.Refused); !errors.As(err, &told) || told.Code != 406 {
			t.Errorf("%v, want the broker's 406", err)
		}
		for _, c := range cs {
			f.verdict(c, producer.Confirmed)
		}
		if closes.Hits() == 0 || slices.Contains(f.broker.Queue("q").Bodies(), "asks") {
			t.Errorf("%d channels were closed, stored are %q", closes.Hits(), f.broker.Queue("q").Bodies())
		}
	})
}

// TestAPriorityOfZeroIsNotSent: the driver leaves it out, so that it is not 0 to a queue for
// which a message without a priority has another one.
func TestAPriorityOfZeroIsNotSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, producer.Config{}, backoffOf(time.Millisecond))
		const flag = 1 << 11 // of the priority, among the properties that are there
		for _, p := range []uint8{0, 1} {
			m := producer.Text("x").ToQueue("q")
			m.Priority = p
			f.verdict(f.message(m), producer.Confirmed)
			header := frames(f.next("basic.publish"))[1]
			if sent := binary.BigEndian.Uint16(header[7+12:])&flag != 0; sent != (p > 0) {
				t.Errorf("priority %d: it is sent: %v", p, sent)
			}
		}
	})
}
