package reconnect

import (
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var allStates = []State{Idle, Connecting, Connected, Blocked, Waiting, Failed, Closed}

func TestTransitionsAreThoseOfTheDocument(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/state-machine.md")
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]State{}
	for _, s := range allStates {
		byName[s.String()] = s
	}
	_, table, ok := strings.Cut(string(doc), "\n| from | to | why |\n|---|---|---|\n")
	if !ok {
		t.Fatal("docs/state-machine.md has no table | from | to | why |")
	}
	row := regexp.MustCompile(`(?m)^\| (\w+) \| (\w+) \| (.+) \|$`)
	documented := map[State][]State{}
	for _, m := range row.FindAllStringSubmatch(table, -1) {
		from, okFrom := byName[m[1]]
		to, okTo := byName[m[2]]
		switch {
		case !okFrom || !okTo:
			t.Errorf("a row names no state: %s", m[0])
		case strings.TrimSpace(m[3]) == "":
			t.Errorf("%s to %s has no reason", from, to)
		}
		documented[from] = append(documented[from], to)
	}
	for _, from := range allStates {
		want, got := slices.Clone(documented[from]), slices.Clone(transitions[from])
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("from %s: the document has %v, the code %v", from, want, got)
		}
	}
}

func TestEveryStateHasItsRowAndItsWord(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/state-machine.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(slices.Collect(maps.Keys(transitions))); n != len(allStates) {
		t.Errorf("%d states have transitions, %d exist", n, len(allStates))
	}
	for _, s := range allStates {
		if _, ok := transitions[s]; !ok || strings.Contains(s.String(), "(") {
			t.Errorf("%v is not in the table of transitions, or has no name", s)
		}
		if !strings.Contains(string(doc), "\n| **"+s.String()+"** |") {
			t.Errorf("the document does not explain %s", s)
		}
	}
	if got := (Closed + 1).String(); got != "state(7)" {
		t.Errorf("a state beyond the last is %q: a new one needs its row here and in the document", got)
	}
}

func TestATransitionThatIsNotInTheTablePanics(t *testing.T) {
	t.Parallel()
	p := newTestPool(t, Config{})
	l := newLink(p, Publishing)
	defer func() {
		if r := recover(); r == nil {
			t.Error("from idle to connected: no panic")
		}
		if l.read().State != Idle {
			t.Errorf("the state became %v", l.read().State)
		}
	}()
	l.become(Connected, nil, nil, 0)
}

func TestAStateChangeIsALineForALog(t *testing.T) {
	t.Parallel()
	c := StateChange{Role: Consuming, From: Connected, To: Waiting, Address: "h:1", Cause: errors.New("cut")}
	if got, want := c.String(), "consuming connection connected -> waiting h:1: cut"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	c = StateChange{From: Idle, To: Connecting}
	if got, want := c.String(), "publishing connection idle -> connecting"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Role(9).String(); got != "role(9)" {
		t.Errorf("%q", got)
	}
}
