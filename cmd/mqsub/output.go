package main

import (
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/record"
)

// output is the value of -o.
type output string

const (
	outputText output = "text"
	outputJSON output = "json"
	outputBody output = "body"
)

// String is part of pflag.Value.
func (o *output) String() string { return string(*o) }

// Set is part of pflag.Value.
func (o *output) Set(s string) error {
	switch v := output(s); v {
	case outputText, outputJSON, outputBody:
		*o = v
		return nil
	default:
		return errors.New("must be text, json or body")
	}
}

// Type is part of pflag.Value.
func (o *output) Type() string { return "format" }

// append adds a message to b, with the line break that ends it.
func (o output) append(b []byte, d *consumer.Delivery, at time.Time) ([]byte, error) {
	switch o {
	case outputJSON:
		r := record.FromDelivery(d, at)
		return r.Append(b)
	case outputBody:
		return append(append(b, d.Body...), '\n'), nil
	default:
		return append(appendReadable(b, d.Body), '\n'), nil
	}
}

// appendReadable adds body so that it is one line and tells a terminal nothing:
// what is not text is escaped as Go does it. A backslash is left alone; who needs
// the exact bytes takes -o body.
func appendReadable(b, body []byte) []byte {
	for len(body) > 0 {
		r, n := utf8.DecodeRune(body)
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\x%02x`, body[0])
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t' || !unicode.IsControl(r):
			b = append(b, body[:n]...)
		case r < utf8.RuneSelf:
			b = fmt.Appendf(b, `\x%02x`, r)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		body = body[n:]
	}
	return b
}
