package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// orders is a topology of one queue.
func orders() topology.Topology {
	return topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
}

// inequivalent is a fault: every queue is there already, and is another.
func inequivalent() mqtest.Fault {
	return refusesOnChannel("queue.declare", 406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'orders' in vhost '/'")
}

func TestTheTopologyIsDeclaredOnEachConnectionBeforeItIsConnected(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		var held []*mqtest.Injected
		for n := 1; n <= 2; n++ {
			held = append(held, f.broker.Inject(mqtest.Fault{
				Point: mqtest.Applied, Conn: n, Method: "queue.declare", Queue: "orders", Count: 1, Do: mqtest.Hold(),
			}))
		}
		cfg := f.config()
		cfg.Topology = orders()
		opening(t, cfg)
		for _, in := range held {
			f.struck(in)
			synctest.Wait()
			if all := f.told(); all[len(all)-1].To != reconnect.Connecting {
				t.Errorf("%v before the topology was declared", all[len(all)-1])
			}
			in.Release()
			f.await(t, reconnect.Connected)
			f.cut(1)
		}
	})
}

func TestATopologyThatTheBrokerRefusesEndsTheFirstOpenAndLaterIsAFaultInStatus(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = orders()
		p := open(t, cfg)
		f.await(t, reconnect.Connected)
		if s := p.Status(reconnect.Publishing); s.TopologyFault != nil {
			t.Errorf("fault %v", s.TopologyFault)
		}
		refused := f.broker.Inject(inequivalent())
		without := f.config()
		without.OnStateChange = nil
		open(t, without)
		other := cfg
		other.OnStateChange = nil
		_, err := reconnect.Open(limited(t), other)
		wantBroker(t, "Open", err, 406, true)
		var declare *topology.DeclareError
		if !errors.As(err, &declare) || declare.Cause != topology.CauseInequivalent {
			t.Errorf("%v does not say what could not be declared", err)
		}
		if hits(refused) != 1 {
			t.Errorf("%d declares were refused", hits(refused))
		}
		f.cut(2)
		f.await(t, reconnect.Connected)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || !reconnect.IsFatal(s.TopologyFault) || hits(refused) != 2 {
			t.Errorf("status %+v after %d refusals", s, hits(refused))
		}
	})
}

// TestATopologyMayTakeLongerThanADialAndThanAnAnswer: DialTimeout bounds the
// handshake, RPCTimeout each answer; how many there are is the topology's matter.
func TestATopologyMayTakeLongerThanADialAndThanAnAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const (
			limit  = 500 * time.Millisecond
			queues = 12
			each   = 2 * limit / queues
		)
		f := newFixture(t)
		slow := f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "queue.declare", Do: mqtest.Delay(each)})
		cfg := f.config()
		cfg.DialTimeout, cfg.RPCTimeout = limit, limit
		for i := range queues {
			cfg.Topology.Queues = append(cfg.Topology.Queues, topology.Queue{Name: fmt.Sprintf("q%d", i)})
		}
		began := time.Now()
		p := open(t, cfg)
		wantAfter(t, began, queues*each)
		began = time.Now()
		if err := p.Declare(limited(t), cfg.Topology); err != nil { // is the same
			t.Errorf("Declare: %v", err)
		}
		wantAfter(t, began, queues*each)
		if n := hits(f.accepted); n != 1 || hits(slow) != 2*queues {
			t.Errorf("%d connections, %d slow answers", n, hits(slow))
		}
	})
}

// declares is a pool whose topology is queues that its broker has.
type declares struct {
	*fixture
	pool *reconnect.Pool
}

// answer is how long the pool of newDeclares waits for one.
const answer = 10 * time.Second

func newDeclares(t *testing.T, queues ...string) *declares {
	t.Helper()
	f := newFixture(t)
	cfg := f.config()
	cfg.RPCTimeout = answer
	for _, name := range queues {
		cfg.Topology.Queues = append(cfg.Topology.Queues, topology.Queue{Name: name})
	}
	d := &declares{fixture: f, pool: open(t, cfg)}
	f.await(t, reconnect.Connected)
	return d
}

// strike has the declares from now on meet a fault.
func (d *declares) strike(f mqtest.Fault) *mqtest.Injected {
	f.Point, f.Method = mqtest.Received, "queue.declare"
	return d.broker.Inject(f)
}

// fault is what Status says of the topology of a pool that is connected.
func (d *declares) fault() error {
	d.t.Helper()
	s := d.pool.Status(reconnect.Publishing)
	if s.State != reconnect.Connected {
		d.t.Errorf("status %+v", s)
	}
	return s.TopologyFault
}

// misses is a session that misses the queue once.
func (d *declares) misses(queue string) error {
	sessions := 0
	return d.pool.Run(limited(d.t), reconnect.Publishing, func(_ context.Context, ch *reconnect.Channel) error {
		ch.Ready()
		if sessions++; sessions == 1 {
			return reconnect.Missing(queue, errors.New("test"))
		}
		return nil
	}, nil)
}

// wantConnections that were made in all, and answers that a fault made.
func (d *declares) wantConnections(connections int, fault *mqtest.Injected, answers int) {
	d.t.Helper()
	if n := hits(d.accepted); n != connections || hits(fault) != answers {
		d.t.Errorf("%d connections, %d answers of the fault; want %d and %d", n, hits(fault), connections, answers)
	}
}

// TestAQueueWhoseNodeWasKilledKeepsNobodyFromWorking: the broker looks for it for more than
// a minute before it says so, and is well. Others wait for RPCTimeout, whatever the number
// of such queues, and what is behind them is declared.
func TestAQueueWhoseNodeWasKilledKeepsNobodyFromWorking(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const looks = 68 * time.Second
		d := newDeclares(t, "lost 1", "lost 2", "lost 3", "there")
		d.broker.Queue("there").Delete()
		slow := d.strike(mqtest.Fault{
			If: func(e *mqtest.Event) bool { return strings.HasPrefix(e.Queue, "lost") },
			Do: mqtest.Delay(looks).Then(mqtest.CloseChannel(404, "NOT_FOUND - failed to perform operation on queue in vhost '/' due to timeout")),
		})
		d.cut(1)
		began := time.Now()
		d.await(t, reconnect.Connected)
		if took := time.Since(began); took < answer || took > answer+2*pause {
			t.Errorf("connected after %v", took)
		}
		if !d.broker.Queue("there").Exists() {
			t.Error("what is behind them was not declared")
		}
		if err := d.fault(); err == nil || strings.Count(err.Error(), "no answer yet") != 3 {
			t.Errorf("fault %v", err)
		}
		after(looks)
		if err := d.fault(); err == nil || strings.Count(err.Error(), "due to timeout") != 3 || strings.Contains(err.Error(), "no answer yet") {
			t.Errorf("fault %v", err)
		}
		d.wantConnections(2, slow, 3)
		slow.Remove() // the node is back
		d.cut(1)
		after(2 * pause)
		if err := d.fault(); err != nil {
			t.Errorf("fault %v", err)
		}
	})
}

// TestALateAnswerToADeclareEndsItsFault: the node has come back meanwhile.
func TestALateAnswerToADeclareEndsItsFault(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDeclares(t, "orders")
		slow := d.strike(mqtest.Fault{Count: 1, Do: mqtest.Delay(time.Minute)})
		d.cut(1)
		after(answer + 2*pause)
		if err := d.fault(); err == nil {
			t.Error("no fault while there is no answer")
		}
		after(time.Minute)
		if err := d.fault(); err != nil {
			t.Errorf("fault %v", err)
		}
		d.wantConnections(2, slow, 1)
	})
}

// TestALateAnswerIsNoneOnceAllIsDeclaredAgain: what is newer counts.
func TestALateAnswerIsNoneOnceAllIsDeclaredAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDeclares(t, "orders")
		slow := d.strike(mqtest.Fault{Count: 1, Do: mqtest.Delay(time.Minute).Then(mqtest.CloseChannel(404, "NOT_FOUND"))})
		d.cut(1)
		after(answer + 2*pause)
		if err := d.fault(); err == nil {
			t.Error("no fault while there is no answer")
		}
		// A session that misses something has it declared again, as its queue is back.
		if err := d.misses("orders"); err != nil {
			t.Error(err)
		}
		if err := d.fault(); err != nil {
			t.Errorf("fault %v", err)
		}
		after(time.Minute)
		if err := d.fault(); err != nil {
			t.Errorf("fault %v", err)
		}
		d.wantConnections(2, slow, 1)
	})
}

// TestARefusedEntityKeepsNoOtherFromBeingDeclaredAgain, before it in the topology or behind
// it.
func TestARefusedEntityKeepsNoOtherFromBeingDeclaredAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		names := []string{"a", "b", "c", "d"}
		d := newDeclares(t, names...)
		for _, name := range names {
			d.broker.Queue(name).Delete()
		}
		refused := d.strike(mqtest.Fault{
			If: func(e *mqtest.Event) bool { return e.Queue == "a" || e.Queue == "c" },
			Do: mqtest.CloseChannel(406, "PRECONDITION_FAILED - test"),
		})
		d.cut(1)
		d.await(t, reconnect.Connected)
		for _, name := range names {
			if ok := d.broker.Queue(name).Exists(); ok != (name == "b" || name == "d") {
				t.Errorf("queue %s is there: %v", name, ok)
			}
		}
		if err := d.fault(); err == nil || strings.Count(err.Error(), "the broker refuses it: test (406)") != 2 {
			t.Errorf("fault %v", err)
		}
		d.wantConnections(2, refused, 2)
	})
}

// TestAQueueWhoseNodeIsDownKeepsNobodyFromReconnecting: before RabbitMQ 4.0 the answer is a
// 404 that is no reason to give up, and comes at once.
func TestAQueueWhoseNodeIsDownKeepsNobodyFromReconnecting(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDeclares(t, "orders")
		down := d.strike(mqtest.Fault{Do: mqtest.CloseChannel(404, "NOT_FOUND - home node 'rabbit@b' of durable queue 'orders' in vhost '/' is down or inaccessible")})
		d.cut(1)
		after(2 * pause)
		if err := d.fault(); err == nil || !strings.Contains(err.Error(), "home node") || reconnect.IsFatal(err) {
			t.Errorf("fault %v", err)
		}
		d.wantConnections(2, down, 1)
	})
}

// deprecated is how RabbitMQ refuses a transient queue that many may use, where it is
// configured so, as after an upgrade.
const deprecated = "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated. Its use is not permitted per the configuration"

// TestAnEntityThatCostsTheConnectionKeepsNobodyFromWorking: it is left out for a while, and
// no connection that it has cost looks as if it could be used.
func TestAnEntityThatCostsTheConnectionKeepsNobodyFromWorking(t *testing.T) {
	for name, names := range map[string][]string{"first": {"old", "a", "b"}, "last": {"a", "b", "old"}} {
		inBubbleOf(t, name, func(t *testing.T) {
			d := newDeclares(t, names...)
			d.broker.Queue("b").Delete()
			refused := d.strike(mqtest.Fault{Queue: "old", Do: mqtest.CloseConnection(541, deprecated)})
			d.cut(1)
			d.await(t, reconnect.Connected)
			if err := d.fault(); !reconnect.IsFatal(err) || !strings.Contains(err.Error(), "going on without it") {
				t.Errorf("fault %v", err)
			}
			if !d.broker.Queue("b").Exists() {
				t.Error("the others were not declared")
			}
			d.wantConnections(3, refused, 1)
			if err := d.misses("a"); err != nil { // has all declared again
				t.Error(err)
			}
			d.cut(1)
			d.await(t, reconnect.Connected)
			d.wantConnections(4, refused, 1)
			after(5 * time.Minute)
			d.cut(1)
			d.await(t, reconnect.Connected)
			if d.fault() == nil {
				t.Error("no fault")
			}
			d.wantConnections(6, refused, 2) // it was tried again
			refused.Remove()
			after(5 * time.Minute)
			d.cut(1)
			d.await(t, reconnect.Connected)
			if err := d.fault(); err != nil {
				t.Errorf("fault %v", err)
			}
		})
	}
}

// TestAnEntityThatCostsTheConnectionLateIsLeftOutToo: it was passed over, and others use the
// connection by then.
func TestAnEntityThatCostsTheConnectionLateIsLeftOutToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDeclares(t, "orders")
		late := d.strike(mqtest.Fault{Do: mqtest.Delay(2 * answer).Then(mqtest.CloseConnection(541, "INTERNAL_ERROR - Could not declare quorum queue 'orders' in vhost '/' on node 'rabbit@a' because the metadata store operation timed out"))})
		d.cut(1)
		after(4*answer + 2*pause)
		if err := d.fault(); err == nil || !strings.Contains(err.Error(), "going on without it") {
			t.Errorf("fault %v", err)
		}
		d.wantConnections(3, late, 1)
	})
}

// TestWhatCostsAConnectionThatOthersUseIsToldByTheNext: the declare under way may have had
// nothing to do with it.
func TestWhatCostsAConnectionThatOthersUseIsToldByTheNext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDeclares(t, "orders")
		other := d.strike(mqtest.Fault{Count: 1, Do: mqtest.CloseConnection(541, "INTERNAL_ERROR")})
		_ = d.misses("orders")
		after(2 * pause)
		if err := d.fault(); err != nil {
			t.Errorf("fault %v", err)
		}
		d.wantConnections(2, other, 1)
	})
}

// TestSessionsThatMissSomethingHaveItDeclaredOnce: together, however many they are.
func TestSessionsThatMissSomethingHaveItDeclaredOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const many = 50
		d := newDeclares(t, "orders")
		slow := d.strike(mqtest.Fault{Do: mqtest.Delay(time.Second)})
		var runs sync.WaitGroup
		for range many {
			runs.Go(func() {
				if err := d.misses("orders"); err != nil {
					t.Error(err)
				}
			})
		}
		runs.Wait()
		d.wantConnections(1, slow, 1)
	})
}
