package integration_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// as is a URL with another user and vhost.
func as(t *testing.T, raw, user, password, vhost string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	u.Path, u.RawPath = "/"+vhost, "/"+url.PathEscape(vhost)
	return u.String()
}

// TestWhatIsRefusedWhileRunningComesBackWhenItIsMended: the user is deleted, its
// permissions are revoked, its vhost is full, each for a while and under load. Nothing
// is lost.
func TestWhatIsRefusedWhileRunningComesBackWhenItIsMended(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	const user, password, vhost = "app", "sesame", "orders"
	must(t, node.AddVhost(t.Context(), vhost))
	create := func(t *testing.T) {
		must(t, node.AddUser(t.Context(), user, password))
		must(t, node.Permit(t.Context(), vhost, user, ".*", ".*", ".*"))
	}
	create(t)
	queue := uniqueName(t)
	cfg := quorum(queue, as(t, node.URL(), user, password, vhost))
	made := &attempts{}
	made.of(&cfg)
	pool, states := open(t, cfg)
	tr := newTraffic(t, pool, queue, 1)
	// What is published between a permission's end and the connection's may be refused.
	tr.admits = func(err error) bool {
		var refused *producer.RefusedError
		var word *reconnect.BrokerError
		return errors.As(err, &refused) && errors.As(err, &word) && word.Code == 403
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load := tr.publish(ctx, t, 2)

	cut := func(t *testing.T) { must(t, node.CloseConnections(t.Context(), "cut by the test")) }
	for _, round := range []struct {
		name       string
		begin, end func(t *testing.T)
		code       int
		text       string
		fatal      bool
	}{
		{
			"the user is deleted and created again",
			func(t *testing.T) { must(t, node.DeleteUser(t.Context(), user)) }, create,
			403, "Login was refused", true,
		},
		{
			"permissions are revoked and given back",
			func(t *testing.T) { must(t, node.Forbid(t.Context(), vhost, user)); cut(t) },
			func(t *testing.T) { must(t, node.Permit(t.Context(), vhost, user, ".*", ".*", ".*")) },
			530, "access to vhost 'orders' refused for user 'app'", true,
		},
		{
			"the vhost is full for a while",
			func(t *testing.T) {
				ctl(t, node, "set_vhost_limits", "-p", vhost, `{"max-connections": 0}`)
				cut(t)
			},
			func(t *testing.T) { ctl(t, node, "clear_vhost_limits", "-p", vhost) },
			530, "connection limit (0) is reached", false,
		},
	} {
		tr.awaitConfirmed(t, 20)
		lost, connected, failed := map[reconnect.Role]int{}, map[reconnect.Role]int{}, len(made.failed())
		roles := []reconnect.Role{reconnect.Publishing, reconnect.Consuming}
		for _, role := range roles {
			lost[role], connected[role] = states.count(role, reconnect.Waiting), states.count(role, reconnect.Connected)
		}
		round.begin(t)
		for _, role := range roles {
			states.await(t, role, reconnect.Waiting, lost[role]+3) // lost, and refused twice
			c := states.last(role, reconnect.Waiting)
			var word *reconnect.BrokerError
			if !errors.As(c.Cause, &word) || word.Code != round.code || !strings.Contains(word.Text, round.text) || reconnect.IsFatal(c.Cause) != round.fatal {
				t.Errorf("%s: %s: %v (fatal %v)", round.name, role, c.Cause, reconnect.IsFatal(c.Cause))
			}
			if round.fatal && c.Wait != 4*time.Second {
				t.Errorf("%s: %s: the next attempt is %v away", round.name, role, c.Wait)
			}
		}
		round.end(t)
		for _, role := range roles {
			states.await(t, role, reconnect.Connected, connected[role]+1)
		}
		t.Logf("%s: %d attempts were refused, the first: %v", round.name, len(made.failed())-failed, made.failed()[failed].Err)
	}
	tr.awaitConfirmed(t, 20)
	stop()
	load.Wait()
	tr.settleUp(t, cfg.URLs[0])
}

// TestTheFirstOpenEndsAtOnceForEachFatalCause: in the broker's own words, and after one
// attempt.
func TestTheFirstOpenEndsAtOnceForEachFatalCause(t *testing.T) {
	node := sharedNode(t)
	t.Parallel()
	queue := func(q topology.Queue) topology.Topology { return topology.Topology{Queues: []topology.Queue{q}} }
	refused := func(t *testing.T, cfg reconnect.Config, code int, text string) {
		t.Helper()
		made := &attempts{}
		made.of(&cfg)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		began := time.Now()
		pool, err := reconnect.Open(ctx, cfg)
		if err == nil {
			pool.CloseNow()
			t.Fatal("Open succeeded")
		}
		var word *reconnect.BrokerError
		if !errors.As(err, &word) || word.Code != code || !strings.Contains(word.Text, text) || !reconnect.IsFatal(err) {
			t.Errorf("%v (fatal %v), want the broker's %d %s", err, reconnect.IsFatal(err), code, text)
		}
		if n := len(made.failed()); n != 1 {
			t.Errorf("%d attempts", n)
		}
		t.Logf("after %v: %v", time.Since(began), err)
	}
	t.Run("bad credentials", func(t *testing.T) {
		refused(t, reconnect.Config{URLs: []string{as(t, node.URL(), "guest", "wrong", "/")}}, 403, "Login was refused using authentication mechanism PLAIN")
	})
	t.Run("no such user", func(t *testing.T) {
		refused(t, reconnect.Config{URLs: []string{as(t, node.URL(), "nobody", "guest", "/")}}, 403, "Login was refused using authentication mechanism PLAIN")
	})
	t.Run("no such vhost", func(t *testing.T) {
		refused(t, reconnect.Config{URLs: []string{node.URL()}, Vhost: "nope"}, 530, "vhost nope not found")
	})
	t.Run("inequivalent arguments", func(t *testing.T) {
		name := uniqueName(t)
		deleteAfter(t, node.URL(), name)
		cfg := reconnect.Config{URLs: []string{node.URL()}, Topology: queue(topology.Queue{Name: name, Type: topology.Classic})}
		open(t, cfg)
		cfg.Topology = queue(topology.Queue{Name: name})
		refused(t, cfg, 406, "inequivalent arg 'x-queue-type' for queue '"+name+"'")
	})
	t.Run("an exchange that is not there", func(t *testing.T) {
		name := uniqueName(t)
		deleteAfter(t, node.URL(), name)
		top := queue(topology.Queue{Name: name})
		top.Bindings = []topology.Binding{{Exchange: name, Queue: name}}
		refused(t, reconnect.Config{URLs: []string{node.URL()}, Topology: top}, 404, "no exchange '"+name+"'")
	})
	t.Run("a passive queue that is not there", func(t *testing.T) {
		name := uniqueName(t)
		refused(t, reconnect.Config{URLs: []string{node.URL()}, Topology: queue(topology.Queue{Name: name, Passive: true})}, 404, "no queue '"+name+"'")
	})
	t.Run("permissions", func(t *testing.T) {
		if !node.Controlled() {
			t.Skip("the shared node is not under control")
		}
		user, theirs := unique("user"), unique("vhost")
		must(t, node.AddUser(t.Context(), user, "sesame"))
		must(t, node.AddVhost(t.Context(), theirs))
		must(t, node.Permit(t.Context(), "/", user, "^$", "^$", "^$"))
		t.Cleanup(func() {
			must(t, node.DeleteUser(context.Background(), user))
			must(t, node.DeleteVhost(context.Background(), theirs))
		})
		refused(t, reconnect.Config{URLs: []string{as(t, node.URL(), user, "sesame", theirs)}}, 530, "access to vhost '"+theirs+"' refused for user '"+user+"'")
		name := uniqueName(t)
		refused(t, reconnect.Config{URLs: []string{as(t, node.URL(), user, "sesame", "/")}, Topology: queue(topology.Queue{Name: name})}, 403, "refused for user '"+user+"'")
	})
	t.Run("a transient queue", func(t *testing.T) {
		requireVersion(t, node, ">=4.0") // earlier ones do not start with this setting
		denying := ownNode(t, broker.Options{Conf: []string{"deprecated_features.permit.transient_nonexcl_queues = false"}})
		top := queue(topology.Queue{Name: "q", Type: topology.Classic, Transient: true})
		refused(t, reconnect.Config{URLs: []string{denying.URL()}, Topology: top}, 541, "Feature `transient_nonexcl_queues` is deprecated")
	})
}

// unique is a name for what rabbitmqctl makes.
func unique(kind string) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return kind + "-" + hex.EncodeToString(b[:])
}
