package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// What clients that are not ours do with mqbroker: python3-pika and amqp-tools, as
// Debian packages them.

// lacking skips a test that lacks a program, or fails it where nothing may be left
// out.
func lacking(t *testing.T, what, install string) {
	t.Helper()
	if os.Getenv("MQKIT_REQUIRE_BROKER") == "1" {
		t.Fatalf("needs %s: apt-get install %s", what, install)
	}
	t.Skipf("needs %s (Debian: %s)", what, install)
}

// python returns an interpreter that has pika.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("MQKIT_PYTHON"), "/usr/bin/python3", "python3"} {
		if name != "" && exec.CommandContext(t.Context(), name, "-c", "import pika").Run() == nil {
			return name
		}
	}
	lacking(t, "python3 with pika", "python3-pika")
	panic("unreachable")
}

// foreign runs another client's program to its end.
func foreign(t *testing.T, url, stdin, name string, args ...string) (stdout string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "AMQP_URL="+url, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\nprinted %s\nsaid %s", filepath.Base(name), args, err, out, &stderr)
	}
	return string(out)
}

// pikas is what each of pika's adapters has to see: a quorum queue gets three
// messages; the first is fetched and put back, the second is put back by its
// consumer, and counts how often it was delivered.
var pikas = map[string]any{
	"declared":  []any{"orders", 0.0, 0.0},
	"confirmed": []any{1.0, 2.0, 3.0, 4.0},
	"returned":  []any{312.0, "NO_ROUTE", "events", "nobody", "four"},
	"fetched": []any{
		"one", false, 2.0, "events", "order.1",
		map[string]any{
			"content_type": "text/plain", "delivery_mode": 2.0, "message_id": "m1", "timestamp": 1700000000.0,
			"headers": map[string]any{"long": float64(1 << 40), "yes": true, "none": nil, "list": []any{1.0, "two"}, "table": map[string]any{"deep": "er"}},
		},
	},
	"delivered": map[string]any{"one": []any{true}, "two": []any{false, true}, "three": []any{false}},
	"cancelled": true,
	"after":     []any{0.0, 0.0},
	"empty":     true,
	"lost":      true,
	"missing":   []any{404.0, "NOT_FOUND - no queue 'orders' in vhost '/'"},
}

func TestPikasAdaptersWork(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	for _, adapter := range []string{"blocking", "select", "asyncio"} {
		t.Run(adapter, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			script := "callbacks.py"
			if adapter == "blocking" {
				script = "blocking.py"
			}
			out := foreign(t, b.url, "", interpreter, filepath.Join("testdata", "pika", script), adapter)
			var got map[string]any
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			for name, want := range pikas {
				if !reflect.DeepEqual(got[name], want) {
					t.Errorf("%s\nis   %v\nwant %v", name, got[name], want)
				}
			}
		})
	}
}

func TestAmqpToolsWork(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"amqp-declare-queue", "amqp-publish", "amqp-get", "amqp-consume", "amqp-delete-queue"} {
		if _, err := exec.LookPath(name); err != nil {
			lacking(t, name, "amqp-tools")
		}
	}
	b := start(t)
	tool := func(name, stdin string, args ...string) string {
		t.Helper()
		return foreign(t, b.url, stdin, name, append([]string{"--url", b.url}, args...)...)
	}
	if got := tool("amqp-declare-queue", "", "--queue", "orders", "--durable"); got != "orders\n" {
		t.Errorf("amqp-declare-queue printed %q", got)
	}
	tool("amqp-publish", "", "--routing-key", "orders", "--persistent", "--content-type", "text/plain",
		"--content-encoding", "identity", "--reply-to", "reply", "--header", "source: amqp-publish", "--body", "first")
	const binary = "gr\xc3\xbc\xc3\x9fe\x00\xff\r\n"
	for _, body := range []string{binary, "three", "four", "left"} {
		tool("amqp-publish", body, "--routing-key", "orders")
	}

	_, ch := dial(t, b.url)
	d, ok, err := ch.Get("orders", false)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if string(d.Body) != "first" || d.DeliveryMode != amqp.Persistent || d.ContentType != "text/plain" || d.ContentEncoding != "identity" ||
		d.ReplyTo != "reply" || !reflect.DeepEqual(d.Headers, amqp.Table{"source": "amqp-publish"}) {
		t.Errorf("amqp-publish sent %+v", d)
	}
	if err := d.Nack(false, true); err != nil {
		t.Fatal(err)
	}
	if err := ch.Close(); err != nil { // the nack has been seen
		t.Fatal(err)
	}

	if got := tool("amqp-get", "", "--queue", "orders"); got != "first" {
		t.Errorf("amqp-get printed %q", got)
	}
	if got := tool("amqp-consume", "", "--queue", "orders", "--count", "3", "--prefetch-count", "1", "cat"); got != binary+"threefour" {
		t.Errorf("amqp-consume printed %q", got)
	}
	if got := tool("amqp-delete-queue", "", "--queue", "orders"); got != "1\n" {
		t.Errorf("amqp-delete-queue printed %q, want how many it had", got)
	}
	if out, err := exec.CommandContext(t.Context(), "amqp-get", "--url", b.url, "--queue", "orders").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("NOT_FOUND")) {
		t.Errorf("amqp-get of a queue that is gone: %v, said %s", err, out)
	}
}
