package amqpserver_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// TestLocksAreTakenInOneOrder has connections that deliver to each other, while
// their sockets fall behind and catch up and they are blocked, asked and closed
// from elsewhere. It proves something under the race detector, and by ending.
func TestLocksAreTakenInOneOrder(t *testing.T) {
	t.Parallel()
	broker := engine.New(engine.Options{})
	t.Cleanup(broker.Close)
	const conns, rounds, queues = 4, 300, 2
	var tasks sync.WaitGroup
	for n := range conns {
		random := rand.New(rand.NewPCG(1, uint64(n)))
		ended := make(chan struct{})
		var conn *amqpserver.Conn
		started := make(chan struct{})
		conn = amqpserver.NewConn(amqpserver.Config{Broker: broker}, func([]byte) {
			select {
			case <-started:
				conn.Behind(true) // as out may
			default:
			}
		}, func(error) { close(ended) })
		close(started)
		conn.Start(header)
		send := func(ch uint16, m wire.Method) { conn.Handle(frame(ch, m)) }
		send(0, startOk("PLAIN", "\x00guest\x00guest", capabilities))
		send(0, &wire.ConnectionTuneOk{ChannelMax: 10, FrameMax: 8192, Heartbeat: 1})
		send(0, &wire.ConnectionOpen{VirtualHost: "/"})
		send(1, &wire.ChannelOpen{})
		send(1, &wire.ConfirmSelect{})
		for i := range queues {
			send(1, &wire.QueueDeclare{Queue: fmt.Sprint(i), Durable: true})
			send(1, &wire.BasicConsume{Queue: fmt.Sprint(i), NoAck: true})
		}
		others := make(chan struct{})
		tasks.Go(func() { // reads the client
			for range rounds {
				send(1, &wire.BasicPublish{RoutingKey: fmt.Sprint(random.IntN(queues))})
				conn.Handle(contentHeader(1, 1))
				conn.Handle(body(1, "x"))
				switch random.IntN(10) {
				case 0:
					conn.Idle()
				case 1:
					send(2, &wire.ChannelOpen{})
					send(2, &wire.ChannelClose{})
				}
			}
			<-others
			send(0, &wire.ConnectionClose{})
			conn.Gone(nil)
			<-ended
		})
		tasks.Go(func() { // writes to the client, and controls it
			defer close(others)
			for i := range rounds {
				conn.Behind(false)
				conn.Resume()
				switch i % 4 {
				case 0:
					conn.Block("low on memory")
				case 1:
					conn.Unblock()
				case 2:
					_, _ = conn.Client(), conn.Channels()
				case 3:
					_, _ = conn.Open(), conn.Blocked()
				}
			}
			if n == 0 {
				conn.Close(320, "CONNECTION_FORCED - enough")
			}
		})
	}
	tasks.Wait()
}
