package mqtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Fault says what goes wrong, and when. Fields that say what it matches match
// anything where they are zero.
type Fault struct {
	Point       Point
	Conn        int
	Channel     uint16
	Method      string // as AMQP calls it, or "heartbeat"
	Exchange    string
	RoutingKey  string
	Queue       string
	ConsumerTag string
	MessageID   string
	Tag         uint64
	Number      uint64
	// If has the last word. It is called on the goroutine that serves the
	// connection, which waits for it, and may be called for several connections at
	// once; it may ask the Broker anything, but not to Stop, Restart, Close or
	// AcceptConnections, which may wait for it: those take a goroutine of their own.
	If func(*Event) bool

	// Skip is how many matches are let pass at first.
	Skip int
	// Count is how often it strikes; then it is removed. Defaults to 0, every time.
	Count int
	// Probability is how likely it strikes at a match that was not skipped.
	// Defaults to 0, which means 1.
	Probability float64
	// Seed makes what Probability decides the same in every run, as long as the
	// matches come in the same order. Defaults to 0, which is a seed as well.
	Seed uint64

	// Do is what happens. Defaults to Pass: a fault that only counts and can be
	// waited for, and hides no other.
	Do Action
}

func (f *Fault) matches(e *Event) bool {
	return (f.Point == 0 || f.Point == e.Point) &&
		(f.Conn == 0 || f.Conn == e.Conn) &&
		(f.Channel == 0 || f.Channel == e.Channel) &&
		(f.Method == "" || f.Method == e.Method) &&
		(f.Exchange == "" || f.Exchange == e.Exchange) &&
		(f.RoutingKey == "" || f.RoutingKey == e.RoutingKey) &&
		(f.Queue == "" || f.Queue == e.Queue) &&
		(f.ConsumerTag == "" || f.ConsumerTag == e.ConsumerTag) &&
		(f.MessageID == "" || f.MessageID == e.MessageID) &&
		(f.Tag == 0 || f.Tag == e.Tag) &&
		(f.Number == 0 || f.Number == e.Number) &&
		(f.If == nil || f.If(e))
}

// Injected is a fault that is in place.
type Injected struct {
	fault     Fault
	intercept func(*Event) Action // not nil: it is an interceptor
	rules     *rules

	mu      sync.Mutex // guards what follows
	skipped int
	taken   int
	hits    int
	chance  *rand.Rand
	enough  chan struct{} // closed once it has struck Count times, or once
	held    []func()      // let go of what it holds
	removed bool          // it holds nothing any more
}

// Hits tells how often it has struck: how often its action was begun. One that waits
// first, Delay(d).Then(Cut()), counts from the beginning of the wait, and one that is
// Pass for what it met, Nack where confirms are off, counts as well.
func (in *Injected) Hits() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.hits
}

// waitLimit bounds Wait where its ctx has no deadline.
const waitLimit = 30 * time.Second

// Wait waits until it has struck Count times, or once where Count is 0. It
// returns the cause of ctx's end, if that comes first. Where ctx has no deadline, as
// a test's own, it waits 30 s at most: a fault that matches nothing is a mistake in the
// test, which has to be told. Inside testing/synctest they are 30 s of the bubble's
// clock: give ctx a deadline there for a fault that strikes later.
func (in *Injected) Wait(ctx context.Context) error {
	var late <-chan time.Time
	if _, bounded := ctx.Deadline(); !bounded {
		timer := time.NewTimer(waitLimit)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-in.enough:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late:
		return fmt.Errorf("mqtest: the fault has struck %d times within %v: does it match what was to happen? "+
			"(a ctx with a deadline is waited for until then)", in.Hits(), waitLimit)
	}
}

// Release lets go of what the fault holds, and of what has waited behind it; see
// [Hold]. The fault stays in place, if its Count allows, for what comes later.
func (in *Injected) Release() {
	in.mu.Lock()
	held := in.held
	in.held = nil
	in.mu.Unlock()
	for _, release := range held {
		release()
	}
}

// Remove takes the fault out and lets go of what it holds. A delay and a stall stay
// as they are.
func (in *Injected) Remove() {
	in.rules.remove(in)
	in.mu.Lock()
	in.removed = true
	in.mu.Unlock()
	in.Release()
}

// holds has release called as soon as nothing is held any more.
func (in *Injected) holds(release func()) {
	in.mu.Lock()
	removed := in.removed
	if !removed {
		in.held = append(in.held, release)
	}
	in.mu.Unlock()
	if removed {
		release()
	}
}

// take tells whether it strikes at an event that it matches.
func (in *Injected) take() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.fault.Count > 0 && in.taken == in.fault.Count:
		return false
	case in.skipped < in.fault.Skip:
		in.skipped++
		return false
	case in.chance != nil && in.chance.Float64() >= in.fault.Probability:
		return false
	}
	in.taken++
	return true
}

// struck notes that its action was carried out.
func (in *Injected) struck() {
	if in == nil {
		return
	}
	in.mu.Lock()
	in.hits++
	last := in.fault.Count > 0 && in.hits == in.fault.Count
	if last || (in.fault.Count <= 0 && in.hits == 1) {
		close(in.enough)
	}
	in.mu.Unlock()
	if last {
		in.rules.remove(in) // what it holds it goes on holding
	}
}

// rules are what is in place, faults and interceptors, in the order in which they
// were put there.
type rules struct {
	list atomic.Pointer[[]*Injected] // nil: none
	mu   sync.Mutex                  // held while the list is replaced
}

// any is the fast path's only question.
func (r *rules) any() bool { return r.list.Load() != nil }

func (r *rules) inject(f Fault) *Injected {
	in := &Injected{fault: f, rules: r, enough: make(chan struct{})}
	if f.Probability > 0 && f.Probability < 1 {
		in.chance = rand.New(rand.NewPCG(f.Seed, 0x6d717465737400))
	}
	r.add(in)
	return in
}

func (r *rules) intercept(f func(*Event) Action) (remove func()) {
	in := &Injected{intercept: f, rules: r, enough: make(chan struct{})}
	r.add(in)
	return in.Remove
}

func (r *rules) add(in *Injected) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*Injected
	if now := r.list.Load(); now != nil {
		list = slices.Clone(*now)
	}
	list = append(list, in)
	r.list.Store(&list)
}

func (r *rules) remove(in *Injected) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.list.Load()
	if now == nil {
		return
	}
	list := slices.DeleteFunc(slices.Clone(*now), func(x *Injected) bool { return x == in })
	if len(list) == 0 {
		r.list.Store(nil)
		return
	}
	r.list.Store(&list)
}

// decide asks what is in place, in order: the first that does not pass decides.
// Whoever carries the action out calls struck on what has decided, which may be
// nil.
func (r *rules) decide(e *Event) (Action, *Injected) {
	list := r.list.Load()
	if list == nil {
		return Action{}, nil
	}
	for _, in := range *list {
		if in.intercept != nil {
			if a := in.intercept(e); !a.passes() {
				return a, in
			}
			continue
		}
		if !in.fault.matches(e) || !in.take() {
			continue
		}
		if a := in.fault.Do; !a.passes() {
			return a, in
		}
		in.struck()
	}
	return Action{}, nil
}

// passes tells whether an action is nothing but Pass.
func (a Action) passes() bool { return a.kind == kindPass && a.next == nil }
