package topology

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// parseJSON reads one JSON document.
func parseJSON(data []byte) (node, error) {
	p := &jsonParser{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	n, err := p.value(0)
	if errors.Is(err, io.EOF) {
		if len(bytes.TrimSpace(data)) == 0 {
			return node{line: 1}, nil
		}
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return node{}, p.locate(err)
	}
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		return node{}, &LoadError{Line: p.line(), Problem: "something follows the document"}
	}
	return n, nil
}

type jsonParser struct {
	data []byte
	dec  *json.Decoder

	lines int   // line breaks in data[:upTo]
	upTo  int64 // never moves back
}

// line is the line of the token that was read last.
func (p *jsonParser) line() int {
	at := p.dec.InputOffset()
	p.lines += bytes.Count(p.data[p.upTo:at], []byte("\n"))
	p.upTo = at
	return 1 + p.lines
}

func (p *jsonParser) locate(err error) error {
	var le *LoadError
	if errors.As(err, &le) {
		return err
	}
	line := p.line()
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at := min(max(syntax.Offset, 0), int64(len(p.data)))
		line = 1 + bytes.Count(p.data[:at], []byte("\n"))
	}
	return &LoadError{Line: line, Problem: "is not JSON: " + err.Error()}
}

func (p *jsonParser) value(depth int) (node, error) {
	token, err := p.dec.Token()
	if err != nil {
		return node{}, err
	}
	return p.rest(token, depth)
}

// rest reads what follows the first token of a value.
func (p *jsonParser) rest(token json.Token, depth int) (node, error) {
	n := node{line: p.line()}
	if depth > maxDepth {
		return n, &LoadError{Line: n.line, Problem: fmt.Sprintf("is nested deeper than %d levels", maxDepth)}
	}
	switch v := token.(type) {
	case json.Number:
		n.value = number(v.String())
		return n, nil
	case json.Delim:
		if v == '[' {
			return p.list(n, depth)
		}
		return p.mapping(n, depth)
	}
	n.value = token
	return n, nil
}

// number is a JSON number's value.
func number(s string) any {
	if isFloat(s) {
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return f
		}
	} else if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i
	}
	return tooLarge(s)
}

func isFloat(s string) bool { return strings.ContainsAny(s, ".eE") }

func (p *jsonParser) list(n node, depth int) (node, error) {
	list := []node{}
	for p.dec.More() {
		item, err := p.value(depth + 1)
		if err != nil {
			return n, err
		}
		list = append(list, item)
	}
	n.value = list
	_, err := p.dec.Token()
	return n, err
}

func (p *jsonParser) mapping(n node, depth int) (node, error) {
	entries := []entry{}
	seen := make(map[string]int)
	for p.dec.More() {
		token, err := p.dec.Token()
		if err != nil {
			return n, err
		}
		key, _ := token.(string)
		line := p.line()
		if first, twice := seen[key]; twice {
			return n, &LoadError{Line: line, Problem: fmt.Sprintf("%q is there twice, first on line %d", key, first)}
		}
		seen[key] = line
		value, err := p.value(depth + 1)
		if err != nil {
			return n, err
		}
		entries = append(entries, entry{key: key, line: line, value: value})
	}
	n.value = entries
	_, err := p.dec.Token()
	return n, err
}
