package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one line of "go test -json"; see "go doc test2json".
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
}

// test is one test or subtest.
type test struct {
	pkg, name  string
	parent     *test // what it is a subtest of, or nil
	hasParts   bool  // it has subtests
	partFailed bool
	verdict    string   // pass, fail or skip; empty while it runs
	said       []string // its own lines
	transcript []string // its own and its subtests' lines in their order; not of a subtest
}

type summary struct {
	out    io.Writer
	byName map[[2]string]*test
	tests  []*test             // a test comes before its subtests
	extra  map[string][]string // lines of a package that belong to no test
	blamed map[string]bool     // packages with a failed test
	broken []string            // packages that failed without one
}

// summarise reads the events of "go test -json" to their end and writes what
// they come to. It reports whether nothing failed.
func summarise(events io.Reader, out io.Writer) (ok bool, err error) {
	s := &summary{
		out:    out,
		byName: map[[2]string]*test{},
		extra:  map[string][]string{},
		blamed: map[string]bool{},
	}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) == nil:
			s.take(e)
		default: // "go test" has its say in plain text now and then
			fmt.Fprintf(out, "%s\n", bytes.TrimRight(line, "\r\n"))
		}
		if errors.Is(err, io.EOF) {
			return s.end(), nil
		}
		if err != nil {
			return false, err
		}
	}
}

func (s *summary) take(e event) {
	ended := e.Action == "pass" || e.Action == "fail" || e.Action == "skip"
	switch {
	case e.Action == "build-output":
		fmt.Fprint(s.out, e.Output)
	case e.Package == "" || e.Action == "build-fail":
	case e.Action == "output":
		// The harness says which broker it found, whichever test asked first.
		if strings.HasPrefix(e.Output, "integration: ") {
			fmt.Fprint(s.out, e.Output)
		}
		if e.Test == "" {
			s.extra[e.Package] = append(s.extra[e.Package], e.Output)
			return
		}
		t := s.test(e.Package, e.Test)
		t.said = append(t.said, e.Output)
		top := t.top()
		top.transcript = append(top.transcript, e.Output)
	case e.Test == "" && ended:
		s.endPackage(e)
	case e.Test != "":
		t := s.test(e.Package, e.Test)
		if ended {
			t.verdict = e.Action
			s.endTest(t, fmt.Sprintf("%.1fs", e.Elapsed))
		}
	}
}

// test returns the test of that name, a new one if it was not heard of before.
func (s *summary) test(pkg, name string) *test {
	key := [2]string{pkg, name}
	if t := s.byName[key]; t != nil {
		return t
	}
	t := &test{pkg: pkg, name: name}
	// A test is heard of before its subtests, whose own names may have slashes.
	for up := name; t.parent == nil; {
		i := strings.LastIndexByte(up, '/')
		if i < 0 {
			break
		}
		up = up[:i]
		t.parent = s.byName[[2]string{pkg, up}]
	}
	if t.parent != nil {
		t.parent.hasParts = true
	}
	s.byName[key] = t
	s.tests = append(s.tests, t)
	return t
}

func (s *summary) endTest(t *test, remark string) {
	if t.failed() {
		s.blamed[t.pkg] = true
		for up := t.parent; up != nil; up = up.parent {
			up.partFailed = true
		}
	}
	if t.parent != nil {
		return
	}
	word := map[string]string{"pass": "ok  ", "skip": "skip"}[t.verdict]
	if t.failed() {
		word = "FAIL"
	}
	fmt.Fprintf(s.out, "%s  %s  %s\n", word, t.name, remark)
	if t.failed() {
		fmt.Fprint(s.out, strings.Join(t.transcript, ""))
	}
	t.transcript = nil
}

func (s *summary) endPackage(e event) {
	for _, t := range s.tests {
		// The process ended before the test: a panic in another, a timeout, os.Exit.
		if t.pkg == e.Package && t.verdict == "" {
			s.endTest(t, "not finished")
		}
	}
	if e.Action == "fail" && !s.blamed[e.Package] {
		s.broken = append(s.broken, e.Package)
	}
	for _, line := range s.extra[e.Package] {
		if e.Action == "fail" || strings.HasPrefix(line, "ok ") {
			fmt.Fprint(s.out, line)
		}
	}
	delete(s.extra, e.Package)
}

// end writes the lists and the counts.
func (s *summary) end() bool {
	passed := 0
	var failed, skipped []*test
	for _, t := range s.tests {
		switch {
		case t.failed() && !t.partFailed:
			failed = append(failed, t)
		case t.hasParts:
		case t.verdict == "skip":
			skipped = append(skipped, t)
		default:
			passed++
		}
	}
	fmt.Fprintln(s.out)
	for _, t := range skipped {
		fmt.Fprintf(s.out, "skipped  %s: %s\n", t.name, t.reason())
	}
	for _, t := range failed {
		fmt.Fprintf(s.out, "failed   %s in %s\n", t.name, t.pkg)
	}
	for _, pkg := range s.broken {
		fmt.Fprintf(s.out, "failed   %s, apart from its tests\n", pkg)
	}
	fmt.Fprintf(s.out, "%d run, %d passed, %d failed, %d skipped", passed+len(failed), passed, len(failed), len(skipped))
	if len(s.broken) > 0 {
		fmt.Fprintf(s.out, ", packages failed apart from their tests: %d", len(s.broken))
	}
	fmt.Fprintln(s.out)
	return len(failed)+len(s.broken) == 0
}

func (t *test) top() *test {
	for t.parent != nil {
		t = t.parent
	}
	return t
}

// failed reports whether it failed or never came to its end.
func (t *test) failed() bool { return t.verdict == "fail" || t.verdict == "" }

// reason is what a skipped test said, without the lines that "go test" adds.
func (t *test) reason() string {
	var words []string
	for _, line := range t.said {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		// As in "harness_test.go:99: no broker available".
		if place, rest, found := strings.Cut(line, ": "); found && strings.Contains(place, ".go:") {
			line = rest
		}
		words = append(words, line)
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return strings.Join(words, " ")
}
