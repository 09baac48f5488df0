package cli_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestExitCodeTakesTheFirstInTheDocumentedOrder(t *testing.T) {
	t.Parallel()
	order := []int{
		cli.ExitUsage, cli.ExitUnreachable, cli.ExitTopology, cli.ExitLost, cli.ExitFailure,
		130, cli.ExitShort, cli.ExitPartial, cli.ExitOK,
	}
	for i, first := range order {
		for _, later := range order[i:] {
			if got := cli.ExitCode(first, later); got != first {
				t.Errorf("ExitCode(%d, %d) is %d, want %d", first, later, got, first)
			}
			if got := cli.ExitCode(later, first); got != first {
				t.Errorf("ExitCode(%d, %d) is %d, want %d", later, first, got, first)
			}
		}
	}
	if got := cli.ExitCode(); got != cli.ExitOK {
		t.Errorf("ExitCode() is %d", got)
	}
	if got := cli.ExitCode(cli.ExitPartial, 143, cli.ExitShort); got != 143 {
		t.Errorf("SIGTERM's code is overruled by %d", got)
	}
}

func TestAnInterruptionWhileConnectingSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&cli.Interrupted{Signal: syscall.SIGTERM})
	_, err := cli.Connect(ctx, reconnect.Config{URLs: []string{"amqp://127.0.0.1:1/"}}, time.Second)
	if code, line := cli.CodeOf(err), cli.FailLine(err); code != 143 || line != "interrupted (SIGTERM) before there was a connection" {
		t.Errorf("it ends with %d and says %s", code, line)
	}
}

// reply is the broker's word, as the library passes it on.
func reply(code int, text string) error {
	return &reconnect.BrokerError{Code: code, Text: text}
}

func dialled(errs ...error) *reconnect.DialError {
	e := &reconnect.DialError{}
	for i, err := range errs {
		e.Attempts = append(e.Attempts, reconnect.Attempt{Address: fmt.Sprintf("node-%d:5672", i+1), Err: err})
	}
	return e
}

// Whoever tries a tool for the first time has no broker yet.
func TestWhoNamedNoBrokerIsToldHowToGetOne(t *testing.T) {
	cfg, _, err := parsed(t, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	const hint = "; start a broker (mqbroker is one for first steps), or name one with -u or AMQP_URL"
	for _, urls := range [][]string{cfg.URLs, {"amqp://localhost:5673/"}} {
		cfg.URLs = urls
		_, err := cli.Connect(t.Context(), cfg, 200*time.Millisecond)
		line := cli.FailLine(err)
		if cli.CodeOf(err) != cli.ExitUnreachable || !strings.Contains(line, ": connection refused") {
			t.Errorf("%q: %s", urls, line)
		}
		if strings.HasSuffix(line, hint) != (urls[0] == "amqp://guest:guest@localhost:5672/") {
			t.Errorf("%q: %s", urls, line)
		}
	}
}

func TestErrorsBecomeOneLineAndACode(t *testing.T) {
	t.Parallel()
	login := reply(403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.")
	differs := &topology.DeclareError{
		Op: "declare", Entity: topology.EntityQueue, Name: "q", Cause: topology.CauseInequivalent, Code: 406,
		Argument: "x-queue-type", Have: "classic", Want: "quorum",
		Err: &amqp.Error{Code: 406, Server: true, Reason: "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' ..."},
	}
	for _, c := range []struct {
		name string
		err  error
		code int
		line string
	}{
		{"none", nil, 0, "no reason given"},
		{"usage", cli.Usagef("-n must be at least 1"), 2, "-n must be at least 1"},
		{"url", fmt.Errorf("%w: %w", reconnect.ErrConfig, errors.Join(errors.New("url 1: bad"), errors.New("url 2: worse"))), 2, "url 1: bad; url 2: worse"},
		{"login", dialled(login), 4, "cannot connect: node-1:5672: the broker refuses the login: wrong user or password, or a user that may log in from the broker's machine only (403)"},
		{"vhost", dialled(reply(530, "NOT_ALLOWED - vhost nosuch not found")), 4, "cannot connect: node-1:5672: the broker has no vhost nosuch: check --vhost or the end of the url (530)"},
		{"each address", dialled(errors.New("connect: connection refused"), errors.New("no connection within 4s")), 4, "cannot connect: node-1:5672: connection refused; node-2:5672: no connection within 4s"},
		{"timeout", &cli.UnreachableError{Timeout: 60e9, Cause: dialled(errors.New("connect: connection refused"))}, 4, "cannot connect within 1m: node-1:5672: connection refused"},
		{"timeout before any answer", &cli.UnreachableError{Timeout: 1e9, Cause: context.DeadlineExceeded}, 4, "cannot connect: no answer within 1s"},
		{"declare", dialled(fmt.Errorf("declare topology: %w", differs)), 7, `cannot declare queue "q": it exists and differs (its x-queue-type is classic, asked for was quorum): leave --declare out to use it as it is, take another name, or delete it first (406)`},
		{"consume", fmt.Errorf("consume: %w", reply(404, "NOT_FOUND - no queue 'q' in vhost '/'")), 7, "there is no queue 'q' in vhost '/': declare it with --declare, or check the name (404)"},
		{"permission", reply(403, "ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user 'u'"), 7, "read access to queue 'q' in vhost '/' refused for user 'u': grant it with rabbitmqctl set_permissions (403)"},
		{"lost", &cli.LostError{Retry: cli.Retry{For: 30e9}, Cause: dialled(errors.New("connect: connection refused"))}, 5, "node-1:5672: connection refused"},
		{"shutdown", reply(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"), 1, "the broker says: broker forced connection closure with reason 'shutdown' (320)"},
		{"SIGINT", &cli.Interrupted{Signal: syscall.SIGINT}, 130, "interrupted (SIGINT)"},
		{"SIGTERM", &cli.Interrupted{Signal: syscall.SIGTERM, Twice: true}, 143, "interrupted twice (SIGTERM)"},
		{"the driver", fmt.Errorf("publish: %w", &amqp.Error{Code: 504, Reason: "channel/connection is not open"}), 1, "publish: channel/connection is not open"},
		{"the driver, about itself", &amqp.Error{Code: 501, Reason: (&amqp.Error{Code: 502, Reason: "invalid field or value \"x\" inside of a frame"}).Error()}, 1, `invalid field or value "x" inside of a frame`},
		{"the broker, about an exception", reply(501, "FRAME_ERROR - "+(&amqp.Error{Code: 502, Reason: "bad"}).Error()), 1, "the broker says: bad (501)"},
		{"the driver, cut off", errors.New(`Exception (501) Reason: "half`), 1, `Exception (501) Reason: "half`},
		{"anything", errors.New("first\nsecond"), 1, "first; second"},
	} {
		if got := cli.CodeOf(c.err); got != c.code {
			t.Errorf("%s: code %d, want %d", c.name, got, c.code)
		}
		if got := cli.FailLine(c.err); got != c.line {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.line)
		}
	}
	lost := &cli.LostError{Retry: cli.Retry{For: 90e9}, Cause: dialled(errors.New("connect: connection refused"))}
	if want := "the connection was lost for longer than 1m30s (--retry): node-1:5672: connection refused"; lost.Error() != want {
		t.Errorf("got %s\nwant %s", lost, want)
	}
}
