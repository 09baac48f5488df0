package publishcases

import (
	"errors"
	"fmt"
	"sync"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
)

// returned checks the verdict of a message that no queue took.
func (s *stand) returned(c *producer.Confirmation) {
	s.t.Helper()
	err := s.verdict(c, producer.Returned)
	var r *producer.ReturnedError
	if !errors.As(err, &r) || r.Code != 312 || r.Text != "NO_ROUTE" || r.RoutingKey != s.nowhere() || !producer.SafeToRetry(err) {
		s.t.Fatalf("message %s: %v", c.MessageID(), err)
	}
}

// equalIDs: all are in flight when the first verdict comes, and a return carries no
// number.
func equalIDs(s *stand) {
	s.open(producer.Config{})
	const n = 300
	held, returns := s.heldBack(), s.counts(mqtest.Sending, "basic.return")
	var cs []*producer.Confirmation
	var kept []string
	unroutable := func(i int) bool { return i%3 == 1 }
	for i := range n {
		m := s.text(fmt.Sprint(i))
		m.MessageID = "the same"
		if unroutable(i) {
			m = m.ToQueue(s.nowhere())
		} else {
			kept = append(kept, fmt.Sprint(i))
		}
		cs = append(cs, s.message(m))
	}
	s.handed(n)
	s.struck(held)
	held.Release()
	for i, c := range cs {
		if unroutable(i) {
			s.returned(c)
		} else {
			s.verdict(c, producer.Confirmed)
		}
	}
	if got := returns.Hits(); got != n/3 {
		s.t.Errorf("the broker returned %d messages, want %d", got, n/3)
	}
	s.holds(kept...)
}

// tenThousand: who asked for them does not look before all have their verdicts, and who
// is told of each verdict stops at the first.
func tenThousand(s *stand) {
	const n = 10_000
	var mu sync.Mutex // guards told
	told := map[producer.Verdict]int{}
	slow := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(slow) })
	s.t.Cleanup(letGo)
	s.open(producer.Config{MaxInFlight: n, OnVerdict: func(o producer.Outcome) {
		<-slow
		mu.Lock()
		defer mu.Unlock()
		told[o.Verdict]++
	}})
	held, returns := s.heldBack(), s.counts(mqtest.Sending, "basic.return")
	var cs []*producer.Confirmation
	var kept []string
	for i := range n {
		m := s.text(fmt.Sprint(i))
		if i%10 == 3 {
			m = m.ToQueue(s.nowhere())
		} else {
			kept = append(kept, m.MessageID)
		}
		cs = append(cs, s.message(m))
	}
	s.handed(n)
	s.struck(held)
	if got := s.Stats().InFlight; got != n {
		s.t.Fatalf("%d are in flight, want %d", got, n)
	}
	held.Release()
	for i, c := range cs {
		if i%10 == 3 {
			s.returned(c)
		} else {
			s.verdict(c, producer.Confirmed)
		}
	}
	if got := returns.Hits(); got != n/10 {
		s.t.Errorf("the broker returned %d messages, want %d", got, n/10)
	}
	letGo()
	s.closes()
	mu.Lock()
	defer mu.Unlock()
	if told[producer.Returned] != n/10 || told[producer.Confirmed] != n-n/10 {
		s.t.Errorf("told were %v", told)
	}
	s.holds(kept...)
}
