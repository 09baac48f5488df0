package amqpserver_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// FuzzHandle feeds a connection that is open, with one channel, whatever frames
// can be read from the input: it must neither panic nor answer with what is no
// frame, and it must end when it is told to.
func FuzzHandle(f *testing.F) {
	method := func(ch uint16, m wire.Method) []byte { return wire.AppendMethod(nil, ch, m) }
	for _, seed := range [][]byte{
		method(1, &wire.QueueDeclare{Queue: "q", Arguments: wire.Table{{Key: "x-max-length", Value: int64(1)}}}),
		method(1, &wire.QueueDeclare{}),
		method(1, &wire.BasicConsume{Queue: "q"}),
		method(1, &wire.ConfirmSelect{}),
		method(1, &wire.TxSelect{}),
		method(1, &wire.BasicNack{DeliveryTag: 1, Requeue: true}),
		method(1, &wire.ChannelClose{}),
		method(0, &wire.ConnectionClose{}),
		method(2, &wire.ChannelOpen{}),
		wire.AppendContent(nil, 1, &wire.BasicPublish{RoutingKey: "q", Mandatory: true}, []byte{0x10, 0, 2}, []byte("body"), 0),
		wire.Frame{Type: wire.HeartbeatFrame}.Append(nil),
		wire.Frame{Type: 7, Channel: 65535, Payload: []byte{0xff}}.Append(nil),
	} {
		f.Add(seed)
		f.Add(append(method(1, &wire.QueueDeclare{Queue: "q"}), append(seed, seed...)...))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		broker := engine.New(engine.Options{})
		defer broker.Close()
		var out bytes.Buffer
		ended := 0
		c := amqpserver.NewConn(amqpserver.Config{Broker: broker},
			func(frames []byte) { out.Write(frames) }, func(error) { ended++ })
		c.Start(header)
		for _, fr := range []wire.Frame{
			frame(0, startOk("PLAIN", "\x00guest\x00guest", capabilities)),
			frame(0, &wire.ConnectionTuneOk{ChannelMax: 3, FrameMax: 8192}),
			frame(0, &wire.ConnectionOpen{VirtualHost: "/"}),
			frame(1, &wire.ChannelOpen{}),
		} {
			c.Handle(fr)
		}
		r := wire.NewReader(bytes.NewReader(input))
		r.SetMax(c.FrameMax() + 100) // some that are too large
		for {
			f, err := r.Next()
			if malformed := (*wire.FrameError)(nil); errors.As(err, &malformed) {
				c.Malformed(malformed)
			}
			if err != nil {
				break
			}
			c.Handle(f)
			c.Idle()
		}
		c.Gone(nil)
		if ended != 1 {
			t.Fatalf("end was called %d times", ended)
		}
		answers := wire.NewReader(&out)
		for {
			f, err := answers.Next()
			if err != nil {
				if answers.Buffered() > 0 || out.Len() > 0 {
					t.Fatalf("the client cannot read its answers: %v", err)
				}
				return
			}
			if f.Type == wire.MethodFrame {
				if _, err := wire.ParseMethod(f.Payload); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
