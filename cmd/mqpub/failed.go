package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/internal/record"
	"github.com/mqkit/mqkit/producer"
)

// failedFile keeps the messages that were not confirmed. It is only appended to:
// what an earlier run has left there may be the only copy.
type failedFile struct {
	path    string
	file    *os.File // nil without --failed
	lines   *cli.LineWriter
	regular bool // it is on a disk, not a pipe or a device
	buf     []byte
	kept    int
	err     error // of the first write that failed
}

func openFailedFile(path string, stdin io.Reader) (*failedFile, error) {
	if path == "" {
		return &failedFile{}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, &cli.UsageError{Err: fmt.Errorf("--failed: %w", err)}
	}
	if in, ok := stdin.(*os.File); ok && sameFile(in, f) {
		_ = f.Close()
		return nil, cli.Usagef("--failed: %s is also stdin, which would then never end", path)
	}
	info, err := f.Stat()
	return &failedFile{path: path, file: f, lines: cli.NewLineWriter(f), regular: err == nil && info.Mode().IsRegular()}, nil
}

func sameFile(a, b *os.File) bool {
	ia, err := a.Stat()
	if err != nil {
		return false
	}
	ib, err := b.Stat()
	return err == nil && ia.Mode().IsRegular() && os.SameFile(ia, ib)
}

// keep appends m.
func (f *failedFile) keep(m *producer.Message) error {
	if f.file == nil {
		return nil
	}
	r := record.FromMessage(m)
	b, err := r.Append(f.buf[:0])
	if err == nil {
		f.buf = b
		_, err = f.lines.Write(b)
	}
	if err != nil {
		f.err = cmp.Or(f.err, err)
		return fmt.Errorf("cannot be kept: %w", err)
	}
	f.kept++
	return nil
}

// close makes sure that what was kept is on the disk.
func (f *failedFile) close() error {
	if f.file == nil {
		return nil
	}
	var err error
	if f.kept > 0 && f.regular { // a pipe cannot be synced
		err = f.file.Sync()
	}
	if err = errors.Join(err, f.file.Close()); err != nil {
		return fmt.Errorf("--failed: %w", err)
	}
	return nil
}
