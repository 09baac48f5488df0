package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/nameserver"
	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// attempts records what became of each attempt to connect.
type attempts struct {
	mu   sync.Mutex // guards what follows
	made []reconnect.Attempt
}

// of records those of cfg.
func (a *attempts) of(cfg *reconnect.Config) {
	cfg.OnAttempt = func(one reconnect.Attempt) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.made = append(a.made, one)
	}
}

// failed are those that did not succeed.
func (a *attempts) failed() []reconnect.Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.made), func(one reconnect.Attempt) bool { return one.Err == nil })
}

// struck waits until a fault has happened.
func struck(t *testing.T, in *mqtest.Injected) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := in.Wait(ctx); err != nil {
		t.Fatalf("the fault has struck %d times: %v", in.Hits(), err)
	}
}

// works tests that the connection of role answers.
func works(t *testing.T, pool *reconnect.Pool, role reconnect.Role) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ch, err := pool.Acquire(ctx, role)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Release()
	if err := ch.Call(ctx, "look for amq.direct", func(raw *amqp.Channel) error {
		return raw.ExchangeDeclarePassive("amq.direct", "direct", true, false, false, false, nil)
	}); err != nil {
		t.Error(err)
	}
}

// nth is the nth change of role to a state, from 1.
func (s *states) nth(role reconnect.Role, to reconnect.State, n int) (c reconnect.StateChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c = range s.changes {
		if c.Role == role && c.To == to {
			if n--; n == 0 {
				break
			}
		}
	}
	return c
}

// last is the newest change of role to a state.
func (s *states) last(role reconnect.Role, to reconnect.State) (last reconnect.StateChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.changes {
		if c.Role == role && c.To == to {
			last = c
		}
	}
	return last
}

func TestACutInTheHandshakeIsNotTakenForABadPassword(t *testing.T) {
	node := sharedNode(t)
	t.Parallel()
	steps := []mqtest.Fault{
		{Point: mqtest.Received, Method: "connection.start-ok"},
		{Point: mqtest.Received, Method: "connection.tune-ok"},
		{Point: mqtest.Received, Method: "connection.open"},
		{Point: mqtest.Sending, Method: "connection.tune"},
		{Point: mqtest.Sending, Method: "connection.open-ok"},
	}
	for _, step := range steps {
		for how, cut := range map[string]mqtest.Action{"cut": mqtest.Cut(), "cut inside a frame": mqtest.CutInside(3), "reset": mqtest.Reset()} {
			t.Run(fmt.Sprint(step.Point, " ", step.Method, " ", how), func(t *testing.T) {
				t.Parallel()
				proxy := mqtest.NewProxy(t, node.URL())
				fault := step
				fault.Count, fault.Do = 1, cut
				killed := proxy.Inject(fault)
				cfg := reconnect.Config{URLs: []string{proxy.URL()}}
				made := &attempts{}
				made.of(&cfg)
				pool, _ := open(t, cfg)
				works(t, pool, reconnect.Publishing)
				failed := made.failed()
				if killed.Hits() != 1 || len(failed) != 1 {
					t.Fatalf("%d cuts, attempts that failed: %v", killed.Hits(), failed)
				}
				var word *reconnect.BrokerError
				if err := failed[0].Err; reconnect.IsFatal(err) || errors.As(err, &word) || !strings.Contains(err.Error(), "the connection ended during the handshake") {
					t.Errorf("%v, fatal %v", err, reconnect.IsFatal(err))
				}
			})
		}
	}
}

func TestABadPasswordIsFatalAsSoonAsTheBrokerHasSaidSo(t *testing.T) {
	node := sharedNode(t)
	t.Parallel()
	proxy := mqtest.NewProxy(t, node.URL())
	said := proxy.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "connection.close"})
	u, err := url.Parse(proxy.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), "wrong")
	answered, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_ = said.Wait(t.Context())
		cancel()
	}()
	cfg := reconnect.Config{URLs: []string{u.String()}}
	made := &attempts{}
	made.of(&cfg)
	late := lateness(answered, func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err = reconnect.Open(ctx, cfg)
	})
	var word *reconnect.BrokerError
	if !errors.As(err, &word) || word.Code != 403 || !reconnect.IsFatal(err) {
		t.Fatalf("%v, want the broker's 403", err)
	}
	if late > 100*time.Millisecond {
		t.Errorf("Open returned %v after the broker's answer", late)
	}
	if said.Hits() != 1 || len(made.failed()) != 1 {
		t.Errorf("the broker refused %d times, %d attempts failed", said.Hits(), len(made.failed()))
	}
}

// noticed is how many heartbeats a peer that falls silent may go unnoticed.
const noticed = 2.5

func TestAHalfOpenConnectionIsNoticedAndReplaced(t *testing.T) {
	node := sharedNode(t)
	t.Parallel()
	const heartbeat = 2 * time.Second
	for _, name := range []string{"right after open", "later"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := mqtest.NewProxy(t, node.URL())
			stalled := proxy.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "connection.open-ok", Count: 1, Do: mqtest.Pass().Then(mqtest.Stall())})
			if name == "later" {
				stalled.Remove()
			}
			pool, states := open(t, reconnect.Config{URLs: []string{proxy.URL()}, Heartbeat: heartbeat})
			began := time.Now()
			if name == "later" {
				works(t, pool, reconnect.Publishing)
				if n := proxy.Stall(); n != 1 {
					t.Fatalf("%d connections were stalled", n)
				}
				began = time.Now()
			} else {
				struck(t, stalled)
			}
			states.await(t, reconnect.Publishing, reconnect.Waiting, 1)
			c := states.nth(reconnect.Publishing, reconnect.Waiting, 1)
			took := c.At.Sub(began)
			if limit := time.Duration(noticed * float64(heartbeat)); took > limit || !strings.Contains(c.Cause.Error(), "nothing received") {
				t.Errorf("noticed after %v, want at most %v: %v", took, limit, c.Cause)
			}
			t.Logf("noticed after %v: %v", took, c.Cause)
			works(t, pool, reconnect.Publishing)
			if n := states.count(reconnect.Publishing, reconnect.Connected); n != 2 {
				t.Errorf("connected %d times", n)
			}
		})
	}
}

// TestANodeThatIsKilledInTheHandshakeAndOneThatFreezes: the first Open goes on until
// the node is there again, and a node that is frozen is given up in time.
func TestANodeThatIsKilledInTheHandshakeAndOneThatFreezes(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	proxy := mqtest.NewProxy(t, node.URL())
	const heartbeat = 2 * time.Second
	queue := uniqueName(t)
	cfg := quorum(queue, proxy.URL())
	cfg.Heartbeat = heartbeat
	made := &attempts{}
	made.of(&cfg)
	half := proxy.Inject(mqtest.Fault{Point: mqtest.Received, Method: "connection.tune-ok", Count: 1, Do: mqtest.Hold()})
	killed := make(chan error, 1)
	go func() {
		err := half.Wait(t.Context())
		killed <- errors.Join(err, node.Kill(t.Context()), node.Start(t.Context()), node.WaitReady(t.Context()))
	}()
	pool, states := open(t, cfg)
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	failed := made.failed()
	if half.Hits() != 1 || len(failed) == 0 {
		t.Fatalf("%d handshakes were held, attempts that failed: %v", half.Hits(), failed)
	}
	for _, a := range failed {
		if reconnect.IsFatal(a.Err) {
			t.Errorf("%v is fatal", a.Err)
		}
	}
	t.Logf("%d attempts failed, the first: %v", len(failed), failed[0].Err)

	tr := newTraffic(t, pool, queue, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load := tr.publish(ctx, t, 2)
	tr.awaitConfirmed(t, 20)
	roles := []reconnect.Role{reconnect.Publishing, reconnect.Consuming}
	lost := map[reconnect.Role]int{}
	for _, role := range roles {
		lost[role] = states.count(role, reconnect.Waiting)
	}
	frozen := time.Now()
	if err := node.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	paused := time.Now() // it was frozen in between
	for _, role := range roles {
		states.await(t, role, reconnect.Waiting, lost[role]+1)
		c := states.nth(role, reconnect.Waiting, lost[role]+1)
		if limit := time.Duration(noticed * float64(heartbeat)); c.At.Sub(paused) > limit {
			t.Errorf("%s: noticed after %v to %v, want at most %v", role, c.At.Sub(paused), c.At.Sub(frozen), limit)
		}
		t.Logf("%s: noticed after %v to %v: %v", role, c.At.Sub(paused), c.At.Sub(frozen), c.Cause)
	}
	if err := node.Unpause(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr.awaitConfirmed(t, 20)
	stop()
	load.Wait()
	tr.settleUp(t, node.URL())
}

func TestAShortCtxOnADeclareHarmsNoOtherConsumer(t *testing.T) {
	node := sharedNode(t)
	t.Parallel()
	const held, calls = 5, 20
	proxy := mqtest.NewProxy(t, node.URL())
	queue := uniqueName(t)
	cfg := quorum(queue, proxy.URL())
	cfg.First = reconnect.Consuming // which is where Declare declares
	deleteAfter(t, node.URL(), queue)
	pool, states := open(t, cfg)

	// Each message is held at its first sighting, and then fails once.
	var second atomic.Int64
	holding, release := make(chan struct{}, held), make(chan struct{})
	attempts := make(chan int, 10*held)
	c := consume(t, pool, consumer.Config{Queue: queue, Workers: held, Prefetch: held}, func(ctx context.Context, d *consumer.Delivery) error {
		attempts <- d.Attempt()
		if !d.Redelivered {
			holding <- struct{}{}
			<-release
			return d.Requeue()
		}
		second.Add(1)
		return nil
	})
	publish(t, newProducer(t, pool, producer.Config{}), queue, held)
	for range held {
		<-holding
	}

	slow := proxy.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "queue.declare", Queue: queue, Do: mqtest.Delay(200 * time.Millisecond)})
	short := func(f func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := f(ctx); !isDeadline(err) {
			t.Errorf("with a ctx of 1 ms: %v", err)
		}
	}
	for range calls {
		short(func(ctx context.Context) error { return pool.Declare(ctx, cfg.Topology) })
		ch, err := pool.Acquire(t.Context(), reconnect.Consuming) // so that the declare itself is under way
		if err != nil {
			t.Fatal(err)
		}
		short(func(ctx context.Context) error {
			return ch.Call(ctx, "declare", func(raw *amqp.Channel) error {
				_, err := raw.QueueDeclarePassive(queue, true, false, false, false, nil)
				return err
			})
		})
		ch.Release()
	}
	eventually(t, "the channels of the declares are closed", patience, func() bool {
		s := pool.Stats().Consuming
		return s.Channels-s.Kept == 1
	})
	if n := slow.Hits(); n < calls/2 {
		t.Errorf("%d declares were slow", n)
	} else {
		t.Logf("%d declares were slow, of %d", n, 2*calls)
	}
	slow.Remove()
	close(release)
	eventually(t, "all came back once", patience, func() bool { return second.Load() == held })
	for range 2 * held {
		if n := <-attempts; n > 2 {
			t.Errorf("attempt %d: something else was counted as a failure", n)
		}
	}
	if s := c.Status(); !s.Subscribed || states.count(reconnect.Consuming, reconnect.Connected) != 1 || len(attempts) != 0 {
		t.Errorf("%+v, connected %d times, %d sightings more", s, states.count(reconnect.Consuming, reconnect.Connected), len(attempts))
	}
}

// TestACallThatIsNeverAnsweredCostsItsConnectionAndNoMore: the consumer that used it
// as well comes back, and so does what declares.
func TestACallThatIsNeverAnsweredCostsItsConnectionAndNoMore(t *testing.T) {
	node := sharedNode(t)
	t.Parallel()
	const limit = 2 * time.Second
	proxy := mqtest.NewProxy(t, node.URL())
	queue := uniqueName(t)
	cfg := quorum(queue, proxy.URL())
	cfg.First, cfg.RPCTimeout = reconnect.Consuming, limit
	deleteAfter(t, node.URL(), queue)
	pool, states := open(t, cfg)
	tr := newTraffic(t, pool, queue, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load := tr.publish(ctx, t, 2)
	tr.awaitConfirmed(t, 20) // the publishing connection has declared what it declares

	lost := proxy.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.qos", Count: 1, Do: mqtest.Drop()})
	long, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ch, err := pool.Acquire(long, reconnect.Consuming)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Release()
	began := time.Now()
	err = ch.Call(long, "set prefetch", func(raw *amqp.Channel) error { return raw.Qos(1, 0, false) })
	took := time.Since(began)
	if !errors.Is(err, reconnect.ErrRPCTimeout) || took < limit || took > 2*limit || lost.Hits() != 1 {
		t.Errorf("qos: %v after %v, %d answers lost", err, took, lost.Hits())
	}
	states.await(t, reconnect.Consuming, reconnect.Connected, 2)
	if err := pool.Declare(long, cfg.Topology); err != nil {
		t.Error(err)
	}
	tr.consumer.awaitSubscribed(t)
	tr.awaitConfirmed(t, 20)
	stop()
	load.Wait()
	tr.settleUp(t, node.URL())
	if n := states.count(reconnect.Publishing, reconnect.Waiting); n != 0 {
		t.Errorf("the publishing connection was lost %d times", n)
	}
}

func TestPublishingGoesOnAfterAnAlarmThatOutlastedItsConnection(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	proxy := mqtest.NewProxy(t, node.URL())
	queue := uniqueName(t)
	pool, states := open(t, quorum(queue, proxy.URL()))
	tr := newTraffic(t, pool, queue, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load := tr.publish(ctx, t, 4)
	tr.awaitConfirmed(t, 20)

	must(t, node.Block(t.Context()))
	states.await(t, reconnect.Publishing, reconnect.Blocked, 1)
	if n := proxy.DropConnections(); n != 2 {
		t.Errorf("%d connections were cut", n)
	}
	states.await(t, reconnect.Publishing, reconnect.Waiting, 1)
	if from := states.last(reconnect.Publishing, reconnect.Waiting).From; from != reconnect.Blocked {
		t.Errorf("it was cut while %s", from)
	}
	states.await(t, reconnect.Publishing, reconnect.Blocked, 2) // the alarm goes on
	before := tr.confirmed.Load()
	must(t, node.Unblock(t.Context()))
	tr.awaitConfirmed(t, 20)
	t.Logf("%d were confirmed before the end of the alarm, %d after", before, tr.confirmed.Load()-before)
	stop()
	load.Wait()
	tr.settleUp(t, node.URL())
	if s := pool.Status(reconnect.Publishing); s.State != reconnect.Connected || pool.Stats().Publishing.Blocked == 0 {
		t.Errorf("%+v, %+v", s, pool.Stats().Publishing)
	}
}

func TestOfThreeAddressesOneThatLivesIsEnough(t *testing.T) {
	node := sharedNode(t)
	t.Parallel()
	var proxies [3]*mqtest.Proxy
	cfg := reconnect.Config{}
	for i := range proxies {
		proxies[i] = mqtest.NewProxy(t, node.URL())
		cfg.URLs = append(cfg.URLs, proxies[i].URL())
	}
	proxies[0].RefuseConnections()
	proxies[1].RefuseConnections()
	made := &attempts{}
	made.of(&cfg)
	pool, states := open(t, cfg)
	works(t, pool, reconnect.Publishing)
	if at := pool.Status(reconnect.Publishing).Address; at != proxies[2].Addr() {
		t.Fatalf("connected to %s", at)
	}
	proxies[2].RefuseConnections()
	if n := proxies[2].DropConnections(); n != 1 {
		t.Fatalf("%d connections were cut", n)
	}
	states.await(t, reconnect.Publishing, reconnect.Waiting, 3) // two rounds in which nobody is there
	cause := states.last(reconnect.Publishing, reconnect.Waiting).Cause
	for _, proxy := range proxies {
		if !strings.Contains(cause.Error(), proxy.Addr()+": ") {
			t.Errorf("%v does not name %s", cause, proxy.Addr())
		}
	}
	if err := proxies[1].AcceptConnections(); err != nil {
		t.Fatal(err)
	}
	works(t, pool, reconnect.Publishing)
	if at := pool.Status(reconnect.Publishing).Address; at != proxies[1].Addr() {
		t.Errorf("connected to %s", at)
	}
	for _, a := range made.failed() {
		if reconnect.IsFatal(a.Err) {
			t.Errorf("%v is fatal", a.Err)
		}
	}
}

// TestANameThatMeansAnotherAddressLaterIsFollowed runs before the parallel tests: it
// replaces the resolver of the whole process.
func TestANameThatMeansAnotherAddressLaterIsFollowed(t *testing.T) {
	node := sharedNode(t)
	const name = "broker.mqkit.test"
	server, err := nameserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	before := net.DefaultResolver
	net.DefaultResolver = server.Resolver()
	t.Cleanup(func() { net.DefaultResolver = before })

	first := mqtest.NewProxy(t, node.URL())
	_, port, err := net.SplitHostPort(first.Addr())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := net.JoinHostPort("127.0.0.2", port)
	if l, err := net.Listen("tcp", elsewhere); err != nil {
		t.Skipf("this machine has no second loopback address: %v", err)
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	second := mqtest.NewProxy(t, node.URL(), mqtest.ProxyConfig{Listen: elsewhere})

	server.Set(name, netip.MustParseAddr("127.0.0.1"))
	pool, states := open(t, reconnect.Config{URLs: []string{strings.Replace(first.URL(), first.Addr(), net.JoinHostPort(name, port), 1)}})
	works(t, pool, reconnect.Publishing)
	if n := [2]int{len(first.Connections()), len(second.Connections())}; n != [2]int{1, 0} {
		t.Fatalf("connections %v", n)
	}
	asked := server.Asked(name)
	server.Set(name, netip.MustParseAddr("127.0.0.2"))
	first.DropConnections() // and it still listens
	states.await(t, reconnect.Publishing, reconnect.Connected, 2)
	works(t, pool, reconnect.Publishing)
	if n := [2]int{len(first.Connections()), len(second.Connections())}; n != [2]int{0, 1} {
		t.Errorf("connections %v", n)
	}
	if asked == 0 || server.Asked(name) == asked {
		t.Errorf("the name was looked up %d times, and then %d", asked, server.Asked(name))
	}
}

// TestABrokerThatDropsAtOnceIsNotDialledInAHotLoop, by the backoff of the zero Config.
func TestABrokerThatDropsAtOnceIsNotDialledInAHotLoop(t *testing.T) {
	node := sharedNode(t)
	t.Parallel()
	const window = 10 * time.Second
	for name, fault := range map[string]mqtest.Fault{
		"before the handshake": {Point: mqtest.Accepted, Do: mqtest.Cut()},
		"after the handshake":  {Point: mqtest.Sending, Method: "connection.open-ok", Do: mqtest.Pass().Then(mqtest.Cut())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := mqtest.NewProxy(t, node.URL())
			cut := proxy.Inject(fault)
			ctx, cancel := context.WithTimeout(t.Context(), window)
			defer cancel()
			cfg := reconnect.Config{URLs: []string{proxy.URL()}}
			made := &attempts{}
			made.of(&cfg)
			pool, err := reconnect.Open(ctx, cfg)
			if err == nil { // it was up, for a moment
				<-ctx.Done()
				pool.CloseNow()
			} else if reconnect.IsFatal(err) {
				t.Errorf("Open: %v", err)
			}
			// The waits grow to 2.5 s on average: some ten attempts.
			if n := cut.Hits(); n < 4 || n > 40 {
				t.Errorf("%d attempts in %v", n, window)
			} else {
				t.Logf("%d attempts in %v", n, window)
			}
		})
	}
}
