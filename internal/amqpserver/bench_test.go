package amqpserver_test

import (
	"testing"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// BenchmarkPublishAndDeliver is a confirmed publish that a consumer of the same
// connection gets, without sockets.
func BenchmarkPublishAndDeliver(b *testing.B) {
	broker := engine.New(engine.Options{})
	defer broker.Close()
	conn := amqpserver.NewConn(amqpserver.Config{Broker: broker}, func([]byte) {}, func(error) {})
	conn.Start(header)
	for ch, methods := range [][]wire.Method{
		{
			startOk("PLAIN", "\x00guest\x00guest", capabilities),
			&wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 131072}, &wire.ConnectionOpen{VirtualHost: "/"},
		},
		{
			&wire.ChannelOpen{}, &wire.QueueDeclare{Queue: "q", Durable: true}, &wire.ConfirmSelect{},
			&wire.BasicConsume{Queue: "q", NoAck: true},
		},
	} {
		for _, m := range methods {
			conn.Handle(frame(uint16(ch), m))
		}
	}
	publish := frame(1, &wire.BasicPublish{RoutingKey: "q"})
	text := make([]byte, 256)
	for b.Loop() {
		conn.Handle(publish)
		conn.Handle(contentHeader(1, uint64(len(text))))
		conn.Handle(wire.Frame{Type: wire.BodyFrame, Channel: 1, Payload: text})
		conn.Idle()
	}
	conn.Gone(nil)
}
