package topology

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Marshal writes t as YAML (FormatAuto is YAML too) or JSON, so that Load reads
// the same topology: every integer in Arguments comes back as an int64, which is
// the same to the broker. What the file formats have no word for is an error: in
// Arguments []byte, time.Time, amqp.Decimal, float32, infinities and NaN. So is YAML
// of more than 1 MiB, or with more than 500 keys in a mapping, and JSON of more than
// 64 MiB: Load would refuse it.
func Marshal(t Topology, format Format) ([]byte, error) {
	w := &writer{}
	root := encodeFields(&t, topologyFields)
	switch {
	case format == FormatJSON:
		w.json(root, "", "")
		w.out.WriteByte('\n')
	case len(root) == 0:
		w.out.WriteString("{}\n")
	default:
		w.yaml(root, "", "")
	}
	n := w.out.Len()
	switch {
	case w.err != nil:
		return nil, w.err
	case format == FormatJSON && n > maxJSONBytes:
		return nil, fmt.Errorf("write topology: has %d bytes, Load reads %d at most", n, maxJSONBytes)
	case format != FormatJSON && n > maxYAMLBytes:
		return nil, fmt.Errorf("write topology: has %d bytes, Load reads %d at most of YAML: use FormatJSON", n, maxYAMLBytes)
	}
	return []byte(w.out.String()), nil
}

// writer writes pairs, lists and values. Strings are quoted as in JSON, which is
// YAML too, unless they are plain words in both eyes.
type writer struct {
	out strings.Builder
	err error
}

// plainWord is a name, or a duration as formatDuration writes most of them.
var plainWord = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_.-]*|([0-9]+(d|h|m|s|ms))+)$`)

// reservedWords mean something else to one YAML parser or another.
var reservedWords = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}

func (w *writer) fail(path, format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("write topology: %s: %s", path, fmt.Sprintf(format, args...))
	}
}

// normal turns the shapes that arguments can have into pairs and lists.
func normal(v any) any {
	if t, ok := v.(amqp.Table); ok {
		ps := []pair{}
		for _, k := range slices.Sorted(maps.Keys(t)) {
			ps = append(ps, pair{k, t[k]})
		}
		return ps
	}
	if n, ok := wholeNumber(v); ok {
		return n
	}
	return v
}

// scalar returns a value that stands on one line.
func (w *writer) scalar(v any, path string) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			w.fail(path, "%v cannot be written", v)
			return ""
		}
		s := strconv.FormatFloat(v, 'g', -1, 64)
		mantissa, exponent, scientific := strings.Cut(s, "e")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		if scientific {
			return mantissa + "e" + exponent
		}
		return mantissa
	case string:
		return w.quote(v, path)
	}
	w.fail(path, "a %T cannot be written", v)
	return ""
}

func (w *writer) quote(s, path string) string {
	if strings.ToValidUTF8(s, "") != s {
		w.fail(path, "%q is not valid UTF-8 and cannot be written", s)
	}
	b, err := json.Marshal(s)
	if err != nil {
		w.fail(path, "%v", err)
	}
	return string(b)
}

func (w *writer) word(s, path string) string {
	if plainWord.MatchString(s) && !slices.Contains(reservedWords, strings.ToLower(s)) {
		return s
	}
	return w.quote(s, path)
}

// yaml writes a mapping in block style, its first line after first, the others
// after indent.
func (w *writer) yaml(ps []pair, first, indent string) {
	if len(ps) > maxKeys {
		w.fail(ps[maxKeys].key, "is key %d of its mapping, Load reads %d at most of YAML: use FormatJSON", maxKeys+1, maxKeys)
	}
	for _, p := range ps {
		w.out.WriteString(first + w.word(p.key, p.key) + ":")
		first = indent
		w.yamlValue(p.value, p.key, indent)
	}
}

func (w *writer) yamlValue(v any, path, indent string) {
	switch v := normal(v).(type) {
	case []pair:
		if len(v) == 0 {
			w.out.WriteString(" {}\n")
			return
		}
		w.out.WriteByte('\n')
		w.yaml(v, indent+"  ", indent+"  ")
	case []any:
		if len(v) == 0 {
			w.out.WriteString(" []\n")
			return
		}
		w.out.WriteByte('\n')
		w.yamlList(v, path, indent+"  ")
	case string:
		w.out.WriteString(" " + w.word(v, path) + "\n")
	default:
		w.out.WriteString(" " + w.scalar(v, path) + "\n")
	}
}

func (w *writer) yamlList(items []any, path, indent string) {
	for _, item := range items {
		switch v := normal(item).(type) {
		case []pair:
			if len(v) == 0 {
				w.out.WriteString(indent + "- {}\n")
				continue
			}
			w.yaml(v, indent+"- ", indent+"  ")
		default:
			w.out.WriteString(indent + "-")
			w.yamlValue(v, path, indent)
		}
	}
}

// json writes any value, the lines after the first after indent.
func (w *writer) json(v any, path, indent string) {
	switch v := normal(v).(type) {
	case []pair:
		w.jsonBlock('{', '}', indent, len(v), func(i int) {
			w.out.WriteString(w.quote(v[i].key, path) + ": ")
			w.json(v[i].value, v[i].key, indent+"  ")
		})
	case []any:
		w.jsonBlock('[', ']', indent, len(v), func(i int) { w.json(v[i], path, indent+"  ") })
	default:
		w.out.WriteString(w.scalar(v, path))
	}
}

func (w *writer) jsonBlock(open, end byte, indent string, n int, item func(int)) {
	w.out.WriteByte(open)
	for i := range n {
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.out.WriteString("\n" + indent + "  ")
		item(i)
	}
	if n > 0 {
		w.out.WriteString("\n" + indent)
	}
	w.out.WriteByte(end)
}
