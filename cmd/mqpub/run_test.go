package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqkit/mqkit/internal/amqppeer"
	"github.com/mqkit/mqkit/internal/record"
)

const patience = 20 * time.Second

func TestEachVerdictHasItsCodeAndWhatIsNotConfirmedIsKept(t *testing.T) {
	t.Parallel()
	ack := func(m *amqppeer.Method) { m.Conn.Send(m.Ack(m.Number, false)) }
	gone := func(m *amqppeer.Method) { m.CloseChannel(404, "NOT_FOUND - no exchange 'e' in vhost '/'") }
	for _, c := range []struct {
		name   string
		args   []string
		broker func(*amqppeer.Method) // for the message "b"; the others are acked
		code   int
		kept   string
		says   []string
	}{
		{"all confirmed", nil, ack, 0, "", []string{"mqpub: 3 confirmed, 0 failed in "}},
		{
			"returned", nil, func(m *amqppeer.Method) { m.Conn.Send(m.Return(), m.Ack(m.Number, false)) }, 3, "b",
			[]string{"mqpub: line 2: returned: ", "mqpub: 2 confirmed, 1 failed (1 returned), 1 kept in "},
		},
		{
			"nacked", nil, func(m *amqppeer.Method) { m.Conn.Send(m.Nack(m.Number)) }, 3, "b",
			[]string{"mqpub: line 2: nacked: a queue did not take it\n", "mqpub: 2 confirmed, 1 failed (1 nacked), 1 kept in "},
		},
		{
			"refused", nil, gone, 3, "b",
			[]string{"mqpub: line 2: refused: there is no exchange 'e' in vhost '/': create it first, or check the name (404)", "mqpub: 2 confirmed, 1 failed (1 refused), "},
		},
		{
			"no answer",
			[]string{"--confirm-timeout", "100ms"},
			func(*amqppeer.Method) {}, 5, "b",
			[]string{"mqpub: line 2: unknown: no confirmation for 100ms (--confirm-timeout)\n", "mqpub: no confirmation for 100ms (--confirm-timeout)\n", "mqpub: 2 confirmed, 1 failed (1 unknown), ", "1 kept in "},
		},
		{
			"connection lost for too long",
			[]string{"--retry", "0"},
			func(m *amqppeer.Method) { m.Conn.Cut() }, 5, "",
			[]string{"mqpub: the connection was lost: "},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			peer, err := amqppeer.Listen("4.3.0")
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			peer.OnPublish(func(m *amqppeer.Method) {
				if m.Body == "b" {
					c.broker(m)
				} else {
					ack(m)
				}
			})
			failed := filepath.Join(t.TempDir(), "failed")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var stdout, stderr strings.Builder
			args := append([]string{"-u", peer.URL(), "-e", "e", "-r", "k", "--failed", failed}, c.args...)
			code := run(ctx, args, strings.NewReader("a\nb\nc\n"), &stdout, &stderr)
			if code != c.code || stdout.Len() > 0 {
				t.Errorf("exit %d, want %d; wrote %q", code, c.code, &stdout)
			}
			for _, line := range c.says {
				if !strings.Contains(stderr.String(), line) {
					t.Errorf("said\n%swant %s", &stderr, line)
				}
			}
			if kept := keptIn(t, failed); c.kept != "" && kept != c.kept {
				t.Errorf("kept %q, want %q", kept, c.kept)
			}
		})
	}
}

// Where the exchange has never been, no earlier sending is in a queue.
func TestAnExchangeThatIsNotThereIsAllThatIsSaid(t *testing.T) {
	t.Parallel()
	peer, err := amqppeer.Listen("4.3.0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	peer.OnPublish(func(m *amqppeer.Method) { m.CloseChannel(404, "NOT_FOUND - no exchange 'e' in vhost '/'") })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stderr strings.Builder
	code := run(ctx, []string{"-u", peer.URL(), "-e", "e", "a", "b"}, nil, nil, &stderr)
	if code != 3 || strings.Count(stderr.String(), "refused: there is no exchange 'e' in vhost '/': create it first, or check the name (404)\n") != 2 {
		t.Errorf("exit %d, said\n%s", code, &stderr)
	}
}

// keptIn is the bodies of the records in a file.
func keptIn(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for line := range strings.Lines(string(b)) {
		r, err := record.Parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(r.Body))
	}
	return strings.Join(bodies, " ")
}
