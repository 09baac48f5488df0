package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mqkit/mqkit/consumer"
	"github.com/mqkit/mqkit/internal/record"
)

func TestTextIsOneLineThatTellsATerminalNothing(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"":                      "",
		"hello":                 "hello",
		"a\tb":                  "a\tb",
		"a\nb\r\n":              `a\nb\r\n`,
		`{"a":"x\"y\\z"}`:       `{"a":"x\"y\\z"}`,
		"\x1b[31mred\x07\x00":   `\x1b[31mred\x07\x00`,
		"\xff\xc3x":             `\xff\xc3x`,
		"grün 日本 🙂":             "grün 日本 🙂",
		"\u0085\u009b31m\u007f": `\u0085\u009b31m\x7f`,
		"\ufffd":                "\ufffd",
	} {
		if got := string(appendReadable(nil, []byte(body))); got != want {
			t.Errorf("%q is shown as %q, want %q", body, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("a\nb\x1b\xff\u009b"))
	f.Fuzz(func(t *testing.T, body []byte) {
		got := string(appendReadable(nil, body))
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) }) {
			t.Errorf("%q is shown as %q", body, got)
		}
	})
}

func TestTheThreeOutputs(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.FixedZone("", 3600))
	d := &consumer.Delivery{Body: []byte("a\n\xff"), RoutingKey: "q", Queue: "q", Redelivered: true}
	for o, want := range map[output]string{
		outputText: `before a\n\xff` + "\n",
		outputBody: "before a\n\xff\n",
		outputJSON: `before {"v":1,"exchange":"","routing_key":"q","queue":"q","redelivered":true,"received_at":"2026-01-02T02:04:05.6Z",` +
			`"properties":{"delivery_mode":2},"headers":{},"body_base64":"YQr/"}` + "\n",
	} {
		got, err := o.append([]byte("before "), d, at)
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", o, err, got, want)
		}
	}
	line, err := outputJSON.append(nil, d, at)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := record.Parse(line); err != nil || string(r.Body) != "a\n\xff" || !r.ReceivedAt.Equal(at) {
		t.Errorf("came back as %+v, %v", r, err)
	}
}
