package mqtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shop is what the test in doc.go tests: code that publishes until it is told that
// the order is stored.
const shop = `package orders_test

import (
	"context"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

type Shop struct{ url string }

func NewShop(url string) *Shop { return &Shop{url} }

func (s *Shop) Order(what string) {
	for s.try(what) != nil {
	}
}

func (s *Shop) try(what string) error {
	conn, err := amqp.Dial(s.url)
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	if _, err := ch.QueueDeclare("orders", true, false, false, false, nil); err != nil {
		return err
	}
	c, err := ch.PublishWithDeferredConfirm("", "orders", false, false, amqp.Publishing{Body: []byte(what)})
	if err != nil {
		return err
	}
	if acked, err := c.WaitContext(context.Background()); err != nil || !acked {
		return amqp.ErrClosed
	}
	return nil
}

`

// inReadme returns the block of Go code in README.md.
func inReadme(t *testing.T) string {
	t.Helper()
	_, after, _ := strings.Cut(read(t, "README.md"), "```go\n")
	code, rest, closed := strings.Cut(after, "```\n")
	if !closed || strings.Contains(rest, "```go\n") {
		t.Fatal("README.md has not one block of Go code")
	}
	return code
}

// inDoc returns the test in doc.go, with what it tests.
func inDoc(t *testing.T) string {
	t.Helper()
	_, after, found := strings.Cut(read(t, "doc.go"), "//\tfunc Test")
	code, _, closed := strings.Cut("//\tfunc Test"+after, "\n//\n")
	if !found || !closed {
		t.Fatal("doc.go has no test")
	}
	return shop + strings.ReplaceAll(code, "//\t", "") + "\n"
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheCodeInTheDocumentationWorks(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{"README.md": inReadme(t), "doc.go": inDoc(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "readme_test.go") // outside the tree, but compiled as a part of this module
			if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", file).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: Test") {
				t.Errorf("it does not pass: %v\n%s\n%s", err, out, code)
			}
		})
	}
}
