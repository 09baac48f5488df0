package mqtest_test

import (
	"testing"

	"github.com/mqkit/mqkit/mqtest"
)

// Each record's bytes are taken once: what has been emptied is not looked at again.
func TestAJournalOfAnyLengthMakesRoomInOneStep(t *testing.T) {
	t.Parallel()
	const n, size = 50_000, 1000
	for _, limit := range []int{0, 1_000_000, 20_000} {
		looked, whole := mqtest.JournalSteps(limit, n, size)
		if looked > n {
			t.Errorf("with a limit of %d, %d records took %d looks", limit, n, looked)
		}
		want := 4096
		if limit != 0 {
			want = 16 << 20 / size
		}
		if whole != want {
			t.Errorf("with a limit of %d, %d frames of %d bytes are left, want %d", limit, whole, size, want)
		}
	}
}
