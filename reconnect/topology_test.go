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

// TestAQueueWhoseNodeWasKilledKeepsNobodyFromWorking: the broker looks for it for more than
// a minute before it says so, and is well. Others wait for RPCTimeout, whatever the number
// of such queues, and what is behind them is declared.
func TestAQueueWhoseNodeWasKilledKeepsNobodyFromWorking(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const looks = 68 * time.Second
		f := newFixture(t)
		cfg := f.config()
		cfg.RPCTimeout = 10 * time.Second
		for _, name := range []string{"lost 1", "lost 2", "lost 3", "there"} {
			cfg.Topology.Queues = append(cfg.Topology.Queues, topology.Queue{Name: name})
		}
		p := open(t, cfg)
		f.await(t, reconnect.Connected)
		lost := func(e *mqtest.Event) bool { return strings.HasPrefix(e.Queue, "lost") }
		f.broker.Queue("there").Delete()
		slow := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "queue.declare", If: lost,
			Do: mqtest.Delay(looks).Then(mqtest.CloseChannel(404, "NOT_FOUND - failed to perform operation on queue in vhost '/' due to timeout")),
		})
		f.cut(1)
		began := time.Now()
		f.await(t, reconnect.Connected)
		if took := time.Since(began); took < cfg.RPCTimeout || took > cfg.RPCTimeout+2*pause {
			t.Errorf("connected after %v", took)
		}
		if !f.broker.Queue("there").Exists() {
			t.Error("what is behind them was not declared")
		}
		if s := p.Status(reconnect.Publishing); s.TopologyFault == nil || strings.Count(s.TopologyFault.Error(), "no answer yet") != 3 {
			t.Errorf("status %+v", s)
		}
		after(looks)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || !reconnect.IsFatal(s.TopologyFault) || strings.Contains(s.TopologyFault.Error(), "no answer yet") {
			t.Errorf("status %+v", s)
		}
		if n := hits(f.accepted); n != 2 || hits(slow) != 3 {
			t.Errorf("%d connections, %d slow answers", n, hits(slow))
		}
		slow.Remove() // the node is back
		f.cut(1)
		after(2 * pause)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.TopologyFault != nil {
			t.Errorf("status %+v", s)
		}
	})
}

// TestALateAnswerToADeclareEndsItsFault: the node has come back meanwhile.
func TestALateAnswerToADeclareEndsItsFault(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = orders()
		cfg.RPCTimeout = 10 * time.Second
		p := open(t, cfg)
		f.await(t, reconnect.Connected)
		slow := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "queue.declare", Count: 1, Do: mqtest.Delay(time.Minute)})
		f.cut(1)
		after(cfg.RPCTimeout + 2*pause)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.TopologyFault == nil {
			t.Errorf("status %+v", s)
		}
		after(time.Minute)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.TopologyFault != nil {
			t.Errorf("status %+v", s)
		}
		if n := hits(f.accepted); n != 2 || hits(slow) != 1 {
			t.Errorf("%d connections, %d slow answers", n, hits(slow))
		}
	})
}

// TestARefusedEntityKeepsNoOtherFromBeingDeclaredAgain, before it in the topology or behind
// it.
func TestARefusedEntityKeepsNoOtherFromBeingDeclaredAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		names := []string{"a", "b", "c", "d"}
		for _, name := range names {
			cfg.Topology.Queues = append(cfg.Topology.Queues, topology.Queue{Name: name})
		}
		p := open(t, cfg)
		f.await(t, reconnect.Connected)
		for _, name := range names {
			f.broker.Queue(name).Delete()
		}
		refused := func(e *mqtest.Event) bool { return e.Queue == "a" || e.Queue == "c" }
		f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "queue.declare", If: refused, Do: mqtest.CloseChannel(406, "PRECONDITION_FAILED - test")})
		f.cut(1)
		f.await(t, reconnect.Connected)
		for _, name := range names {
			if ok := f.broker.Queue(name).Exists(); ok != (name == "b" || name == "d") {
				t.Errorf("queue %s is there: %v", name, ok)
			}
		}
		if s := p.Status(reconnect.Publishing); s.TopologyFault == nil || strings.Count(s.TopologyFault.Error(), "the broker refuses it: test (406)") != 2 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestAQueueWhoseNodeIsDownKeepsNobodyFromReconnecting: before RabbitMQ 4.0 the answer is a
// 404 that is no reason to give up, and comes at once.
func TestAQueueWhoseNodeIsDownKeepsNobodyFromReconnecting(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = orders()
		p := open(t, cfg)
		f.await(t, reconnect.Connected)
		const text = "NOT_FOUND - home node 'rabbit@b' of durable queue 'orders' in vhost '/' is down or inaccessible"
		down := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "queue.declare", Do: mqtest.CloseChannel(404, text)})
		f.cut(1)
		after(2 * pause)
		s := p.Status(reconnect.Publishing)
		if s.State != reconnect.Connected || s.TopologyFault == nil || !strings.Contains(s.TopologyFault.Error(), "home node") || reconnect.IsFatal(s.TopologyFault) {
			t.Errorf("status %+v", s)
		}
		if n := hits(f.accepted); n != 2 || hits(down) != 1 {
			t.Errorf("%d connections, %d answers", n, hits(down))
		}
	})
}

// TestALateAnswerIsNoneOnceAllIsDeclaredAgain: what is newer counts.
func TestALateAnswerIsNoneOnceAllIsDeclaredAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = orders()
		cfg.RPCTimeout = 10 * time.Second
		p := open(t, cfg)
		f.await(t, reconnect.Connected)
		slow := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "queue.declare", Count: 1, Do: mqtest.Delay(time.Minute).Then(mqtest.CloseChannel(404, "NOT_FOUND"))})
		f.cut(1)
		after(cfg.RPCTimeout + 2*pause)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.TopologyFault == nil {
			t.Errorf("status %+v", s)
		}
		// A session that misses something has it declared again, as its queue is back.
		sessions := 0
		err := p.Run(limited(t), reconnect.Publishing, func(_ context.Context, ch *reconnect.Channel) error {
			ch.Ready()
			if sessions++; sessions == 1 {
				return reconnect.Missing("orders", errors.New("test"))
			}
			return nil
		}, nil)
		if s := p.Status(reconnect.Publishing); err != nil || sessions != 2 || s.TopologyFault != nil {
			t.Errorf("after %d sessions (%v): %+v", sessions, err, s)
		}
		after(time.Minute)
		if s := p.Status(reconnect.Publishing); s.TopologyFault != nil || hits(slow) != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestSessionsThatMissSomethingHaveItDeclaredOnce: together, however many they are.
func TestSessionsThatMissSomethingHaveItDeclaredOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const many = 50
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = orders()
		p := open(t, cfg)
		f.await(t, reconnect.Connected)
		before := len(f.methods("queue.declare"))
		f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "queue.declare", Do: mqtest.Delay(time.Second)})
		var runs sync.WaitGroup
		for range many {
			runs.Go(func() {
				sessions := 0
				if err := p.Run(limited(t), reconnect.Publishing, func(_ context.Context, ch *reconnect.Channel) error {
					ch.Ready()
					if sessions++; sessions == 1 {
						return reconnect.Missing("orders", errors.New("test"))
					}
					return nil
				}, nil); err != nil {
					t.Error(err)
				}
			})
		}
		runs.Wait()
		if n := len(f.methods("queue.declare")) - before; n != len(cfg.Topology.Queues) {
			t.Errorf("%d declares for %d queues", n, len(cfg.Topology.Queues))
		}
	})
}
