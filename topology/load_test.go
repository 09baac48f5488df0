package topology_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

// everything sets each field of each struct.
func everything() topology.Topology {
	return topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: "orders", Kind: topology.KindTopic, AlternateExchange: "unrouted"},
			{Name: "unrouted", Kind: topology.KindFanout, Transient: true, AutoDelete: true, Internal: true, Arguments: amqp.Table{"x-note": "any"}},
			{Name: "theirs", Passive: true},
		},
		Queues: []topology.Queue{
			{
				Name: "billing", Type: topology.Quorum, DeadLetterExchange: "dead", DeadLetterRoutingKey: "billing", DeadLetterStrategy: topology.AtLeastOnce,
				MessageTTL: 30 * time.Second, Expires: 36 * time.Hour, MaxLength: 1000, MaxLengthBytes: 1 << 40, Overflow: topology.RejectPublish, DeliveryLimit: 5,
				SingleActiveConsumer: true, ConsumerTimeout: 15 * time.Minute,
				DelayedRetry: topology.DelayedRetry{Type: topology.DelayAll, Min: 500 * time.Millisecond, Max: 90 * time.Second},
				Arguments: amqp.Table{
					"integer": int64(9007199254740993), "float": 1000.0, "tiny": 1e-300, "text": "1000", "flag": true, "nothing": nil,
					"list": []any{int64(1), "two", []any{}, amqp.Table{"three": int64(3)}}, "table": amqp.Table{"empty": amqp.Table{}, "# odd: key": "*"},
				},
			},
			{Name: "dead", DeliveryLimit: topology.Unlimited},
			{Name: "fast", Type: topology.Classic, Transient: true, Exclusive: true, AutoDelete: true, MaxPriority: 9, DeadLetterQueue: "dead"},
			{Name: "log", Type: topology.Stream, MaxAge: 7 * 24 * time.Hour, MaxSegmentBytes: 100_000_000},
			{Name: "theirs too", Passive: true},
		},
		Bindings: []topology.Binding{
			{Exchange: "orders", Queue: "billing", RoutingKey: "order.*"},
			{Exchange: "orders", ToExchange: "unrouted", RoutingKey: "#", Arguments: amqp.Table{"x-match": "all", "kind": "null"}},
		},
	}
}

// loadGolden loads a file that says the same as want, and writes it with -update.
func loadGolden(t *testing.T, name string, opts topology.LoadOptions, want topology.Topology) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		format := topology.FormatYAML
		if filepath.Ext(name) == ".json" {
			format = topology.FormatJSON
		}
		data, err := topology.Marshal(want, format)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := topology.LoadFile(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is\n%+v, want\n%+v", name, got, want)
	}
}

func TestLoadFileReadsEveryField(t *testing.T) {
	t.Parallel()
	loadGolden(t, "everything.yaml", topology.LoadOptions{}, everything())
	loadGolden(t, "everything.json", topology.LoadOptions{}, everything())
}

func TestMarshalWritesTheGoldenFiles(t *testing.T) {
	t.Parallel()
	for name, format := range map[string]topology.Format{"everything.yaml": topology.FormatYAML, "everything.json": topology.FormatJSON} {
		want, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := topology.Marshal(everything(), format)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is written as\n%s", name, got)
		}
	}
}

func TestLoadReadsTheExampleInTheDocumentation(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(doc), "//	exchanges:")
	example, _, _ = strings.Cut("//	exchanges:"+example, "\n//\n")
	top, err := topology.Load(strings.NewReader(strings.ReplaceAll(example, "//	", "")), topology.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Exchanges) != 3 || len(top.Queues) != 3 || len(top.Bindings) != 4 {
		t.Errorf("the example is %+v", top)
	}
	if err := top.Validate(); err != nil {
		t.Error(err)
	}
	if age := top.Queues[2].MaxAge; age != 30*24*time.Hour {
		t.Errorf("30d is %v", age)
	}
}

func TestLoadReadsYAMLAnchorsAndMergeKeys(t *testing.T) {
	t.Parallel()
	top, err := topology.Load(strings.NewReader(`
queues:
  - &base
    name: a
    max_length: 5
    arguments: &args
      n: 0x10
      text: |
        two
        lines
  - <<: *base
    name: b
  - name: c
    arguments: *args
`), topology.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	args := amqp.Table{"n": int64(16), "text": "two\nlines\n"}
	want := []topology.Queue{{Name: "a", MaxLength: 5, Arguments: args}, {Name: "b", MaxLength: 5, Arguments: args}, {Name: "c", Arguments: args}}
	if !reflect.DeepEqual(top.Queues, want) {
		t.Errorf("read\n%+v, want\n%+v", top.Queues, want)
	}
}

func TestLoadTellsFormatsApart(t *testing.T) {
	t.Parallel()
	want := topology.Topology{Queues: []topology.Queue{{Name: "q"}}}
	for _, doc := range []string{
		"queues: [{name: q}]", "\n# a comment\nqueues:\n- name: q\n", `{"queues":[{"name":"q"}]}`, " \n\t{\"queues\":\n[{\"name\":\"q\"}]}\n", "\ufeffqueues: [{name: q}]",
		"---\nqueues: [{name: q}]\n", "# first\n---\nqueues: [{name: q}]\n", "queues: [{name: q}]\n---\n# last\n", "exchanges:\nqueues:\n- name: q\n",
	} {
		if got, err := topology.Load(strings.NewReader(doc), topology.LoadOptions{}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %+v, %v", doc, got, err)
		}
	}
	if got := fmt.Sprint(topology.FormatAuto, topology.FormatYAML, topology.FormatJSON); got != "auto yaml json" {
		t.Errorf("the formats are called %s", got)
	}
	for _, empty := range []string{"", "\n", "# nothing\n", "{}", "null", "exchanges: []"} {
		if got, err := topology.Load(strings.NewReader(empty), topology.LoadOptions{}); err != nil || !reflect.DeepEqual(got, topology.Topology{}) {
			t.Errorf("%q is %+v, %v", empty, got, err)
		}
	}
	if got, err := topology.Load(strings.NewReader(" "), topology.LoadOptions{Format: topology.FormatJSON}); err != nil || !reflect.DeepEqual(got, topology.Topology{}) {
		t.Errorf("no JSON is %+v, %v", got, err)
	}
	if _, err := topology.Load(strings.NewReader("queues: []"), topology.LoadOptions{Format: topology.FormatJSON}); err == nil {
		t.Error("YAML was read as JSON")
	}
}

func TestLoadNamesTheLineOfEveryFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		claim, doc string
		want       []string
	}{
		{"an unknown list", "queue:\n- name: q\n", []string{`line 1: unknown field "queue": did you mean queues?`}},
		{"an unknown field", "queues:\n- name: q\n  durable: true\n", []string{`line 3: queues[0]: unknown field "durable": everything is durable, unless it says transient: true`}},
		{"a field with a typing error", "queues:\n- name: q\n  max_lenth: 1\n", []string{`line 3: queues[0]: unknown field "max_lenth": did you mean max_length?`}},
		{"arguments under another name", "queues:\n- args: {}\n  ttl: 1s\n", []string{`line 2: queues[0]: unknown field "args": use arguments`, `line 3: queues[0]: unknown field "ttl": use message_ttl`}},
		{"a field like no other", "bindings:\n- {zzzzzz: 1}\n", []string{`line 2: bindings[0]: unknown field "zzzzzz"`}},
		{"an unknown field deep inside", "queues:\n- delayed_retry: {mim: 1s}\n", []string{`line 2: queues[0].delayed_retry: unknown field "mim": did you mean min?`}},
		{"a duration without a unit", "queues:\n- name: q\n  message_ttl: 30000\n", []string{"line 3: queues[0].message_ttl: needs a unit, as in 30s, 500ms, 1h30m or 7d, and is 30000"}},
		{"a duration in an unknown unit", "queues:\n- {expires: 1w}\n", []string{`line 2: queues[0].expires: "1w" is no duration: write 30s, 500ms, 1h30m or 7d`}},
		{"durations that are too long", "queues:\n- {expires: 106752d}\n- {expires: 106751d23h50m}\n- {expires: 9999999999999999999d}\n", []string{"line 2: queues[0].expires: ", "line 3: queues[1].expires: ", "line 4: queues[2].expires: "}},
		{"days with a sign", "queues:\n- {expires: -1d}\n- {expires: 1d-1h}\n- {expires: d}\n", []string{"line 2: queues[0].expires: ", "line 3: queues[1].expires: ", "line 4: queues[2].expires: "}},
		{"a duration that is no string", "queues:\n- {expires: true}\n", []string{"line 2: queues[0].expires: has to be a duration"}},
		{"a name that is a number", "queues:\n- name: 5\n", []string{"line 2: queues[0].name: has to be a string and is 5: quote it"}},
		{"a name that is a float", "queues:\n- name: 1.5\n", []string{"line 2: queues[0].name: has to be a string and is the number 1.5: quote it"}},
		{"a name that is true", "queues:\n- name: true\n", []string{"line 2: queues[0].name: has to be a string and is true: quote it"}},
		{"a key that is a comment", "bindings:\n- exchange: x\n  routing_key: #\n", []string{"line 3: bindings[0].routing_key: has no value: an empty string is"}},
		{"a key that is an alias", "bindings:\n- exchange: x\n  routing_key: *.info\n", []string{`line 3: there is no anchor`}},
		{"a flag that is a word", "queues:\n- {exclusive: yes}\n", []string{`line 2: queues[0].exclusive: has to be true or false and is "yes"`}},
		{"an integer that is a string", "queues:\n- max_length: \"5\"\n", []string{`line 2: queues[0].max_length: has to be an integer and is "5"`}},
		{"an integer that is a float", "queues:\n- max_length: 5.0\n", []string{"line 2: queues[0].max_length: has to be an integer and is the number 5"}},
		{"a limit that is a word", "queues:\n- delivery_limit: none\n", []string{`line 2: queues[0].delivery_limit: has to be an integer or unlimited and is "none"`}},
		{"a priority that is too high", "queues:\n- max_priority: 256\n", []string{"line 2: queues[0].max_priority: has to be 1 to 255 and is 256"}},
		{"a delivery limit of 0", "queues:\n- delivery_limit: 0\n", []string{"line 2: queues[0].delivery_limit: is 0, which is not sent: leave it out for the default, or put it into arguments"}},
		{"a length of 0", "queues:\n- max_length: 0\n", []string{"line 2: queues[0].max_length: is 0, which is not sent"}},
		{"no priorities", "queues:\n- max_priority: 0\n", []string{"line 2: queues[0].max_priority: is 0, which is not sent"}},
		{"a TTL of 0", "queues:\n- message_ttl: 0s\n", []string{`line 2: queues[0].message_ttl: is "0s", which is not sent`}},
		{"the default exchange for dead letters", "queues:\n- dead_letter_exchange: \"\"\n", []string{`line 2: queues[0].dead_letter_exchange: is "", which is not sent`}},
		{"a list that is a mapping", "queues:\n  name: q\n", []string{"line 2: queues: has to be a list and is a mapping"}},
		{"a mapping that is a list", "queues:\n- - name\n", []string{"line 2: queues[0]: has to be a mapping and is a list"}},
		{"a document that is a list", "- queues\n", []string{"line 1: has to be a mapping and is a list"}},
		{"a document that is a word", "queues\n", []string{`line 1: has to be a mapping and is "queues"`}},
		{"arguments that are a list", "queues:\n- arguments: [1]\n", []string{"line 2: queues[0].arguments: has to be a mapping and is a list"}},
		{"a field that is there twice", "queues:\n- name: a\n  name: b\n", []string{`line 3: `}},
		{"a field that is there twice in braces", "queues:\n- {name: a,\n   name: b}\n", []string{`line 3: `}},
		{"an anchor that is there twice", "queues:\n- name: &n one\n  arguments: &r {k: *n}\n- name: &n two\n  arguments: *r\n", []string{`line 4: there is an anchor "n" already`}},
		{"a merge of nothing", "queues:\n- <<: *base\n", []string{`line 2: there is no anchor "base"`}},
		{"JSON that breaks after empty lines", "{\"queues\": [],\n\n\noops}", []string{"line 4: is not JSON: "}},
		{"a second document", "queues: []\n---\nqueues: []\n", []string{"line 3: there is a second document"}},
		{"a tag", "queues:\n- name: !!binary aGk=\n", []string{"line 2: the tag !!binary is not understood"}},
		{"a key that is a number", "queues:\n- arguments: {1: a}\n", []string{"line 2: the key 1 has to be a string: quote it"}},
		{"a merge of a list", "queues:\n- <<: [1]\n", []string{"line 2: << has to merge one mapping"}},
		{"an integer that is too large", "queues:\n- arguments: {a: 18446744073709551615}\n", []string{"line 2: 18446744073709551615 is no integer that can be sent"}},
		{"an integer that is far too large", "queues:\n- arguments: {a: 99999999999999999999}\n", []string{"line 2: 99999999999999999999 is taken for a number by some"}},
		{"a number like 1e3", "queues:\n- arguments: {a: 1e3}\n", []string{"line 2: 1e3 is taken for a number by some"}},
		{"an integer with a leading zero", "queues:\n- arguments: {a: 010}\n", []string{"line 2: 010 is no integer that can be sent"}},
		{"broken YAML", "queues:\n- name: [\n", []string{"line 2: is not YAML: "}},
		{"bytes that are not UTF-8", "queues:\n- name: \"\xff\"\n", []string{"line 2: is not valid UTF-8"}},
		{"a mapping that contains itself", "queues:\n- &a\n  arguments: *a\n", []string{"line 3: there is no anchor"}},
		{"JSON with a trailing comma", "{\"queues\":\n[],}", []string{"line 2: is not JSON: "}},
		{"JSON that ends early", "{\"queues\":\n[", []string{"line 2: is not JSON: "}},
		{"JSON with something after it", "{}\n{}", []string{"line 2: something follows the document"}},
		{"a JSON key that is there twice", "{\"queues\": [],\n\"queues\": []}", []string{`line 2: "queues" is there twice, first on line 1`}},
		{"a JSON integer that is too large", "{\"queues\": [{\"max_length\":\n9223372036854775808}]}", []string{"line 2: 9223372036854775808 is too large for an integer"}},
		{"a JSON number that is too large", "{\"queues\": [{\"max_length\":\n1e999}]}", []string{"line 2: 1e999 is too large for a number"}},
		{"JSON with an unknown field", "{\n\"queues\": [\n{\"name\": \"q\",\n\"durable\": true}]}", []string{`line 4: queues[0]: unknown field "durable"`}},
		{"several at once", "queues:\n- name: 5\n  durable: true\nbindings: 7\n", []string{"line 2: queues[0].name: ", "line 3: queues[0]: unknown", "line 4: bindings: has to be a list and is 7"}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			t.Parallel()
			got, err := topology.Load(strings.NewReader(c.doc), topology.LoadOptions{})
			if err == nil {
				t.Fatalf("was read as %+v", got)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.want) {
				t.Fatalf("%d complaints, want %d:\n%v", len(lines), len(c.want), err)
			}
			for i := range lines {
				if !strings.HasPrefix(lines[i], c.want[i]) {
					t.Errorf("%q, want %q...", lines[i], c.want[i])
				}
			}
			var le *topology.LoadError
			if !errors.As(err, &le) {
				t.Errorf("%v is a %T", err, err)
			}
			if !reflect.DeepEqual(got, topology.Topology{}) {
				t.Errorf("half of it was returned: %+v", got)
			}
		})
	}
}

func TestLoadKeepsIntegersAndFloatsApart(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		"queues:\n- arguments: {whole: 9007199254740993, half: 0.5, point: 1000.0, negative: -1}",
		`{"queues":[{"arguments":{"whole":9007199254740993,"half":0.5,"point":1000.0,"negative":-1}}]}`,
	} {
		top, err := topology.Load(strings.NewReader(doc), topology.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := amqp.Table{"whole": int64(9007199254740993), "half": 0.5, "point": 1000.0, "negative": int64(-1)}
		if got := top.Queues[0].Arguments; !reflect.DeepEqual(got, want) {
			t.Errorf("%q has arguments %#v, want %#v", doc, got, want)
		}
	}
}

func TestLoadBoundsWhatItReads(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'i'; c++ {
		prev := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+prev+", ", 9) + "*" + prev + "]\n"
	}
	chain := "a: &a0 [x]\n"
	for i := range 100 {
		chain += fmt.Sprintf("a%d: &a%d [*a%d]\n", i+1, i+1, i)
	}
	indented := ""
	for i := range 1000 {
		indented += strings.Repeat(" ", i) + "a:\n"
	}
	for _, c := range []struct{ claim, doc, want string }{
		{"YAML lists in lists", strings.Repeat("[", 1<<16) + strings.Repeat("]", 1<<16), "nested deeper"},
		{"YAML mappings in mappings", "a: " + strings.Repeat("{a: ", 1<<16), "nested deeper"},
		{"YAML items of items", strings.Repeat("- ", 1<<16), "nested deeper"},
		{"YAML keys of keys", strings.Repeat("? ", 1<<16), "nested deeper"},
		{"YAML anchors of anchors", strings.Repeat("&a ", 1<<16), "nested deeper"},
		{"YAML tags of tags", strings.Repeat("!a ", 1<<16), "nested deeper"},
		{"YAML by indentation", indented, "nested deeper"},
		{"JSON lists in lists", `{"queues":` + strings.Repeat("[", 1<<20), "nested deeper"},
		{"a large YAML file", strings.Repeat("# comment\n", 1<<17), "larger than 1048576 bytes"},
		{"a line of YAML keys", strings.Repeat("a: ", 1<<16), "more than 500 keys"},
		{"YAML brackets that close nothing", strings.Repeat("]", 1<<17), "is not YAML"},
		{"aliases in aliases", chain, "nested deeper"},
		{"aliases of aliases", bomb, "aliases stand for more than"},
	} {
		_, err := topology.Load(strings.NewReader(c.doc), topology.LoadOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.claim, err, c.want)
		}
	}
}

func TestLoadFileNamesTheFile(t *testing.T) {
	t.Parallel()
	if _, err := topology.LoadFile("testdata/missing.yaml", topology.LoadOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file is %v", err)
	}
	path := filepath.Join(t.TempDir(), "topology.json")
	if err := os.WriteFile(path, []byte("{\n\"x\": 1}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := topology.LoadFile(path, topology.LoadOptions{})
	if err == nil || !strings.HasPrefix(err.Error(), path+`:2: unknown field "x"`) {
		t.Errorf("the error is %v", err)
	}
	if e := (&topology.LoadError{}); !errors.As(err, &e) || e.File != path || e.Line != 2 || e.Path != "" || !strings.HasPrefix(e.Problem, "unknown field") {
		t.Errorf("its parts are %+v", e)
	}
	_, err = topology.Load(strings.NewReader("queues:\n- max_length: x"), topology.LoadOptions{})
	if e := (&topology.LoadError{}); !errors.As(err, &e) || e.File != "" || e.Line != 2 || e.Path != "queues[0].max_length" {
		t.Errorf("the parts of %v are %+v", err, e)
	}
	if err := os.WriteFile(path, []byte("queues: []"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := topology.LoadFile(path, topology.LoadOptions{}); err == nil || !strings.HasPrefix(err.Error(), path+":1: is not JSON") {
		t.Errorf("YAML in a .json file: %v", err)
	}
	if _, err := topology.LoadFile(path, topology.LoadOptions{Format: topology.FormatYAML}); err != nil {
		t.Errorf("the format that was named is not the one that was read: %v", err)
	}
}
