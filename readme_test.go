package mqkit_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	// Imported so that a change in it outdates a cached result of the test here,
	// as one in those that deps_test.go names does.
	_ "github.com/mqkit/mqkit/mqtest"
)

// codeInReadme returns the blocks of Go code in README.md.
func codeInReadme(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for rest := string(readme); ; {
		_, after, found := strings.Cut(rest, "```go\n")
		if !found {
			return blocks
		}
		code, behind, closed := strings.Cut(after, "```\n")
		if !closed {
			t.Fatal("a block of Go code in README.md does not end")
		}
		blocks, rest = append(blocks, code), behind
	}
}

// The program is compiled, the test is run.
func TestCodeInReadmeWorks(t *testing.T) {
	t.Parallel()
	blocks := codeInReadme(t)
	programs, tests := 0, 0
	for _, code := range blocks {
		// Outside the tree, but compiled as a part of this module.
		file, args := "main.go", []string{"vet"}
		if strings.Contains(code, "func Test") {
			file, args = "readme_test.go", []string{"test", "-count=1", "-v"}
		}
		file = filepath.Join(t.TempDir(), file)
		if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "go", append(args, file)...).CombinedOutput()
		if err != nil {
			t.Errorf("go %s: %v\n%s", args[0], err, out)
		}
		switch {
		case args[0] == "vet":
			programs++
		case strings.Contains(string(out), "--- PASS: Test"):
			tests++
		default:
			t.Errorf("no test has run:\n%s", out)
		}
	}
	if programs == 0 || tests == 0 {
		t.Errorf("README.md has %d programs and %d tests, want at least one of each", programs, tests)
	}
}
