package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// secret is the password in Peer.URL.
const secret = "hunter2"

// log collects everything that a pool tells: log lines, state changes, errors.
type log struct {
	mu      sync.Mutex
	text    strings.Builder
	changes []reconnect.StateChange
	seen    chan reconnect.StateChange
}

func newLog() *log { return &log{seen: make(chan reconnect.StateChange, 1000)} }

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) change(c reconnect.StateChange) {
	l.mu.Lock()
	l.changes = append(l.changes, c)
	_, _ = fmt.Fprintf(&l.text, "%v %+v %#v\n", c, c, c)
	l.mu.Unlock()
	l.seen <- c
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await returns the next change to a state.
func (l *log) await(t *testing.T, to reconnect.State) reconnect.StateChange {
	t.Helper()
	for {
		if c := reconnect.Await(t, l.seen, "the change to "+to.String()); c.To == to {
			return c
		}
	}
}

// at once, for ever.
func noWait() backoff.BackOff { return &backoff.ZeroBackOff{} }

// never again within a test.
func longWait() backoff.BackOff { return backoff.NewConstantBackOff(time.Hour) }

func config(l *log, urls ...string) reconnect.Config {
	return reconnect.Config{
		URLs:          urls,
		Backoff:       noWait,
		OnStateChange: l.change,
		Logger:        slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), reconnect.Patience)
	t.Cleanup(cancel)
	return ctx
}

// open makes a pool that is closed with the test.
func open(t *testing.T, cfg reconnect.Config) *reconnect.Pool {
	t.Helper()
	p, err := reconnect.Open(limited(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseNow)
	return p
}

// openFails runs Open until its first round of dialling has failed, and then
// ends its ctx.
func openFails(t *testing.T, l *log, cfg reconnect.Config) error {
	t.Helper()
	cfg.Backoff = longWait
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	cfg.OnStateChange = func(c reconnect.StateChange) {
		l.change(c)
		if c.To == reconnect.Waiting {
			cancel()
		}
	}
	p, err := reconnect.Open(ctx, cfg)
	if err == nil {
		p.CloseNow()
		t.Fatal("Open succeeded")
	}
	return err
}

// opening makes a pool that may never look connected to Open.
func opening(t *testing.T, cfg reconnect.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(limited(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if p, err := reconnect.Open(ctx, cfg); err == nil {
			defer p.CloseNow()
			<-ctx.Done()
		} else if reconnect.IsFatal(err) {
			t.Errorf("Open ended: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func TestOpenNamesEachAddressAndWhyItFailed(t *testing.T) {
	t.Parallel()
	dead, gone := reconnect.DeadAddr(t), reconnect.DeadAddr(t)
	l := newLog()
	cfg := config(l, "amqp://u:"+secret+"@"+dead, "amqp://u:"+secret+"@"+gone, "amqp://u:"+secret+"@no-such-host.invalid:1")
	err := openFails(t, l, cfg)
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
	t.Parallel()
	accepted := make(chan struct{})
	p := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
		close(accepted)
		_, _ = io.Copy(io.Discard, c)
	})
	ctx, cancel := context.WithCancel(limited(t))
	go func() { <-accepted; cancel() }()
	_, err := reconnect.Open(ctx, config(newLog(), p.URL()))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	var de *reconnect.DialError
	if !errors.As(err, &de) || len(de.Attempts) != 1 || !strings.Contains(p.URL(), de.Attempts[0].Address) {
		t.Errorf("%v: want the address that was tried", err)
	}
}

func TestOpenIsNotHeldUpByABlockedCallback(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	cfg := reconnect.Config{URLs: []string{"amqp://" + reconnect.DeadAddr(t)}, OnStateChange: func(reconnect.StateChange) { <-release }}
	ctx, cancel := context.WithCancel(limited(t))
	returned := make(chan error, 1)
	go func() {
		_, err := reconnect.Open(ctx, cfg)
		returned <- err
	}()
	cancel()
	if err := reconnect.Await(t, returned, "Open"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// counted counts how often the next wait is asked for, and resets.
type counted struct {
	nexts, resets atomic.Int64
}

func (b *counted) NextBackOff() time.Duration { b.nexts.Add(1); return 0 }
func (b *counted) Reset()                     { b.resets.Add(1) }

func TestAPeerThatAcceptsAndClosesAtOnceIsNotFatalAndEachRoundIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		script func(int, *reconnect.PeerConn)
	}{
		{"before the handshake", func(int, *reconnect.PeerConn) {}},
		{"after start-ok", func(_ int, c *reconnect.PeerConn) { _ = c.Start() }},
		{"after the handshake", func(_ int, c *reconnect.PeerConn) { _ = c.Handshake() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peer := reconnect.NewPeer(t, tt.script)
			l, waits := newLog(), &counted{}
			cfg := config(l, peer.URL())
			cfg.Backoff = func() backoff.BackOff { return waits }
			opening(t, cfg)
			for range 5 {
				c := l.await(t, reconnect.Waiting)
				if c.Cause == nil || reconnect.IsFatal(c.Cause) {
					t.Errorf("a cut is fatal: %v", c.Cause)
				}
			}
			if n, asked := int64(peer.Accepted()), waits.nexts.Load(); n > asked+1 {
				t.Errorf("%d connections were made with %d waits", n, asked)
			}
			if waits.resets.Load() != 0 {
				t.Error("the backoff began afresh though no connection lasted")
			}
		})
	}
}

func TestTheWaitBeforeTheNextRoundIsTheBackoffs(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, func(int, *reconnect.PeerConn) {})
	l := newLog()
	cfg := config(l, peer.URL())
	cfg.Backoff = longWait
	ctx, cancel := context.WithCancel(limited(t))
	done := make(chan struct{})
	go func() { defer close(done); _, _ = reconnect.Open(ctx, cfg) }()
	if c := l.await(t, reconnect.Waiting); c.Wait != time.Hour {
		t.Errorf("wait %v", c.Wait)
	}
	cancel()
	<-done
	if n := peer.Accepted(); n != 1 {
		t.Errorf("%d connections within the wait", n)
	}
}

func TestASilentPeerIsGivenUpAfterDialTimeout(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"in Config": "amqp://%s/", "in the URL": "amqp://%s/?connection_timeout=50", "under TLS": "amqps://%s/"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) { _, _ = io.Copy(io.Discard, c) })
			l := newLog()
			cfg := config(l, fmt.Sprintf(url, peer.Addr))
			cfg.DialTimeout = 50 * time.Millisecond
			if name == "in the URL" {
				cfg.DialTimeout = time.Hour
			}
			began := time.Now()
			err := openFails(t, l, cfg)
			wantText(t, err, peer.Addr, "no connection within 50ms")
			if d := time.Since(began); d < 50*time.Millisecond {
				t.Errorf("given up after %v", d)
			}
		})
	}
}

func TestACutAfterStartOkIsNotTakenForABadPassword(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) { _ = c.Start() })
	l := newLog()
	err := openFails(t, l, config(l, peer.URL()))
	wantText(t, err, "the connection ended during the handshake")
	var be *reconnect.BrokerError
	if reconnect.IsFatal(err) || errors.As(err, &be) || strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "password") {
		t.Errorf("%v is taken for a refused login", err)
	}
}

func TestALoginThatTheBrokerRefusesEndsOpenAtOnce(t *testing.T) {
	t.Parallel()
	const text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
	announced := make(chan bool, 1)
	refuse := func(_ int, c *reconnect.PeerConn) {
		if c.Start() == nil {
			announced <- c.Announces("authentication_failure_close")
			c.SendClose(0, 403, text)
			c.Serve(nil)
		}
	}
	a, b := reconnect.NewPeer(t, refuse), reconnect.NewPeer(t, refuse)
	l := newLog()
	_, err := reconnect.Open(limited(t), config(l, a.URL(), b.URL()))
	var be *reconnect.BrokerError
	if !errors.As(err, &be) || be.Code != 403 || be.Text != text || !reconnect.IsFatal(err) {
		t.Fatalf("%v: want the broker's 403", err)
	}
	if !reconnect.Await(t, announced, "start-ok") {
		t.Error("authentication_failure_close is not announced")
	}
	if n := a.Accepted() + b.Accepted(); n != 1 {
		t.Errorf("the login was tried %d times: that locks accounts", n)
	}
	if c := l.await(t, reconnect.Failed); !errors.As(c.Cause, &be) {
		t.Errorf("the cause of failed is %v", c.Cause)
	}
}

func TestAVhostThatIsNotThereEndsOpenAtOnceAndALimitDoesNot(t *testing.T) {
	t.Parallel()
	say := func(text string) func(int, *reconnect.PeerConn) {
		return func(n int, c *reconnect.PeerConn) {
			if n > 1 {
				reconnect.Willing(n, c)
				return
			}
			if c.Start() != nil {
				return
			}
			c.Send(0, reconnect.MConnTune, uint16(0), uint32(0), uint16(0))
			c.Serve(func(f reconnect.Frame) bool {
				if f.Method() == reconnect.MConnOpen {
					c.SendClose(0, 530, text)
				}
				return false
			})
		}
	}
	missing := reconnect.NewPeer(t, say("NOT_ALLOWED - vhost nope not found"))
	if _, err := reconnect.Open(limited(t), config(newLog(), missing.URL())); !reconnect.IsFatal(err) {
		t.Errorf("%v", err)
	}
	full := reconnect.NewPeer(t, say("NOT_ALLOWED - access to vhost '/' refused for user 'app': connection limit (1) is reached"))
	open(t, config(newLog(), full.URL()))
	if full.Accepted() != 2 {
		t.Errorf("%d connections", full.Accepted())
	}
}

func TestAPeerThatSpeaksSomethingElseIsNamedAsSuch(t *testing.T) {
	t.Parallel()
	for name, greeting := range map[string]string{
		"another AMQP": "AMQP\x03\x01\x00\x00",
		"HTTP":         "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request",
		"SSH":          "SSH-2.0-OpenSSH_9.6\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
				_, _ = io.ReadFull(c, make([]byte, 8))
				_, _ = io.WriteString(c, greeting)
			})
			l := newLog()
			_, err := reconnect.Open(limited(t), config(l, peer.URL()))
			if !reconnect.IsFatal(err) {
				t.Errorf("%v is not fatal", err)
			}
			wantText(t, err, peer.Addr+": the server does not speak AMQP 0-9-1 on this port")
		})
	}
}

func TestTheSecondAddressIsUsedWhenTheFirstIsDead(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, reconnect.Willing)
	for range 5 { // the order is random
		p, err := reconnect.Open(limited(t), config(newLog(), "amqp://"+reconnect.DeadAddr(t), peer.URL()))
		if err != nil {
			t.Fatal(err)
		}
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.Address != peer.Addr || s.Cause != nil || s.Sessions != 1 || s.Attempts != 0 {
			t.Errorf("status %+v", s)
		}
		p.CloseNow()
	}
}

func TestAnAddressThatFailedGoesLastInTheNextRound(t *testing.T) {
	t.Parallel()
	bad := reconnect.NewPeer(t, func(int, *reconnect.PeerConn) {})
	good := reconnect.NewPeer(t, func(n int, c *reconnect.PeerConn) { _ = c.Handshake() })
	l := newLog()
	opening(t, config(l, bad.URL(), good.URL()))
	for range 30 {
		l.await(t, reconnect.Connected)
	}
	if n := bad.Accepted(); n > 1 {
		t.Errorf("the address that failed was tried %d times in %d rounds", n, good.Accepted())
	}
}

func TestCredentialsAreAskedForPerDialAndTheirErrorIsAFailedAttempt(t *testing.T) {
	t.Parallel()
	logins := make(chan string, 10)
	peer := reconnect.NewPeer(t, func(n int, c *reconnect.PeerConn) {
		if c.Handshake() == nil {
			logins <- string(c.StartOk)
			if n > 1 {
				c.Serve(nil)
			}
		}
	})
	var asked atomic.Int64
	l := newLog()
	cfg := config(l, peer.URL())
	cfg.Credentials = func(ctx context.Context) (reconnect.Credentials, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the callback's ctx has no limit")
		}
		n := asked.Add(1)
		if n == 1 {
			return reconnect.Credentials{}, errors.New("the vault is sealed")
		}
		return reconnect.Credentials{Username: "rotated", Password: fmt.Sprintf("%s-%d", secret, n)}, nil
	}
	open(t, cfg)
	c := l.await(t, reconnect.Waiting)
	wantText(t, c.Cause, peer.Addr+": get credentials: the vault is sealed")
	for _, want := range []string{"\x00rotated\x00hunter2-2", "\x00rotated\x00hunter2-3"} {
		if got := reconnect.Await(t, logins, "a login"); !strings.Contains(got, want) {
			t.Errorf("start-ok %q, want the login %q", got, want)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times, want once per dial", n)
	}
	if text := l.String(); strings.Contains(text, secret) || !strings.Contains(text, "sealed") {
		t.Errorf("the password is told, or nothing is: %s", text)
	}
}

func TestNoPasswordIsInLogsStatesAndErrors(t *testing.T) {
	t.Parallel()
	opened := make(chan struct{})
	peer := reconnect.NewPeer(t, func(n int, c *reconnect.PeerConn) {
		switch n {
		case 1:
			_ = c.Start()
		case 2:
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.6\r\n")
		case 3:
			if c.Handshake() == nil {
				<-opened
				c.SendClose(0, 320, "CONNECTION_FORCED - shutdown")
				c.Serve(nil)
			}
		case 4:
			if c.Start() == nil {
				c.SendClose(0, 403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.")
				c.Serve(nil)
			}
		}
	})
	l := newLog()
	cfg := config(l, peer.URL(), "amqps://app:"+secret+"@"+reconnect.DeadAddr(t), "amqp://app:"+secret+"@no-such-host.invalid")
	cfg.StopOnFatal = true
	p := open(t, cfg)
	close(opened)
	c := l.await(t, reconnect.Failed)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Acquire(ctx, reconnect.Publishing)
	told := fmt.Sprintf("%s\n%v\n%+v\n%#v\n%v\n%+v\n%v", l, err, err, c, c, p.Status(reconnect.Publishing), p.Status(reconnect.Publishing).Cause)
	if strings.Contains(told, secret) {
		t.Errorf("the password is told:\n%s", told)
	}
	for _, want := range []string{"403", "320", "connection refused", "no-such-host"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is not told: the test has not seen what it looks at", want)
		}
	}
}

func TestFatalAfterTheFirstSuccessIsRetriedAtTheLongestWait(t *testing.T) {
	t.Parallel()
	peer := reconnect.NewPeer(t, func(n int, c *reconnect.PeerConn) {
		if n == 1 {
			reconnect.Willing(n, c)
		} else if c.Start() == nil {
			c.SendClose(0, 403, "ACCESS_REFUSED - Login was refused")
			c.Serve(nil)
		}
	})
	l := newLog()
	p := open(t, config(l, peer.URL()))
	peer.CutAll()
	for {
		c := l.await(t, reconnect.Waiting)
		if reconnect.IsFatal(c.Cause) {
			if c.Wait < 4*time.Second {
				t.Errorf("wait %v", c.Wait)
			}
			break
		}
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
}

func TestStopOnFatalFailsWhateverStateTheConnectionIsIn(t *testing.T) {
	t.Parallel()
	deprecated := func(c *reconnect.PeerConn) {
		c.SendClose(0, 541, "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.")
		c.Serve(nil)
	}
	for name, script := range map[string]func(c *reconnect.PeerConn){
		"connected": deprecated,
		"blocked": func(c *reconnect.PeerConn) {
			c.Send(0, reconnect.MConnBlocked, "low on memory")
			deprecated(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened := make(chan struct{})
			peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
				if c.Handshake() == nil {
					<-opened
					script(c)
				}
			})
			l := newLog()
			cfg := config(l, peer.URL())
			cfg.StopOnFatal = true
			p := open(t, cfg)
			close(opened)
			l.await(t, reconnect.Failed)
			err := p.Run(limited(t), reconnect.Publishing, func(context.Context, *reconnect.Channel) error { return nil }, nil)
			if !reconnect.IsFatal(err) {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

func TestTheTopologyIsDeclaredOnEachConnectionBeforeItIsConnected(t *testing.T) {
	t.Parallel()
	declared := make(chan int, 10)
	peer := reconnect.NewPeer(t, func(n int, c *reconnect.PeerConn) {
		if c.Handshake() == nil {
			c.Serve(func(f reconnect.Frame) bool {
				if f.Method() == reconnect.MQueueDeclare {
					declared <- n
				}
				return false
			})
		}
	})
	l := newLog()
	cfg := config(l, peer.URL())
	cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	open(t, cfg)
	for n := 1; n <= 2; n++ {
		l.await(t, reconnect.Connected)
		select {
		case got := <-declared:
			if got != n {
				t.Errorf("declared on connection %d, want %d", got, n)
			}
		default:
			t.Error("connected before the topology was declared")
		}
		peer.CutAll()
	}
}

func TestATopologyThatTheBrokerRefusesEndsTheFirstOpenAndLaterIsAFaultInStatus(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	peer := reconnect.NewPeer(t, func(_ int, c *reconnect.PeerConn) {
		if c.Handshake() == nil {
			c.Serve(func(f reconnect.Frame) bool {
				if f.Method() == reconnect.MQueueDeclare && refuse.Load() {
					c.SendClose(f.Channel, 406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'orders' in vhost '/'")
					return true
				}
				return false
			})
		}
	})
	l := newLog()
	cfg := config(l, peer.URL())
	cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	p := open(t, cfg)
	l.await(t, reconnect.Connected)
	if s := p.Status(reconnect.Publishing); s.TopologyFault != nil {
		t.Errorf("fault %v", s.TopologyFault)
	}
	refuse.Store(true)
	open(t, config(newLog(), peer.URL())) // without one
	other := cfg
	other.OnStateChange = nil
	_, err := reconnect.Open(limited(t), other)
	wantText(t, err, "406")
	if !reconnect.IsFatal(err) {
		t.Errorf("%v is not fatal", err)
	}
	peer.CutAll()
	l.await(t, reconnect.Connected)
	if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || !reconnect.IsFatal(s.TopologyFault) {
		t.Errorf("status %+v", s)
	}
}
