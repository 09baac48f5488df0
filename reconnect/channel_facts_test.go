package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestAChannelTellsWhatItsConnectionAgreedOnAndHowLongItIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t, mqtest.Config{FrameMax: 8192})
		cfg := f.config()
		cfg.Heartbeat = 30 * time.Second
		p := open(t, cfg)
		c := acquire(t, p, reconnect.Publishing)
		defer c.Release()
		if c.Heartbeat() != 30*time.Second || c.FrameMax() != 8192 {
			t.Errorf("heartbeat %v, frames of %d bytes", c.Heartbeat(), c.FrameMax())
		}
		after(7 * time.Second)
		if q := c.Quiet(); q != 7*time.Second {
			t.Errorf("quiet for %v, want 7s", q)
		}
		if err := c.Call(t.Context(), "qos", qos); err != nil {
			t.Fatal(err)
		}
		if q := c.Quiet(); q != 0 {
			t.Errorf("quiet for %v after an answer", q)
		}
		if err := c.Room(t.Context()); err != nil {
			t.Errorf("an idle connection has no room: %v", err)
		}
	})
}

// TestRoomSaysWhyTheConnectionWasLost, and not only that its socket is closed.
func TestRoomSaysWhyTheConnectionWasLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		c := acquire(t, open(t, f.config()), reconnect.Publishing)
		f.conn().Do(mqtest.CloseConnection(320, "CONNECTION_FORCED - test"))
		await(t, c.Done(), "the end of the channel")
		synctest.Wait()
		err := c.Room(t.Context())
		wantBroker(t, "Room", err, 320, false)
		if !errors.Is(err, reconnect.ErrLost) {
			t.Errorf("%v is not that the session is lost", err)
		}
	})
}

func TestATurnIsOneAtATimeForAllOfARole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		first, other := acquire(t, p, reconnect.Publishing), acquire(t, p, reconnect.Publishing)
		done, err := first.Turn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := other.Turn(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second turn: %v", err)
		}
		got := make(chan error, 1)
		go func() {
			done, err := other.Turn(t.Context())
			if err == nil {
				done()
			}
			got <- err
		}()
		synctest.Wait()
		done()
		if err := await(t, got, "the turn"); err != nil {
			t.Errorf("the turn that was given up: %v", err)
		}

		// It outlives its connection: who has it still has to find out why that was lost.
		if done, err = first.Turn(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.cut(1)
		next := acquire(t, p, reconnect.Publishing)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := next.Turn(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a turn while one of the connection before is not given up: %v", err)
		}
		done()
	})
}

func TestInflictedTellsWhatWasSaidFromWhatHappened(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]bool{
		amqp.ConnectionForced: false, amqp.FrameError: true, amqp.SyntaxError: true, amqp.CommandInvalid: true,
		amqp.ChannelError: true, amqp.UnexpectedFrame: true, amqp.ResourceError: false, amqp.NotAllowed: false,
		amqp.NotImplemented: true, amqp.InternalError: true, amqp.NotFound: false, amqp.PreconditionFailed: false,
	} {
		for _, err := range []error{
			fmt.Errorf("publish: %w", &amqp.Error{Code: code, Reason: "R", Server: true}), // the broker's word
			&amqp.Error{Code: code, Reason: "R"},                                          // the driver's own
		} {
			if got := reconnect.Inflicted(err); got != want {
				t.Errorf("Inflicted(%v) = %v", err, got)
			}
		}
	}
	for text, want := range map[string]bool{
		"INTERNAL_ERROR": true,
		"INTERNAL_ERROR - timed out consuming from quorum queue 'q' in vhost '/': {'%2F_q',rabbit@a}":                                 false,
		"INTERNAL_ERROR - failed consuming from quorum queue 'q' in vhost '/': noproc":                                                false,
		"INTERNAL_ERROR - Could not declare queue 'q' in vhost '/' on node 'rabbit@a' because the metadata store operation timed out": false,
		"INTERNAL_ERROR - Cannot declare a queue 'queue 'q' in vhost '/'' on node 'rabbit@a': timeout":                                false,
		"INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.":                                                          false,
	} {
		if err := (&reconnect.BrokerError{Code: amqp.InternalError, Text: text}); reconnect.Inflicted(err) != want {
			t.Errorf("Inflicted(%v) = %v: was it a message?", err, !want)
		}
	}
	if reconnect.Inflicted(errors.New("EOF")) || reconnect.Inflicted(nil) {
		t.Error("a cut is taken for something that was said")
	}
	// It has the code of a channel error, and says only that the driver is closed.
	if err := fmt.Errorf("publish: %w", amqp.ErrClosed); reconnect.Inflicted(err) {
		t.Errorf("Inflicted(%v)", err)
	}
	if err := errors.Join(amqp.ErrClosed, &reconnect.BrokerError{Code: amqp.InternalError, Text: "R"}); !reconnect.Inflicted(err) {
		t.Errorf("not Inflicted(%v)", err)
	}
}

func TestWatchIsToldOfARolesChangesUntilItIsRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		acquire(t, p, reconnect.Publishing).Release()
		var told []string
		remove := p.Watch(reconnect.Publishing, func(s reconnect.StateChange) { told = append(told, fmt.Sprintf("%v %v", s.Role, s.To)) })
		f.cut(1)
		after(2 * pause)
		synctest.Wait()
		want := "publishing waiting, publishing connecting, publishing connected"
		if got := strings.Join(told, ", "); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		remove()
		f.cut(1)
		after(2 * pause)
		synctest.Wait()
		if len(told) != 3 {
			t.Errorf("told after its removal: %v", told)
		}
	})
}

// TestTheUserIsToldWhenTheWatchersHaveBeen: with FailFast nothing is taken by then that would
// have to wait for the connection.
func TestTheUserIsToldWhenTheWatchersHaveBeen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		var watched, early atomic.Int64
		cfg := f.config()
		cfg.OnStateChange = func(s reconnect.StateChange) {
			if s.Role == reconnect.Consuming && watched.Add(-1) < 0 {
				early.Add(1)
			}
		}
		p := open(t, cfg)
		p.Watch(reconnect.Consuming, func(s reconnect.StateChange) {
			after(time.Millisecond)
			watched.Add(1)
		})
		acquire(t, p, reconnect.Consuming).Release()
		synctest.Wait()
		if n := early.Load(); n > 0 {
			t.Errorf("%d changes were told too soon", n)
		}
	})
}

func TestAPoolDeclaresAndDeletesAndShowsWhatItWasGiven(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = topology.WorkQueue("jobs")
		logs := slog.New(slog.DiscardHandler)
		cfg.Logger = logs
		p := open(t, cfg)
		if p.Logger() != logs || len(p.Topology().Queues) != 2 {
			t.Errorf("logger %v, topology %+v", p.Logger(), p.Topology())
		}
		if !f.broker.Queue("jobs").Exists() {
			t.Fatal("not declared")
		}
		f.broker.Queue("jobs").Enqueue(mqtest.Message{Body: []byte("kept")})
		err := p.Delete(t.Context(), p.Topology(), topology.DeleteOptions{})
		if err == nil || !f.broker.Queue("jobs").Exists() {
			t.Fatalf("a queue with a message in it: %v, exists %v", err, f.broker.Queue("jobs").Exists())
		}
		if err := p.Delete(t.Context(), p.Topology(), topology.DeleteOptions{DiscardMessages: true}); err != nil {
			t.Fatal(err)
		}
		if f.broker.Queue("jobs").Exists() || f.broker.Queue("jobs.dead").Exists() {
			t.Error("not deleted")
		}
	})
}

func TestAFailedAttemptSaysHowLongItTook(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		f.broker.Inject(mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Stall()})
		cfg := f.config()
		cfg.DialTimeout = 3 * time.Second
		attempts := make(chan reconnect.Attempt, 100)
		cfg.OnAttempt = func(a reconnect.Attempt) { attempts <- a }
		began := time.Now()
		opening(t, cfg)
		a := await(t, attempts, "an attempt")
		if a.Took != 3*time.Second || !a.At.Equal(began) || a.Err == nil || a.Role != reconnect.Publishing || a.Address != f.broker.Addr() {
			t.Errorf("%+v, begun at %v", a, began)
		}
	})
}

// TestASilentNodeIsDialledLast: its port may take connections for a while, and nothing more.
func TestASilentNodeIsDialledLast(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		other := f.second()
		p := open(t, f.config(f.broker.URL(), other.broker.URL()))
		for range 10 { // to the same one by chance, hardly
			before := p.Status(reconnect.Publishing)
			if f.broker.Stall()+other.broker.Stall() == 0 { // an old one may be among them
				t.Fatal("no connection fell silent")
			}
			after(time.Minute)
			now := p.Status(reconnect.Publishing)
			if now.Sessions != before.Sessions+1 || now.Address == before.Address {
				t.Fatalf("from connection %d at %s to %d at %s", before.Sessions, before.Address, now.Sessions, now.Address)
			}
		}
	})
}

// TestGiveUpTakesTheConnectionOnlyIfNothingWasConfirmedOnIt, and if there is somewhere else to
// go: to the other address, by then.
func TestGiveUpTakesTheConnectionOnlyIfNothingWasConfirmedOnIt(t *testing.T) {
	const long = time.Minute
	for name, tt := range map[string]struct {
		alone, confirmed, goes bool
	}{
		"nothing was confirmed":   {goes: true},
		"something was confirmed": {confirmed: true},
		"there is one address":    {alone: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFixture(t)
				urls := []string{f.broker.URL(), f.second().broker.URL()}
				if tt.alone {
					urls = urls[:1]
				}
				p := open(t, f.config(urls...))
				for range 10 { // to the same one by chance, hardly
					before := p.Status(reconnect.Publishing)
					ch := acquire(t, p, reconnect.Publishing)
					after(long / 2)
					if tt.confirmed {
						ch.NoteConfirm()
					}
					after(long/2 + time.Second)
					ch.GiveUp(errors.New("on purpose"), long)
					synctest.Wait()
					ch.Release()
					acquire(t, p, reconnect.Publishing).Release()
					now := p.Status(reconnect.Publishing)
					if went := now.Sessions != before.Sessions; went != tt.goes || went == (now.Address == before.Address) {
						t.Fatalf("from connection %d at %s to %d at %s", before.Sessions, before.Address, now.Sessions, now.Address)
					}
				}
			})
		})
	}
}
