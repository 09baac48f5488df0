package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// Talk is what a tool says on stderr, a line at a time, with the tool's name in
// front. Its methods may be called from any goroutine. A stderr that nobody
// reads any more changes nothing.
type Talk struct {
	name     string
	quiet    bool
	verbose  bool
	terminal bool

	mu       sync.Mutex // guards what follows, and the order of lines
	w        io.Writer
	progress bool // the cursor stands behind a progress line
}

// NewTalk returns a Talk of the tool called name. With quiet only Fail speaks;
// with verbose the library's log is shown.
func NewTalk(w io.Writer, name string, quiet, verbose bool) *Talk {
	return &Talk{w: w, name: name, quiet: quiet, verbose: verbose, terminal: IsTerminal(w)}
}

// Fail says what failed. It is said even with --quiet.
func (t *Talk) Fail(format string, args ...any) { t.line(fmt.Sprintf(format, args...)) }

// Note says what is worth knowing.
func (t *Talk) Note(format string, args ...any) {
	if !t.quiet {
		t.line(fmt.Sprintf(format, args...))
	}
}

// Progress shows a line that the next one replaces, on a terminal only.
func (t *Talk) Progress(format string, args ...any) {
	if !t.ShowsProgress() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress = true
	_, _ = fmt.Fprintf(t.w, "\r\x1b[K%s: %s", t.name, fmt.Sprintf(format, args...))
}

// ShowsProgress reports whether anybody sees Progress.
func (t *Talk) ShowsProgress() bool { return t.terminal && !t.quiet }

// Logger is for the library: what it does, on stderr with --verbose, else
// nothing.
func (t *Talk) Logger() *slog.Logger {
	if !t.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (t *Talk) line(s string) {
	t.write([]byte(t.name + ": " + oneLine(s) + "\n"))
}

func (t *Talk) write(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.progress {
		t.progress = false
		_, _ = io.WriteString(t.w, "\r\x1b[K")
	}
	_, _ = t.w.Write(b)
}

// logWriter writes a log's lines between ours.
type logWriter struct{ t *Talk }

func (l logWriter) Write(b []byte) (int, error) {
	l.t.write(b)
	return len(b), nil
}

// oneLine joins the lines of joined errors.
func oneLine(s string) string {
	return strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "; ")
}

// IsTerminal reports whether f, a file, is a terminal, as far as the standard
// library can tell: a character device that is not the null device.
func IsTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
