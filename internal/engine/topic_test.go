package engine_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mqkit/mqkit/internal/engine"
)

// fits is what "*" and "#" mean, word by word.
func fits(pattern, words []string) bool {
	switch {
	case len(pattern) == 0:
		return len(words) == 0
	case pattern[0] == "#":
		return fits(pattern[1:], words) || len(words) > 0 && fits(pattern, words[1:])
	case len(words) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == words[0]) && fits(pattern[1:], words[1:])
}

func split(key string) []string {
	if key == "" {
		return nil
	}
	return strings.Split(key, ".")
}

func TestATopicTreeFindsWhatEachBindingKeyMeans(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	key := func(words ...string) string {
		k := make([]string, r.IntN(6))
		for i := range k {
			k[i] = words[r.IntN(len(words))]
		}
		return strings.Join(k, ".")
	}
	for range 2000 {
		patterns := make([]string, 1+r.IntN(8))
		for i := range patterns {
			patterns[i] = key("a", "b", "*", "#", "#", "")
		}
		routing := key("a", "b", "", "*", "#")
		want := map[string]bool{}
		for _, p := range patterns {
			if fits(split(p), split(routing)) {
				want[p] = true
			}
		}
		if got, _ := engine.MatchTopics(patterns, routing); !maps.Equal(got, want) {
			t.Errorf("%q fits %q, want %q, of %q", routing, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)), patterns)
		}
	}
}

// A binding of one client must not stop the broker for all others.
func TestManyHashesAreLinearInTheWordsOfAKey(t *testing.T) {
	t.Parallel()
	steps := func(hashes, words int) int {
		pattern := strings.TrimSuffix(strings.Repeat("#.a.", hashes), ".")
		routing := strings.TrimSuffix(strings.Repeat("a.", words), ".") + ".b"
		fit, n := engine.MatchTopics([]string{pattern}, routing)
		if len(fit) != 0 {
			t.Errorf("%s fits %s", routing, pattern)
		}
		return n
	}
	// Each node is gone through at most once for each word, and each "#" leads to two.
	for _, c := range []struct{ hashes, words int }{{3, 25}, {6, 25}, {60, 120}} {
		if got, limit := steps(c.hashes, c.words), (2*c.hashes+1)*(c.words+2); got > limit {
			t.Fatalf("%d hashes and %d words take %d steps, more than %d", c.hashes, c.words, got, limit)
		}
	}
}
