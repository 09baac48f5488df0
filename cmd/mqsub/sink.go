package main

import (
	"context"
	"errors"
	"io"

	"github.com/mqkit/mqkit/internal/cli"
)

// sink is where the messages go.
type sink interface {
	// put writes one record and returns nil when its message may be acked. Only
	// write ends the writing, so that no record is cut off when its session
	// ends; session ends the wait after it.
	put(write, session context.Context, record []byte) error

	// watch calls gone when nobody will read any more, until ctx ends.
	watch(ctx context.Context, gone func())

	// prefetch is how many messages should be at hand.
	prefetch() int

	// onTerminal reports whether a person sees the messages.
	onTerminal() bool
}

var (
	// errReaderGone is returned by put when nobody will read the record.
	errReaderGone = errors.New("the reader of the output has gone")

	// errNotTaken is returned by put when its session ended before the reader
	// had taken the record.
	errNotTaken = errors.New("the reader has not taken the last record")
)

// file is a file, a terminal, or a pipe with --pipe-buffered: what is written
// there counts as done.
type file struct {
	w     io.Writer
	lines *cli.LineWriter // to w
}

func newFile(w io.Writer) *file { return &file{w: w, lines: cli.NewLineWriter(w)} }

// filePrefetch keeps a file busy; there is no reader who would have to share.
const filePrefetch = 500

func (f *file) put(_, _ context.Context, record []byte) error {
	_, err := f.lines.Write(record)
	return writeError(err)
}

// writeError tells a reader that has gone from other errors of a write.
func writeError(err error) error {
	for _, gone := range brokenPipe {
		if errors.Is(err, gone) {
			return errReaderGone
		}
	}
	return err
}

func (f *file) watch(context.Context, func()) {}

func (f *file) prefetch() int { return filePrefetch }

func (f *file) onTerminal() bool { return cli.IsTerminal(f.w) }
