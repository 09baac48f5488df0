package producer

import "testing"

func TestPatienceWithConfirmsGrowsWhileNoneComes(t *testing.T) {
	t.Parallel()
	var o overdue
	for i, step := range []struct {
		gaveUp, progress bool
		inVain           int
	}{
		{true, true, 0}, // some were confirmed, the oldest was not
		{true, false, 1},
		{true, false, 2},
		{false, false, 2}, // lost before anything could be confirmed
		{true, false, 3},
		{true, false, 4},
		{true, false, 4},
		{false, true, 0},
	} {
		if o.note(step.gaveUp, step.progress); o.inVain != step.inVain {
			t.Fatalf("step %d: %d in vain, want %d", i, o.inVain, step.inVain)
		}
	}
}
