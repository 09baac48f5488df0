package amqpserver_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// channelClosed is a channel.close in the name of a method.
func channelClosed(code uint16, text string, m wire.Method) *wire.ChannelClose {
	return &wire.ChannelClose{ReplyCode: code, ReplyText: text, ClassID: m.ID().Class(), MethodID: m.ID().Method()}
}

func TestWhatClosesTheConnection(t *testing.T) {
	t.Parallel()
	publish := &wire.BasicPublish{RoutingKey: "q"}
	method := func(ch uint16, m wire.Method) []wire.Frame { return []wire.Frame{frame(ch, m)} }
	publishing := func(more ...wire.Frame) []wire.Frame { return append([]wire.Frame{frame(1, publish)}, more...) }
	weighty := contentHeader(1, 3)
	weighty.Payload[3] = 1
	cut := contentHeader(1, 1)
	cut.Payload[12] = 0x80 // a content type, which is not there
	badTable := frame(0, startOk("PLAIN", "", wire.Table{{Key: "k", Value: true}}))
	badTable.Payload[10] = '?' // no such type
	exchange := contentHeader(1, 3)
	exchange.Payload[1] = 40
	for _, tt := range []struct {
		name   string
		frames []wire.Frame
		code   uint16
		text   string
		method wire.Method
	}{
		{"second open", method(1, &wire.ChannelOpen{}), 504, "CHANNEL_ERROR - second 'channel.open' seen", &wire.ChannelOpen{}},
		{"no open", method(2, &wire.QueueDeclare{}), 504, "CHANNEL_ERROR - expected 'channel.open'", &wire.QueueDeclare{}},
		{"no open before a close", method(2, &wire.ChannelClose{}), 504, "CHANNEL_ERROR - expected 'channel.open'", &wire.ChannelClose{}},
		{"no open before a body", []wire.Frame{body(2, "x")}, 505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", nil},
		{"no open before a publish", []wire.Frame{frame(2, publish), contentHeader(2, 0)}, 504, "CHANNEL_ERROR - expected 'channel.open'", publish},
		{"open on channel 0", method(0, &wire.ChannelOpen{}), 504, "CHANNEL_ERROR - unexpected method in connection state running", &wire.ChannelOpen{}},
		{"publish on channel 0", method(0, publish), 504, "CHANNEL_ERROR - unexpected method in connection state running", publish},
		{"body on channel 0", []wire.Frame{body(0, "x")}, 505, `UNEXPECTED_FRAME - type 3, all octets = <<"x">>`, nil},
		{"connection method on a channel", method(1, &wire.ConnectionClose{}), 503, "COMMAND_INVALID - unimplemented method", &wire.ConnectionClose{}},
		{"server's method", method(1, &wire.QueueDeclareOk{}), 503, "COMMAND_INVALID - unimplemented method", &wire.QueueDeclareOk{}},
		{"server's content", []wire.Frame{frame(1, &wire.BasicDeliver{}), contentHeader(1, 0)}, 503, "COMMAND_INVALID - unimplemented method", &wire.BasicDeliver{}},
		{"close-ok of nothing", method(1, &wire.ChannelCloseOk{}), 503, "COMMAND_INVALID - unimplemented method", &wire.ChannelCloseOk{}},
		{"flow off", method(1, &wire.ChannelFlow{}), 540, "NOT_IMPLEMENTED - active=false", &wire.ChannelFlow{}},
		{"recover without requeue", method(1, &wire.BasicRecover{}), 540, "NOT_IMPLEMENTED - requeue=false", &wire.BasicRecover{}},
		{"immediate", []wire.Frame{frame(1, &wire.BasicPublish{Immediate: true}), contentHeader(1, 0)}, 540, "NOT_IMPLEMENTED - immediate=true", publish},
		{"method for a header", publishing(frame(1, publish)), 505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", publish},
		{"body for a header", publishing(body(1, "x")), 505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", publish},
		{"weight", publishing(weighty), 505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", publish},
		{"another class's header", publishing(exchange), 505, "UNEXPECTED_FRAME - expected content header for class 60, got one for class 40 instead", publish},
		{"method for a body", publishing(contentHeader(1, 3), frame(1, publish)), 505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead", publish},
		{"body overrun", publishing(contentHeader(1, 3), body(1, "xx"), body(1, "xx")), 501, "FRAME_ERROR - content body frame exceeds remaining content size", publish},
		{"boundless body", publishing(contentHeader(1, 512<<20+1)), 501, "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912", publish},
		{"another kind of frame", []wire.Frame{{Type: 4, Channel: 1, Payload: []byte("0123456789abcdefgh")}}, 501, `FRAME_ERROR - type 4, first 16 octets = <<"0123456789abcdef">>: unknown_frame`, nil},
		{"short method", []wire.Frame{{Type: wire.MethodFrame, Channel: 1, Payload: []byte{0, 60}}}, 501, "FRAME_ERROR - type 1, all octets = <<0,60>>: unknown_frame", nil},
		{"short fields", []wire.Frame{{Type: wire.MethodFrame, Channel: 1, Payload: []byte{0, 60, 0, 10, 0}}}, 501, "FRAME_ERROR - cannot decode <<0>>", &wire.BasicQos{}},
		{"name that is not utf-8", method(1, &wire.QueueDeclare{Queue: "\xff"}), 501, "FRAME_ERROR - Malformed UTF-8 in shortstr", nil},
		{"reason that is not utf-8", method(0, &wire.ConnectionUpdateSecret{Reason: "\xff"}), 501, "FRAME_ERROR - Malformed UTF-8 in shortstr", &wire.ConnectionUpdateSecret{}},
		{"bad table on channel 0", []wire.Frame{badTable}, 541, "INTERNAL_ERROR", nil},
		{"properties cut short", publishing(cut, body(1, "m")), 541, "INTERNAL_ERROR", nil},
		{"cancel-ok of nothing", method(1, &wire.BasicCancelOk{ConsumerTag: "t"}), 541, "INTERNAL_ERROR", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, amqpserver.Config{}, 1)
			c.sendFrames(tt.frames...)
			c.expect(0, closed(tt.code, tt.text, tt.method))
			// Nothing is heard after that but the close-ok.
			c.send(1, &wire.QueueDeclare{})
			c.sendFrames(tt.frames...)
			if ended, err := c.end(); ended {
				t.Fatalf("ended without close-ok, with %v", err)
			}
			c.send(0, &wire.ConnectionCloseOk{})
			c.expectWords()
			if err := c.wantEnd(); !strings.Contains(err.Error(), tt.text) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestCancelOkWasUnknownByTheOldRules(t *testing.T) {
	t.Parallel()
	broker := engine.New(engine.Options{Rules: engine.Rules42})
	t.Cleanup(broker.Close)
	c := open(t, amqpserver.Config{Broker: broker}, 1)
	m := &wire.BasicCancelOk{ConsumerTag: "t"}
	c.send(1, m)
	c.expect(0, closed(503, "COMMAND_INVALID - unimplemented method", m))
}

func TestWhatCrashesRabbitMQsReaderEndsTheConnectionInSilence(t *testing.T) {
	t.Parallel()
	badTable := frame(1, &wire.ExchangeDeclare{Exchange: "x", Type: "direct", Arguments: wire.Table{{Key: "k", Value: true}}})
	badTable.Payload[len(badTable.Payload)-2] = '?' // no such type
	for _, f := range []wire.Frame{
		{Type: wire.MethodFrame, Channel: 1, Payload: []byte{0, 99, 0, 10}}, // no such method
		badTable,
	} {
		c := open(t, amqpserver.Config{}, 1)
		c.sendFrames(f)
		c.expectWords()
		var e *wire.FrameError
		if err := c.wantEnd(); !errors.As(err, &e) {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestChannelMaxIsHowManyThereMayBe(t *testing.T) {
	t.Parallel()
	c := accept(t, amqpserver.Config{})
	c.login()
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: 2, FrameMax: 8192}, &wire.ConnectionOpen{VirtualHost: "/"})
	c.words()
	c.send(7, &wire.ChannelOpen{}) // the number does not matter
	c.send(9, &wire.ChannelOpen{})
	c.send(7, &wire.ChannelClose{})
	c.send(8, &wire.ChannelOpen{})
	c.expectWords(word(7, &wire.ChannelOpenOk{}), word(9, &wire.ChannelOpenOk{}), word(7, &wire.ChannelCloseOk{}), word(8, &wire.ChannelOpenOk{}))
	if n := c.conn.Channels(); n != 2 {
		t.Errorf("%d channels", n)
	}
	c.send(10, &wire.ChannelOpen{})
	c.expect(0, closed(530, "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)", nil))
}

func TestAfterAChannelExceptionAllIsDroppedUntilCloseOk(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 2)
	missing := &wire.QueueDeclare{Queue: "missing", Passive: true}
	c.send(1, missing)
	c.expect(1, channelClosed(404, "NOT_FOUND - no queue 'missing' in vhost '/'", missing))
	c.send(1, missing, &wire.QueueDeclare{Queue: "q"}, &wire.ChannelOpen{})
	c.publish(1, &wire.BasicPublish{Exchange: "missing", Mandatory: true}, "x")
	c.expectWords()
	if _, ok := c.broker.Queue("/", "q"); ok {
		t.Error("the queue was declared on a closed channel")
	}
	// Its neighbour does not suffer.
	c.send(2, &wire.BasicQos{PrefetchCount: 1})
	c.expect(2, &wire.BasicQosOk{})
	// A close that has crossed ours is answered, and ends nothing.
	c.send(1, &wire.ChannelClose{}, missing)
	c.expect(1, &wire.ChannelCloseOk{})
	c.send(1, &wire.ChannelCloseOk{}, &wire.ChannelOpen{})
	c.expect(1, &wire.ChannelOpenOk{})
}

func TestContentOfAClosedChannelStillHasToBeContent(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 1)
	c.send(1, &wire.QueueDeclare{Queue: "missing", Passive: true})
	c.words()
	c.send(1, &wire.BasicPublish{})
	c.sendFrames(body(1, "x"))
	c.expect(0, closed(505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", &wire.BasicPublish{}))
}

func TestNoWaitIsNotAnswered(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 1)
	c.send(1,
		&wire.QueueDeclare{Queue: "q", NoWait: true},
		&wire.ExchangeDeclare{Exchange: "x", Type: "fanout", NoWait: true},
		&wire.ExchangeBind{Destination: "x", Source: "amq.fanout", NoWait: true},
		&wire.ExchangeUnbind{Destination: "x", Source: "amq.fanout", NoWait: true},
		&wire.QueueBind{Queue: "q", Exchange: "x", NoWait: true},
		&wire.BasicConsume{Queue: "q", ConsumerTag: "t", NoWait: true},
		&wire.BasicCancel{ConsumerTag: "t", NoWait: true},
		&wire.ConfirmSelect{NoWait: true},
		&wire.QueuePurge{Queue: "q", NoWait: true},
		&wire.BasicRecoverAsync{Requeue: true},
		&wire.QueueDelete{Queue: "q", NoWait: true},
		&wire.ExchangeDelete{Exchange: "x", NoWait: true},
	)
	c.expectWords()
	c.send(1,
		&wire.QueueDeclare{Queue: "q"},
		&wire.ExchangeDeclare{Exchange: "x", Type: "fanout"},
		&wire.ExchangeBind{Destination: "x", Source: "amq.fanout"},
		&wire.ExchangeUnbind{Destination: "x", Source: "amq.fanout"},
		&wire.QueueBind{Queue: "q", Exchange: "x"},
		&wire.QueueUnbind{Queue: "q", Exchange: "x"},
		&wire.BasicConsume{Queue: "q", ConsumerTag: "t"},
		&wire.BasicCancel{ConsumerTag: "t"},
		&wire.ConfirmSelect{},
		&wire.QueuePurge{Queue: "q"},
		&wire.BasicRecover{Requeue: true},
		&wire.BasicGet{Queue: "q"},
		&wire.QueueDelete{Queue: "q"},
		&wire.ExchangeDelete{Exchange: "x"},
		&wire.ChannelFlow{Active: true},
		&wire.AccessRequest{},
	)
	c.expect(1,
		&wire.QueueDeclareOk{Queue: "q"}, &wire.ExchangeDeclareOk{}, &wire.ExchangeBindOk{}, &wire.ExchangeUnbindOk{},
		&wire.QueueBindOk{}, &wire.QueueUnbindOk{}, &wire.BasicConsumeOk{ConsumerTag: "t"}, &wire.BasicCancelOk{ConsumerTag: "t"},
		&wire.ConfirmSelectOk{}, &wire.QueuePurgeOk{}, &wire.BasicRecoverOk{}, &wire.BasicGetEmpty{},
		&wire.QueueDeleteOk{}, &wire.ExchangeDeleteOk{}, &wire.ChannelFlowOk{Active: true}, &wire.AccessRequestOk{Ticket: 1},
	)
	c.send(1, &wire.ChannelClose{})
	c.send(2, &wire.ChannelOpen{}, &wire.TxSelect{}, &wire.TxCommit{}, &wire.TxRollback{})
	c.expectWords(word(1, &wire.ChannelCloseOk{}), word(2, &wire.ChannelOpenOk{}),
		word(2, &wire.TxSelectOk{}), word(2, &wire.TxCommitOk{}), word(2, &wire.TxRollbackOk{}))
}
