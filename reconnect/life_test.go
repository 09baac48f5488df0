package reconnect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// newTestPool is a pool whose links do nothing by themselves; its goroutines
// have ended when the test has.
func newTestPool(t *testing.T, cfg Config) *Pool {
	t.Helper()
	cfg, addrs, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	p := &Pool{cfg: cfg, addrs: addrs, running: running, stop: stop, notifier: newNotifier(cfg.OnStateChange, cfg.Logger)}
	for role := range roles {
		p.links[role] = newLink(p, role)
	}
	t.Cleanup(func() {
		stop()
		p.owners.Wait()
		p.mu.Lock()
		p.sealed = true
		p.mu.Unlock()
		p.background.Wait()
		p.notifier.close()
		<-p.notifier.ended
	})
	return p
}

// newTestLife is a connection to a peer at the other end of a pipe, served by
// the consuming link of a pool that has no other. It works in a bubble.
func newTestLife(t *testing.T, cfg Config, script func(c *PeerConn)) *life {
	t.Helper()
	p := newTestPool(t, cfg)
	l := p.links[Consuming]
	near, far := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = far.Close() }()
		c := NewPeerConn(far)
		if err := c.Handshake(); err != nil {
			t.Errorf("handshake: %v", err)
			return
		}
		script(c)
	})
	lf := newLife(l, &address{host: "peer", port: "5672"})
	lf.conn = newConn(near, near, time.Now().Add(time.Second), lf.barrier)
	props := amqp.Table{}
	raw, err := amqp.Open(lf.conn, amqp.Config{
		SASL: []amqp.Authentication{&login{props: props}}, Vhost: "/", Heartbeat: p.cfg.Heartbeat, Properties: props,
	})
	if err != nil {
		t.Fatal(err)
	}
	lf.start(raw)
	l.become(Connecting, nil, nil, 0)
	l.become(Connected, lf, nil, 0)
	p.owners.Go(func() {
		if err := l.serve(lf); p.running.Err() == nil {
			l.become(Waiting, nil, err, 0)
		}
	})
	t.Cleanup(func() {
		lf.drop(errors.New("the test is over"))
		<-lf.conn.flushed
		_ = far.Close()
		wg.Wait()
	})
	return lf
}

func mustChannel(t *testing.T, lf *life) *Channel {
	t.Helper()
	ch, err := lf.channel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func declareQ(raw *amqp.Channel) error {
	_, err := raw.QueueDeclare("q", true, false, false, false, nil)
	return err
}

// deaf leaves every queue.declare without an answer.
func deaf(f Frame) bool { return f.Method() == MQueueDeclare }

func TestAnAnswerThatDoesNotComeWithinRPCTimeoutCostsTheConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newTestLife(t, Config{Heartbeat: time.Minute, RPCTimeout: 20 * time.Second}, func(c *PeerConn) { c.Serve(deaf) })
		ch := mustChannel(t, lf)
		began := time.Now()
		err := ch.Call(t.Context(), "declare q", declareQ)
		wantAfter(t, began, 20*time.Second)
		wantText(t, err, "declare q", "no answer from the broker within 20s")
		for _, want := range []error{ErrLost, ErrRPCTimeout} {
			if !errors.Is(err, want) || !errors.Is(ch.Err(), want) {
				t.Errorf("Call: %v; Err: %v; want both to wrap %v", err, ch.Err(), want)
			}
		}
		<-lf.conn.flushed
		synctest.Wait()
		if s := lf.link.read(); s.State != Waiting || !errors.Is(s.Cause, ErrRPCTimeout) {
			t.Errorf("status %+v", s)
		}
	})
}

// TestAnAbandonedChannelWhoseCloseIsNotAnsweredCostsNobodyTheConnection: others use it.
func TestAnAbandonedChannelWhoseCloseIsNotAnsweredCostsNobodyTheConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		stop := make(chan struct{})
		lf := newTestLife(t, Config{Heartbeat: time.Minute, RPCTimeout: 20 * time.Second}, func(c *PeerConn) {
			go beat(c, stop)
			c.Serve(func(f Frame) bool { return f.Method() == MChanClose })
		})
		defer close(stop)
		ch := mustChannel(t, lf)
		ch.Abandon()
		began := time.Now()
		if err := ch.Close(t.Context()); err != nil {
			t.Error(err)
		}
		wantAfter(t, began, 0)
		after(time.Minute)
		if lf.isOver() {
			t.Errorf("the connection is over: %+v", lf.link.read())
		}
		if err := mustChannel(t, lf).Call(t.Context(), "declare q", declareQ); err != nil {
			t.Error(err)
		}
	})
}

// beat keeps the connection alive while a test lets much time pass.
func beat(c *PeerConn, stop <-chan struct{}) {
	for {
		select {
		case <-time.After(10 * time.Second):
			c.Beat()
		case <-stop:
			return
		}
	}
}

func TestBeingBlockedStopsTheClockOfAnAnswer(t *testing.T) {
	tests := []struct {
		name          string
		block, length time.Duration
	}{
		{"for long", time.Second, time.Hour},
		{"and over before the limit", time.Second, 18 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				stop := make(chan struct{})
				unblocked := make(chan time.Time, 1)
				lf := newTestLife(t, Config{Heartbeat: time.Minute, RPCTimeout: 20 * time.Second}, func(c *PeerConn) {
					var wg sync.WaitGroup
					wg.Go(func() { beat(c, stop) })
					wg.Go(func() {
						after(tt.block)
						c.Send(0, MConnBlocked, "low on memory")
						after(tt.length)
						unblocked <- time.Now()
						c.Send(0, MConnUnblocked)
					})
					c.Serve(deaf)
					wg.Wait()
				})
				ch := mustChannel(t, lf)
				err := ch.Call(t.Context(), "declare q", declareQ)
				close(stop)
				wantAfter(t, <-unblocked, 20*time.Second)
				if !errors.Is(err, ErrRPCTimeout) {
					t.Errorf("Call: %v", err)
				}
			})
		})
	}
}

func TestTheEndOfACtxEndsTheCallersWaitAndThenOnlyItsChannel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		ask, answer, closed := make(chan uint16, 1), make(chan struct{}), make(chan uint16, 1)
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) {
			var wg sync.WaitGroup
			c.Serve(func(f Frame) bool {
				switch f.Method() {
				case MQueueDeclare:
					ask <- f.Channel
					wg.Go(func() {
						<-answer
						c.Send(f.Channel, MQueueDeclOk, "q", uint32(0), uint32(0))
					})
					return true
				case MChanClose:
					closed <- f.Channel
				}
				return false
			})
			wg.Wait()
		})
		ch, other := mustChannel(t, lf), mustChannel(t, lf)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := ch.Call(ctx, "declare q", declareQ)
		wantAfter(t, began, time.Second)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Call: %v", err)
		}
		asked := <-ask
		synctest.Wait()
		if ch.Err() != nil || len(closed) != 0 || lf.isOver() {
			t.Fatalf("before the answer: channel %v, connection %v", ch.Err(), lf.conn.reason())
		}
		// Nobody else suffers.
		if err := other.Call(t.Context(), "qos", func(raw *amqp.Channel) error { return raw.Qos(1, 0, false) }); err != nil {
			t.Errorf("another channel: %v", err)
		}
		// A second call waits for its turn, as long as its own ctx allows.
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := ch.Call(short, "again", declareQ); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call behind it: %v", err)
		}
		close(answer)
		if got := <-closed; got != asked {
			t.Errorf("channel %d was closed, want %d", got, asked)
		}
		<-ch.Done()
		if !errors.Is(ch.Err(), ErrLost) || other.Err() != nil || lf.isOver() {
			t.Errorf("channel %v, other %v, connection %v", ch.Err(), other.Err(), lf.conn.reason())
		}
	})
}

func TestAnAbandonedChannelOpenIsClosedWhenItsAnswerComes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		closed := make(chan uint16, 1)
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) {
			c.Serve(func(f Frame) bool {
				switch f.Method() {
				case MChanOpen:
					after(5 * time.Second)
				case MChanClose:
					closed <- f.Channel
				}
				return false
			})
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := lf.channel(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("channel: %v", err)
		}
		<-closed
		if lf.isOver() {
			t.Errorf("the connection ended: %v", lf.conn.reason())
		}
	})
}

func TestACallWithADeadCtxSaysNothingToTheBroker(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) { c.Serve(nil) })
		ch := mustChannel(t, lf)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := ch.Call(ctx, "declare q", func(*amqp.Channel) error { t.Error("it was made"); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if err := ch.Call(t.Context(), "declare q", declareQ); err != nil {
			t.Errorf("the channel's turn was not given back: %v", err)
		}
	})
}

func TestAChannelThatTheBrokerClosedSaysWhyAndIsAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) {
			c.Serve(func(f Frame) bool {
				if f.Method() == MQueueDeclare {
					c.SendClose(f.Channel, 406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type'")
					return true
				}
				return false
			})
		})
		ch := mustChannel(t, lf)
		err := ch.Call(t.Context(), "declare q", declareQ)
		<-ch.Done()
		for what, err := range map[string]error{"Call": err, "Err": ch.Err()} {
			var be *BrokerError
			if !errors.As(err, &be) || be.Code != 406 || !IsFatal(err) {
				t.Errorf("%s = %v, want the broker's 406", what, err)
			}
		}
		wantText(t, err, "declare q: the broker said 406 PRECONDITION_FAILED")
		if !errors.Is(ch.Err(), ErrLost) || !ch.Alone() || lf.isOver() {
			t.Errorf("Err %v, alone %v, connection over %v", ch.Err(), ch.Alone(), lf.isOver())
		}
		if err := ch.Call(t.Context(), "again", declareQ); !errors.Is(err, ErrLost) {
			t.Errorf("a call on a dead channel: %v", err)
		}
		if err := ch.Close(t.Context()); err != nil {
			t.Errorf("closing a dead channel: %v", err)
		}
	})
}

// TestWhatACallMakesOfTheBrokersWordIsNotLost: the session's ctx ends with the
// channel, perhaps before f has returned.
func TestWhatACallMakesOfTheBrokersWordIsNotLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) {
			c.Serve(func(f Frame) bool {
				if f.Method() == MQueueDeclare {
					c.SendClose(f.Channel, 404, "NOT_FOUND - no exchange 'x'")
					return true
				}
				return false
			})
		})
		ch := mustChannel(t, lf)
		session, end := context.WithCancelCause(t.Context())
		go func() {
			<-ch.Done()
			end(ch.Err())
		}()
		err := ch.Call(session, "declare", func(raw *amqp.Channel) error {
			err := declareQ(raw)
			<-session.Done()
			synctest.Wait()
			return fmt.Errorf("bind x to q: %w", err)
		})
		wantText(t, err, "declare: bind x to q: ")
		var be *amqp.Error
		if !errors.As(err, &be) || be.Code != 404 {
			t.Errorf("%v, want the broker's 404", err)
		}
	})
}

func TestAConnectionThatTheBrokerClosedTellsItsChannelsWhy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) {
			c.Serve(func(f Frame) bool {
				if f.Method() == MQueueDeclare {
					c.SendClose(0, 320, "CONNECTION_FORCED - shutdown")
					return true
				}
				return false
			})
		})
		ch, idle := mustChannel(t, lf), mustChannel(t, lf)
		err := ch.Call(t.Context(), "declare q", declareQ)
		<-idle.Done()
		<-ch.Done()
		for what, err := range map[string]error{"Call": err, "Err": ch.Err(), "Err of another": idle.Err()} {
			var be *BrokerError
			if !errors.As(err, &be) || be.Code != 320 || IsFatal(err) {
				t.Errorf("%s = %v, want the broker's 320", what, err)
			}
		}
		if ch.Alone() || idle.Alone() || !errors.Is(ch.Err(), ErrLost) {
			t.Errorf("alone %v and %v, %v", ch.Alone(), idle.Alone(), ch.Err())
		}
		synctest.Wait()
		if s := lf.link.read(); s.State != Waiting || asBrokerError(s.Cause) == nil {
			t.Errorf("status %v, cause %v", s.State, s.Cause)
		}
	})
}

func TestACutTellsTheChannelsSo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cut := make(chan struct{})
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) {
			go func() { <-cut; _ = c.Close() }()
			c.Serve(nil)
		})
		ch := mustChannel(t, lf)
		if _, ok := ch.Offered(); ok {
			t.Error("the number of bytes offered is final while the connection lives")
		}
		close(cut)
		<-ch.Done()
		wantText(t, ch.Err(), "closed by the other side")
		if !errors.Is(ch.Err(), ErrLost) || ch.Alone() || asBrokerError(ch.Err()) != nil {
			t.Errorf("Err %v, alone %v", ch.Err(), ch.Alone())
		}
		if n, ok := ch.Offered(); !ok || n != ch.Accepted() {
			t.Errorf("offered %d of %d, final %v", n, ch.Accepted(), ok)
		}
		if _, err := lf.channel(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("a channel of a dead connection: %v", err)
		}
	})
}

func TestDropGivesTheConnectionUpForItsCause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) { c.Serve(nil) })
		ch := mustChannel(t, lf)
		cause := errors.New("no good")
		ch.Drop(cause)
		<-ch.Done()
		if !errors.Is(ch.Err(), cause) {
			t.Errorf("%v", ch.Err())
		}
		synctest.Wait()
		if s := lf.link.read(); s.State != Waiting || !errors.Is(s.Cause, cause) {
			t.Errorf("status %+v", s)
		}
	})
}

func TestBlockedAndUnblockedAreStatesAndRepeatsAreNot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var changes []StateChange // the notifier's, read when the bubble is idle
		next := make(chan struct{})
		lf := newTestLife(t, Config{Heartbeat: time.Minute, OnStateChange: func(c StateChange) { changes = append(changes, c) }}, func(c *PeerConn) {
			var wg sync.WaitGroup
			wg.Go(func() {
				c.Send(0, MConnUnblocked) // never was
				<-next
				c.Send(0, MConnBlocked, "low on memory")
				c.Send(0, MConnBlocked, "low on disk")
				<-next
				c.Send(0, MConnUnblocked)
				c.Send(0, MConnUnblocked)
			})
			c.Serve(nil)
			wg.Wait()
		})
		ch := mustChannel(t, lf)
		synctest.Wait()
		if b, free := ch.Blocked(); b || !isClosed(free) {
			t.Errorf("blocked from the start")
		}
		next <- struct{}{}
		synctest.Wait()
		b, free := ch.Blocked()
		if s := lf.link.read(); !b || isClosed(free) || s.State != Blocked || s.Address != "peer:5672" {
			t.Errorf("blocked %v, status %+v", b, s)
		} else {
			wantText(t, s.Cause, "blocked by the broker: low on memory")
		}
		next <- struct{}{}
		synctest.Wait()
		if b, _ := ch.Blocked(); b || !isClosed(free) {
			t.Error("still blocked")
		}
		if s := lf.link.read(); s.State != Connected || s.Cause != nil || s.Sessions != 1 {
			t.Errorf("status %+v", s)
		}
		var to []State
		for _, c := range changes {
			to = append(to, c.To)
		}
		if len(to) != 4 || to[0] != Connecting || to[1] != Connected || to[2] != Blocked || to[3] != Connected {
			t.Errorf("changes %v", to)
		}
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestNobodyWaitsForACloseWhileBlocked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) {
			c.Serve(func(f Frame) bool { return f.Method() == MChanClose })
		})
		ch := mustChannel(t, lf)
		lf.setBlocked(true)
		began := time.Now()
		if err := ch.Close(t.Context()); err != nil {
			t.Errorf("%v", err)
		}
		ch.Release()
		wantAfter(t, began, 0)
	})
}

func TestBarriersAreCalledUntilTheChannelIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newTestLife(t, Config{Heartbeat: time.Minute}, func(c *PeerConn) { c.Serve(nil) })
		ch, other := mustChannel(t, lf), mustChannel(t, lf)
		var calls int // the reader's, read when the bubble is idle
		ch.OnBarrier(func() { calls++ })
		call := func(ch *Channel) int {
			synctest.Wait()
			before := calls
			if err := ch.Call(t.Context(), "qos", func(raw *amqp.Channel) error { return raw.Qos(1, 0, false) }); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return calls - before
		}
		if call(other) == 0 {
			t.Error("no barrier after an answer")
		}
		if err := ch.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-ch.Done()
		if n := call(other); n != 0 {
			t.Errorf("%d barriers of a channel that is over", n)
		}
	})
}
