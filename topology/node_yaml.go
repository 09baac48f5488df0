package topology

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxAliased bounds the values that aliases stand for: aliases of aliases can blow
// a short document up to any size.
const maxAliased = 1 << 16

// parseYAML reads one YAML document: mappings, lists, plain values, anchors,
// aliases and merge keys. Tags are not understood.
func parseYAML(data []byte) (n node, err error) {
	defer func() {
		if r := recover(); r != nil { // a fault of the parser is a bad file to us
			err = fmt.Errorf("is not YAML: %v", r)
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if line := tooDeep(tokens); line > 0 {
		return node{}, &LoadError{Line: line, Problem: fmt.Sprintf("is nested deeper than %d levels", maxDepth)}
	}
	if line := tooWide(tokens); line > 0 {
		return node{}, &LoadError{Line: line, Problem: fmt.Sprintf("has more than %d keys in one mapping", maxKeys)}
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		ye, ok := err.(yaml.Error) //nolint:errorlint // the parser never wraps
		if !ok {
			return node{}, fmt.Errorf("is not YAML: %w", err)
		}
		var line int
		if tk := ye.GetToken(); tk != nil && tk.Position != nil {
			line = tk.Position.Line
		}
		// Not Error, which quotes the source and takes time with its square.
		return node{}, &LoadError{Line: line, Problem: "is not YAML: " + ye.GetMessage()}
	}
	y := &yamlParser{anchors: make(map[string]ast.Node)}
	root := node{line: 1}
	seen := false
	for _, doc := range file.Docs {
		if doc.Body == nil { // nothing but comments
			continue
		}
		if seen {
			return node{}, &LoadError{Line: lineOf(doc.Body), Problem: "there is a second document: put everything into one"}
		}
		seen = true
		if root, err = y.value(doc.Body, 0); err != nil {
			return node{}, err
		}
	}
	return root, nil
}

// tooDeep returns the line where a document begins to nest deeper than any
// topology, or 0. It looks before the parser does, whose time and memory grow with
// the square of the depth. In block style the depth is bounded by the indentation
// of a line and by how many items, keys and properties begin on it.
func tooDeep(tokens token.Tokens) int {
	var line, indent, started, flow int
	for _, t := range tokens {
		if t.Position.Line != line {
			line, indent, started = t.Position.Line, t.Position.Column, 0
		}
		switch t.Type { //nolint:exhaustive // the others begin nothing
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			started++
		}
		if flow > maxDepth || started > maxDepth || (flow == 0 && indent > 4*maxDepth) {
			return line
		}
	}
	return 0
}

// maxKeys bounds the keys of one mapping: a queue has about twenty.
const maxKeys = 500

// tooWide returns the line of the first key too many in a mapping, or 0. It looks
// before the parser does, whose time and memory grow with the square of their number.
// In block style the keys of a mapping are those in one column, until something
// begins further left; in flow style those between its braces.
func tooWide(tokens token.Tokens) int {
	var (
		block [4*maxDepth + 2]int // keys by column, those that are too deep in the last
		flow  []int               // keys of each mapping and list that is open
		key   token.Position      // where what stands before this token begins
	)
	column := func(p *token.Position) int { return min(max(p.Column, 0), len(block)-1) }
	for _, t := range tokens {
		switch t.Type { //nolint:exhaustive // the others are neither keys nor ends
		case token.SequenceStartType, token.MappingStartType:
			flow = append(flow, 0)
		case token.SequenceEndType, token.MappingEndType:
			flow = flow[:max(len(flow)-1, 0)]
		case token.SequenceEntryType:
			clear(block[min(column(t.Position)+1, len(block)):])
		case token.MappingValueType:
			keys := &block[column(&key)]
			if len(flow) > 0 {
				keys = &flow[len(flow)-1]
			} else {
				clear(block[min(column(&key)+1, len(block)):])
			}
			if *keys++; *keys > maxKeys {
				return t.Position.Line
			}
		}
		key = *t.Position
	}
	return 0
}

type yamlParser struct {
	anchors map[string]ast.Node
	aliases int // how many aliases the current value is inside of
	aliased int // values that were read inside of aliases
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func (y *yamlParser) value(a ast.Node, depth int) (node, error) {
	n := node{line: lineOf(a)}
	fail := func(format string, args ...any) (node, error) {
		return n, &LoadError{Line: n.line, Problem: fmt.Sprintf(format, args...)}
	}
	if y.aliases > 0 {
		y.aliased++
	}
	if y.aliased > maxAliased {
		return fail("the aliases stand for more than %d values", maxAliased)
	}
	if depth > maxDepth {
		return fail("is nested deeper than %d levels", maxDepth)
	}
	switch v := a.(type) {
	case *ast.NullNode, nil:
		return n, nil
	case *ast.BoolNode:
		n.value = v.Value
	case *ast.IntegerNode:
		i, ok := yamlInteger(v.Token.Value)
		if !ok {
			return fail("%s is no integer that can be sent: it is too large, or begins with 0", v.Token.Value)
		}
		n.value = i
	case *ast.FloatNode:
		n.value = v.Value
	case *ast.StringNode:
		if looksLikeNumber(v) {
			return fail("%s is taken for a number by some and for a string by others: quote it, or write it in another way", v.Value)
		}
		n.value = v.Value
	case *ast.LiteralNode:
		n.value = v.Value.Value
	case *ast.SequenceNode:
		list := make([]node, 0, len(v.Values))
		for _, x := range v.Values {
			item, err := y.value(x, depth+1)
			if err != nil {
				return n, err
			}
			list = append(list, item)
		}
		n.value = list
	case *ast.MappingNode:
		return y.mapping(n, v.Values, depth)
	case *ast.MappingValueNode:
		return y.mapping(n, []*ast.MappingValueNode{v}, depth)
	case *ast.AnchorNode:
		// Known only after its value, so that it cannot contain itself, and once, so
		// that an alias inside of it means the same wherever it is read again.
		value, err := y.value(v.Value, depth+1)
		name := nodeText(v.Name)
		if known := y.anchors[name]; known != nil && known != v.Value && err == nil {
			return fail("there is an anchor %q already: take another name", name)
		}
		y.anchors[name] = v.Value
		return value, err
	case *ast.AliasNode:
		name := nodeText(v.Value)
		target, ok := y.anchors[name]
		if !ok {
			return fail(`there is no anchor %q: a value that begins with * has to be quoted`, name)
		}
		y.aliases++
		value, err := y.value(target, depth+1)
		y.aliases--
		value.line = n.line
		return value, err
	case *ast.TagNode:
		return fail("the tag %s is not understood", v.Start.Value)
	default:
		return fail("%s is not understood", strings.ToLower(a.Type().String()))
	}
	return n, nil
}

// mapping reads the keys of a mapping. A key of its own goes before a merged one.
func (y *yamlParser) mapping(n node, values []*ast.MappingValueNode, depth int) (node, error) {
	var own, merged []entry
	for _, v := range values {
		line := lineOf(v.Key)
		if v.Key.IsMergeKey() {
			base, err := y.value(v.Value, depth+1)
			if err != nil {
				return n, err
			}
			entries, ok := base.value.([]entry)
			if !ok {
				return n, &LoadError{Line: line, Problem: "<< has to merge one mapping"}
			}
			merged = append(merged, entries...)
			continue
		}
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			return n, &LoadError{Line: line, Problem: fmt.Sprintf("the key %s has to be a string: quote it", strings.TrimSpace(v.Key.String()))}
		}
		value, err := y.value(v.Value, depth+1)
		if err != nil {
			return n, err
		}
		own = append(own, entry{key: key.Value, line: line, value: value})
	}
	seen := make(map[string]bool) // only a merged key can be: the parser refuses others
	entries := []entry{}
	for _, e := range append(own, merged...) {
		if !seen[e.key] {
			seen[e.key] = true
			entries = append(entries, e)
		}
	}
	n.value = entries
	return n, nil
}

func nodeText(n ast.Node) string {
	return n.GetToken().Value
}

// yamlInteger reads decimal, 0x, 0o and 0b. A leading zero is refused: it means
// octal to some parsers and nothing to others.
func yamlInteger(s string) (int64, bool) {
	digits := strings.TrimLeft(s, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return 0, false
	}
	i, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 0, 64)
	return i, err == nil
}

var numberLike = regexp.MustCompile(`^[-+]?(0[xob])?[0-9][0-9_]*(\.[0-9]*)?([eE][-+]?[0-9]+)?$`)

// looksLikeNumber reports an unquoted string that the parser did not take for a
// number only because it is too large for one, or written like 1e3.
func looksLikeNumber(s *ast.StringNode) bool {
	return s.Token.Type == token.StringType && numberLike.MatchString(s.Value)
}
