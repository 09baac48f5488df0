package reconnect_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// life is one connection, of the consuming role, that does not come back. Its
// heartbeat is a minute.
type life struct {
	*fixture
	pool *reconnect.Pool
}

func newLife(t *testing.T, changes ...func(*reconnect.Config)) *life {
	t.Helper()
	f := newFixture(t)
	cfg := f.config()
	cfg.First, cfg.Heartbeat, cfg.Backoff = reconnect.Consuming, time.Minute, longWait
	for _, change := range changes {
		change(&cfg)
	}
	return &life{f, open(t, cfg)}
}

// answersWithin sets RPCTimeout.
func answersWithin(d time.Duration) func(*reconnect.Config) {
	return func(cfg *reconnect.Config) { cfg.RPCTimeout = d }
}

func (lf *life) channel() *reconnect.Channel {
	lf.t.Helper()
	return acquire(lf.t, lf.pool, reconnect.Consuming)
}

func (lf *life) status() reconnect.Status { return lf.pool.Status(reconnect.Consuming) }

// alive tests that the connection is the first, and there.
func (lf *life) alive() {
	lf.t.Helper()
	if s := lf.status(); s.State != reconnect.Connected || s.Sessions != 1 {
		lf.t.Errorf("the connection: %+v", s)
	}
}

// TestAConnectionThatFallsSilentIsGivenUpAfterTwoHeartbeats: the driver arms no
// deadline before the first frame that follows open-ok.
func TestAConnectionThatFallsSilentIsGivenUpAfterTwoHeartbeats(t *testing.T) {
	for _, name := range []string{"after open-ok", "later", "while blocked"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFixture(t)
				cfg := f.config()
				cfg.Heartbeat, cfg.Backoff = 10*time.Second, longWait
				silent := mqtest.Fault{Point: mqtest.Sending, Method: "connection.open-ok", Do: mqtest.Pass().Then(mqtest.Stall())}
				if name != "after open-ok" {
					silent = mqtest.Fault{Point: mqtest.Sending, Method: "heartbeat", Skip: 1, Do: mqtest.Pass().Then(mqtest.Stall())}
				}
				stalled := f.broker.Inject(silent)
				p := open(t, cfg)
				began := time.Now()
				if name == "while blocked" {
					f.conn().Block("")
				}
				if name != "after open-ok" {
					f.struck(stalled)
					began = time.Now() // of the last heartbeat
				}
				c := f.await(t, reconnect.Waiting)
				wantAfter(t, began, 20*time.Second)
				wantText(t, c.Cause, "nothing received for 20s, 2 heartbeats")
				if blocked := c.From == reconnect.Blocked; blocked != (name == "while blocked") || hits(stalled) != 1 {
					t.Errorf("%v, %d connections fell silent", c, hits(stalled))
				}
				if s := p.Status(reconnect.Publishing); s.Sessions != 1 || s.State != reconnect.Waiting {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

// TestABlockedConnectionIsKept although its writes are stuck: heartbeats tell that
// it is alive.
func TestABlockedConnectionIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		ch := lf.channel()
		lf.conn().Block("")
		lf.await(t, reconnect.Blocked)
		body := make([]byte, 1<<20) // more than is taken on the way
		if err := ch.Raw().PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: body}); err != nil {
			t.Fatal(err)
		}
		after(time.Hour)
		if s := lf.status(); s.State != reconnect.Blocked || s.Sessions != 1 {
			t.Errorf("status %+v", s)
		}
		if n := len(lf.methods("basic.publish")); n != 0 {
			t.Errorf("%d publishes were read meanwhile", n)
		}
		lf.conn().Unblock()
		lf.await(t, reconnect.Connected)
		if err := ch.Call(limited(t), "declare q", declare); err != nil {
			t.Errorf("%v", err)
		}
		if n := len(lf.methods("basic.publish")); n != 1 {
			t.Errorf("%d publishes were read at last", n)
		}
		lf.alive()
	})
}

func TestAConnectionThatTheBrokerClosedTellsItsChannelsWhy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		closed := lf.broker.Inject(refuses("queue.declare", 320, "CONNECTION_FORCED - shutdown"))
		ch, idle := lf.channel(), lf.channel()
		err := ch.Call(limited(t), "declare q", declare)
		await(t, idle.Done(), "the end of a channel")
		await(t, ch.Done(), "the end of the other")
		wantBroker(t, "Call", err, 320, false)
		wantBroker(t, "Err", ch.Err(), 320, false)
		wantBroker(t, "Err of another", idle.Err(), 320, false)
		if ch.Alone() || idle.Alone() || !errors.Is(ch.Err(), reconnect.ErrLost) {
			t.Errorf("alone %v and %v, %v", ch.Alone(), idle.Alone(), ch.Err())
		}
		synctest.Wait()
		s := lf.status()
		if s.State != reconnect.Waiting || hits(closed) != 1 {
			t.Errorf("status %v, %d connections closed", s.State, hits(closed))
		}
		wantBroker(t, "the cause", s.Cause, 320, false)
	})
}

func TestACutTellsTheChannelsSo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		ch := lf.channel()
		if _, ok := ch.Offered(); ok {
			t.Error("the number of bytes offered is final while the connection lives")
		}
		lf.cut(1)
		await(t, ch.Done(), "the end of the channel")
		wantText(t, ch.Err(), "closed by the other side")
		var be *reconnect.BrokerError
		if !errors.Is(ch.Err(), reconnect.ErrLost) || ch.Alone() || errors.As(ch.Err(), &be) {
			t.Errorf("Err %v, alone %v", ch.Err(), ch.Alone())
		}
		if n, ok := ch.Offered(); !ok || n != ch.Accepted() || n == 0 {
			t.Errorf("offered %d of %d, final %v", n, ch.Accepted(), ok)
		}
		if _, err := ch.Another(limited(t)); !errors.Is(err, reconnect.ErrLost) {
			t.Errorf("a channel of a dead connection: %v", err)
		}
	})
}

func TestDropGivesTheConnectionUpForItsCause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		ch := lf.channel()
		cause := errors.New("no good")
		ch.Drop(cause)
		await(t, ch.Done(), "the end of the channel")
		if !errors.Is(ch.Err(), cause) {
			t.Errorf("%v", ch.Err())
		}
		synctest.Wait()
		if s := lf.status(); s.State != reconnect.Waiting || !errors.Is(s.Cause, cause) {
			t.Errorf("status %+v", s)
		}
		if n := len(lf.broker.Connections()); n != 0 {
			t.Errorf("the broker has %d connections left", n)
		}
	})
}

func TestBlockedAndUnblockedAreStatesAndRepeatsAreNot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lf := newLife(t)
		say := func(methods ...mqtest.Method) {
			lf.conn().Do(mqtest.Answer(methods...))
			synctest.Wait()
		}
		ch := lf.channel()
		say(unblocking()) // never was
		if b, free := ch.Blocked(); b || !isClosed(free) {
			t.Errorf("blocked from the start")
		}
		say(blocking("low on memory"), blocking("low on disk"))
		b, free := ch.Blocked()
		if s := lf.status(); !b || isClosed(free) || s.State != reconnect.Blocked || s.Address != lf.broker.Addr() {
			t.Errorf("blocked %v, status %+v", b, s)
		} else {
			wantText(t, s.Cause, "blocked by the broker: low on memory")
		}
		say(unblocking(), unblocking())
		if b, _ := ch.Blocked(); b || !isClosed(free) {
			t.Error("still blocked")
		}
		if s := lf.status(); s.State != reconnect.Connected || s.Cause != nil || s.Sessions != 1 {
			t.Errorf("status %+v", s)
		}
		to := lf.told()
		if len(to) != 4 || to[0].To != reconnect.Connecting || to[1].To != reconnect.Connected || to[2].To != reconnect.Blocked || to[3].To != reconnect.Connected {
			t.Errorf("changes %v", to)
		}
		said := map[string]int{}
		for _, r := range lf.broker.Journal().Records() {
			if r.Kind == mqtest.ToClient {
				said[r.Method()]++
			}
		}
		if said["connection.blocked"] != 2 || said["connection.unblocked"] != 3 {
			t.Errorf("the broker said %v", said)
		}
	})
}
