package proof_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/ledger"
	"github.com/mqkit/mqkit/mqtest"
)

// place is a moment of the script: the event of that number among those at a point.
type place struct {
	point  mqtest.Point
	number int
	frames []byte // what it sends
}

// places plays the script once and returns where it can be cut.
func places(t *testing.T) (list []place) {
	t.Helper()
	var mu sync.Mutex
	count := map[mqtest.Point]int{}
	script(t, func(b *mqtest.Broker) {
		b.Intercept(func(e *mqtest.Event) mqtest.Action {
			mu.Lock()
			defer mu.Unlock()
			list = append(list, place{e.Point, count[e.Point], e.Frames})
			count[e.Point]++
			return mqtest.Pass()
		})
	})
	return list
}

// cut is one way to cut at a place.
type cut struct {
	place
	do mqtest.Action
}

func (c cut) String() string { return fmt.Sprintf("%v %d: %v", c.point, c.number, c.do) }

func (c cut) fault() mqtest.Fault {
	return mqtest.Fault{Point: c.point, Skip: c.number, Count: 1, Do: c.do}
}

// cuts are those at a place: before it, behind it where that is another moment, and
// inside each of its frames, at their boundaries too.
func (p place) cuts() []cut {
	list := []cut{{p, mqtest.Cut()}}
	if p.point != mqtest.Received && p.point != mqtest.Sending {
		return list
	}
	for _, at := range positions(p.frames) {
		list = append(list, cut{p, mqtest.CutInside(at)})
	}
	if p.point == mqtest.Sending {
		list = append(list, cut{p, mqtest.Pass().Then(mqtest.Cut())})
	}
	return list
}

// positions are the boundaries between frames, and in each frame behind its first byte,
// behind its header, in its middle and before its last byte.
func positions(frames []byte) (list []int) {
	const header = 7
	for at := 0; at+header < len(frames); {
		size := header + int(binary.BigEndian.Uint32(frames[at+3:])) + 1
		if at > 0 {
			list = append(list, at)
		}
		for _, in := range []int{1, header, size / 2, size - 1} {
			if last := len(list) - 1; in > 0 && in < size && (last < 0 || list[last] < at+in) {
				list = append(list, at+in)
			}
		}
		at += size
	}
	return list
}

// inParallel plays each, some at a time, and adds up what is reported.
func inParallel[T any](t *testing.T, all []T, play func(*testing.T, T) (ledger.Report, bool)) (total ledger.Report, struck int) {
	t.Helper()
	const shards = 4
	var mu sync.Mutex
	t.Run("group", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for i := shard; i < len(all); i += shards {
					r, hit := play(t, all[i])
					if t.Failed() {
						t.Fatalf("that was %v", all[i])
					}
					mu.Lock()
					total.Add(r)
					if hit {
						struck++
					}
					mu.Unlock()
				}
			})
		}
	})
	return total, struck
}

func TestEveryCut(t *testing.T) {
	t.Parallel()
	var all []cut
	for _, p := range places(t) {
		all = append(all, p.cuts()...)
	}
	total, struck := inParallel(t, all, func(t *testing.T, c cut) (ledger.Report, bool) {
		var in *mqtest.Injected
		r := script(t, func(b *mqtest.Broker) { in = b.Inject(c.fault()) })
		return r, in.Hits() == 1
	})
	t.Logf("%d cuts, %d of which were made\n%v", len(all), struck, total)
	const unmade = 5 * 6 // some frames travel together by chance: one event more or less is six cuts
	if struck < len(all)-unmade {
		t.Errorf("of %d cuts only %d were made", len(all), struck)
	}
}

var (
	seed  = flag.Uint64("seed", 0, "what the choice of pairs and the random schedules begin with; 0 takes one by the clock")
	pairs = flag.Int("pairs", 200, "how many pairs of cuts are played; -1 plays them all, which takes long")
)

// begin is the seed of this run.
var begin = sync.OnceValue(func() uint64 {
	if *seed != 0 {
		return *seed
	}
	return uint64(time.Now().UnixNano())
})

// pair is two cuts in one run.
type pair [2]cut

func (p pair) String() string { return fmt.Sprintf("%v, then %v", p[0], p[1]) }

// TestPairsOfCuts cuts twice, each time at a boundary of frames.
func TestPairsOfCuts(t *testing.T) {
	t.Parallel()
	var single []cut
	for _, p := range places(t) {
		single = append(single, cut{p, mqtest.Cut()})
	}
	// After a cut more happens than without one: the second may come there.
	for _, p := range []mqtest.Point{mqtest.Received, mqtest.Applied, mqtest.Sending} {
		most := 0
		for _, c := range single {
			if c.point == p {
				most = max(most, c.number)
			}
		}
		for n := range 20 {
			single = append(single, cut{place{p, most + 1 + n, nil}, mqtest.Cut()})
		}
	}
	var all []pair
	for i, first := range single {
		for _, second := range single[i+1:] {
			all = append(all, pair{first, second})
		}
	}
	if *pairs >= 0 && *pairs < len(all) {
		t.Logf("%d of %d pairs, by -seed %d", *pairs, len(all), begin())
		r := rand.New(rand.NewPCG(begin(), 1))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:*pairs]
	}
	total, struck := inParallel(t, all, func(t *testing.T, p pair) (ledger.Report, bool) {
		var first, second *mqtest.Injected
		r := script(t, func(b *mqtest.Broker) { first, second = b.Inject(p[0].fault()), b.Inject(p[1].fault()) })
		return r, first.Hits() == 1 && second.Hits() == 1
	})
	t.Logf("%d pairs of cuts, %d of which were made\n%v", len(all), struck, total)
	if struck < len(all)/2 {
		t.Errorf("of %d pairs of cuts only %d were made", len(all), struck)
	}
}
