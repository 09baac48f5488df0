package producer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// unserved has no session: what is taken in stays in the queue. The method is the
// one whose answer is missing.
func unserved(t *testing.T, cfg producer.Config) (*fixture, *mqtest.Event) {
	f := newFixture(t, cfg, unanswered("confirm.select"))
	return f, f.next("confirm.select")
}

// try reports whether m is taken in without a wait.
func (f *fixture) try(m producer.Message) bool {
	f.t.Helper()
	before := f.Stats().Accepted
	ctx, cancel := context.WithCancel(f.t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := f.PublishAsync(ctx, m)
		result <- err
	}()
	f.accepted(before + 1)
	cancel()
	err := ending(f.t, "PublishAsync", result)
	if err != nil && (producer.VerdictOf(err) != producer.NotSent || !errors.Is(err, context.Canceled) || !producer.SafeToRetry(err)) {
		f.t.Fatalf("a wait for room ended with %v", err)
	}
	return err == nil
}

func sized(t *testing.T, body int) (producer.Message, int) {
	t.Helper()
	m := producer.Bytes(bytes.Repeat([]byte("x"), body)).ToQueue("q")
	m.MessageID = "id"
	n, err := producer.HeaderSize(m)
	if err != nil {
		t.Fatal(err)
	}
	return m, body + n
}

func TestInFlightIsBoundedInMessages(t *testing.T) {
	t.Parallel()
	f, _ := unserved(t, producer.Config{MaxInFlight: 3})
	f.publish("1", "2", "3")
	if f.try(producer.Text("4").ToQueue("q")) {
		t.Error("a fourth was taken in")
	}
	if s := f.Stats(); s.InFlight != 3 || s.NotSent != 1 || s.Accepted != 4 {
		t.Errorf("%+v", s)
	}
}

func TestInFlightIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	m, size := sized(t, 1000)
	f, _ := unserved(t, producer.Config{MaxInFlightBytes: 2*size + 10})
	for i, want := range []bool{true, true, false} {
		if f.try(m) != want {
			t.Errorf("message %d: taken in is %v", i, !want)
		}
	}
}

func TestMessageLargerThanTheBoundGoesAlone(t *testing.T) {
	t.Parallel()
	large, _ := sized(t, 10_000)
	f := newFixture(t, producer.Config{MaxInFlightBytes: 500}, silent())
	c := f.message(large)
	if f.try(producer.Text("small").ToQueue("q")) {
		t.Error("another was taken in beside it")
	}
	m := f.next("basic.publish")
	f.say(m, ack(1, false))
	f.verdict(c, producer.Confirmed)
	small := f.publish("small")[0]
	m = f.arrive("small")[0]
	if f.try(large) {
		t.Error("it was taken in beside another")
	}
	f.say(m, ack(2, false))
	f.verdict(small, producer.Confirmed)
}

// TestWaitersAreTakenInInOrder: also a small one behind a large one.
func TestWaitersAreTakenInInOrder(t *testing.T) {
	t.Parallel()
	const half = 2000 // what makes two of them too large with their headers
	f := newFixture(t, producer.Config{MaxInFlightBytes: 2 * half})
	lost := f.broker.Inject(loses(1))
	f.message(producer.Text(strings.Repeat("1", half)).ToQueue("q"))
	f.struck(lost)
	const n = 20
	done := make(chan error, n)
	for i := range n {
		body := fmt.Sprint(i)
		if i%3 == 0 {
			body += strings.Repeat(" ", half)
		}
		m := producer.Text(body).ToQueue("q")
		go func() { done <- f.Publish(t.Context(), m) }()
		f.accepted(uint64(i) + 2)
	}
	if s := f.Stats(); s.InFlight != 1 {
		t.Fatalf("%+v: the head of those that wait is too large, and some got past it", s)
	}
	f.say(f.next("basic.publish"), ack(1, false)) // the broker confirms the rest
	for range n {
		if err := ending(t, "Publish", done); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range f.received("basic.publish")[1:] {
		if got := strings.TrimSpace(string(m.Body)); got != fmt.Sprint(i) {
			t.Fatalf("message %s was sent in place %d", got, i)
		}
	}
}

// TestWaiterThatGoesLetsThoseBehindItIn: a large one at the head had kept them.
func TestWaiterThatGoesLetsThoseBehindItIn(t *testing.T) {
	t.Parallel()
	large, size := sized(t, 1000)
	small, _ := sized(t, 1)
	f, _ := unserved(t, producer.Config{MaxInFlightBytes: 2 * size})
	f.message(large)
	f.message(small)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := make(chan error, 1)
	go func() {
		_, err := f.PublishAsync(ctx, large)
		gone <- err
	}()
	f.accepted(3)
	in := make(chan error, 1)
	go func() {
		_, err := f.PublishAsync(t.Context(), small)
		in <- err
	}()
	f.accepted(4)
	if s := f.Stats(); s.InFlight != 2 {
		t.Fatalf("%+v: the small one overtook the large one", s)
	}
	cancel()
	if err := ending(t, "PublishAsync of the large one", gone); producer.VerdictOf(err) != producer.NotSent {
		t.Error(err)
	}
	if err := ending(t, "PublishAsync of the small one, for which there is room,", in); err != nil {
		t.Error(err)
	}
}

// TestMessageIsGivenUpInEachPlace: while it waits for room, in the queue, after
// it was sent. The last is tested with the cut.
func TestMessageIsGivenUpInEachPlace(t *testing.T) {
	t.Parallel()
	f, confirm := unserved(t, producer.Config{MaxInFlight: 1})
	if err := f.Publish(expired(t), producer.Text("never").ToQueue("q")); producer.VerdictOf(err) != producer.NotSent || !errors.Is(err, context.Canceled) {
		t.Errorf("a ctx that had ended: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 2)
	for i := range 2 { // one in the queue, one waits
		go func() { given <- f.Publish(ctx, producer.Text(fmt.Sprint(i)).ToQueue("q")) }()
		f.accepted(uint64(i) + 2)
	}
	if s := f.Stats(); s.InFlight != 1 {
		t.Errorf("%+v", s)
	}
	cancel()
	for range 2 {
		if err := ending(t, "Publish", given); producer.VerdictOf(err) != producer.NotSent || !producer.SafeToRetry(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("given up before it was sent: %v", err)
		}
	}
	if s := f.Stats(); s.InFlight != 0 || s.NotSent != 3 {
		t.Errorf("%+v: they hold places", s)
	}
	// The place is free, and none of those is ever written.
	c := f.publish("last")[0]
	f.say(confirm, mqtest.Method{Name: "confirm.select-ok"})
	f.arrive("last")
	f.verdict(c, producer.Confirmed)
	f.stored("last")
}

func TestRefusedMessagesTakeNoPlace(t *testing.T) {
	t.Parallel()
	f, _ := unserved(t, producer.Config{MaxInFlight: 1})
	m := producer.Text("x").ToQueue("q")
	m.Headers = amqp.Table{"n": uint64(1)}
	c, err := f.PublishAsync(t.Context(), m)
	if c != nil || producer.VerdictOf(err) != producer.Refused || !producer.SafeToRetry(err) {
		t.Errorf("%v %v", c, err)
	}
	if s := f.Stats(); s.Accepted != 1 || s.Refused != 1 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// TestHeaderIsMeasuredAsTheDriverEncodesIt compares with what the broker receives:
// the bound of one frame must hold for what is sent, and refuse nothing that is
// clearly below it.
func TestHeaderIsMeasuredAsTheDriverEncodesIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() string { return strings.Repeat("é", rnd.IntN(20)) }
	var value func(depth int) any
	value = func(depth int) any {
		kinds := 17
		if depth == 0 {
			kinds = 14
		}
		switch rnd.IntN(kinds) {
		case 0:
			return nil
		case 1:
			return true
		case 2:
			return int8(-1)
		case 3:
			return uint8(1)
		case 4:
			return int16(-1)
		case 5:
			return uint16(1)
		case 6:
			return int32(-1)
		case 7:
			return uint32(1)
		case 8:
			return rnd.Int()
		case 9:
			return float32(1)
		case 10:
			return 1.5
		case 11:
			return []byte(word())
		case 12:
			return amqp.Decimal{Scale: 1, Value: 1}
		case 13:
			return time.Now()
		case 14:
			return []any{value(depth - 1), word(), value(depth - 1)}
		case 15:
			return map[string]any{word(): value(depth - 1)}
		default:
			return amqp.Table{word(): value(depth - 1), "k": value(depth - 1)}
		}
	}
	for i := range 300 {
		bare := producer.Text("x").ToQueue("q")
		bare.MessageID = fmt.Sprint("id-", i)
		if i%2 == 0 { // every property
			bare.ContentEncoding, bare.CorrelationID, bare.ReplyTo, bare.Type, bare.AppID, bare.UserID = word()+"x", word()+"x", word()+"x", word()+"x", word()+"x", "guest"
			bare.Expiration, bare.Priority, bare.Timestamp = "1", 1, time.Now()
		}
		m := bare
		m.Headers = amqp.Table{}
		for range rnd.IntN(6) {
			m.Headers[word()] = value(4)
		}
		without, err := producer.HeaderSize(bare)
		if err != nil {
			t.Fatal(err)
		}
		with, err := producer.HeaderSize(m)
		if err != nil {
			t.Fatal(err)
		}
		c := f.message(m)
		frame := len(frames(f.next("basic.publish"))[1])
		f.verdict(c, producer.Confirmed)
		if i%2 == 0 { // all that is measured is sent, but exchange and routing key
			if want := with - producer.KeptFree - 1 - len(m.Exchange) - 1 - len(m.RoutingKey); frame != want {
				t.Fatalf("measured %d, sent %d: %v", want, frame, m)
			}
		}
		bareFrame := 8 + 14 + 1 + len(bare.ContentType) + 1 + len(bare.MessageID) + 1 // and the delivery mode
		if i%2 == 1 && frame-bareFrame != with-without {
			t.Fatalf("the table was measured as %d and sent as %d: %v", with-without, frame-bareFrame, m.Headers)
		}
	}
}

func TestHeaderLargerThanAFrameIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	m := producer.Text("x").ToQueue("q")
	m.MessageID = "id"
	m.Headers = amqp.Table{"h": ""}
	n, err := producer.HeaderSize(m)
	if err != nil {
		t.Fatal(err)
	}
	const frameMax = 128 << 10 // RabbitMQ's default
	m.Headers["h"] = strings.Repeat("x", frameMax-n)
	c := f.message(m)
	if frame := len(frames(f.next("basic.publish"))[1]); frame > frameMax || frame < frameMax-100 {
		t.Errorf("the largest header that is let through makes a frame of %d", frame)
	}
	f.verdict(c, producer.Confirmed)
	m.Headers["h"] = strings.Repeat("x", frameMax-n+1)
	_, err = f.PublishAsync(t.Context(), m)
	var refused *producer.RefusedError
	if !errors.As(err, &refused) || refused.Field != "Headers" || !strings.Contains(err.Error(), "131072") {
		t.Errorf("one byte more: %v", err)
	}
}

// TestTheLargestHeaderHasRoomForThePrivateOne: a message may get it after it was measured.
func TestTheLargestHeaderHasRoomForThePrivateOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{}, silent())
	m := producer.Text("x").ToQueue("q")
	m.MessageID = "id"
	m.Headers = amqp.Table{"h": ""}
	n, err := producer.HeaderSize(m)
	if err != nil {
		t.Fatal(err)
	}
	const frameMax = 128 << 10
	m.Headers["h"] = strings.Repeat("x", frameMax-n)
	cs := []*producer.Confirmation{f.message(m), f.message(m)}
	second := f.arrive("x", "x")[1]
	if frame := frames(second)[1]; len(frame) > frameMax || !bytes.Contains(frame, []byte(producer.CorrelationHeader)) {
		t.Errorf("the second of an id that is in flight came with a header of %d bytes", len(frame))
	}
	f.say(second, ack(2, true))
	for _, c := range cs {
		f.verdict(c, producer.Confirmed)
	}
}

// TestHeaderIsHeldAgainstTheFramesOfItsConnection: when it was taken in there was no
// connection that could tell, and the limit is lower than RabbitMQ's.
func TestHeaderIsHeldAgainstTheFramesOfItsConnection(t *testing.T) {
	t.Parallel()
	f := fixtureOn(t, mqtest.New(t, mqtest.Config{FrameMax: 8 << 10}), producer.Config{}, unanswered("confirm.select"))
	confirm := f.next("confirm.select")
	m := producer.Text("large").ToQueue("q")
	m.Headers = amqp.Table{"h": strings.Repeat("x", 8<<10)}
	large, small := f.message(m), f.publish("small")[0]
	f.say(confirm, mqtest.Method{Name: "confirm.select-ok"})
	var refused *producer.RefusedError
	if err := f.verdict(large, producer.Refused); !errors.As(err, &refused) || refused.Field != "Headers" || !strings.Contains(err.Error(), "8192") {
		t.Errorf("larger than a frame: %v", err)
	}
	f.verdict(small, producer.Confirmed)
	if s := f.Stats(); s.InFlight != 0 {
		t.Errorf("%+v: it holds its place", s)
	}
	if n := f.pool.Status(reconnect.Publishing).Sessions; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if _, err := f.PublishAsync(t.Context(), m); producer.VerdictOf(err) != producer.Refused {
		t.Errorf("once the limit is known: %v", err)
	}
}

// TestWaitForAVerdictIsBoundedByItsContext in a time of its own.
func TestWaitForAVerdictIsBoundedByItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := producer.PendingConfirmation()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begin := time.Now()
		if err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
