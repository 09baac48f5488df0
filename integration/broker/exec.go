package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// ExecError is returned by [Node.Exec] and [Node.Ctl] when the program ran and
// ended with a code other than 0, and by [Node.Eval] when there is no value.
type ExecError struct {
	Args   []string
	Code   int
	Stdout string
	Stderr string
}

func (e *ExecError) Error() string {
	text := fmt.Sprintf("%s: exit code %d", strings.Join(e.Args, " "), e.Code)
	for _, out := range []string{e.Stderr, e.Stdout} {
		if out = strings.TrimSpace(out); out != "" {
			return text + ": " + out
		}
	}
	return text
}

// Ctl runs rabbitmqctl in the node's container and returns its standard output. It
// takes about a second, for the start of a second Erlang machine.
func (n *Node) Ctl(ctx context.Context, args ...string) (string, error) {
	return n.Exec(ctx, append([]string{"rabbitmqctl"}, args...)...)
}

// eval has erl_call, a small program that needs no second Erlang machine, ask the node. It
// reads expressions up to the end of a line with a full stop.
const eval = `command -v erl_call >/dev/null || exit 127
printf '%s\n' "$0" | erl_call -sname rabbit -c "${RABBITMQ_ERLANG_COOKIE:-$(cat /var/lib/rabbitmq/.erlang.cookie)}" -e`

// Eval has the node evaluate Erlang expressions, of which the last ends with a full stop,
// and returns what that is worth, as Erlang prints it. It is "rabbitmqctl eval" for a
// quarter of the work, and that where the image has no erl_call.
func (n *Node) Eval(ctx context.Context, expressions string) (string, error) {
	out, err := n.Exec(ctx, "sh", "-c", eval, expressions)
	var exit *ExecError
	if errors.As(err, &exit) && exit.Code == 127 {
		return n.Ctl(ctx, "eval", expressions)
	}
	if err != nil {
		return out, err
	}
	value, ok := strings.CutPrefix(out, "{ok, ")
	if !ok {
		return out, fmt.Errorf("evaluate in %s: %w", n.host, &ExecError{Args: []string{"erl_call", expressions}, Stdout: out})
	}
	return strings.TrimSuffix(value, "}"), nil
}

// Exec runs a program in the node's container, as root and without a shell, and
// returns its standard output. A code other than 0 is an [*ExecError]. When ctx
// ends first the wait ends; the program may go on.
func (n *Node) Exec(ctx context.Context, args ...string) (string, error) {
	if n.engine == nil {
		return "", fmt.Errorf("run %s: %w", strings.Join(args, " "), ErrNoControl)
	}
	stdout, err := n.exec(ctx, args)
	if err != nil {
		return stdout, fmt.Errorf("run in %s: %w", n.host, err)
	}
	return stdout, nil
}

func (n *Node) exec(ctx context.Context, args []string) (string, error) {
	api := n.engine.client
	defer api.Close() // idle connections only
	created, err := api.ExecCreate(ctx, n.id, client.ExecCreateOptions{Cmd: args, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", err
	}
	attached, err := api.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", err
	}
	// The hijacked connection does not know ctx.
	stop := context.AfterFunc(ctx, attached.Close)
	var stdout, stderr bytes.Buffer
	_, err = stdcopy.StdCopy(&stdout, &stderr, attached.Reader)
	if stop() {
		attached.Close()
	}
	if ctx.Err() != nil {
		return stdout.String(), context.Cause(ctx)
	}
	if err != nil {
		return stdout.String(), err
	}

	// The stream ends a moment before the engine has noted the exit code.
	var code int
	err = poll(ctx, 10*time.Millisecond, func() (bool, error) {
		inspected, err := api.ExecInspect(ctx, created.ID, client.ExecInspectOptions{})
		code = inspected.ExitCode
		return !inspected.Running, err
	})
	if err != nil {
		return stdout.String(), err
	}
	if code != 0 {
		return stdout.String(), &ExecError{Args: args, Code: code, Stdout: stdout.String(), Stderr: stderr.String()}
	}
	return stdout.String(), nil
}
