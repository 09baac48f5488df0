package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// What the operator of a broker does with rabbitmqctl, for tests that do it often: the node
// calls what rabbitmqctl would have it call, see [Node.Eval].

// AddUser makes a user, who may do nothing yet.
func (n *Node) AddUser(ctx context.Context, name, password string) error {
	return n.operate(ctx, "add a user", "rabbit_auth_backend_internal:add_user", name, password, operator)
}

// DeleteUser deletes one. The broker closes the user's connections.
func (n *Node) DeleteUser(ctx context.Context, name string) error {
	return n.operate(ctx, "delete a user", "rabbit_auth_backend_internal:delete_user", name, operator)
}

// Permit sets what a user may configure, write and read on a vhost, by patterns; "" is
// nothing.
func (n *Node) Permit(ctx context.Context, vhost, user, configure, write, read string) error {
	return n.operate(ctx, "set permissions", "rabbit_auth_backend_internal:set_permissions", user, vhost, configure, write, read, operator)
}

// Forbid takes back what [Node.Permit] has set: the user may not even enter the vhost.
func (n *Node) Forbid(ctx context.Context, vhost, user string) error {
	return n.operate(ctx, "clear permissions", "rabbit_auth_backend_internal:clear_permissions", user, vhost, operator)
}

// AddVhost makes a vhost, in which guest may do everything.
func (n *Node) AddVhost(ctx context.Context, name string) error {
	if err := n.operate(ctx, "add a vhost", "rabbit_vhost:add", name, operator); err != nil {
		return err
	}
	return n.Permit(ctx, name, "guest", ".*", ".*", ".*")
}

// DeleteVhost deletes one, with all that is in it.
func (n *Node) DeleteVhost(ctx context.Context, name string) error {
	return n.operate(ctx, "delete a vhost", "rabbit_vhost:delete", name, operator)
}

// CloseConnections closes the connections of clients to this node and gives them the
// reason. That there are none is an error.
func (n *Node) CloseConnections(ctx context.Context, reason string) error {
	// Not rabbit_networking:connections: it asks the running nodes, and this one counts as
	// such a while after it takes connections. One that ends by itself meanwhile is ended.
	out, err := n.Eval(ctx, fmt.Sprintf("length([catch rabbit_reader:shutdown(C, %s) || C <- rabbit_networking:local_connections()]).", binary(reason)))
	if err == nil && out == "0" {
		err = errors.New("there are none")
	}
	if err != nil {
		return fmt.Errorf("close connections: %w", err)
	}
	return nil
}

// Block raises the alarm that blocks publishers, for want of memory. When it returns, every
// connection of the node has been told: one that publishes then is blocked.
func (n *Node) Block(ctx context.Context) error { return n.memory(ctx, "0.00000001", true) }

// Unblock ends it.
func (n *Node) Unblock(ctx context.Context) error { return n.memory(ctx, "0.6", false) }

func (n *Node) memory(ctx context.Context, mark string, alarm bool) error {
	if out, err := n.Eval(ctx, fmt.Sprintf(alarmQuery, mark, alarm)); err != nil {
		return fmt.Errorf("memory alarm: %w", err)
	} else if out != "ok" {
		return fmt.Errorf("memory alarm: it should be %v within ten seconds, the broker said %s", alarm, out)
	}
	return nil
}

// alarmQuery sets the mark and waits for what follows: an alarm is raised by a process of
// its own, and what is published before it has told the connections blocks none of them.
const alarmQuery = `vm_memory_monitor:set_vm_memory_high_watermark(%s),
(fun Wait(0) -> late;
     Wait(N) -> case lists:any(fun({{resource_limit, memory, At}, _}) -> At =:= node(); (_) -> false end, rabbit_alarm:get_alarms()) of
         %v -> ok;
         _ -> timer:sleep(10), Wait(N - 1)
     end
end)(1000).`

// operator is who did it, in the broker's log.
const operator = "mqkit"

func (n *Node) operate(ctx context.Context, what, function string, args ...string) error {
	for i, arg := range args {
		args[i] = binary(arg)
	}
	if out, err := n.Eval(ctx, fmt.Sprintf("%s(%s).", function, strings.Join(args, ", "))); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	} else if out != "ok" {
		return fmt.Errorf("%s: the broker said %s", what, out)
	}
	return nil
}

// binary is s as Erlang reads it, as numbers, which need no quoting.
func binary(s string) string {
	numbers := make([]string, 0, len(s))
	for _, b := range []byte(s) {
		numbers = append(numbers, strconv.Itoa(int(b)))
	}
	return "<<" + strings.Join(numbers, ",") + ">>"
}
