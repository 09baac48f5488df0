//go:build unix

package cli_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/mqkit/mqkit/internal/cli"
)

func TestTheNullDeviceOpenedBothWaysIsTheRuntimesForAClosedStream(t *testing.T) {
	t.Parallel()
	open := func(path string, flags int) *os.File {
		f, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	for _, c := range []struct {
		name string
		f    any
		want bool
	}{
		{"the runtime's", open(os.DevNull, os.O_RDWR), true},
		{">/dev/null", open(os.DevNull, os.O_WRONLY), false},
		{"</dev/null", open(os.DevNull, os.O_RDONLY), false},
		{"a file", open(t.TempDir()+"/file", os.O_RDWR|os.O_CREATE), false},
		{"no file", &bytes.Buffer{}, false},
		{"nothing", (*os.File)(nil), false},
	} {
		if got := cli.IsClosed(c.f); got != c.want {
			t.Errorf("%s: closed is %v", c.name, got)
		}
	}
}
