package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/reconnect"
)

// watched is an Outage, with what it says and whether it gives up.
type watched struct {
	*cli.Outage
	mu    sync.Mutex
	said  bytes.Buffer
	given []error
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Write(b)
}

func (w *watched) gaveUp() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.given
}

func watch(retry cli.Retry) *watched {
	w := &watched{}
	w.Outage = cli.NewOutage(cli.NewTalk(w, "test", false, false), retry, func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.given = append(w.given, err)
	})
	return w
}

var errRefused = errors.New("connect: connection refused")

func (w *watched) change(from, to reconnect.State, cause error) {
	w.Observe(reconnect.StateChange{From: from, To: to, At: time.Now(), Cause: cause, Address: "h:5672"})
}

func (w *watched) connect() { w.change(reconnect.Connecting, reconnect.Connected, nil) }

// lose loses the connection and fails to get it back, again and again.
func (w *watched) lose() {
	w.change(reconnect.Connected, reconnect.Waiting, errors.New("closed by the other side: EOF"))
	w.change(reconnect.Waiting, reconnect.Connecting, nil)
	w.change(reconnect.Connecting, reconnect.Waiting, &reconnect.DialError{Attempts: []reconnect.Attempt{{Address: "h:5672", Err: errRefused}}})
}

func TestAnOutageMayLastAsLongAsRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(cli.Retry{For: 30 * time.Second})
		defer w.Stop()
		w.connect()
		for range 5 { // each outage has its own time
			w.lose()
			time.Sleep(29 * time.Second) // in the bubble
			synctest.Wait()
			w.connect()
			time.Sleep(time.Second) // in the bubble
		}
		if errs := w.gaveUp(); errs != nil {
			t.Fatalf("gave up during outages of 29s: %v", errs)
		}
		if up, _ := w.Up(); !up {
			t.Error("it is not up")
		}
		w.lose()
		lost := time.Now()
		if up, since := w.Up(); up || !since.Equal(lost) {
			t.Error("it is up, or was not lost just now")
		}
		time.Sleep(30 * time.Second) // in the bubble
		synctest.Wait()
		errs := w.gaveUp()
		var e *cli.LostError
		if len(errs) != 1 || !errors.As(errs[0], &e) || !errors.Is(e, errRefused) {
			t.Fatalf("gave up with %v, want one LostError with the last cause", errs)
		}
		want := "test: connection lost: closed by the other side; trying again for 30s\n" +
			"test: connected again to h:5672 after 29.0s\n"
		if got := w.said.String(); !strings.HasPrefix(got, want+want) {
			t.Errorf("said\n%s\nwant it to begin with\n%s", got, want)
		}
	})
}

func TestRetryZeroGivesUpAtOnceAndForeverNever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		zero, forever := watch(cli.Retry{}), watch(cli.Retry{Forever: true})
		defer zero.Stop()
		defer forever.Stop()
		for _, w := range []*watched{zero, forever} {
			w.connect()
			w.lose()
			w.connect() // at once, which is too late for zero
			w.lose()
		}
		synctest.Wait()
		if len(zero.gaveUp()) == 0 {
			t.Error("with 0 it has not given up")
		}
		if s := fmt.Sprint(zero.gaveUp()[0]); s != "the connection was lost: h:5672: connection refused" && s != "the connection was lost: closed by the other side" {
			t.Errorf("with 0 it says %s", s)
		}
		time.Sleep(1000 * time.Hour) // in the bubble
		synctest.Wait()
		if errs := forever.gaveUp(); errs != nil {
			t.Errorf("with forever it gave up: %v", errs)
		}
	})
}

// A connection that is lost again before it was of use has ended nothing.
func TestAnOutageEndsWithAnAnswerOrWhenNothingWaits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		answered uint64 // with each connection
		waiting  bool
		gives    bool
	}{
		{"nothing is answered", 0, true, true},
		{"something is", 1, true, false},
		{"nothing waits", 0, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := watch(cli.Retry{For: 30 * time.Second})
			defer w.Stop()
			answers := uint64(0)
			w.EndsWith(func() (uint64, bool) { return answers, c.waiting })
			w.connect()
			begin, up := time.Now(), time.Duration(0)
			for range 2 {
				w.lose()
				time.Sleep(14 * time.Second) // in the bubble
				w.connect()
				answers += c.answered
				time.Sleep(time.Hour) // in the bubble
				up += time.Hour
			}
			w.lose()
			time.Sleep(time.Second) // in the bubble
			synctest.Wait()
			if errs := w.gaveUp(); errs != nil {
				t.Errorf("%s: gave up after 29s without a connection: %v", c.name, errs)
			}
			time.Sleep(time.Second) // in the bubble
			synctest.Wait()
			if errs := w.gaveUp(); (errs != nil) != c.gives {
				t.Errorf("%s: after 30s without a connection it gave up with %v", c.name, errs)
			}
			if c.gives && !strings.HasSuffix(w.said.String(), "; trying again for another 2.0s\n") {
				t.Errorf("%s: said\n%s", c.name, w.said.String())
			}
			if got := w.UpFor(); got != up || time.Since(begin) == up {
				t.Errorf("%s: connected for %v of %v, want %v", c.name, got, time.Since(begin), up)
			}
		})
	}
}

func TestRetryBeginsWithTheFirstConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(cli.Retry{For: time.Second})
		defer w.Stop()
		w.change(reconnect.Connecting, reconnect.Waiting, errRefused)
		time.Sleep(time.Minute) // in the bubble
		synctest.Wait()
		if errs := w.gaveUp(); errs != nil || w.said.Len() > 0 {
			t.Errorf("gave up before it was ever connected: %v, and said %q", errs, w.said.String())
		}
	})
}

func TestABlockedConnectionIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(cli.Retry{For: time.Second})
		defer w.Stop()
		w.connect()
		w.change(reconnect.Connected, reconnect.Blocked, errors.New("blocked by the broker: low on memory"))
		time.Sleep(time.Minute) // in the bubble
		synctest.Wait()
		w.change(reconnect.Blocked, reconnect.Connected, nil)
		if errs := w.gaveUp(); errs != nil {
			t.Errorf("gave up: %v", errs)
		}
		if want := "test: blocked by the broker: low on memory: waiting\ntest: the broker takes messages again\n"; w.said.String() != want {
			t.Errorf("said %q", w.said.String())
		}
	})
}

func TestAStoppedOutageGivesUpNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(cli.Retry{For: time.Second})
		w.connect()
		w.lose()
		w.Stop()
		w.connect()
		w.lose()
		time.Sleep(time.Minute) // in the bubble
		synctest.Wait()
		if errs := w.gaveUp(); errs != nil {
			t.Errorf("gave up: %v", errs)
		}
	})
}
