package producer

import (
	"testing"
	"time"
)

func TestPatienceDoublesUpToAnHour(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		base   time.Duration
		inVain int
		want   time.Duration
	}{
		{30 * time.Second, 0, 30 * time.Second},
		{30 * time.Second, 1, time.Minute},
		{30 * time.Second, 4, 8 * time.Minute},
		{30 * time.Second, 7, 64 * time.Minute},
		{30 * time.Second, 1000, 64 * time.Minute},
		{2 * time.Hour, 3, 2 * time.Hour},
		{leastConfirmTimeout, 1000, 87*time.Minute + 22880*time.Millisecond},
	} {
		if got := patience(c.base, c.inVain); got != c.want {
			t.Errorf("%v, %d times in vain: %v, want %v", c.base, c.inVain, got, c.want)
		}
	}
}
