package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Finding is a promise that was not kept.
type Finding struct {
	Promise int // see the package
	ID      string
	Text    string
}

// String is one line.
func (f Finding) String() string {
	return fmt.Sprintf("promise %d, message %q: %s", f.Promise, f.ID, f.Text)
}

// Report is what Check has found and counted.
type Report struct {
	Findings []Finding

	Messages    int            // that the publisher was told of
	Answers     int            // that its callers got
	Attempts    int            // how often they were handed to a connection
	Verdicts    map[string]int // by verdict
	Receipts    int
	UnknownSeen int            // whose verdict was unknown, and which a consumer saw
	Again       map[string]int // sightings of a message but the first, by cause
}

// Add adds what was counted in another run.
func (r *Report) Add(other Report) {
	r.Findings = append(r.Findings, other.Findings...)
	r.Messages += other.Messages
	r.Answers += other.Answers
	r.Attempts += other.Attempts
	r.Receipts += other.Receipts
	r.UnknownSeen += other.UnknownSeen
	r.Verdicts = sum(r.Verdicts, other.Verdicts)
	r.Again = sum(r.Again, other.Again)
}

func sum(a, b map[string]int) map[string]int {
	if a == nil {
		a = map[string]int{}
	}
	for k, n := range b {
		a[k] += n
	}
	return a
}

// String is a table for people, without the findings.
func (r Report) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "messages %d, answers %d, attempts %d, receipts %d\n", r.Messages, r.Answers, r.Attempts, r.Receipts)
	fmt.Fprintf(&s, "verdicts: %s\n", list(r.Verdicts))
	fmt.Fprintf(&s, "unknown, but seen: %d\n", r.UnknownSeen)
	fmt.Fprintf(&s, "seen again: %s\n", list(r.Again))
	return s.String()
}

func list(counts map[string]int) string {
	if len(counts) == 0 {
		return "none"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, counts[k]))
	}
	return strings.Join(parts, ", ")
}
