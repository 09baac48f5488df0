package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// item is one message's body and where it came from.
type item struct {
	body []byte
	line int // of stdin, or the number of the argument, from 1
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

// lineBuffer is how much is read from stdin at a time.
const lineBuffer = 64 << 10

// lines are the lines of r. A goroutine reads them, one ahead of the one that is
// wanted, until r or stop ends. A Read that does not return holds it for ever:
// nothing can interrupt that, and the process does not wait for it.
func lines(r io.Reader, stop <-chan struct{}) *input {
	items := make(chan item)
	in := &input{what: "line", items: items}
	go func() {
		defer close(items)
		buffered := bufio.NewReaderSize(r, lineBuffer)
		for n := 1; ; n++ {
			body, err := nextLine(buffered)
			if err != nil {
				if in.complete = errors.Is(err, io.EOF); !in.complete {
					in.err = fmt.Errorf("cannot read line %d of stdin: %w", n, err)
				}
				return
			}
			select {
			case items <- item{body: body, line: n}:
			case <-stop:
				return
			}
		}
	}()
	return in
}

// nextLine returns the next line without its line break: one '\n' is taken off
// and nothing else. The last line needs none. What was read of a line when
// reading failed is no line.
func nextLine(r *bufio.Reader) ([]byte, error) {
	b, err := r.ReadBytes('\n')
	switch {
	case err == nil:
		return b[:len(b)-1], nil
	case errors.Is(err, io.EOF) && len(b) > 0:
		return b, nil
	default:
		return nil, err
	}
}
