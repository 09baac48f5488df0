package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/mqkit/mqkit/internal/sendable"
	"github.com/mqkit/mqkit/producer"
)

// item is one message's body and where it came from.
type item struct {
	body []byte
	line int   // of stdin, or the number of the argument, from 1
	err  error // why there is no body: its verdict
}

// input is where the bodies come from.
type input struct {
	what  string // what a line is called: line or message
	items <-chan item

	// Valid once items is closed: it is complete, or there is an error, or it was
	// stopped.
	complete bool
	err      error
}

// arguments are the bodies of the command line.
func arguments(bodies []string) *input {
	items := make(chan item, len(bodies))
	for i, b := range bodies {
		items <- item{body: []byte(b), line: i + 1}
	}
	close(items)
	return &input{what: "message", items: items, complete: true}
}

const (
	// lineBuffer is how much is read from stdin at a time.
	lineBuffer = 64 << 10

	longestLine = sendable.MaxBody
)

// lines are the lines of r. A goroutine reads them, one ahead of the one that is
// wanted, until r or stop ends. A Read that does not return holds it for ever:
// nothing can interrupt that, and the process does not wait for it. One longer than
// limit is refused, and not kept in memory.
func lines(r io.Reader, limit int, stop <-chan struct{}) *input {
	items := make(chan item)
	in := &input{what: "line", items: items}
	go func() {
		defer close(items)
		buffered := bufio.NewReaderSize(r, lineBuffer)
		for n := 1; ; n++ {
			body, err := nextLine(buffered, limit)
			if err != nil && !errors.As(err, new(*producer.PublishError)) {
				if in.complete = errors.Is(err, io.EOF); !in.complete {
					in.err = fmt.Errorf("cannot read line %d of stdin: %w", n, err)
				}
				return
			}
			select {
			case items <- item{body: body, line: n, err: err}:
			case <-stop:
				return
			}
		}
	}()
	return in
}

// nextLine returns the next line without its line break: one '\n' is taken off
// and nothing else. The last line needs none. What was read of a line when
// reading failed is no line. A line longer than limit is read to its end, and is a
// *producer.PublishError.
func nextLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	var length int64
	for {
		part, err := r.ReadSlice('\n')
		if err == nil {
			part = part[:len(part)-1]
		}
		if length += int64(len(part)); length <= int64(limit) {
			line = append(line, part...)
		} else {
			line = nil
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil && (!errors.Is(err, io.EOF) || length == 0):
			return nil, err
		case length > int64(limit):
			return nil, &producer.PublishError{Verdict: producer.Refused, Err: &producer.RefusedError{
				Reason: fmt.Sprintf("the line has %d bytes, RabbitMQ takes %d at most: it is not kept", length, limit),
			}}
		default:
			return line, nil
		}
	}
}
