package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestTheURLIsOneThatWorks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ listening, name, password, vhost, want string }{
		{"127.0.0.1:5672", "guest", "guest", "/", "amqp://guest:guest@127.0.0.1:5672"},
		{"[::1]:5672", "guest", "guest", "/", "amqp://guest:guest@[::1]:5672"},
		{"0.0.0.0:5672", "guest", "guest", "/", "amqp://guest:guest@127.0.0.1:5672"},
		{"[::]:5672", "guest", "guest", "/", "amqp://guest:guest@127.0.0.1:5672"},
		{"192.0.2.1:1", "a b", "p:@/ä", "a/b c", "amqp://a%20b:p%3A%40%2F%C3%A4@192.0.2.1:1/a%2Fb%20c"},
	} {
		got, err := brokerURL(c.listening, c.name, c.password, c.vhost)
		if err != nil || got != c.want {
			t.Errorf("%+v: %s, %v", c, got, err)
			continue
		}
		u, err := amqp.ParseURI(got)
		if err != nil || u.Username != c.name || u.Password != c.password || u.Vhost != c.vhost {
			t.Errorf("a client reads %s as %+v, %v", got, u, err)
		}
	}
}

// dial connects; the connection ends with the test.
func dial(t *testing.T, url string) (*amqp.Connection, *amqp.Channel) {
	t.Helper()
	conn, err := amqp.DialConfig(url, amqp.Config{Dial: amqp.DefaultDial(patience)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return conn, ch
}

func TestClientsAreToldWhyItEnds(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals")
	}
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		b := start(t)
		conn, ch := dial(t, b.url)
		closed := conn.NotifyClose(make(chan *amqp.Error, 1))
		if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := ch.PublishWithDeferredConfirm("", "q", false, false, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		if _, err := ch.QueueDeclarePassive("q", true, false, false, false, nil); err != nil {
			t.Fatal(err) // a round trip: it has the message
		}
		b.stop(t, signal)
		select {
		case e := <-closed:
			if e == nil || e.Code != amqp.ConnectionForced || !e.Server {
				t.Errorf("a client is told %v, want 320", e)
			}
		case <-time.After(patience):
			t.Error("a client is told nothing")
		}
		if said := b.stderr.String(); !strings.Contains(said, "): gone with it: 1 message in 1 queue\n") {
			t.Errorf("said\n%s", said)
		}
	}
}

// A client that answers nothing must not keep it.
func TestItEndsThoughAClientIsSilent(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals")
	}
	t.Parallel()
	b := start(t)
	at, err := amqp.ParseURI(b.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(at.Host, portOf(t, b.url)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing depends on it
	if _, err := io.WriteString(conn, "AMQP\x00\x00\x09\x01"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // of connection.start
		t.Fatal(err)
	}
	b.stop(t, os.Interrupt)
}

func portOf(t *testing.T, url string) string {
	t.Helper()
	_, address, _ := strings.Cut(url, "@")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestUsersAndVirtualHostsAreThoseThatWereGiven(t *testing.T) {
	t.Parallel()
	b := start(t, "--user", "app:pass:word", "--vhost", "shop")
	conn, _ := dial(t, b.url)
	if conn.Config.Vhost != "shop" {
		t.Errorf("%s leads to vhost %q", b.url, conn.Config.Vhost)
	}
	if conn, _ := dial(t, strings.TrimSuffix(b.url, "/shop")); conn.Config.Vhost != "/" {
		t.Errorf("without a path the vhost is %q", conn.Config.Vhost)
	}
	for url, want := range map[string]int{
		strings.Replace(b.url, "app:pass%3Aword@", "guest:guest@", 1): amqp.AccessRefused,
		strings.Replace(b.url, "/shop", "/other", 1):                  amqp.NotAllowed,
	} {
		var e *amqp.Error
		if _, err := amqp.Dial(url); !errors.As(err, &e) || e.Code != want {
			t.Errorf("%s: %v, want %d", url, err, want)
		}
	}
}

func TestRulesAreThoseThatWereAskedFor(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]string{"4.3": "4.3.", "4.2": "4.2."} {
		conn, _ := dial(t, start(t, "--rules", rules).url)
		if got, _ := conn.Properties["version"].(string); !strings.HasPrefix(got, want) {
			t.Errorf("--rules %s says it is %s", rules, got)
		}
	}
}

func TestTopologyIsThereFromTheStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "topology.yaml")
	const text = `
exchanges: [{name: events, kind: topic}]
queues: [{name: orders}]
bindings: [{exchange: events, queue: orders, routing_key: "order.#"}]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, ch := dial(t, start(t, "--vhost", "shop", "--topology", file).url)
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	confirm, err := ch.PublishWithDeferredConfirm("events", "order.created", true, false, amqp.Publishing{Body: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	if acked, err := confirm.WaitContext(t.Context()); err != nil || !acked {
		t.Fatalf("not confirmed: %v", err)
	}
	if d, ok, err := ch.Get("orders", true); err != nil || !ok || string(d.Body) != "1" {
		t.Errorf("got %q, %v, %v", d.Body, ok, err)
	}
}

// What cannot be declared is not served without.
func TestATopologyThatCannotBeDeclaredHasItsCode(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "topology.yaml")
	if err := os.WriteFile(file, []byte("bindings: [{exchange: nosuch, queue: neither}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience) // for what serves all the same
	defer cancel()
	var stdout, stderr strings.Builder
	code := run(ctx, []string{"--listen", "127.0.0.1:0", "--topology", file}, nil, &stdout, &stderr)
	if code != 7 || stdout.Len() > 0 || !strings.HasPrefix(stderr.String(), "mqbroker: --topology: ") || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("exit %d, printed %q, said\n%s", code, &stdout, &stderr)
	}
}

// A script that cannot read the URL is not left waiting.
func TestAURLThatNobodyCanReadEndsIt(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	defer w.Close() //nolint:errcheck // nothing depends on it
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stderr strings.Builder
	if code := run(ctx, []string{"--listen", "127.0.0.1:0"}, nil, w, &stderr); code != 1 || !strings.HasPrefix(stderr.String(), "mqbroker: cannot print the URL: ") {
		t.Errorf("exit %d, said\n%s", code, &stderr)
	}
}
