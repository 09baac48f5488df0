//go:build !linux

package main

import "io"

const (
	pipeUsage = `Into a pipe a message is acked when it is written: this system does not tell
what the reader has taken. What sits in the pipe when the reader stops is lost
to it; on Linux it is not. Nor is seen here that a file ends within a line, as a
full disk leaves it: the first message appended would stand on that line.`

	pipeBufferedUsage = "no effect on this system, where a message is always acked when it is written into a pipe"
)

// newSink says what stdout is.
func newSink(stdout io.Writer, _ bool) sink { return newFile(stdout) }
