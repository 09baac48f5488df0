package cli_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/cli"
)

func TestTalkIsLinesWithTheToolsName(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	talk := cli.NewTalk(&b, "mqx", false, false)
	talk.Note("%d things", 2)
	talk.Fail("one\ntwo\n")
	talk.Progress("unseen on what is no terminal")
	talk.Logger().Error("unseen without --verbose")
	if want := "mqx: 2 things\nmqx: one; two\n"; b.String() != want {
		t.Errorf("said %q, want %q", b.String(), want)
	}
}

func TestQuietTalkOnlyFails(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	talk := cli.NewTalk(&b, "mqx", true, false)
	talk.Note("unseen")
	talk.Fail("seen")
	if want := "mqx: seen\n"; b.String() != want {
		t.Errorf("said %q, want %q", b.String(), want)
	}
}

func TestVerboseTalkShowsTheLog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	cli.NewTalk(&b, "mqx", false, true).Logger().Debug("connection", "to", "waiting")
	if !strings.Contains(b.String(), "msg=connection to=waiting") {
		t.Errorf("said %q", b.String())
	}
}

func TestFilesAndTheNullDeviceAreNoTerminals(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, f := range []any{null, file, &bytes.Buffer{}, (*os.File)(nil)} {
		if cli.IsTerminal(f) {
			t.Errorf("%v counts as a terminal", f)
		}
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0ms", 40 * time.Millisecond: "40ms", 12340 * time.Millisecond: "12.3s", 65 * time.Second: "1m5s",
	} {
		if got := cli.Seconds(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
	if got := cli.Count(1, "reconnect") + ", " + cli.Count(2, "reconnect"); got != "1 reconnect, 2 reconnects" {
		t.Error(got)
	}
}
