package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
)

// tokens is a broker's view of secrets that last for a while.
type tokens struct {
	lasts time.Duration

	mu     sync.Mutex
	issued int
	until  map[string]time.Time
	seen   []string
	fails  int // so many questions more
}

func (k *tokens) issue(context.Context) (reconnect.Credentials, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fails > 0 {
		k.fails--
		return reconnect.Credentials{}, errors.New("the issuer is away")
	}
	k.issued++
	c := reconnect.Credentials{Username: "app", Password: fmt.Sprint("token ", k.issued), Expires: time.Now().Add(k.lasts)}
	k.until[c.Password] = c.Expires
	return c, nil
}

func (k *tokens) take(secret string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = append(k.seen, secret)
	if !time.Now().Before(k.until[secret]) {
		return errors.New("expired")
	}
	return nil
}

// expired is when the newest token that the broker has seen expires.
func (k *tokens) expires() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.until[k.seen[len(k.seen)-1]]
}

func withTokens(t *testing.T, lasts time.Duration) (*fixture, *tokens, reconnect.Config) {
	t.Helper()
	k := &tokens{lasts: lasts, until: map[string]time.Time{}}
	f := newFixture(t, mqtest.Config{
		Authenticate: func(l mqtest.Login) error { return k.take(l.Password) },
		UpdateSecret: func(_, secret, _ string) error { return k.take(secret) },
	})
	cfg := f.config()
	cfg.Credentials = k.issue
	return f, k, cfg
}

// TestASecretIsRenewedBeforeItExpires: a token of 5 s survives 60.
func TestASecretIsRenewedBeforeItExpires(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, k, cfg := withTokens(t, 5*time.Second)
		p := open(t, cfg)
		for range 120 {
			after(500 * time.Millisecond)
			synctest.Wait()
			if !time.Now().Before(k.expires()) {
				t.Fatalf("%q has expired", k.seen[len(k.seen)-1])
			}
		}
		s := p.Stats().Publishing
		if s.Connected != 1 || s.Lost != 0 || s.Renewed < 12 || s.RenewalFailures != 0 {
			t.Errorf("%+v", s)
		}
		if len(k.seen) != int(s.Renewed)+1 || slices.Contains(k.seen[1:], k.seen[0]) {
			t.Errorf("the broker has seen %q", k.seen)
		}
	})
}

func TestARenewalThatFailsIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, k, cfg := withTokens(t, time.Hour)
		p := open(t, cfg)
		k.mu.Lock()
		k.fails = 3
		k.mu.Unlock()
		after(time.Hour)
		synctest.Wait()
		if s := p.Stats().Publishing; s.Lost != 0 || s.RenewalFailures != 3 || s.Renewed != 1 || !time.Now().Before(k.expires()) {
			t.Errorf("%+v, expires %v", s, k.expires())
		}
	})
}

// TestASecretThatTheBrokerRefusesCostsItsConnection: the next one logs in afresh.
func TestASecretThatTheBrokerRefusesCostsItsConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f, k, cfg := withTokens(t, time.Minute)
		cfg.Credentials = func(ctx context.Context) (reconnect.Credentials, error) {
			c, err := k.issue(ctx)
			if c.Password == "token 2" {
				c.Password = "wrong"
			}
			return c, err
		}
		p := open(t, cfg)
		after(time.Minute)
		acquire(t, p, reconnect.Publishing)
		if s := p.Stats().Publishing; s.Connected != 2 || s.Lost != 1 || s.RenewalFailures > 1 {
			t.Errorf("%+v", s)
		}
		if n := len(f.methods("connection.update-secret")); n != 1 {
			t.Errorf("%d renewals", n)
		}
	})
}

// TestCloseDoesNotCrossARenewal: the driver would take the one's answer for the other's.
func TestCloseDoesNotCrossARenewal(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f, _, cfg := withTokens(t, time.Minute)
		held := f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "connection.update-secret", Count: 1, Do: mqtest.Hold()})
		p := open(t, cfg)
		after(time.Minute - 10*time.Second)
		f.struck(held)
		closed := make(chan error, 1)
		go func() { closed <- p.Close(context.WithoutCancel(t.Context())) }()
		synctest.Wait()
		if n := len(f.methods("connection.close")); n != 0 {
			t.Error("it was closed while the renewal waited for its answer")
		}
		held.Release()
		if err := await(t, closed, "Close"); err != nil {
			t.Error(err)
		}
		if n := len(f.methods("connection.close")); n != 1 {
			t.Errorf("it was closed %d times", n)
		}
	})
}

// TestASecretWithoutAnEndIsNotRenewed: nor one that comes from the URL.
func TestASecretWithoutAnEndIsNotRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		open(t, f.config())
		after(100 * time.Hour)
		if n := len(f.methods("connection.update-secret")); n != 0 {
			t.Errorf("%d renewals", n)
		}
	})
}

func TestStatsAndObserversCountAttempts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config("amqp://app:"+secret+"@nobody.invalid:1/", f.broker.URL())
		var mu sync.Mutex
		var told []reconnect.Attempt
		cfg.OnAttempt = func(a reconnect.Attempt) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, a)
		}
		p := open(t, cfg)
		f.broker.RefuseConnections()
		f.cut(1)
		after(10 * pause)
		f.broker.AcceptConnections()
		acquire(t, p, reconnect.Publishing).Release()
		f.conn().Block("low on memory")
		after(time.Minute)
		f.conn().Unblock()
		synctest.Wait()
		s := p.Stats()
		if s.Publishing.Connected != 2 || s.Publishing.Lost != 1 || s.Publishing.Failures < 10 || s.Publishing.Attempts != s.Publishing.Failures+2 {
			t.Errorf("%+v", s.Publishing)
		}
		if s.Publishing.Blocked != time.Minute || s.Publishing.Channels != 1 || s.Publishing.Kept != 1 || s.Consuming != (reconnect.ConnectionStats{}) {
			t.Errorf("%+v", s)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(told) != int(s.Publishing.Attempts) {
			t.Errorf("%d attempts were told of %d", len(told), s.Publishing.Attempts)
		}
		for _, a := range told {
			if a.Role != reconnect.Publishing || a.At.IsZero() || a.Address != f.broker.Addr() && a.Err == nil {
				t.Errorf("%+v", a)
			}
		}
	})
}
