package faultcases

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing" //nolint:depguard // only tests import this package
	"time"

	"github.com/mqkit/mqkit/mqtest"
)

// mixed is a thousand publishes some of which are nacked, returned, doubled, or
// given a verdict that is not theirs. Whatever happens to its neighbours, each
// gets the verdict that is its own, and the queue holds what was applied, in order,
// however many the broker confirms at once.
func mixed(t *testing.T, run starter) {
	const n = 1000
	run(t, "each gets its own verdict", func(s *stand) {
		seed := uint64(time.Now().UnixNano())
		s.t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		fates := make([]int, n)
		for i := range fates {
			fates[i] = random.IntN(12)
		}
		c := s.connect()
		remove := s.Intercept(func(e *mqtest.Event) mqtest.Action {
			i, err := strconv.Atoi(e.MessageID)
			if err != nil || e.Method != "basic.publish" || e.Point == mqtest.Sending {
				return mqtest.Pass()
			}
			if e.Number != uint64(i)+1 {
				s.t.Errorf("message %d has number %d", i, e.Number)
			}
			return fate(fates[i], e.Point, i)
		})
		defer remove()
		var told, stored []string
		for i, f := range fates {
			id := strconv.Itoa(i)
			c.publish(id)
			switch f {
			case 0:
				told = append(told, "-")
				continue
			case 1:
				told = append(told, "+")
				continue
			case 2:
				stored = append(stored, id)
			case 3:
				told = append(told, "-")
				stored = append(stored, id)
				continue
			}
			told = append(told, "+")
			stored = append(stored, id)
		}
		for _, confirm := range c.sent {
			receive(s.t, confirm.Done())
		}
		if got, want := c.told(), strings.Join(told, ""); got != want {
			s.t.Errorf("told\n%s, want\n%s", got, want)
		}
		s.holds(strings.Join(stored, " "))
	})
}

// fate is what happens to message i at a point.
func fate(f int, p mqtest.Point, i int) mqtest.Action {
	switch {
	case p == mqtest.Received && f == 0, p == mqtest.Applied && f == 3:
		return mqtest.Nack()
	case p == mqtest.Received && f == 1:
		return mqtest.Return(312, "NO_ROUTE")
	case p == mqtest.Received && f == 2:
		return mqtest.Twice()
	case p == mqtest.Applied && f == 4 && i%100 == 0:
		return mqtest.Delay(time.Millisecond)
	}
	return mqtest.Pass()
}
