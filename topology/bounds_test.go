package topology_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/topology"
)

// The parser takes time and memory with the square of the keys.
func TestAMappingOfTooManyKeysIsRefusedBeforeItIsParsed(t *testing.T) {
	t.Parallel()
	keys := func(n int, format string) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, format, i)
		}
		return s.String()
	}
	for _, c := range []struct {
		name string
		yaml string
		line int // 0: it is not refused for its keys
	}{
		{"at the top", keys(87_000, "k%d: 1\n"), 501},
		{"with nested lists", keys(2000, "k%d:\n- a\n"), 1001},
		{"with nested mappings", keys(2000, "k%d:\n  a: 1\n"), 1001},
		{"in a list", "queues:\n- name: q\n  arguments:\n" + keys(2000, "    k%d: 1\n"), 504},
		{"in braces", "{" + keys(2000, "k%d: 1,") + "}", 1},
		{"in braces below a key", "queues:\n- {arguments: {" + keys(2000, "k%d: 1,\n") + "}}", 502},
		{"quoted", keys(2000, "\"k%d\": 1\n"), 501},
		{"just enough", "queues:\n- name: q\n  arguments:\n" + keys(500, "    k%d: 1\n"), 0},
		{"many mappings in a list", "queues:\n" + keys(1000, "- name: q%d\n  type: classic\n"), 0},
		{"many mappings in braces", "queues: [" + keys(1000, "{name: q%d, type: classic},") + "]", 0},
	} {
		_, err := topology.Load(strings.NewReader(c.yaml), topology.LoadOptions{Format: topology.FormatYAML})
		var e *topology.LoadError
		switch {
		case c.line == 0 && err != nil:
			t.Errorf("%s: %.300v", c.name, err)
		case c.line == 0:
		case !errors.As(err, &e) || e.Problem != "has more than 500 keys in one mapping" || e.Line != c.line:
			t.Errorf("%s: %.300v, want too many keys on line %d", c.name, err, c.line)
		}
	}
}

func TestFaultsBeyondFiftyAreCounted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		faults int
		last   string
	}{
		{50, "line 51: queues[49]: unknown field \"colour\""},
		{51, "and 1 more fault"},
		{5000, "and 4950 more faults"},
	} {
		list := "queues:\n" + strings.Repeat("- colour: red\n", c.faults)
		_, err := topology.Load(strings.NewReader(list), topology.LoadOptions{})
		if err == nil {
			t.Fatalf("%d faults: no error", c.faults)
		}
		lines := strings.Split(err.Error(), "\n")
		if last := lines[len(lines)-1]; len(lines) != min(c.faults, 51) || !strings.HasPrefix(last, c.last) {
			t.Errorf("%d faults: %d lines, the last of them %s", c.faults, len(lines), last)
		}
	}
}

func TestOneFaultIsNotAsLongAsItsFile(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 1<<20)
	for _, json := range []string{`{"queues": "` + long + `"}`, `{"` + long + `": 1}`, `{"queues": [{"` + long + `": 1}]}`} {
		_, err := topology.Load(strings.NewReader(json), topology.LoadOptions{})
		if n := len(fmt.Sprint(err)); err == nil || n > 3000 {
			t.Errorf("%.40s...: %d bytes of error", json, n)
		}
	}
}

// manyVHosts are definitions with n virtual hosts besides "/".
func manyVHosts(n int) string {
	var s strings.Builder
	s.WriteString(`{"rabbit_version": "4.3.6", "vhosts": [`)
	for i := range n {
		fmt.Fprintf(&s, `{"name":"v%06d"},`, i)
	}
	s.WriteString(`{"name":"/"}]}`)
	return s.String()
}

func TestDefinitionsOfManyVirtualHostsSayWhichThereAreInOneLine(t *testing.T) {
	t.Parallel()
	many := manyVHosts(1000)
	if _, err := topology.Load(strings.NewReader(many), topology.LoadOptions{VHost: "v000007"}); err != nil {
		t.Errorf("one of many: %.300v", err)
	}
	_, err := topology.Load(strings.NewReader(many), topology.LoadOptions{})
	if text := fmt.Sprint(err); !strings.HasSuffix(text, `"v000018" and 981 more`) || len(text) > 500 {
		t.Errorf("none of many: %.600s", text)
	}
}

// TestAVirtualHostIsLookedUpNotSearchedFor: ten times as many take ten times as long,
// not a hundred times. Of its processor alone, and the shortest of some
// runs, so that a busy machine does not count.
func TestAVirtualHostIsLookedUpNotSearchedFor(t *testing.T) {
	t.Parallel()
	shortest := func(n, times int) time.Duration {
		text := manyVHosts(n)
		least := time.Hour
		for range 3 {
			var err error
			least = min(least, cpuTime(func() {
				for range times {
					_, err = topology.Load(strings.NewReader(text), topology.LoadOptions{VHost: "/"})
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
		}
		return least
	}
	if few, many := shortest(5_000, 10), shortest(50_000, 1); many > 4*few {
		t.Errorf("5,000 virtual hosts ten times take %v, 50,000 once take %v", few, many)
	}
}
