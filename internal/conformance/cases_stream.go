package conformance

import (
	"fmt"
	"strings"
	"time"
)

// stream declares a stream with five messages in it.
func (ch *Channel) stream(args Table) string {
	all := Table{"x-queue-type": "stream"}
	for k, v := range args {
		all[k] = v
	}
	q := ch.Queue(ch.s.QueueName("stream"), "durable", all)
	ch.PutAll(q, "m0", "m1", "m2", "m3", "m4")
	return q
}

// offset reads a stream of five messages from there on.
func offset(value any, n int) func(*Script) {
	return func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Qos(10, 0, "")
		ch.Consume(q, "t", "", Table{"x-stream-offset": value})
		if ch.amqp.IsClosed() {
			return
		}
		ch.Receive("t", n)
		ch.Silent("t")
		ch.Put("", q, M("m5"))
		ch.Receive("t", 1)
	}
}

// badStream declares a stream in a way that it cannot be.
func badStream(how string, args Table) func(*Script) {
	return func(s *Script) {
		all := Table{"x-queue-type": "stream"}
		for k, v := range args {
			all[k] = v
		}
		s.Channel().Queue(s.QueueName("stream"), how, all)
	}
}

var streamCases = []Case{
	{"stream/reads-are-not-destructive", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		for _, tag := range []string{"one", "two"} {
			ch.Qos(10, 0, "")
			ch.Consume(q, tag, "", Table{"x-stream-offset": "first"})
			tags := ch.Receive(tag, 5)
			ch.Ack(tags[4], "multiple")
		}
	}},
	{"stream/offset-first", offset("first", 5)},
	{"stream/offset-last", func(s *Script) {
		// It is the start of the last chunk, so what else is in it comes as well.
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Qos(10, 0, "")
		ch.Consume(q, "t", "", Table{"x-stream-offset": "last"})
		ch.LastOfStream("t")
	}},
	{"stream/offset-next", offset("next", 0)},
	{"stream/offset-number", offset(int64(2), 3)},
	{"stream/offset-number-to-come", offset(int64(5), 0)},
	{"stream/offset-timestamp", offset(time.Unix(1000000000, 0), 5)},
	{"stream/offset-interval", offset("1h", 5)},
	{"stream/offset-between-by-time", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		dead, args := ch.graveyard(nil)
		ch.Put("", ch.Own("clock", args), expiring("tick", "4000"))
		ch.Arrives(dead, "no-ack")
		ch.Put("", q, M("late"))
		ch.Qos(10, 0, "")
		ch.Consume(q, "interval", "", Table{"x-stream-offset": "2s"})
		ch.Receive("interval", 1)
		ch.Silent("interval")
		var err error
		ch.consumers["timestamp"], err = ch.amqp.Consume(q, "timestamp", false, false, false, false,
			Table{"x-stream-offset": time.Now().Add(-2 * time.Second)})
		ch.say("basic.consume %q from two seconds ago: %s", q, renderError(err))
		ch.Receive("timestamp", 1)
		ch.Silent("timestamp")
	}},
	{"stream/offset-default-is-next", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Qos(10, 0, "")
		ch.Consume(q, "t", "", nil)
		ch.Silent("t")
		ch.Put("", q, M("m5"))
		ch.Receive("t", 1)
	}},
	{"stream/offset-unknown", offset("whenever", 0)},
	{"stream/offset-of-wrong-type", offset(true, 0)},
	{"stream/without-prefetch", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Consume(q, "t", "", Table{"x-stream-offset": "first"})
	}},
	{"stream/no-ack", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Qos(10, 0, "")
		ch.Consume(q, "t", "no-ack", Table{"x-stream-offset": "first"})
	}},
	{"stream/exclusive-consumer", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Qos(10, 0, "")
		ch.Consume(q, "t", "exclusive", Table{"x-stream-offset": "first"})
	}},
	{"stream/prefetch-holds-back", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Qos(2, 0, "")
		ch.Consume(q, "t", "", Table{"x-stream-offset": "first"})
		tags := ch.Receive("t", 2)
		ch.Silent("t")
		ch.Ack(tags[1], "multiple")
		ch.Receive("t", 2)
		ch.Silent("t")
	}},
	{"stream/get", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Get(q, "")
	}},
	{"stream/nack-and-reject", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Qos(3, 0, "")
		ch.Consume(q, "t", "", Table{"x-stream-offset": "first"})
		tags := ch.Receive("t", 3)
		ch.Nack(tags[0], "requeue")
		ch.Reject(tags[1], "requeue")
		ch.Reject(tags[2], "")
		ch.Receive("t", 2)
		ch.Silent("t")
	}},
	{"stream/purge", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Purge(q)
	}},
	{"stream/delete", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.DeleteQueue(q, "")
		ch.Gone(q)
	}},
	{"stream/delete-if-empty", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.DeleteQueue(q, "if-empty")
	}},
	{"stream/delete-if-unused", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.DeleteQueue(q, "if-unused")
	}},
	{"stream/delete-cancels-consumers", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.stream(nil)
		ch.Qos(10, 0, "")
		ch.Consume(q, "t", "", Table{"x-stream-offset": "first"})
		ch.Receive("t", 5)
		other.DeleteQueue(q, "")
		ch.Cancelled(1)
	}},
	{"stream/transient", badStream("", nil)},
	{"stream/exclusive", badStream("exclusive durable", nil)},
	{"stream/auto-delete", badStream("auto-delete durable", nil)},
	{"stream/message-ttl", badStream("durable", Table{"x-message-ttl": int32(1000)})},
	{"stream/max-length", badStream("durable", Table{"x-max-length": int32(1000)})},
	{"stream/max-priority", badStream("durable", Table{"x-max-priority": int32(5)})},
	{"stream/dead-letter-exchange", badStream("durable", Table{"x-dead-letter-exchange": "amq.fanout"})},
	{"stream/expires", badStream("durable", Table{"x-expires": int32(1000)})},
	{"stream/single-active-consumer", badStream("durable", Table{"x-single-active-consumer": true})},
	{"stream/max-age", badStream("durable", Table{"x-max-age": "1h"})},
	{"stream/max-age-that-is-none", badStream("durable", Table{"x-max-age": "soon"})},
	{"stream/max-length-bytes", badStream("durable", Table{"x-max-length-bytes": int32(1000000), "x-stream-max-segment-size-bytes": int32(500000)})},
	{"stream/forgets-what-is-above-its-length", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(Table{"x-max-length-bytes": int32(5000), "x-stream-max-segment-size-bytes": int32(2000)})
		ch.fill(q)
		ch.Forgotten(q)
	}},
	{"stream/forgets-what-is-above-its-age", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(Table{"x-max-age": "1s", "x-stream-max-segment-size-bytes": int32(2000)})
		ch.fill(q)
		dead, args := ch.graveyard(nil)
		ch.Put("", ch.Own("clock", args), expiring("tick", "2500"))
		ch.Arrives(dead, "no-ack")
		ch.fill(q)
		ch.Forgotten(q)
	}},
	{"stream/properties", func(s *Script) {
		ch := s.Channel()
		q := ch.stream(nil)
		ch.Put("", q, Msg{
			Body: []byte("full"), ContentType: "text/plain", MessageId: "id", CorrelationId: "c", ReplyTo: "r",
			Headers: Table{"n": int32(1), "s": "text", "b": true}, DeliveryMode: 2, Priority: 3, Type: "t", AppId: "app", Timestamp: time.Unix(1700000000, 0),
		})
		ch.Qos(10, 0, "")
		ch.Consume(q, "t", "", Table{"x-stream-offset": int64(5)})
		ch.Receive("t", 1)
	}},
}

// LastOfStream says that the last of a stream's five messages arrives, whichever come
// before it.
func (ch *Channel) LastOfStream(tag string) {
	for {
		d, ok := await(ch.s, "delivery to "+tag, ch.consumers[tag])
		if !ok {
			return
		}
		if string(d.Body) == "m4" {
			ch.say("the last to %q: %s", tag, fmt.Sprint(ofDelivery(&d)))
			return
		}
	}
}

// fill puts some segments of a small size into a stream.
func (ch *Channel) fill(stream string) {
	for i := range 15 {
		ch.Put("", stream, M(strings.Repeat(string(rune('a'+i)), 1000)))
	}
}

// Forgotten waits until a stream does not begin with its first message any more. How
// much it has left depends on what a broker counts besides the bodies.
func (ch *Channel) Forgotten(stream string) {
	for range ch.s.polls() {
		look, err := ch.conn.amqp.Channel()
		if err != nil {
			break
		}
		_ = look.Qos(1, 0, false)
		deliveries, err := look.Consume(stream, "", false, false, false, false, Table{"x-stream-offset": int64(0)})
		if err != nil {
			ch.say("stream %q: %s", stream, renderError(err))
			return
		}
		d, ok := await(ch.s, "delivery", deliveries)
		_ = look.Close()
		if first, _ := d.Headers["x-stream-offset"].(int64); ok && first > 0 {
			ch.say("stream %q has forgotten its first message", stream)
			return
		}
	}
	ch.say("stream %q has all its messages after %v", stream, patience)
}
