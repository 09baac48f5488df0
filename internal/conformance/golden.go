package conformance

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// base is the series whose file has every case.
const base = "4.3"

//go:embed testdata
var recorded embed.FS

// golden holds the transcripts of a series by the names of their cases.
type golden map[string]string

// Series cuts a version down to what names a recording: 4.3 of 4.3.6.
func Series(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// load returns what was recorded for a series. Of one that was never recorded it
// is what the base says.
func load(series string) (golden, error) {
	all, err := loadFile(base)
	if err != nil || series == base {
		return all, err
	}
	differs, err := loadFile(series)
	if err != nil {
		return nil, err
	}
	for name, text := range differs {
		all[name] = text
	}
	return all, nil
}

func loadFile(series string) (golden, error) {
	content, err := recorded.ReadFile("testdata/" + series + ".txt")
	if errors.Is(err, fs.ErrNotExist) {
		return golden{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseGolden(content)
}

const (
	headBegin = "-- "
	headEnd   = " --"
)

// parseGolden reads the txtar form: a line "-- name --" before each transcript.
// What stands before the first is a comment.
func parseGolden(content []byte) (golden, error) {
	g := golden{}
	var name string
	for line := range strings.Lines(string(content)) {
		if head := strings.TrimSpace(line); strings.HasPrefix(head, headBegin) && strings.HasSuffix(head, headEnd) {
			name = strings.TrimSuffix(strings.TrimPrefix(head, headBegin), headEnd)
			if _, twice := g[name]; twice {
				return nil, fmt.Errorf("%s is recorded twice", name)
			}
			g[name] = ""
			continue
		}
		if name != "" {
			g[name] += line
		}
	}
	return g, nil
}

// format writes what parseGolden reads, with the cases in the order of the table.
func (g golden) format(comment string) []byte {
	var b bytes.Buffer
	b.WriteString(comment)
	for _, c := range slices.Concat(Cases, HandCases) {
		if text, ok := g[c.Name]; ok {
			fmt.Fprintf(&b, "%s%s%s\n%s", headBegin, c.Name, headEnd, text)
		}
	}
	return b.Bytes()
}
