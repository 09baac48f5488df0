package topology_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mqkit/mqkit/topology"
)

// The exports were written by RabbitMQ 4.3.6, 4.0.5 and 3.10.8, and by the
// management API of 4.3.6 for one virtual host.
func TestLoadFileReadsWhatABrokerExports(t *testing.T) {
	t.Parallel()
	for export, vhost := range map[string]string{"export-43": "/", "export-40": "", "export-310": "", "export-vhost": ""} {
		got, err := topology.LoadFile(filepath.Join("testdata", export+".json"), topology.LoadOptions{VHost: vhost})
		if err != nil {
			t.Fatal(err)
		}
		loadGolden(t, export+".yaml", topology.LoadOptions{}, got)
		if err := got.Validate(); err != nil {
			t.Errorf("%s has faults: %v", export, err)
		}
	}
}

func TestLoadTakesOneVirtualHostFromAnExport(t *testing.T) {
	t.Parallel()
	load := func(export, vhost string) (topology.Topology, error) {
		return topology.LoadFile(filepath.Join("testdata", export+".json"), topology.LoadOptions{VHost: vhost})
	}
	if _, err := load("export-43", ""); err == nil || !strings.HasSuffix(err.Error(), `has several virtual hosts, name one of them in LoadOptions.VHost: "/", "lv"`) {
		t.Errorf("none was named of several: %v", err)
	}
	if _, err := load("export-43", "other"); err == nil || !strings.HasSuffix(err.Error(), `has no virtual host "other", only "/", "lv"`) {
		t.Errorf("one that is not there was named: %v", err)
	}
	if _, err := load("export-vhost", "other"); err == nil || !strings.HasSuffix(err.Error(), `has no virtual host "other", only "topo-vh"`) {
		t.Errorf("an export of one virtual host was taken for another: %v", err)
	}
	lv, err := load("export-43", "lv")
	if want := (topology.Topology{Queues: []topology.Queue{{Name: "topo-1", Type: topology.Quorum}}}); err != nil || !reflect.DeepEqual(lv, want) {
		t.Errorf("lv is %+v, %v", lv, err)
	}
	named, err := load("export-vhost", "topo-vh")
	if err != nil {
		t.Fatal(err)
	}
	if unnamed, _ := load("export-vhost", ""); !reflect.DeepEqual(named, unnamed) {
		t.Error("naming the only virtual host changes what is read")
	}
}

func TestLoadKnowsAVirtualHostWithNothingInIt(t *testing.T) {
	t.Parallel()
	const export = `{"rabbitmq_version": "4.3.6", "vhosts": [{"name": "empty"}, {"name": "full"}], "queues": [{"name": "q", "vhost": "full", "durable": true}]}`
	if _, err := topology.Load(strings.NewReader(export), topology.LoadOptions{}); err == nil || !strings.HasSuffix(err.Error(), `"empty", "full"`) {
		t.Errorf("none was named of two: %v", err)
	}
	if top, err := topology.Load(strings.NewReader(export), topology.LoadOptions{VHost: "empty"}); err != nil || !reflect.DeepEqual(top, topology.Topology{}) {
		t.Errorf("the empty one is %+v, %v", top, err)
	}
}

func TestLoadOfAnExportSendsTheSameArgumentsAgain(t *testing.T) {
	t.Parallel()
	top, err := topology.Load(strings.NewReader(`{"rabbitmq_version": "4.3.6", "queues": [
		{"name": "a", "durable": true, "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 0, "x-message-ttl": 0, "x-max-length": 0, "x-single-active-consumer": false}},
		{"name": "b", "durable": true, "arguments": {"x-queue-type": "quorum", "x-delayed-retry-min": 1000, "x-dead-letter-exchange": "", "x-overflow": ""}},
		{"name": "c", "durable": true, "arguments": {"x-queue-type": "stream", "x-max-age": "1Y"}},
		{"name": "d", "durable": false, "auto_delete": true, "arguments": []},
		{"name": "e", "durable": true, "type": "quorum", "arguments": {}}
	]}`), topology.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"x-queue-type": "quorum", "x-delivery-limit": int64(0), "x-message-ttl": int64(0), "x-max-length": int64(0), "x-single-active-consumer": false},
		{"x-queue-type": "quorum", "x-delayed-retry-min": int64(1000), "x-dead-letter-exchange": "", "x-overflow": ""},
		{"x-queue-type": "stream", "x-max-age": "1Y"},
		{"x-queue-type": "classic"},
		{"x-queue-type": "quorum"},
	}
	for i, q := range top.Queues {
		if got := map[string]any(q.DeclareArguments()); !reflect.DeepEqual(got, want[i]) {
			t.Errorf("%s is sent with %v, want %v", q.Name, got, want[i])
		}
	}
	if d := top.Queues[3]; !d.Transient || !d.AutoDelete || d.Arguments != nil {
		t.Errorf("d is %+v", d)
	}
}

func TestLoadNamesTheLineInABrokenExport(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		"{\"rabbitmq_version\": \"4.3.6\",\n\"queues\": [{\"durable\": true}]}":                                          `line 2: queues[0]: "name" is missing`,
		"{\"rabbitmq_version\": \"4.3.6\",\n\"queues\": [{\"name\": \"q\", \"durable\": 1}]}":                            "line 2: queues[0].durable: has to be true or false and is 1",
		"{\"rabbitmq_version\": \"4.3.6\",\n\"queues\": {}}":                                                             "line 2: queues: has to be a list and is a mapping",
		"{\"rabbitmq_version\": \"4.3.6\",\n\"bindings\": [{\"source\": \"x\", \"destination\": \"q\", \"vhost\":\n1}]}": "line 3: bindings[0].vhost: has to be a string and is 1: quote it",
	} {
		if _, err := topology.Load(strings.NewReader(doc), topology.LoadOptions{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", doc, err, want)
		}
	}
}

// What the broker has named belongs to it, as its own exchanges do: nobody may declare
// it, and its bindings would miss it.
func TestLoadLeavesOutTheQueuesThatABrokerHasNamed(t *testing.T) {
	t.Parallel()
	top, err := topology.Load(strings.NewReader(`{"rabbitmq_version": "4.3.6",
		"exchanges": [{"name": "x", "type": "topic", "durable": true}],
		"queues": [{"name": "amq.gen-JzTY20BRgKO-HjmUJj0wLg", "durable": true}, {"name": "q", "durable": true}],
		"bindings": [
			{"source": "x", "destination": "amq.gen-JzTY20BRgKO-HjmUJj0wLg", "destination_type": "queue", "routing_key": "a"},
			{"source": "x", "destination": "q", "destination_type": "queue", "routing_key": "b"},
			{"source": "x", "destination": "amq.topic", "destination_type": "exchange", "routing_key": "c"}
		]}`), topology.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x", Kind: topology.KindTopic}},
		Queues:    []topology.Queue{{Name: "q", Type: topology.Classic}},
		Bindings:  []topology.Binding{{Exchange: "x", Queue: "q", RoutingKey: "b"}, {Exchange: "x", ToExchange: "amq.topic", RoutingKey: "c"}},
	}
	if !reflect.DeepEqual(top, want) {
		t.Errorf("got %+v\nwant %+v", top, want)
	}
	if err := top.Validate(); err != nil {
		t.Error(err)
	}
}

func TestLoadMindsOnlyTheNumbersOfAnExportThatItReads(t *testing.T) {
	t.Parallel()
	const export = `{"rabbitmq_version": "4.3.6", "global_parameters": [{"name": "n", "value": 18446744073709551615}], "policies": [1e999],
		"queues": [{"name": "q", "durable": true, "arguments": {"x-max-length": %s}}]}`
	if top, err := topology.Load(strings.NewReader(fmt.Sprintf(export, "5")), topology.LoadOptions{}); err != nil || len(top.Queues) != 1 {
		t.Errorf("%+v, %v", top, err)
	}
	for n, want := range map[string]string{
		"9223372036854775808": "line 2: 9223372036854775808 is too large for an integer",
		"[{\"a\":1e999}]":     "line 2: 1e999 is too large for a number",
	} {
		if _, err := topology.Load(strings.NewReader(fmt.Sprintf(export, n)), topology.LoadOptions{}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", n, err, want)
		}
	}
}
