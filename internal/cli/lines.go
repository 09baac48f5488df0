package cli

import (
	"io"
	"os"
)

// LineWriter appends lines to a file. One that would stand behind a piece of a line,
// as a full disk or a crash leaves it, begins with a line break, or it would be lost
// with the piece. The piece stays: to cut it off could take away what another process
// has appended meanwhile. It is for one goroutine at a time.
type LineWriter struct {
	w    io.Writer
	torn bool // the file ends within a line
}

// NewLineWriter returns a LineWriter of w, whose last line may be torn already.
func NewLineWriter(w io.Writer) *LineWriter { return &LineWriter{w: w, torn: isTorn(w)} }

// Write writes whole lines, the last with its line break.
func (l *LineWriter) Write(lines []byte) (int, error) {
	if l.torn {
		if _, err := l.w.Write([]byte{'\n'}); err != nil {
			return 0, err
		}
		l.torn = false
	}
	n, err := l.w.Write(lines)
	if n > 0 {
		l.torn = lines[n-1] != '\n'
	}
	return n, err
}

// isTorn reports whether w is a file on a disk that ends within a line. It is open
// for writing and has to be opened again to be read; one that cannot be, as stdout
// on systems other than Linux, counts as whole.
func isTorn(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	r, err := os.Open(f.Name())
	if err != nil {
		return false
	}
	defer r.Close()
	var last [1]byte
	_, err = r.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
}
