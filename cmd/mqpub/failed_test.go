package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/internal/record"
	"github.com/mqkit/mqkit/producer"
)

func TestFailedMessagesAreAppendedAsRecords(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "failed")
	earlier := "{\"v\":1,\"body\":\"the only copy\"}\n"
	if err := os.WriteFile(path, []byte(earlier), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openFailedFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"one", "\xff"} {
		m := producer.Bytes([]byte(body)).To("e", "k")
		m.MessageID = "id"
		if err := f.keep(&m); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.close(); err != nil || f.kept != 2 {
		t.Fatal(f.kept, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := strings.CutPrefix(string(b), earlier)
	if !ok {
		t.Fatalf("what was there is gone: %q", b)
	}
	lines := strings.SplitAfter(rest, "\n")
	if len(lines) != 3 {
		t.Fatalf("%d records: %q", len(lines)-1, rest)
	}
	for i, body := range []string{"one", "\xff"} {
		r, err := record.Parse([]byte(lines[i]))
		if err != nil {
			t.Fatal(err)
		}
		if m := r.Message(); string(m.Body) != body || m.Exchange != "e" || m.RoutingKey != "k" || m.MessageID != "id" || m.Transient {
			t.Errorf("message %d came back as %+v", i, m)
		}
	}
}

func TestAFailedFileThatIsTheInputIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "both")
	if err := os.WriteFile(path, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	_, err = openFailedFile(path, stdin)
	if cli.CodeOf(err) != cli.ExitUsage || !strings.Contains(err.Error(), "is also stdin") {
		t.Errorf("got %v", err)
	}
}

// Half a line, left by a full disk or a crash, must not take the next record with
// it.
func TestARecordNeverStandsBehindHalfALine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "failed")
	if err := os.WriteFile(path, []byte("{\"v\":1,\"bo"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openFailedFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"one", "two"} {
		m := producer.Text(body)
		if err := f.keep(&m); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) != 4 || lines[0] != "{\"v\":1,\"bo" || lines[3] != "" {
		t.Fatalf("the file is %q", b)
	}
	for i, body := range []string{"one", "two"} {
		if r, err := record.Parse([]byte(lines[i+1])); err != nil || string(r.Body) != body {
			t.Errorf("%q came back as %+v, %v", body, r, err)
		}
	}
}

// As in --failed >(gzip > failed.gz).
func TestMessagesCanBeKeptInAPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	path := fmt.Sprintf("/dev/fd/%d", w.Fd())
	if _, err := os.Stat(path); err != nil {
		t.Skip("there is no /dev/fd here")
	}
	f, err := openFailedFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := producer.Text("x")
	if err := f.keep(&m); err != nil || f.kept != 1 {
		t.Fatalf("kept %d, %v", f.kept, err)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

func TestWithoutAFileNothingIsKept(t *testing.T) {
	t.Parallel()
	f, err := openFailedFile("", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := producer.Text("x")
	if err := f.keep(&m); err != nil || f.kept != 0 || f.close() != nil {
		t.Error(f.kept, err)
	}
}

func TestARecordThatCannotBeWrittenIsTold(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full here")
	}
	f, err := openFailedFile("/dev/full", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := producer.Text("x")
	if err := f.keep(&m); err == nil || f.err == nil || f.kept != 0 {
		t.Errorf("kept %d, %v, %v", f.kept, err, f.err)
	}
	_ = f.close()
}
