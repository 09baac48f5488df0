package mqkit_test

import (
	"os"
	"strings"
	"testing"
)

// TestEveryTrapHasItsTest: each row of docs/traps.md names one test or more, and all of
// them exist.
func TestEveryTrapHasItsTest(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("docs/traps.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := parseTests(t)
	rows := 0
	for i, line := range strings.Split(string(content), "\n") {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| trap |") {
			continue
		}
		rows++
		cells := strings.Split(line, "|")
		if len(cells) != 5 || cell(cells[1]) == "" || cell(cells[2]) == "" {
			t.Errorf("docs/traps.md:%d: a row is a trap, what is done about it, and its tests", i+1)
			continue
		}
		for test := range strings.SplitSeq(cell(cells[3]), ", ") {
			if dir, name, _ := strings.Cut(test, "."); !strings.HasPrefix(name, "Test") || tests[dir][name] == nil {
				t.Errorf("docs/traps.md:%d: there is no %q", i+1, test)
			}
		}
	}
	if rows < 60 {
		t.Errorf("only %d rows of docs/traps.md were read", rows)
	}
}
