package topology

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// node is a value in a document, with the line that it stands on. YAML and JSON
// are both read into nodes, so that there is one strict decoder for them and
// every complaint has a line.
type node struct {
	line  int
	value any // nil, bool, int64, float64, tooLarge, string, []node, []entry
}

// tooLarge is a number of a JSON document, as it is written, that fits into no type.
// In an export it may stand where nobody reads it.
type tooLarge string

// refuseTooLarge complains about each such number in n.
func (d *decoder) refuseTooLarge(n node) {
	switch v := n.value.(type) {
	case tooLarge:
		what := "an integer"
		if isFloat(string(v)) {
			what = "a number"
		}
		d.fail(n.line, "", "%s is too large for %s", v, what)
	case []node:
		for _, item := range v {
			d.refuseTooLarge(item)
		}
	case []entry:
		for _, e := range v {
			d.refuseTooLarge(e.value)
		}
	}
}

// entry is one key of a mapping, in the document's order.
type entry struct {
	key   string
	line  int
	value node
}

// maxDepth bounds the nesting of a document: a topology needs six.
const maxDepth = 64

// kind names the node's type in a complaint.
func (n node) kind() string {
	switch v := n.value.(type) {
	case nil:
		return "nothing"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	case tooLarge:
		return "the number " + string(v)
	case string:
		return strconv.Quote(v)
	case []node:
		return "a list"
	}
	return "a mapping"
}

// decoder reads nodes and collects complaints.
type decoder struct {
	file string
	errs []error // the first of them
	more int     // how many there are besides
}

// Somebody reads the complaints: what is wrong with a file of megabytes must not be
// megabytes itself.
const (
	maxFaults    = 50
	maxFaultText = 1000 // bytes of a problem, or of a path
)

func (d *decoder) fail(line int, path, format string, args ...any) {
	if len(d.errs) >= maxFaults {
		d.more++
		return
	}
	problem := clip(fmt.Sprintf(format, args...))
	d.errs = append(d.errs, &LoadError{File: d.file, Line: line, Path: clip(path), Problem: problem})
}

// clip cuts the middle out of what is too long to be read.
func clip(s string) string {
	if len(s) <= maxFaultText {
		return s
	}
	const half = maxFaultText / 2
	return strings.ToValidUTF8(s[:half], "") + " ... " + strings.ToValidUTF8(s[len(s)-half:], "")
}

// failed is how many complaints there are.
func (d *decoder) failed() int { return len(d.errs) + d.more }

// err joins the complaints.
func (d *decoder) err() error {
	switch {
	case d.more == 1:
		d.errs = append(d.errs, &LoadError{File: d.file, Problem: "and 1 more fault"})
	case d.more > 1:
		d.errs = append(d.errs, &LoadError{File: d.file, Problem: fmt.Sprintf("and %d more faults", d.more)})
	}
	return errors.Join(d.errs...)
}

// entries returns the keys of a mapping; nothing at all is an empty mapping.
func (d *decoder) entries(n node, path string) []entry {
	switch v := n.value.(type) {
	case nil:
		return nil
	case []entry:
		return v
	}
	d.fail(n.line, path, "has to be a mapping and is %s", n.kind())
	return nil
}

// items returns the items of a list; nothing at all is an empty list.
func (d *decoder) items(n node, path string) []node {
	switch v := n.value.(type) {
	case nil:
		return nil
	case []node:
		return v
	}
	d.fail(n.line, path, "has to be a list and is %s", n.kind())
	return nil
}

func (d *decoder) text(n node, path string) string {
	s, ok := n.value.(string)
	switch {
	case ok:
	case n.value == nil:
		d.fail(n.line, path, `has no value: an empty string is "", and a value that begins with # or * has to be quoted`)
	default:
		d.fail(n.line, path, "has to be a string and is %s: quote it", n.kind())
	}
	return s
}

func (d *decoder) flag(n node, path string) bool {
	b, ok := n.value.(bool)
	if !ok {
		d.fail(n.line, path, "has to be true or false and is %s", n.kind())
	}
	return b
}

func (d *decoder) integer(n node, path string) int64 {
	i, ok := n.value.(int64)
	if !ok {
		d.fail(n.line, path, "has to be an integer and is %s", n.kind())
	}
	return i
}

// refuseZero complains about a value that was written down and that a field
// cannot tell from none: a delivery limit of 0 would become the broker's 20.
func (d *decoder) refuseZero(n node, path string, zero any) {
	if n.value == zero {
		d.fail(n.line, path, "is %s, which is not sent: leave it out for the default, or put it into arguments under the broker's name", n.kind())
	}
}

func (d *decoder) duration(n node, path string) time.Duration {
	switch v := n.value.(type) {
	case string:
		t, err := parseDuration(v)
		if err != nil {
			d.fail(n.line, path, "%v", err)
		}
		return t
	case int64, float64:
		d.fail(n.line, path, "needs a unit, as in 30s, 500ms, 1h30m or 7d, and is %s", n.kind())
	default:
		d.fail(n.line, path, "has to be a duration, as in 30s, 500ms, 1h30m or 7d, and is %s", n.kind())
	}
	return 0
}

// table reads the arguments of a declaration. Integers stay integers: to the
// broker an x-message-ttl of 1000.0 is not a number of milliseconds.
func (d *decoder) table(n node, path string) amqp.Table {
	entries := d.entries(n, path)
	if len(entries) == 0 {
		return nil
	}
	t := make(amqp.Table, len(entries))
	for _, e := range entries {
		t[e.key] = e.value.tableValue()
	}
	return t
}

func (n node) tableValue() any {
	switch v := n.value.(type) {
	case []node:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i].tableValue()
		}
		return list
	case []entry:
		t := make(amqp.Table, len(v))
		for _, e := range v {
			t[e.key] = e.value.tableValue()
		}
		return t
	}
	return n.value
}

const day = 24 * time.Hour

// parseDuration reads what time.ParseDuration does, with days before it: 7d,
// 1d12h.
func parseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no duration: write 30s, 500ms, 1h30m or 7d", s)
	days, rest, found := strings.Cut(s, "d")
	if !found {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, bad
		}
		return d, nil
	}
	n, err := strconv.ParseInt(days, 10, 64)
	if err != nil || n < 0 || days[0] == '+' || n > int64(math.MaxInt64/day) {
		return 0, bad
	}
	d := time.Duration(n) * day
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || more < 0 || d > math.MaxInt64-more {
		return 0, bad
	}
	return d + more, nil
}

// formatDuration writes what parseDuration reads, without the zeros of
// time.Duration.String: 1h30m, not 1h30m0s.
func formatDuration(d time.Duration) string {
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
