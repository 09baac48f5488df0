package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// Addresses where nobody listens: their ports are not given to those who ask for
// any.
const dead, gone = "127.0.0.1:1", "127.0.0.1:2"

func TestOpenNamesEachAddressAndWhyItFailed(t *testing.T) {
	t.Parallel()
	l := newLog()
	err := openFails(t, reconnect.Config{
		URLs:          []string{"amqp://u:" + secret + "@" + dead, "amqp://u:" + secret + "@" + gone, "amqp://u:" + secret + "@no-such-host.invalid:1"},
		OnStateChange: l.change,
	})
	wantText(t, err, dead+": connection refused", gone+": connection refused", "no-such-host.invalid:1: look up no-such-host.invalid: ")
	var de *reconnect.DialError
	if !errors.As(err, &de) || len(de.Attempts) != 3 {
		t.Fatalf("%v: want a DialError with 3 attempts", err)
	}
	if !errors.Is(err, context.Canceled) || reconnect.IsFatal(err) {
		t.Errorf("%v: canceled %v, fatal %v", err, errors.Is(err, context.Canceled), reconnect.IsFatal(err))
	}
}

func TestOpenWhoseCtxEndsInItsFirstRoundSaysSoAndWhatItTried(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		silent := f.broker.Inject(mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Stall()})
		ctx, cancel := context.WithCancel(limited(t))
		go func() {
			_ = silent.Wait(ctx)
			cancel()
		}()
		_, err := reconnect.Open(ctx, f.config())
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		var de *reconnect.DialError
		if !errors.As(err, &de) || len(de.Attempts) != 1 || de.Attempts[0].Address != f.broker.Addr() {
			t.Errorf("%v: want the address that was tried", err)
		}
		if hits(silent) != 1 {
			t.Errorf("%d connections were met with silence", hits(silent))
		}
	})
}

func TestOpenIsNotHeldUpByABlockedCallback(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		f.broker.RefuseConnections()
		entered, release := make(chan struct{}, 100), make(chan struct{})
		defer close(release)
		cfg := f.config()
		cfg.OnStateChange = func(reconnect.StateChange) { entered <- struct{}{}; <-release }
		ctx, cancel := context.WithCancel(limited(t))
		returned := make(chan error, 1)
		go func() {
			_, err := reconnect.Open(ctx, cfg)
			returned <- err
		}()
		await(t, entered, "the callback")
		cancel()
		began := time.Now()
		if err := await(t, returned, "Open"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		wantAfter(t, began, reconnect.Farewell) // in which the callback may return
	})
}

func TestAPeerThatAcceptsAndClosesAtOnceIsNotFatalAndEachRoundIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault mqtest.Fault
	}{
		{"before the handshake", mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Cut()}},
		{"after start-ok", mqtest.Fault{Point: mqtest.Received, Method: "connection.start-ok", Do: mqtest.Cut()}},
		{"after the handshake", cutAfterOpenOk()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f, waits := newFixture(t), &counted{}
				cut := f.broker.Inject(tt.fault)
				cfg := f.config()
				cfg.Backoff = func() backoff.BackOff { return waits }
				opening(t, cfg)
				for range 5 {
					c := f.await(t, reconnect.Waiting)
					if c.Cause == nil || reconnect.IsFatal(c.Cause) {
						t.Errorf("a cut is fatal: %v", c.Cause)
					}
				}
				synctest.Wait()
				if n, asked := hits(f.accepted), waits.nexts.Load(); n != 5 || asked != 5 || hits(cut) != 5 {
					t.Errorf("%d connections were made, %d cut, with %d waits", n, hits(cut), asked)
				}
				if waits.resets.Load() != 0 {
					t.Error("the backoff began afresh though no connection lasted")
				}
			})
		})
	}
}

func TestTheBackoffBeginsAfreshAfterAConnectionThatLasted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		lived  time.Duration
		resets int64
	}{
		{"not long", reconnect.StableAfter - time.Millisecond, 0},
		{"long", reconnect.StableAfter, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f, waits := newFixture(t), &counted{}
				cfg := f.config()
				cfg.Backoff = func() backoff.BackOff { return waits }
				open(t, cfg)
				after(tt.lived)
				f.cut(1)
				f.await(t, reconnect.Waiting)
				if n := waits.resets.Load(); n != tt.resets {
					t.Errorf("after a connection of %v: %d resets, want %d", tt.lived, n, tt.resets)
				}
			})
		})
	}
}

func TestTheWaitBeforeTheNextRoundIsTheBackoffs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cut := f.broker.Inject(mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Cut()})
		cfg := f.config()
		cfg.Backoff = longWait
		opening(t, cfg)
		if c := f.await(t, reconnect.Waiting); c.Wait != time.Hour {
			t.Errorf("wait %v", c.Wait)
		}
		after(time.Hour - time.Millisecond)
		if n := hits(f.accepted); n != 1 || hits(cut) != 1 {
			t.Errorf("%d connections within the wait, %d of them cut", n, hits(cut))
		}
		after(time.Millisecond)
		synctest.Wait()
		if n := hits(f.accepted); n != 2 {
			t.Errorf("%d connections after the wait", n)
		}
	})
}

func TestASilentPeerIsGivenUpAfterDialTimeout(t *testing.T) {
	for name, url := range map[string]string{"in Config": "amqp://%s/", "in the URL": "amqp://%s/?connection_timeout=50", "under TLS": "amqps://%s/"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFixture(t)
				silent := f.broker.Inject(mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Stall()})
				cfg := f.config(fmt.Sprintf(url, f.broker.Addr()))
				cfg.DialTimeout = 50 * time.Millisecond
				if name == "in the URL" {
					cfg.DialTimeout = time.Hour
				}
				began := time.Now()
				err := openFails(t, cfg)
				wantText(t, err, f.broker.Addr(), "no connection within 50ms")
				wantAfter(t, began, 50*time.Millisecond)
				if hits(silent) != 1 || reconnect.IsFatal(err) {
					t.Errorf("%d connections were met with silence, %v", hits(silent), err)
				}
			})
		})
	}
}

// TestSilenceInTheHandshakeIsGivenUpAfterDialTimeout: the peer was heard before.
func TestSilenceInTheHandshakeIsGivenUpAfterDialTimeout(t *testing.T) {
	for _, method := range []string{"connection.start-ok", "connection.tune-ok", "connection.open"} {
		t.Run(method, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFixture(t)
				silent := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: method, Do: mqtest.Stall()})
				cfg := f.config()
				cfg.DialTimeout = 3 * time.Second
				began := time.Now()
				wantText(t, openFails(t, cfg), "no connection within 3s")
				wantAfter(t, began, 3*time.Second)
				if hits(silent) != 1 {
					t.Errorf("%d connections were met with silence", hits(silent))
				}
			})
		})
	}
}

func TestAPeerThatSpeaksSomethingElseIsNamedAsSuch(t *testing.T) {
	for name, greeting := range map[string]string{
		"another AMQP": "AMQP\x03\x01\x00\x00",
		"HTTP":         "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request",
		"SSH":          "SSH-2.0-OpenSSH_9.6\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFixture(t)
				said := f.broker.Inject(mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.SendRaw([]byte(greeting)).Then(mqtest.Cut())})
				_, err := reconnect.Open(limited(t), f.config())
				if !reconnect.IsFatal(err) {
					t.Errorf("%v is not fatal", err)
				}
				wantText(t, err, f.broker.Addr()+": the server does not speak AMQP 0-9-1 on this port")
				f.struck(said)
			})
		})
	}
}

func TestAVhostThatIsNotThereEndsOpenAtOnceAndALimitDoesNot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Vhost = "nope"
		_, err := reconnect.Open(limited(t), cfg)
		wantText(t, err, "vhost nope not found")
		wantBroker(t, "Open", err, 530, true)
		fault := refuses("connection.open", 530, "NOT_ALLOWED - access to vhost '/' refused for user 'app': connection limit (1) is reached")
		fault.Count = 1
		full := f.broker.Inject(fault)
		open(t, f.config())
		f.struck(full)
		if n := hits(f.accepted); n != 3 {
			t.Errorf("%d connections, want one to the wrong vhost, one too many, and the one that is open", n)
		}
	})
}

func TestTheSecondAddressIsUsedWhenTheFirstIsDead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		for n := 0; n < 5 || f.times("dead.invalid:5672") == 0; n++ { // the order is random
			began := time.Now()
			p, err := reconnect.Open(limited(t), f.config("amqp://dead.invalid", f.broker.URL()))
			if err != nil {
				t.Fatal(err)
			}
			wantAfter(t, began, 0) // in the same round
			if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.Address != f.broker.Addr() || s.Cause != nil || s.Sessions != 1 || s.Attempts != 0 {
				t.Errorf("status %+v", s)
			}
			p.CloseNow()
		}
	})
}

func TestAnAddressThatFailedGoesLastInTheNextRound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		f.broker.Inject(cutAfterOpenOk())
		bad := f.second()
		cut := bad.broker.Inject(mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Cut()})
		opening(t, f.config(bad.broker.URL(), f.broker.URL()))
		for range 30 {
			f.await(t, reconnect.Connected)
		}
		if n := hits(bad.accepted); n != 1 || hits(cut) != 1 {
			t.Errorf("the address that failed was tried %d times in %d rounds", n, hits(f.accepted))
		}
	})
}

// TestOfThreeAddressesOneThatLivesIsEnough: two are dead, then the third dies and one
// of the others comes to life.
func TestOfThreeAddressesOneThatLivesIsEnough(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		second, third := f.another("second.invalid:5672"), f.another("third.invalid:5672")
		f.broker.RefuseConnections()
		second.broker.RefuseConnections()
		p := open(t, f.config(f.broker.URL(), second.broker.URL(), third.broker.URL()))
		if c := f.await(t, reconnect.Connected); c.Address != third.broker.Addr() {
			t.Fatalf("%v", c)
		}
		third.broker.RefuseConnections()
		third.cut(1)
		for range 3 { // the cut, and two rounds in which nobody is there
			f.await(t, reconnect.Waiting)
		}
		cause := p.Status(reconnect.Publishing).Cause
		for _, b := range []*fixture{f, second, third} {
			wantText(t, cause, b.broker.Addr()+": connection refused")
		}
		if reconnect.IsFatal(cause) {
			t.Errorf("%v is fatal", cause)
		}
		if err := second.broker.AcceptConnections(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ch := acquire(t, p, reconnect.Publishing)
		wantAfter(t, began, pause)
		if err := ch.Call(limited(t), "declare q", declare); err != nil || ch.Address() != second.broker.Addr() {
			t.Errorf("at %s: %v", ch.Address(), err)
		}
		if n := []int{hits(f.accepted), hits(second.accepted), hits(third.accepted)}; n[0] != 0 || n[1] != 1 || n[2] != 1 {
			t.Errorf("connections %v", n)
		}
	})
}

// TestABrokerThatDropsAtOnceIsNotDialledInAHotLoop, by the backoff of the zero
// Config: its first minute, and the ten that follow.
func TestABrokerThatDropsAtOnceIsNotDialledInAHotLoop(t *testing.T) {
	for name, fault := range map[string]mqtest.Fault{
		"before the handshake": {Point: mqtest.Accepted, Do: mqtest.Cut()},
		"after the handshake":  cutAfterOpenOk(),
	} {
		inBubbleOf(t, name, func(t *testing.T) {
			f := newFixture(t)
			fault.Count = 1000 // or a hot loop would let no time pass
			cut := f.broker.Inject(fault)
			cfg := f.config()
			cfg.Backoff = nil
			opening(t, cfg)
			// A wait is 2.5 s on average once they have grown.
			after(time.Minute)
			minute := hits(cut)
			after(10 * time.Minute)
			more := hits(cut) - minute
			if minute < 12 || minute > 60 {
				t.Errorf("%d attempts in the first minute", minute)
			}
			if more < 160 || more > 360 {
				t.Errorf("%d attempts in the ten that follow", more)
			}
			if n := hits(f.accepted); n != minute+more {
				t.Errorf("%d connections, %d cut", n, minute+more)
			}
		})
	}
}

func TestFatalAfterTheFirstSuccessIsRetriedAtTheLongestWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		refused := f.broker.Inject(refuses("connection.start-ok", 403, "ACCESS_REFUSED - Login was refused"))
		f.cut(1)
		if c := f.await(t, reconnect.Waiting); reconnect.IsFatal(c.Cause) || c.Wait != pause {
			t.Errorf("after the cut: %v, wait %v", c.Cause, c.Wait)
		}
		c := f.await(t, reconnect.Waiting)
		wantBroker(t, "then", c.Cause, 403, true)
		if c.Wait != reconnect.LongestWait || hits(refused) != 1 {
			t.Errorf("wait %v after %d refusals", c.Wait, hits(refused))
		}
		s := p.Status(reconnect.Publishing)
		if s.State != reconnect.Waiting || !reconnect.IsFatal(s.Cause) || s.Attempts == 0 || s.Sessions != 1 || s.Address != "" {
			t.Errorf("status %+v", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := p.Acquire(ctx, reconnect.Publishing)
		wantText(t, err, "no publishing connection", "403")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		refused.Remove() // the password is right again
		if c := f.await(t, reconnect.Connected); c.At.Sub(s.Since) != reconnect.LongestWait {
			t.Errorf("connected %v after the refusal", c.At.Sub(s.Since))
		}
	})
}

func TestStopOnFatalFailsWhateverStateTheConnectionIsIn(t *testing.T) {
	for _, state := range []reconnect.State{reconnect.Connected, reconnect.Blocked} {
		t.Run(state.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFixture(t)
				cfg := f.config()
				cfg.StopOnFatal = true
				p := open(t, cfg)
				if state == reconnect.Blocked {
					f.conn().Block("")
				}
				f.await(t, state)
				f.conn().Do(mqtest.CloseConnection(541, "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated."))
				if c := f.await(t, reconnect.Failed); c.From != state || !strings.Contains(c.Cause.Error(), "is deprecated") {
					t.Errorf("%v", c)
				}
				err := p.Run(limited(t), reconnect.Publishing, func(context.Context, *reconnect.Channel) error { return nil }, nil)
				wantBroker(t, "Run", err, 541, true)
			})
		})
	}
}
