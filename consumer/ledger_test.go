package consumer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// broker keeps the rules that RabbitMQ has for settlements.
type broker struct {
	last        uint64
	outstanding map[uint64]bool
}

// take applies w and returns the tags that it settles, or the broker's 406.
func (b *broker) take(w write) ([]uint64, error) {
	switch {
	case w.tag == 0:
		return nil, fmt.Errorf("tag 0 settles everything")
	case !b.outstanding[w.tag]:
		return nil, fmt.Errorf("406 unknown delivery tag %d", w.tag)
	}
	var tags []uint64
	for tag := range b.outstanding {
		if tag == w.tag || w.multiple && tag < w.tag {
			tags = append(tags, tag)
		}
	}
	for _, tag := range tags {
		delete(b.outstanding, tag)
	}
	return tags, nil
}

// TestLedgerKeepsTheBrokersRules with random deliveries, verdicts in random order,
// and flushes at random moments.
func TestLedgerKeepsTheBrokersRules(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		b := &broker{outstanding: map[uint64]bool{}}
		var l ledger
		given := map[uint64]verdict{}   // what handlers decided
		written := map[uint64]verdict{} // what the broker was told
		var undecideds []uint64
		noMultiple := false
		acks := []int{100, 80, 30}[seed%3] // in a hundred
		writes := func(ws []write, want func(tag uint64) verdict) {
			t.Helper()
			singles := true
			for _, w := range ws {
				if w.verdict == ack {
					singles = false
				} else if !singles && want == nil && !w.multiple {
					t.Fatalf("seed %d: %s after an ack in %v: a multiple ack may void its tag", seed, w.verdict, ws)
				}
				if noMultiple && w.multiple && want == nil {
					t.Fatalf("seed %d: %v for several though some tags may be void", seed, w)
				}
				tags, err := b.take(w)
				if err != nil {
					t.Fatalf("seed %d: %v in %v", seed, err, ws)
				}
				if len(tags) != w.covers {
					t.Fatalf("seed %d: %v settles %d", seed, w, len(tags))
				}
				for _, tag := range tags {
					v := given[tag]
					if want != nil && v == undecided {
						v = want(tag)
					}
					if v != w.verdict {
						t.Fatalf("seed %d: delivery %d got %s, its handler said %s", seed, tag, w.verdict, given[tag])
					}
					if _, twice := written[tag]; twice {
						t.Fatalf("seed %d: delivery %d was settled twice", seed, tag)
					}
					written[tag] = w.verdict
				}
			}
		}
		for range 400 {
			switch n := rnd.IntN(100); {
			case n < 40:
				b.last++
				b.outstanding[b.last] = true
				undecideds = append(undecideds, b.last)
				l.add(b.last)
			case n < 80 && len(undecideds) > 0:
				// Most often one of the oldest, as with a few workers.
				i := rnd.IntN(min(len(undecideds), 1+rnd.IntN(12)))
				tag := undecideds[i]
				undecideds = append(undecideds[:i], undecideds[i+1:]...)
				v := ack
				if rnd.IntN(100) >= acks {
					v = reject + verdict(rnd.IntN(3))
				}
				if l.settled(tag) || !l.settle(tag, v) || !l.settled(tag) {
					t.Fatalf("seed %d: the first verdict of %d was not taken", seed, tag)
				}
				given[tag] = v
			case n < 85 && b.last > 0: // a second verdict, or one of long ago
				tag := 1 + rnd.Uint64N(b.last)
				if given[tag] != undecided && l.settle(tag, release) {
					t.Fatalf("seed %d: %d was settled twice", seed, tag)
				}
			case n == 85 && seed%4 == 0:
				noMultiple = true
			case n > 85:
				most := l.due(noMultiple).writes
				ws := l.flush(nil, noMultiple)
				if len(ws) > most {
					t.Fatalf("seed %d: %v are more than the %d that were foretold", seed, ws, most)
				}
				writes(ws, nil)
				if l.pending() != 0 || len(written) != len(given) {
					t.Fatalf("seed %d: %d are finished and %d written after a flush, %d pending", seed, len(given), len(written), l.pending())
				}
			}
			if l.open != len(undecideds) || l.pending() != len(given)-len(written) || l.open+l.pending() != len(b.outstanding) {
				t.Fatalf("seed %d: open %d, pending %d, together what the broker counts as unsettled; want %d, %d, %d", seed,
					l.open, l.pending(), len(undecideds), len(given)-len(written), len(b.outstanding))
			}
		}
		// The end: what has no verdict is released, and nothing is outstanding.
		ws := l.flush(nil, noMultiple)
		writes(ws, nil)
		rest := l.releaseRest(nil)
		if len(rest) > 1 {
			t.Fatalf("seed %d: %v: all that is left goes as one settlement", seed, rest)
		}
		writes(rest, func(uint64) verdict { return release })
		if len(b.outstanding) != 0 || l.open != 0 || l.pending() != 0 {
			t.Fatalf("seed %d: %d are left outstanding", seed, len(b.outstanding))
		}
		// Handlers that end now find theirs settled.
		for tag := uint64(1); tag <= b.last; tag++ {
			if !l.settled(tag) || l.settle(tag, ack) || l.pending() != 0 {
				t.Fatalf("seed %d: %d can be settled after the end", seed, tag)
			}
		}
	}
}

// wire is how ws read.
func wire(ws []write) string {
	var parts []string
	for _, w := range ws {
		s := fmt.Sprintf("%s %d", w.verdict, w.tag)
		if w.multiple {
			s += " multiple"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

func TestOneMultipleAckCoversTheFinishedPrefix(t *testing.T) {
	t.Parallel()
	decide := func(vs ...verdict) *ledger {
		var l ledger
		for i, v := range vs {
			l.add(uint64(i + 1))
			if v != undecided {
				l.settle(uint64(i+1), v)
			}
		}
		return &l
	}
	for _, c := range []struct {
		l          *ledger
		noMultiple bool
		want       string
	}{
		{decide(), false, ""},
		{decide(undecided), false, ""},
		{decide(ack), false, "ack 1"},
		{decide(ack, ack, ack), false, "ack 3 multiple"},
		{decide(ack, ack, ack), true, "ack 1, ack 2, ack 3"},
		{decide(ack, ack, undecided, ack), false, "ack 2 multiple, ack 4"},
		{decide(undecided, ack, ack), false, "ack 2, ack 3"},
		// Never a tag that is rejected, which RabbitMQ answers with 406.
		{decide(ack, ack, reject), false, "reject 3, ack 2 multiple"},
		{decide(ack, requeue, ack), false, "requeue 2, ack 3 multiple"},
		{decide(release, reject), false, "release 1, reject 2"},
		// Releases at the end go as one, after what would be released with them.
		{decide(release, release, release), false, "release 3 multiple"},
		{decide(release, release, release), true, "release 1, release 2, release 3"},
		{decide(release, ack, release, reject, release, requeue), false, "release 1, reject 4, requeue 6, ack 2, release 5 multiple"},
		{decide(ack, release), false, "release 2, ack 1"},
		{decide(release, release, undecided, release, release), false, "release 4, release 5, release 2 multiple"},
		{decide(release, release, undecided, ack), false, "ack 4, release 2 multiple"},
	} {
		if got := wire(c.l.flush(nil, c.noMultiple)); got != c.want {
			t.Errorf("flush wrote %q, want %q", got, c.want)
		}
		if ws := c.l.flush(nil, false); len(ws) != 0 {
			t.Errorf("and again %v", ws)
		}
	}
}

func TestReleaseOfTheRestNamesTheLastUnfinished(t *testing.T) {
	t.Parallel()
	var l ledger
	for tag := uint64(1); tag <= 5; tag++ {
		l.add(tag)
	}
	l.settle(2, ack)
	l.settle(5, ack)
	if got := wire(l.releaseRest(l.flush(nil, false))); got != "ack 2, ack 5, release 4 multiple" {
		t.Error(got)
	}
	if !l.settled(4) || l.settle(4, ack) {
		t.Error("what was released can be settled again")
	}
}
