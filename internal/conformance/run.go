package conformance

import (
	"context"
	"strings"
	"sync"
	"testing"          //nolint:depguard // only tests import this package
	"testing/synctest" //nolint:depguard // as above
	"time"
)

// workers is how many cases are played at a time: most of them wait most of the
// time, so this is no matter of processors.
const workers = 16

// untilToday is about how long ago a bubble of synctest begins, in 2000. A stream is
// asked for what is newer than 2001.
const untilToday = 26 * 365 * 24 * time.Hour

// Run plays every case on the broker and compares what was seen with what was
// recorded from RabbitMQ of that series, such as "4.3", each as a subtest. They are
// played side by side. A case that is known to differ is named in known with its
// reason; it fails when it does not differ after all.
func Run(t *testing.T, brokerURL, series string, known ...map[string]string) {
	t.Helper()
	played, stop := playAll(t.Context(), brokerURL, Cases)
	defer stop()
	check(t, series, Cases, known, func(_ *testing.T, i int) string { return <-played[i] })
}

// RunInBubbles is Run for a broker in memory, where waiting takes no time: start
// gives each case a broker of its own in a bubble of testing/synctest, and returns
// its URL and what opens a connection to it.
func RunInBubbles(t *testing.T, series string, start func(*testing.T) (brokerURL string, dial Dial), known ...map[string]string) {
	t.Helper()
	check(t, series, Cases, known, func(t *testing.T, i int) (seen string) {
		synctest.Test(t, func(t *testing.T) {
			<-time.After(untilToday) // no time passes
			brokerURL, dial := start(t)
			seen = play(t.Context(), brokerURL, Cases[i], nil, dial)
		})
		return seen
	})
}

// RunWithHand is Run for [HandCases]. They are played one after another, and what
// they do to the broker is felt by all its clients.
func RunWithHand(t *testing.T, brokerURL, series string, hand Hand, known ...map[string]string) {
	t.Helper()
	check(t, series, HandCases, known, func(t *testing.T, i int) string {
		return play(t.Context(), brokerURL, HandCases[i], hand, dialTCP)
	})
}

func check(t *testing.T, series string, cases []Case, known []map[string]string, played func(*testing.T, int) string) {
	t.Helper()
	want, err := load(series)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if !c.settled(series) {
				t.Skipf("before RabbitMQ %s the outcome is the broker's luck", since[c.Name])
			}
			expected, ok := want[c.Name]
			if !ok {
				t.Fatalf("not recorded: AMQP_URL=... go test ./internal/conformance -record -case '^%s$'", c.Name)
			}
			seen := played(t, i)
			var reason string
			for _, m := range known {
				reason += m[c.Name]
			}
			switch {
			case seen == expected && reason != "":
				t.Errorf("is not different any more: %s", reason)
			case seen != expected && reason != "":
				t.Skipf("differs: %s\n%s", reason, compare(expected, seen))
			case seen != expected:
				t.Errorf("not as RabbitMQ %s:\n%s", series, compare(expected, seen))
			}
		})
	}
}

// playAll plays the cases in the background, and delivers what was seen of each.
// Stop ends what is still played and waits for it.
func playAll(ctx context.Context, brokerURL string, cases []Case) (seen []chan string, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	seen = make([]chan string, len(cases))
	next := make(chan int, len(cases))
	for i := range cases {
		seen[i] = make(chan string, 1)
		next <- i
	}
	close(next)
	var players sync.WaitGroup
	for range workers {
		players.Go(func() {
			for i := range next {
				if ctx.Err() != nil {
					return
				}
				seen[i] <- Play(ctx, brokerURL, cases[i])
			}
		})
	}
	return seen, func() {
		cancel()
		players.Wait()
	}
}

// compare shows both transcripts as one: lines of RabbitMQ alone begin with "-",
// lines of the other with "+".
func compare(expected, seen string) string {
	a, b := strings.Split(strings.TrimSuffix(expected, "\n"), "\n"), strings.Split(strings.TrimSuffix(seen, "\n"), "\n")
	common := make([][]int, len(a)+1) // of the longest common subsequence from i, j on
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out.WriteString("  " + a[i] + "\n")
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out.WriteString("- " + a[i] + "\n")
			i++
		default:
			out.WriteString("+ " + b[j] + "\n")
			j++
		}
	}
	return out.String()
}
