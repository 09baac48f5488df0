package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mqkit/mqkit/producer"
)

func read(in *input) []item {
	var all []item
	for it := range in.items {
		all = append(all, it)
	}
	return all
}

func TestEachLineIsAMessageWithOneLineBreakTakenOff(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 10<<20)
	edge := strings.Repeat("y", lineBuffer)
	binary := "\x00\xff\r\x1b\x00"
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"nothing", "", nil},
		{"one", "a\n", []string{"a"}},
		{"last without a line break", "a\nb", []string{"a", "b"}},
		{"empty lines", "\n\na\n\n", []string{"", "", "a", ""}},
		{"carriage returns stay", "a\r\nb\r\n", []string{"a\r", "b\r"}},
		{"spaces stay", "  a \t\n", []string{"  a \t"}},
		{"binary", binary + "\n" + binary, []string{binary, binary}},
		{"longer than any buffer", huge + "\n" + edge + "\n" + edge[1:] + "\nz", []string{huge, edge, edge[1:], "z"}},
	} {
		in := lines(iotest.HalfReader(strings.NewReader(c.in)), longestLine, nil)
		got := read(in)
		if in.err != nil || !in.complete {
			t.Errorf("%s: complete %v, %v", c.name, in.complete, in.err)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %d messages, want %d", c.name, len(got), len(c.want))
			continue
		}
		for i, it := range got {
			if string(it.body) != c.want[i] || it.line != i+1 {
				t.Errorf("%s: line %d is number %d with %d bytes, want %d bytes", c.name, i+1, it.line, len(it.body), len(c.want[i]))
			}
		}
	}
}

// FuzzLines: the bodies with a line break between them are the input.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\n\x00"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := lines(bytes.NewReader(data), longestLine, nil)
		var bodies [][]byte
		for it := range in.items {
			bodies = append(bodies, it.body)
		}
		got := bytes.Join(bodies, []byte("\n"))
		if bytes.HasSuffix(data, []byte("\n")) {
			got = append(got, '\n')
		}
		if !bytes.Equal(got, data) || in.err != nil {
			t.Errorf("%q became %q, %v", data, bodies, in.err)
		}
	})
}

func TestALineThatBreaksOffIsNoMessage(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	in := lines(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(boom)), longestLine, nil)
	got := read(in)
	if len(got) != 1 || string(got[0].body) != "a" {
		t.Errorf("got %v, want the first line only", got)
	}
	if in.complete || !errors.Is(in.err, boom) || in.err.Error() != "cannot read line 2 of stdin: boom" {
		t.Errorf("error %v", in.err)
	}
}

// What it costs is bounded, however long a line is, and so is what it takes with it:
// the lines around it are messages.
func TestALineThatIsTooLongIsRefusedAlone(t *testing.T) {
	t.Parallel()
	const limit = lineBuffer + 10
	fits, long := strings.Repeat("x", limit), strings.Repeat("y", limit+1)
	for _, c := range []struct {
		in   string
		want []string // "" is refused
	}{
		{fits + "\n" + long + "\na\n", []string{fits, "", "a"}},
		{long + long + long + "\n" + fits, []string{"", fits}},
		{"a\n" + long, []string{"a", ""}},
	} {
		in := lines(strings.NewReader(c.in), limit, nil)
		got := read(in)
		if len(got) != len(c.want) || !in.complete || in.err != nil {
			t.Fatalf("%d lines, complete %v, %v", len(got), in.complete, in.err)
		}
		for i, it := range got {
			if string(it.body) != c.want[i] || it.line != i+1 || (producer.VerdictOf(it.err) == producer.Refused) != (c.want[i] == "") {
				t.Errorf("line %d has %d bytes, want %d: %v", it.line, len(it.body), len(c.want[i]), it.err)
			}
		}
	}
}

func TestReadingEndsWithStop(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	in := lines(strings.NewReader("a\nb\nc\n"), longestLine, stop)
	<-in.items
	close(stop)
	n := 1
	for range in.items { // at most one more, and then it is closed: goleak looks for the rest
		n++
	}
	if in.complete || n > 2 {
		t.Errorf("after stop and %d lines it is complete: %v", n, in.complete)
	}
}

func TestArgumentsAreMessages(t *testing.T) {
	t.Parallel()
	got := read(arguments([]string{"a", "", "b\n"}))
	if len(got) != 3 || string(got[2].body) != "b\n" || got[2].line != 3 || len(got[1].body) != 0 {
		t.Errorf("got %v", got)
	}
}
