package topology

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Format is how a topology is written in a file.
type Format int

// The formats. JSON can also be what the broker exports as definitions (from
// rabbitmqctl export_definitions or the management API); Load tells by itself.
const (
	FormatAuto Format = iota // by the name of the file, else by its first character
	FormatYAML
	FormatJSON
)

// String returns auto, yaml or json.
func (f Format) String() string {
	switch f {
	case FormatYAML:
		return "yaml"
	case FormatJSON:
		return "json"
	}
	return "auto"
}

// LoadOptions says how to read a file. The zero value reads any of them.
type LoadOptions struct {
	// Format defaults to FormatAuto.
	Format Format

	// VHost is the virtual host to take from a broker's exported definitions; it is
	// ignored otherwise. Defaults to the only one in the file; it is an error that
	// names them all if there are several.
	VHost string
}

// What Load reads at most: the YAML parser takes about a kilobyte for each token.
// Exported definitions, which are JSON, may be larger.
const (
	maxYAMLBytes = 1 << 20
	maxJSONBytes = 64 << 20
)

// LoadError is one thing that is wrong in a file. Load joins the first fifty of them.
type LoadError struct {
	File    string // empty if Load was given a reader
	Line    int    // counted from 1
	Path    string // where in the document, as in queues[2].message_ttl
	Problem string
}

// Error is one line that begins with file and line.
func (e *LoadError) Error() string {
	var s strings.Builder
	if e.File != "" {
		s.WriteString(e.File + ":")
	} else if e.Line > 0 {
		s.WriteString("line ")
	}
	if e.Line > 0 {
		fmt.Fprintf(&s, "%d:", e.Line)
	}
	if s.Len() > 0 {
		s.WriteByte(' ')
	}
	if e.Path != "" {
		s.WriteString(e.Path + ": ")
	}
	s.WriteString(e.Problem)
	return s.String()
}

// LoadFile reads a topology from a file. It does not validate it.
func LoadFile(path string, opts LoadOptions) (Topology, error) {
	f, err := os.Open(path)
	if err != nil {
		return Topology{}, fmt.Errorf("load topology: %w", err)
	}
	defer f.Close()
	if opts.Format == FormatAuto {
		switch strings.ToLower(filepath.Ext(path)) {
		case ".json":
			opts.Format = FormatJSON
		case ".yaml", ".yml":
			opts.Format = FormatYAML
		}
	}
	return load(f, path, opts)
}

// Load reads a topology. It does not validate it, so that what is wrong in the
// file and what is wrong in the topology can be told apart. The error joins
// what is wrong in the file, each a *LoadError with its line: unknown and repeated
// fields, values of another type, numbers without a unit where a duration is wanted.
// After fifty of them there is one, without a line, that says how many more there are.
// An empty document is an empty topology.
func Load(r io.Reader, opts LoadOptions) (Topology, error) { return load(r, "", opts) }

func load(r io.Reader, file string, opts LoadOptions) (Topology, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxJSONBytes+1))
	if err != nil {
		return Topology{}, fmt.Errorf("load topology: %w", err)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	d := &decoder{file: file}
	root, err := parse(data, opts.Format)
	var t Topology
	switch {
	case err != nil:
		var le *LoadError
		if !errors.As(err, &le) {
			le = &LoadError{Problem: err.Error()}
		}
		le.File = file
		d.errs = append(d.errs, le)
	case isDefinitions(root):
		t = d.definitions(root, opts.VHost)
	default:
		if d.refuseTooLarge(root); d.failed() == 0 {
			t = d.topology(root)
		}
	}
	if d.failed() > 0 {
		return Topology{}, d.err()
	}
	return t, nil
}

func parse(data []byte, format Format) (node, error) {
	if i := firstInvalidUTF8(data); i >= 0 {
		return node{}, &LoadError{Line: 1 + bytes.Count(data[:i], []byte("\n")), Problem: "is not valid UTF-8"}
	}
	if format == FormatAuto {
		format = FormatYAML
		if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
			format = FormatJSON
		}
	}
	limit := maxYAMLBytes
	if format == FormatJSON {
		limit = maxJSONBytes
	}
	if len(data) > limit {
		return node{}, fmt.Errorf("is larger than %d bytes, the limit for %s", limit, format)
	}
	if format == FormatJSON {
		return parseJSON(data)
	}
	return parseYAML(data)
}

func firstInvalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
