package mqtest_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mqkit/mqkit/mqtest"
)

// A test's own ctx ends only after the test.
func TestWaitForAFaultThatNeverStrikesEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		never := b.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.publish", Do: mqtest.Cut()})
		err := never.Wait(t.Context())
		if err == nil || !strings.Contains(err.Error(), "struck 0 times within 30s") || !strings.Contains(err.Error(), "deadline") {
			t.Errorf("Wait says %v", err)
		}
	})
}
