package reconnect_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestTheFirstOpenEndsAtOnceForEachFatalCause: in the broker's own words, without a
// wait and without a second attempt.
func TestTheFirstOpenEndsAtOnceForEachFatalCause(t *testing.T) {
	queue := func(q topology.Queue) topology.Topology { return topology.Topology{Queues: []topology.Queue{q}} }
	for name, tt := range map[string]struct {
		broker mqtest.Config
		prior  topology.Topology // there before
		change func(*reconnect.Config)
		code   int
		text   string
	}{
		"bad credentials": {
			change: func(cfg *reconnect.Config) { cfg.URLs[0] = strings.ReplaceAll(cfg.URLs[0], secret, "wrong") },
			code:   403, text: "Login was refused using authentication mechanism PLAIN",
		},
		"no such vhost": {
			change: func(cfg *reconnect.Config) { cfg.Vhost = "nope" },
			code:   530, text: "vhost nope not found",
		},
		"vhost access refused": {
			broker: mqtest.Config{Vhosts: []string{"/", "theirs"}, Authorize: func(_, vhost string) error {
				if vhost != "/" {
					return errors.New("not yours")
				}
				return nil
			}},
			change: func(cfg *reconnect.Config) { cfg.Vhost = "theirs" },
			code:   530, text: "access to vhost 'theirs' refused for user 'app'",
		},
		"inequivalent arguments": {
			prior:  queue(topology.Queue{Name: "q", Type: topology.Classic}),
			change: func(cfg *reconnect.Config) { cfg.Topology = queue(topology.Queue{Name: "q"}) },
			code:   406, text: "inequivalent arg 'x-queue-type' for queue 'q'",
		},
		"a transient queue that is refused": {
			broker: mqtest.Config{DenyTransientQueues: true},
			change: func(cfg *reconnect.Config) {
				cfg.Topology = queue(topology.Queue{Name: "q", Type: topology.Classic, Transient: true})
			},
			code: 541, text: "Feature `transient_nonexcl_queues` is deprecated",
		},
		"an exchange that is not there": {
			change: func(cfg *reconnect.Config) {
				cfg.Topology = queue(topology.Queue{Name: "q"})
				cfg.Topology.Bindings = []topology.Binding{{Exchange: "nope", Queue: "q"}}
			},
			code: 404, text: "no exchange 'nope' in vhost '/'",
		},
		"a passive queue that is not there": {
			change: func(cfg *reconnect.Config) { cfg.Topology = queue(topology.Queue{Name: "nope", Passive: true}) },
			code:   404, text: "no queue 'nope' in vhost '/'",
		},
	} {
		inBubbleOf(t, name, func(t *testing.T) {
			f := newFixture(t, tt.broker)
			if len(tt.prior.Queues) > 0 {
				before := f.config()
				before.Topology, before.OnStateChange = tt.prior, nil
				open(t, before).CloseNow()
			}
			synctest.Wait()
			attempts := hits(f.accepted)
			cfg := f.config()
			tt.change(&cfg)
			began := time.Now()
			_, err := reconnect.Open(limited(t), cfg)
			wantAfter(t, began, 0)
			wantWord(t, "Open", err, tt.code, true, tt.text)
			if n := hits(f.accepted) - attempts; n != 1 {
				t.Errorf("%d attempts", n)
			}
			wantWord(t, "the state change", f.await(t, reconnect.Failed).Cause, tt.code, true, tt.text)
		})
	}
}

// TestWhatIsRefusedWhileRunningComesBackWhenItIsMended: each connection that the
// broker closes and refuses again is retried, at the longest wait where a person has
// to mend it, and its cause is told meanwhile.
func TestWhatIsRefusedWhileRunningComesBackWhenItIsMended(t *testing.T) {
	const deleted = "CONNECTION_FORCED - user 'app' is deleted"
	for name, tt := range map[string]struct {
		begin, end func(*brokerOfRights)
		closed     string // what the broker says when it ends the connection; empty where it is cut
		code       int
		text       string
		fatal      bool
	}{
		"the user is deleted and created again": {
			begin:  func(r *brokerOfRights) { r.login = errors.New("no such user") },
			end:    func(r *brokerOfRights) { r.login = nil },
			closed: deleted,
			code:   403, text: "Login was refused", fatal: true,
		},
		"permissions are revoked and given back": {
			begin: func(r *brokerOfRights) { r.access = errors.New("no permission") },
			end:   func(r *brokerOfRights) { r.access = nil },
			code:  530, text: "access to vhost 'v' refused for user 'app'", fatal: true,
		},
		"the vhost is full for a while": {
			begin: func(r *brokerOfRights) {
				r.full = r.broker.Inject(refuses("connection.open", 530, "NOT_ALLOWED - access to vhost 'v' refused for user 'app': connection limit (0) is reached"))
			},
			end:  func(r *brokerOfRights) { r.full.Remove() },
			code: 530, text: "connection limit (0) is reached",
		},
		"the vhost is deleted and created again": {
			begin: func(r *brokerOfRights) { r.broker.DeleteVhost("v") },
			end:   func(r *brokerOfRights) { r.broker.AddVhost("v", "") },
			code:  530, text: "vhost v not found", fatal: true,
		},
	} {
		inBubbleOf(t, name, func(t *testing.T) {
			r := newBrokerOfRights(t)
			p := open(t, r.config())
			r.await(t, reconnect.Connected)
			r.changes(tt.begin)
			synctest.Wait()
			if tt.closed != "" {
				r.conn().Do(mqtest.CloseConnection(320, tt.closed))
			}
			synctest.Wait()
			for _, c := range r.broker.Connections() {
				c.Do(mqtest.Cut())
			}
			lost := r.await(t, reconnect.Waiting)
			if lost.From != reconnect.Connected || reconnect.IsFatal(lost.Cause) {
				t.Errorf("%v (fatal %v)", lost, reconnect.IsFatal(lost.Cause))
			}
			if tt.closed != "" {
				wantText(t, lost.Cause, tt.closed)
			}
			want := pause
			if tt.fatal {
				want = reconnect.LongestWait
			}
			for range 3 {
				c := r.await(t, reconnect.Waiting)
				wantWord(t, "meanwhile", c.Cause, tt.code, tt.fatal, tt.text)
				if c.Wait != want {
					t.Errorf("the next attempt is %v away, want %v", c.Wait, want)
				}
			}
			s := p.Status(reconnect.Publishing)
			wantWord(t, "the status", s.Cause, tt.code, tt.fatal, tt.text)
			if s.State != reconnect.Waiting {
				t.Errorf("status %+v", s)
			}
			r.changes(tt.end)
			mended := time.Now()
			ch := acquire(t, p, reconnect.Publishing)
			wantAfter(t, mended, want)
			if err := ch.Call(limited(t), "declare q", declare); err != nil {
				t.Error(err)
			}
			if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.Cause != nil || s.Sessions != 2 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// brokerOfRights is a broker whose users come and go.
type brokerOfRights struct {
	*fixture

	mu            sync.Mutex // guards what follows
	login, access error
	full          *mqtest.Injected
}

func newBrokerOfRights(t *testing.T) *brokerOfRights {
	t.Helper()
	r := &brokerOfRights{}
	r.fixture = newFixture(t, mqtest.Config{
		Vhosts:       []string{"v"},
		Authenticate: func(mqtest.Login) error { r.mu.Lock(); defer r.mu.Unlock(); return r.login },
		Authorize:    func(string, string) error { r.mu.Lock(); defer r.mu.Unlock(); return r.access },
	})
	return r
}

// changes what the broker allows.
func (r *brokerOfRights) changes(how func(*brokerOfRights)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	how(r)
}

// wantWord tests that err is the broker's own word, and that it says text in it.
func wantWord(t *testing.T, what string, err error, code int, fatal bool, text string) {
	t.Helper()
	wantBroker(t, what, err, code, fatal)
	var be *reconnect.BrokerError
	if errors.As(err, &be) && !strings.Contains(be.Text, text) {
		t.Errorf("%s: the broker said %q, want %q", what, be.Text, text)
	}
}
