package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("os/signal.loop")) }

// summaryOf runs real tests, in a module of their own with the given files.
func summaryOf(t *testing.T, files map[string]string) (code int, stdout string, lines []string) {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.com/m\n\ngo 1.26\n"
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "")
	t.Chdir(dir)
	var out, talk bytes.Buffer
	code = run([]string{"-count=1", "./..."}, &out, &talk)
	if talk.Len() > 0 {
		t.Logf("stderr: %s", &talk)
	}
	return code, out.String(), strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
}

func want(t *testing.T, stdout string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(stdout, part) {
			t.Errorf("nothing says %q in:\n%s", part, stdout)
		}
	}
}

func wantLast(t *testing.T, lines []string, last string) {
	t.Helper()
	if got := lines[len(lines)-1]; got != last {
		t.Errorf("last line %q, want %q", got, last)
	}
}

func TestPassedAndSkippedTestsAreCountedAndTheReasonGiven(t *testing.T) {
	code, stdout, lines := summaryOf(t, map[string]string{"a_test.go": `package m
import ("fmt"; "os"; "testing")
func TestPass(t *testing.T) { fmt.Fprintln(os.Stderr, "integration: RabbitMQ 4.3.6"); t.Log("not to be seen") }
func TestSkip(t *testing.T) { t.Skip("no broker: at all\nsecond line") }
func TestParts(t *testing.T) {
	t.Run("one/and a half", func(*testing.T) {}) // one test of that name
	t.Run("two", func(t *testing.T) { t.Skip("needs RabbitMQ >=4.3") })
}
`})
	if code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
	want(
		t, stdout, "integration: RabbitMQ 4.3.6\n", "skip  TestSkip",
		"skipped  TestSkip: no broker: at all second line\n", "skipped  TestParts/two: needs RabbitMQ >=4.3\n",
	)
	if strings.Contains(stdout, "not to be seen") {
		t.Errorf("a passed test's log is shown:\n%s", stdout)
	}
	wantLast(t, lines, "2 run, 2 passed, 0 failed, 2 skipped")
}

func TestFailuresAreShownInFullAndCountedOnce(t *testing.T) {
	code, stdout, lines := summaryOf(t, map[string]string{"a_test.go": `package m
import "testing"
func TestParts(t *testing.T) {
	t.Run("good", func(*testing.T) {})
	t.Run("bad", func(t *testing.T) { t.Log("first"); t.Error("second") })
}
func TestOwn(t *testing.T) {
	t.Run("good", func(*testing.T) {})
	t.Error("after the parts")
}
`})
	if code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	want(
		t, stdout, "first\n", "second\n", "after the parts\n",
		"failed   TestParts/bad in example.com/m\n", "failed   TestOwn in example.com/m\n",
	)
	wantLast(t, lines, "4 run, 2 passed, 2 failed, 0 skipped")
}

func TestPanicIsShownAndWhatItCutOffIsNotFinished(t *testing.T) {
	code, stdout, lines := summaryOf(t, map[string]string{"a_test.go": `package m
import "testing"
func TestWaits(t *testing.T) { t.Parallel(); select {} }
func TestPanics(t *testing.T) { t.Parallel(); panic("out of cheese") }
`})
	if code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	want(t, stdout, "panic: out of cheese", "not finished")
	wantLast(t, lines, "2 run, 0 passed, 2 failed, 0 skipped")
}

func TestPackageThatFailsWithoutAFailedTestIsNamed(t *testing.T) {
	code, stdout, lines := summaryOf(t, map[string]string{"a_test.go": `package m
import ("fmt"; "os"; "testing")
func TestPass(*testing.T) {}
func TestMain(m *testing.M) { m.Run(); fmt.Println("a goroutine is left"); os.Exit(1) }
`})
	if code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	want(t, stdout, "a goroutine is left\n", "failed   example.com/m, apart from its tests\n")
	wantLast(t, lines, "1 run, 1 passed, 0 failed, 0 skipped, packages failed apart from their tests: 1")
}

func TestBuildFailureIsShown(t *testing.T) {
	code, stdout, lines := summaryOf(t, map[string]string{"a_test.go": "package m\nfunc f() { undefined() }\n"})
	if code == 0 {
		t.Error("exit status 0")
	}
	want(t, stdout, "undefined: undefined")
	wantLast(t, lines, "0 run, 0 passed, 0 failed, 0 skipped, packages failed apart from their tests: 1")
}
