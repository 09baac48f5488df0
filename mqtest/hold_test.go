package mqtest_test

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/wire"
	"github.com/mqkit/mqkit/mqtest"
)

// declared runs a declare, which waits for its answer.
func declared(ch *amqp.Channel, queue string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := ch.QueueDeclare(queue, true, false, false, false, nil)
		done <- err
	}()
	return done
}

func TestAMethodIsHeldUntilItIsReleased(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		for _, x := range []struct {
			point  mqtest.Point
			exists bool // while it is held
		}{{mqtest.Received, false}, {mqtest.Applied, true}} {
			queue := "held at " + x.point.String()
			c := connect(t, s)
			in := s.Inject(mqtest.Fault{Point: x.point, Method: "queue.declare", Queue: queue, Count: 1, Do: mqtest.Hold()})
			done := declared(c.ch, queue)
			hit(t, in, 1)
			connect(t, s).settled() // others go on
			if got := b.Queue(queue).Exists(); got != x.exists {
				t.Errorf("%s: it exists: %v", queue, got)
			}
			select {
			case err := <-done:
				t.Errorf("%s: answered with %v", queue, err)
			default:
			}
			in.Release()
			if err, _ := receive(t, done); err != nil {
				t.Errorf("%s: %v", queue, err)
			}
			if !b.Queue(queue).Exists() {
				t.Errorf("%s: released, and not there", queue)
			}
		}
	})
}

func TestReleaseLetsGoOfWhatWaitsBehindToo(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		in := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: publish, Do: mqtest.Hold()})
		other := s.Inject(mqtest.Fault{Point: mqtest.Received, MessageID: "nacked", Do: mqtest.Nack()})
		reached := func() { // by what was sent before
			t.Helper()
			p.method(2, "channel.open", nil)
			p.expect("channel.open-ok")
			p.method(2, "channel.close", nil)
			p.expect("channel.close-ok")
		}
		acked := func(number uint64) {
			t.Helper()
			for last := uint64(0); last < number; {
				if m, ok := p.expect("basic.ack").Method.(*wire.BasicAck); ok {
					last = m.DeliveryTag
				}
			}
		}
		for round, want := range [][]string{{"a", "b"}, {"a", "b", "a", "b"}} {
			p.publish(1, "q", "a")
			p.publish(1, "q", "b")
			reached()
			if n := b.Queue("q").Len(); n != 2*round || in.Hits() != 2*round+1 {
				t.Errorf("%d in the queue and %d hits before the %d. release", n, in.Hits(), round+1)
			}
			in.Release()
			acked(uint64(len(want)))
			same(t, "queue", b.Queue("q").Bodies(), want)
			if n := in.Hits(); n != len(want) {
				t.Errorf("%d hits after %d publishes", n, len(want))
			}
		}
		p.publish(1, "q", "c")
		reached()
		in.Remove()
		acked(5)
		p.publishID(1, "q", "nacked", "d")
		p.expect("basic.nack")
		hit(t, other, 1)
	})
}

func TestAnInterceptorsHoldEndsWithIt(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		c.declare("q")
		held := make(chan struct{}, 10)
		remove := s.Intercept(func(e *mqtest.Event) mqtest.Action {
			if e.Point == mqtest.Applied && e.MessageID == "a" {
				held <- struct{}{}
				return mqtest.Hold().Then(mqtest.Nack())
			}
			return mqtest.Pass()
		})
		c.publish("q", "a", "b")
		receive(t, held)
		remove()
		same(t, "verdicts", c.verdicts(2), []string{"1-", "2+"})
		same(t, "queue", b.Queue("q").Bodies(), []string{"a", "b"})
	})
}

func TestAConnectionIsHeldWhenItIsAccepted(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		in := s.Inject(mqtest.Fault{Point: mqtest.Accepted, Conn: 1, Do: mqtest.Hold()})
		done := make(chan error, 1)
		go func() { done <- attempt(s) }()
		hit(t, in, 1)
		select {
		case err := <-done:
			t.Errorf("it has ended: %v", err)
		default:
		}
		in.Release()
		if err, _ := receive(t, done); err != nil {
			t.Error(err)
		}
	})
}

func TestABrokerEndsWithWhatItHolds(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	in := b.Inject(mqtest.Fault{Point: mqtest.Accepted, Conn: 1, Do: mqtest.Hold()})
	raw(t, b.Stage)
	hit(t, in, 1)
	b.Close()
	in.Release()
}
