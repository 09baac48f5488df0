package amqpserver_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/wire"
)

func TestContentIsPutTogether(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 1)
	c.send(1, &wire.QueueDeclare{Queue: "q"})
	c.words()
	publish := &wire.BasicPublish{RoutingKey: "q"}
	c.publish(1, publish, "")
	c.publish(1, publish, "whole")
	c.send(1, publish)
	c.sendFrames(contentHeader(1, 6), body(1, "in "), body(1, ""), body(1, "two"))
	c.send(1, &wire.BasicGet{Queue: "q", NoAck: true}, &wire.BasicGet{Queue: "q", NoAck: true}, &wire.BasicGet{Queue: "q", NoAck: true})
	c.expectWords(
		word(1, &wire.BasicGetOk{DeliveryTag: 1, RoutingKey: "q", MessageCount: 2}), "1 header 0",
		word(1, &wire.BasicGetOk{DeliveryTag: 2, RoutingKey: "q", MessageCount: 1}), "1 header 5", "1 body whole",
		word(1, &wire.BasicGetOk{DeliveryTag: 3, RoutingKey: "q"}), "1 header 6", "1 body in two",
	)
}

func TestABodyIsSentInFramesThatTheClientTakes(t *testing.T) {
	t.Parallel()
	c := accept(t, amqpserver.Config{})
	c.login()
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192}, &wire.ConnectionOpen{VirtualHost: "/"})
	c.send(1, &wire.ChannelOpen{}, &wire.QueueDeclare{Queue: "q"})
	c.words()
	c.send(1, &wire.BasicPublish{RoutingKey: "q"})
	c.sendFrames(contentHeader(1, 10_000), body(1, strings.Repeat("a", 8184)), body(1, strings.Repeat("b", 1816)))
	before := c.calls
	c.send(1, &wire.BasicGet{Queue: "q", NoAck: true})
	if got := c.words(); len(got) != 4 || len(got[2]) != len("1 body ")+8184 || len(got[3]) != len("1 body ")+1816 {
		t.Errorf("%d frames", len(got))
	}
	if c.calls != before+1 {
		t.Error("a method and its content were not sent together")
	}
}

func TestMessagesTooLargeAreRefusedAndNotKept(t *testing.T) {
	c := open(t, amqpserver.Config{MaxMessageSize: 1000}, 1)
	publish := &wire.BasicPublish{RoutingKey: "q"}
	const frames = 100
	c.send(1, publish)
	c.sendFrames(contentHeader(1, frames*100_000))
	chunk := body(1, strings.Repeat("x", 100_000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range frames - 1 {
		c.sendFrames(chunk)
	}
	c.expectWords()
	c.sendFrames(chunk)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d KiB were allocated for a message that is not kept", used>>10)
	}
	c.expect(1, channelClosed(406, "PRECONDITION_FAILED - message size 10000000 is larger than configured max size 1000", publish))
	c.send(1, &wire.ChannelCloseOk{}, &wire.ChannelOpen{})
	c.expect(1, &wire.ChannelOpenOk{})
}

func TestALargeSizeAloneAllocatesLittle(t *testing.T) {
	c := open(t, amqpserver.Config{MaxMessageSize: 512 << 20}, 100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for ch := uint16(1); ch <= 100; ch++ {
		c.send(ch, &wire.BasicPublish{})
		c.sendFrames(contentHeader(ch, 512<<20), body(ch, "x"))
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 150<<20 {
		t.Errorf("%d MiB were allocated for 100 bytes", used>>20)
	}
}

func TestFrameMaxIsEnforced(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 1)
	c.send(1, &wire.BasicPublish{})
	c.sendFrames(contentHeader(1, 1<<20), body(1, strings.Repeat("x", 131072))) // 8 too many are let pass
	c.expectWords()
	c.sendFrames(body(1, strings.Repeat("x", 131073)))
	c.expect(0, closed(501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}", nil))
	c.send(0, &wire.ConnectionCloseOk{}) // which is not heard
	if ended, err := c.end(); ended {
		t.Errorf("ended at once with %v", err)
	}
}

func TestMalformedFramesAreTheEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ input, text string }{
		{"\x01\x00\x01\x00\x00\x00\x04abcd\xcd", `FRAME_ERROR - type 1, all octets = <<"abcd">>: {invalid_frame_end_marker,205}`},
		{"GET / HTTP/1.1\r\n\r\n", "FRAME_ERROR - type 71, all octets = <<>>: {frame_too_large,539959368,131064}"},
	} {
		c := open(t, amqpserver.Config{}, 1)
		r := wire.NewReader(strings.NewReader(tt.input))
		r.SetMax(c.conn.FrameMax())
		_, err := r.Next()
		malformed, ok := err.(*wire.FrameError) //nolint:errorlint // it is the whole contract of Next
		if !ok {
			t.Fatalf("%q is %v", tt.input, err)
		}
		c.conn.Malformed(malformed)
		c.expect(0, closed(501, tt.text, nil))
	}
}

func TestConfirmsAreHeldBackUntilIdle(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 2)
	c.send(1, &wire.QueueDeclare{Queue: "q"}, &wire.ConfirmSelect{})
	c.words()
	publish := &wire.BasicPublish{RoutingKey: "q"}
	for range 3 {
		c.publish(1, publish, "x")
	}
	c.expectWords()
	c.conn.Idle()
	c.expect(1, &wire.BasicAck{DeliveryTag: 3, Multiple: true})
	c.conn.Idle()
	c.expectWords()

	c.publish(1, publish, "x")
	c.conn.Idle()
	c.expect(1, &wire.BasicAck{DeliveryTag: 4})

	// Another method's answer comes first, and brings them along.
	c.publish(1, publish, "x")
	c.send(1, &wire.BasicQos{PrefetchCount: 1})
	c.expect(1, &wire.BasicQosOk{}, &wire.BasicAck{DeliveryTag: 5})
	c.conn.Idle()
	c.expectWords()

	// A return comes at once, before the ack.
	c.publish(1, &wire.BasicPublish{RoutingKey: "nowhere", Mandatory: true}, "x")
	c.expectWords(word(1, &wire.BasicReturn{ReplyCode: 312, ReplyText: "NO_ROUTE", RoutingKey: "nowhere"}), "1 header 1", "1 body x")
	c.conn.Idle()
	c.expect(1, &wire.BasicAck{DeliveryTag: 6})

	// So does a close.
	c.publish(1, publish, "x")
	c.send(1, &wire.ChannelClose{})
	c.expect(1, &wire.BasicAck{DeliveryTag: 7}, &wire.ChannelCloseOk{})
	c.send(1, &wire.ChannelOpen{}, &wire.ConfirmSelect{})
	c.words()
	c.publish(1, publish, "x")
	c.publish(1, &wire.BasicPublish{Exchange: "nowhere"}, "x")
	c.expect(1, &wire.BasicAck{DeliveryTag: 1}, &wire.ChannelClose{
		ReplyCode: 404, ReplyText: "NOT_FOUND - no exchange 'nowhere' in vhost '/'", ClassID: 60, MethodID: 40,
	})
	c.send(1, &wire.ChannelCloseOk{}, &wire.ChannelOpen{}, &wire.ConfirmSelect{})
	c.words()
	c.publish(1, publish, "x")
	c.send(0, &wire.ConnectionClose{})
	c.expectWords(word(1, &wire.BasicAck{DeliveryTag: 1}), word(0, &wire.ConnectionCloseOk{}))

	c = open(t, amqpserver.Config{}, 1)
	c.send(1, &wire.ConfirmSelect{})
	c.words()
	c.publish(1, &wire.BasicPublish{RoutingKey: "nowhere"}, "x")
	c.send(1, &wire.ChannelOpen{})
	c.expectWords(word(1, &wire.BasicAck{DeliveryTag: 1}), word(0, &wire.ConnectionClose{
		ReplyCode: 504, ReplyText: "CHANNEL_ERROR - second 'channel.open' seen", ClassID: 20, MethodID: 10,
	}))
}

func TestNothingIsDeliveredToAClientThatIsBehind(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 2)
	c.send(1, &wire.QueueDeclare{Queue: "q"}, &wire.BasicConsume{Queue: "q", ConsumerTag: "t", NoAck: true})
	c.words()
	c.conn.Behind(true)
	for range 2 {
		c.publish(2, &wire.BasicPublish{RoutingKey: "q"}, "x")
	}
	c.send(2, &wire.BasicQos{})
	c.expect(2, &wire.BasicQosOk{}) // answers are
	c.conn.Behind(false)
	c.conn.Resume()
	c.expectWords(
		word(1, &wire.BasicDeliver{ConsumerTag: "t", DeliveryTag: 1, RoutingKey: "q"}), "1 header 1", "1 body x",
		word(1, &wire.BasicDeliver{ConsumerTag: "t", DeliveryTag: 2, RoutingKey: "q"}), "1 header 1", "1 body x",
	)
}

func TestCancelByTheBroker(t *testing.T) {
	t.Parallel()
	c := open(t, amqpserver.Config{}, 1)
	c.send(1, &wire.QueueDeclare{Queue: "q"}, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"})
	c.words()
	c.broker.DeleteQueue("/", "q")
	c.expect(1, &wire.BasicCancel{ConsumerTag: "t", NoWait: true})
	c.send(1, &wire.BasicCancelOk{ConsumerTag: "t"}) // which was not asked for
	c.expect(0, closed(541, "INTERNAL_ERROR", nil))
}
