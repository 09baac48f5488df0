package producer

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFifoIsAList: against a plain slice, with random operations.
func TestFifoIsAList(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var q fifo
		var model []*Confirmation // those that want to be sent
		for step := range 20_000 {
			// Phases in which it grows, and in which it empties.
			grow := step/3000%2 == 0
			switch n := rnd.IntN(100); {
			case n < 45 && grow, n < 15:
				c := &Confirmation{}
				q.push(c)
				model = append(model, c)
			case n < 75:
				got := q.pop()
				if len(model) == 0 {
					if got != nil {
						t.Fatalf("seed %d step %d: an empty queue gave an entry", seed, step)
					}
					continue
				}
				if got != model[0] {
					t.Fatalf("seed %d step %d: not the first one", seed, step)
				}
				model = model[1:]
			case n < 95 && len(model) > 0: // anywhere
				i := rnd.IntN(len(model))
				model[i].told = true
				q.remove()
				model = slices.Delete(slices.Clone(model), i, i+1)
			case n >= 98:
				again := make([]*Confirmation, rnd.IntN(5))
				for i := range again {
					again[i] = &Confirmation{}
				}
				q.unshift(slices.Clone(again))
				model = slices.Concat(again, model)
			}
			var alive []*Confirmation
			dead := 0
			for _, c := range q.entries() {
				if c.told {
					dead++
				} else {
					alive = append(alive, c)
				}
			}
			if dead != q.dead {
				t.Fatalf("seed %d step %d: %d were told, it counts %d", seed, step, dead, q.dead)
			}
			if dead > 64 && dead > len(alive)+1 {
				t.Fatalf("seed %d step %d: %d of %d entries are dead", seed, step, dead, dead+len(alive))
			}
			if step%97 == 0 && !slices.Equal(alive, model) {
				t.Fatalf("seed %d step %d: it holds others, or in another order", seed, step)
			}
		}
	}
}

func TestWindowForgetsWhatIsResolvedAtItsHead(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	var w window
	var model []*Confirmation
	for step := range 50_000 {
		if step/5000%2 == 0 || len(model) == 0 {
			c := &Confirmation{}
			w.push(c)
			model = append(model, c)
		}
		if rnd.IntN(3) > 0 { // resolve one, most often near the head
			if i := rnd.IntN(min(len(model), 1+rnd.IntN(200))); model[i] != nil {
				model[i] = nil
				w.entries()[i] = nil
			}
		}
		w.trim()
		for len(model) > 0 && model[0] == nil {
			model = model[1:]
		}
		if got := w.entries(); len(got) != len(model) || step%499 == 0 && !slices.Equal(got, model) {
			t.Fatalf("step %d: %d entries, want %d, the same", step, len(got), len(model))
		}
		if len(w.list) > 2*len(model)+2048 {
			t.Fatalf("step %d: %d places are kept for %d entries", step, len(w.list), len(model))
		}
	}
}
