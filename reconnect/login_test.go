package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

func TestACutAfterStartOkIsNotTakenForABadPassword(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cut := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "connection.start-ok", Do: mqtest.Cut()})
		err := openFails(t, f.config())
		wantText(t, err, "the connection ended during the handshake")
		var be *reconnect.BrokerError
		if reconnect.IsFatal(err) || errors.As(err, &be) || strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "password") {
			t.Errorf("%v is taken for a refused login", err)
		}
		f.struck(cut)
	})
}

// TestNoCutInTheHandshakeIsTakenForARefusal: whatever a broker that is killed had
// read, done or half said by then. The next round succeeds.
func TestNoCutInTheHandshakeIsTakenForARefusal(t *testing.T) {
	steps := []mqtest.Fault{{Point: mqtest.Accepted}}
	for _, method := range []string{"connection.start-ok", "connection.tune-ok", "connection.open"} {
		steps = append(steps, mqtest.Fault{Point: mqtest.Received, Method: method})
	}
	for _, method := range []string{"connection.start", "connection.tune", "connection.open-ok"} {
		steps = append(steps, mqtest.Fault{Point: mqtest.Sending, Method: method})
	}
	for _, step := range steps {
		for how, cut := range map[string]mqtest.Action{"cut": mqtest.Cut(), "cut inside a frame": mqtest.CutInside(3)} {
			inBubbleOf(t, fmt.Sprint(step.Point, " ", step.Method, " ", how), func(t *testing.T) {
				f := newFixture(t)
				fault := step
				fault.Count, fault.Do = 1, cut
				killed := f.broker.Inject(fault)
				p := open(t, f.config())
				c := f.await(t, reconnect.Waiting)
				var be *reconnect.BrokerError
				if reconnect.IsFatal(c.Cause) || errors.As(c.Cause, &be) {
					t.Errorf("%v is taken for the broker's word (fatal %v)", c.Cause, reconnect.IsFatal(c.Cause))
				}
				wantText(t, c.Cause, "the connection ended during the handshake")
				if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || hits(killed) != 1 || hits(f.accepted) != 2 {
					t.Errorf("%+v after %d cuts and %d connections", s, hits(killed), hits(f.accepted))
				}
			})
		}
	}
}

// TestALoginThatTheBrokerRefusesEndsOpenAtOnce: it says so only to who has
// announced authentication_failure_close.
func TestALoginThatTheBrokerRefusesEndsOpenAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
		f := newFixture(t)
		other := f.second()
		wrong := strings.NewReplacer(secret, "wrong")
		_, err := reconnect.Open(limited(t), f.config(wrong.Replace(f.broker.URL()), wrong.Replace(other.broker.URL())))
		wantBroker(t, "Open", err, 403, true)
		wantText(t, err, text)
		logins := append(f.methods("connection.start-ok"), other.methods("connection.start-ok")...)
		if len(logins) != 1 {
			t.Fatalf("the login was tried %d times: that locks accounts", len(logins))
		}
		properties, _ := logins[0].Field("client-properties").(map[string]any)
		if capabilities, _ := properties["capabilities"].(map[string]any); capabilities["authentication_failure_close"] != true {
			t.Error("authentication_failure_close is not announced")
		}
		if n := hits(f.accepted) + hits(other.accepted); n != 1 {
			t.Errorf("%d connections", n)
		}
		wantBroker(t, "the cause of failed", f.await(t, reconnect.Failed).Cause, 403, true)
	})
}

func TestCredentialsAreAskedForPerDialAndTheirErrorIsAFailedAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logins := make(chan mqtest.Login, 10)
		f := newFixture(t, mqtest.Config{Authenticate: func(l mqtest.Login) error { logins <- l; return nil }})
		fault := cutAfterOpenOk()
		fault.Count = 1
		cut := f.broker.Inject(fault)
		var asked atomic.Int64
		cfg := f.config()
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
		c := f.await(t, reconnect.Waiting)
		wantText(t, c.Cause, f.broker.Addr()+": get credentials: the vault is sealed")
		for _, want := range []string{secret + "-2", secret + "-3"} {
			if got := await(t, logins, "a login"); got.User != "rotated" || got.Password != want || got.Mechanism != "PLAIN" {
				t.Errorf("login %+v, want the password %q", got, want)
			}
		}
		f.struck(cut)
		if n := asked.Load(); n != 3 {
			t.Errorf("asked %d times, want once per dial", n)
		}
		if text := f.String(); strings.Contains(text, secret) || !strings.Contains(text, "sealed") {
			t.Errorf("the password is told, or nothing is: %s", text)
		}
	})
}

func TestNoPasswordIsInLogsStatesAndErrors(t *testing.T) {
	t.Parallel()
	f := newPortFixture(t)
	cut := f.broker.Inject(mqtest.Fault{Conn: 1, Point: mqtest.Received, Method: "connection.start-ok", Do: mqtest.Cut()})
	ssh := f.broker.Inject(mqtest.Fault{Conn: 2, Point: mqtest.Accepted, Do: mqtest.SendRaw([]byte("SSH-2.0-OpenSSH_9.6\r\n")).Then(mqtest.Cut())})
	refuse := refuses("connection.start-ok", 403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.")
	refuse.Conn = 4
	refused := f.broker.Inject(refuse)
	cfg := f.config(f.broker.URL(), "amqps://app:"+secret+"@"+dead, "amqp://app:"+secret+"@no-such-host.invalid")
	cfg.StopOnFatal = true
	cfg.Credentials = func(context.Context) (reconnect.Credentials, error) {
		return reconnect.Credentials{Username: "app", Password: secret, Expires: time.Now().Add(time.Hour)}, nil
	}
	cfg.OnAttempt = func(a reconnect.Attempt) { f.show(a) }
	p := open(t, cfg)
	ch := acquire(t, p, reconnect.Publishing)
	f.show(cfg, &cfg, p, ch, p.Stats(), p.Status(reconnect.Publishing))
	f.conn().Do(mqtest.CloseConnection(320, "CONNECTION_FORCED - shutdown"))
	c := f.await(t, reconnect.Failed)
	f.struck(cut, ssh, refused)
	_, err := p.Acquire(expired(t), reconnect.Publishing)
	status := p.Status(reconnect.Publishing)
	f.show(c, err, status, status.Cause, p, p.Stats(), ch.Err())
	slog.New(slog.NewJSONHandler(f.log, nil)).Info("all", "config", cfg, "pool", p, "status", status)
	malformed := cfg
	malformed.URLs = []string{"amqp://app:" + secret + "@host:port/"}
	_, err = reconnect.Open(limited(t), malformed)
	f.show(malformed, err)
	told := f.String()
	if strings.Contains(told, secret) {
		t.Errorf("the password is told:\n%s", told)
	}
	for _, want := range []string{
		"403", "320", "connection refused", "no-such-host", "expected amqp://user:password@host",
		"amqps://app@" + dead, "StopOnFatal:true", "publishing failed, consuming idle", "[malformed]", "reconnect.Channel{publishing, " + f.broker.Addr(),
	} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is not told: the test has not seen what it looks at", want)
		}
	}
}
