package mqtest_test

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/wire"
	"github.com/mqkit/mqkit/mqtest"
)

func TestOneConnectionIsBlockedBeforeItPublishes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		c.declare("q")
		blocked := c.conn.NotifyBlocked(make(chan amqp.Blocking, 4))
		in := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: publish})
		for i, reason := range []string{"", "for a reason"} {
			want := reason
			if want == "" {
				want = "low on memory"
			}
			one := s.Connections()[0]
			one.Block(reason)
			one.Block(reason)
			if x, _ := receive(t, blocked); !x.Active || x.Reason != want {
				t.Errorf("got %+v", x)
			}
			c.publish("q", "x")
			other := connect(t, s)
			other.settled()
			if n := b.Queue("q").Len(); n != i || in.Hits() != i {
				t.Errorf("%d in the queue, %d received, while it is blocked for the %d. time", n, in.Hits(), i+1)
			}
			one.Unblock()
			one.Unblock()
			if x, _ := receive(t, blocked); x.Active {
				t.Errorf("got %+v", x)
			}
			c.verdicts(1)
		}
	})
}

func TestAConnectionIsBlockedOnceItIsOpen(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	p := raw(t, b.Stage)
	b.Connections()[0].Block("")
	p.write([]byte(wire.ProtocolHeader))
	p.expect("connection.start")
	p.send(0, &wire.ConnectionStartOk{
		Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US",
		ClientProperties: wire.Table{{Key: "capabilities", Value: wire.Table{{Key: "connection.blocked", Value: true}}}},
	})
	p.expect("connection.tune")
	p.send(0, &wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072})
	p.send(0, &wire.ConnectionOpen{VirtualHost: "/"})
	p.expect("connection.open-ok")
	p.expect("connection.blocked")
	p.method(1, "channel.open", nil)
	b.Unblock()
	p.expect("connection.unblocked")
	p.expect("channel.open-ok")
}

// What a connection had half sent when it was blocked is lost with it, even if the
// block ends before its end is known everywhere.
func TestWhatABlockedConnectionHadHalfSentIsLostWithIt(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	p := raw(t, b.Stage)
	p.confirming()
	// The first publish blocks the connection: of its three frames the last is left.
	// The second, of the same read, keeps the connection busy until all is over.
	busy, done := make(chan struct{}), make(chan struct{})
	b.Inject(mqtest.Fault{Point: mqtest.Received, MessageID: "b", If: func(*mqtest.Event) bool {
		close(busy)
		<-done
		return false
	}})
	b.Block("")
	var both []byte
	for _, id := range []string{"a", "b"} {
		properties := wire.Properties{MessageID: id}
		properties.Mark()
		both = append(both, wire.AppendContent(nil, 1, &wire.BasicPublish{RoutingKey: "q"}, properties.Append(nil), []byte(id), 4096)...)
	}
	p.write(both)
	receive(t, busy)
	conn := b.Connections()[0]
	conn.Do(mqtest.Cut())
	b.Unblock()
	close(done)
	p.ended()
	receive(t, conn.Done())
	same(t, "queue", b.Queue("q").Bodies(), nil)
}
