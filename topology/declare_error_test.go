package topology_test

import (
	"errors"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/topology"
)

// The broker's texts are those of RabbitMQ 4.3.6, 4.0.5 and 3.10.8, word by word.
func TestDeclareErrorSaysWhatIsInTheWayAndTheWayOut(t *testing.T) {
	t.Parallel()
	const out = ": set Passive to use it as it is, take another name, or delete it first (its messages are lost) (406)"
	queue, exchange, binding := topology.EntityQueue, topology.EntityExchange, topology.EntityBinding
	longName := "topo-" + strings.Repeat("x", 230)
	for _, c := range []struct {
		op                   string
		entity               topology.Entity
		name                 string
		passive              bool
		code                 int
		reason               string
		cause                topology.Cause
		argument, have, want string
		text                 string
	}{
		{
			"declare", queue, "q", false, 406, "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '2000' but current is '1000'",
			topology.CauseInequivalent, "x-message-ttl", "1000", "2000", `declare queue "q": it exists with x-message-ttl "1000", and "2000" was asked for` + out,
		},
		{
			"declare", queue, "q", false, 406, "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '1000' of type 'long' but current is none",
			topology.CauseInequivalent, "x-message-ttl", "none", "1000", `declare queue "q": it exists without x-message-ttl, and "1000" was asked for` + out,
		},
		{
			"declare", queue, "q", false, 406, "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value '1000' of type 'long'",
			topology.CauseInequivalent, "x-message-ttl", "1000", "none", `declare queue "q": it exists with x-message-ttl "1000", and was asked for without` + out,
		},
		{
			"declare", queue, "q", false, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
			topology.CauseInequivalent, "durable", "false", "true", `declare queue "q": it exists as a transient queue, as pika and other clients declare one by default, and was asked for as a durable one (durable is false, not true)` + out,
		},
		{
			"declare", queue, "q", false, 406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'",
			topology.CauseInequivalent, "x-queue-type", "classic", "quorum", `declare queue "q": it exists with x-queue-type "classic", and "quorum" was asked for` + out,
		},
		{
			"declare", queue, "it's 'x' in vhost 'y': received", false, 406, "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'it's 'x' in vhost 'y': received' in vhost '/': received the value 'it's but current is' of type 'longstr' but current is none",
			topology.CauseInequivalent, "x-dead-letter-exchange", "none", "it's but current is", "",
		},
		{
			"declare", queue, longName, false, 406, ("PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '" + longName)[:252] + "...",
			topology.CauseInequivalent, "x-message-ttl", "", "", `declare queue "` + longName + `": it exists with another x-message-ttl` + out,
		},
		{
			"declare", queue, "q", false, 406, "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received none but current is the value 'at-most...",
			topology.CauseInequivalent, "x-dead-letter-exchange", "at-most...", "none", "",
		},
		{
			"declare", queue, "q", false, 406, "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received none but current is the value 'at-most' of t...",
			topology.CauseInequivalent, "x-dead-letter-exchange", "at-most", "none", "",
		},
		{
			"declare", queue, "q", false, 406, "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received none but cur...",
			topology.CauseInequivalent, "x-dead-letter-exchange", "", "", "",
		},
		{
			"declare", exchange, "x", false, 406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': received 'topic' but current is 'direct'",
			topology.CauseInequivalent, "type", "direct", "topic", `declare exchange "x": it exists with type "direct", and "topic" was asked for: set Passive to use it as it is, take another name, or delete it first (its bindings are lost) (406)`,
		},
		{
			"declare", queue, "q", false, 406, "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue",
			topology.CauseInvalid, "", "", "", `declare queue "q": the broker refuses it: invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue (406)`,
		},
		{
			"declare", exchange, "x", false, 503, "COMMAND_INVALID - unknown exchange type 'x-consistent-hash'",
			topology.CauseInvalid, "", "", "", `declare exchange "x": the broker refuses it: unknown exchange type 'x-consistent-hash' (503)`,
		},
		{
			"declare", queue, "q", true, 404, "NOT_FOUND - no queue 'q' in vhost '/'",
			topology.CauseNotFound, "", "", "", `declare queue "q": it does not exist, and Passive only uses what is there: declare it without Passive, or create it first (404)`,
		},
		{
			"bind", binding, topology.Binding{Exchange: "x", Queue: "q"}.String(), false, 404, "NOT_FOUND - no exchange 'x' in vhost '/'",
			topology.CauseNotFound, "", "", "", `bind "x" to queue "q" with key "": no exchange 'x' in vhost '/': add it to the topology, or create it first (404)`,
		},
		{
			"declare", queue, "q", false, 403, "ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'lim'",
			topology.CauseAccess, "", "", "", `declare queue "q": configure access to queue 'q' in vhost '/' refused for user 'lim': grant it with rabbitmqctl set_permissions (403)`,
		},
		{
			"declare", queue, "q", false, 403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'lim'", // before 4.0
			topology.CauseAccess, "", "", "", `declare queue "q": access to queue 'q' in vhost '/' refused for user 'lim': grant it with rabbitmqctl set_permissions (403)`,
		},
		{
			"declare", queue, "amq.q", false, 403, "ACCESS_REFUSED - queue name 'amq.q' contains reserved prefix 'amq.*'",
			topology.CauseAccess, "", "", "", `declare queue "amq.q": the broker refuses it: queue name 'amq.q' contains reserved prefix 'amq.*' (403)`,
		},
		{
			"declare", queue, "q", false, 405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
			topology.CauseLocked, "", "", "", `declare queue "q": another connection owns it exclusively, or it was declared with the other value of Exclusive: it goes when that connection does, so try again, or let the broker choose a name (405)`,
		},
		{
			"declare", queue, "", false, 541, "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.\nIts use is not permitted per the configuration (overriding the default, which is permitted):\n...",
			topology.CauseDeprecated, "", "", "", `declare server-named queue: this broker denies transient queues that are not exclusive: declare it without Transient, or set Exclusive (541)`,
		},
		{
			"declare", queue, "q", false, 541, "INTERNAL_ERROR - Feature `queue_master_locator` is deprecated.\nBy default, this feature is not permitted anymore.",
			topology.CauseDeprecated, "", "", "", "declare queue \"q\": this broker denies a deprecated feature, leave it out: Feature `queue_master_locator` is deprecated. By default, this feature is not permitted anymore. (541)",
		},
		{
			"declare", queue, "q", false, 541, "INTERNAL_ERROR - Could not declare quorum queue 'q' in vhost '/' on node 'rabbit@a' because the metadata store operation timed out",
			topology.CauseUnavailable, "", "", "", `declare queue "q": the broker's metadata store does not answer, as when a cluster has lost its majority: try again (541: Could not declare quorum queue 'q' in vhost '/' on node 'rabbit@a' because the metadata store operation timed out)`,
		},
		{
			"declare", queue, "q", true, 404, "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor",
			topology.CauseUnavailable, "", "", "", `declare queue "q": it is there, and cannot be used at the moment: try again (404: queue 'q' in vhost '/' process is stopped by supervisor)`,
		},
		{"bind", binding, "b", false, 541, "INTERNAL_ERROR - Could not add binding due to timeout", topology.CauseUnavailable, "", "", "", ""},
		{"declare", queue, "q", false, 541, "INTERNAL_ERROR", topology.CauseOther, "", "", "", `declare queue "q": INTERNAL_ERROR (541)`},
		{
			"delete", queue, "q", false, 406, "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
			topology.CauseKept, "", "", "", `delete queue "q": kept: queue 'q' in vhost '/' not empty: a message has come meanwhile, stop its publishers or set DiscardMessages (406)`,
		},
		{
			"delete", queue, "q", false, 406, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
			topology.CauseKept, "", "", "", `delete queue "q": kept: queue 'q' in vhost '/' in use: a consumer has come meanwhile, stop it or set DiscardMessages and InUse (406)`,
		},
		{
			"delete", queue, "q", false, 406, "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received none but current is the value '5' of type 'long'",
			topology.CauseInequivalent, "x-max-length", "5", "none", `delete queue "q": it exists with x-max-length "5", and was asked for without: define it as it is, or set DiscardMessages and InUse to delete it whatever it is (406)`,
		},
		{
			"delete", exchange, "x", false, 406, "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use",
			topology.CauseKept, "", "", "", `delete exchange "x": kept: exchange 'x' in vhost '/' in use: something is bound to it that is not in the topology, set InUse (406)`,
		},
	} {
		reply := &amqp.Error{Code: c.code, Reason: c.reason, Server: true}
		var e *topology.DeclareError
		if err := topology.Explain(reply, c.op, c.entity, c.name, c.passive); !errors.As(err, &e) {
			t.Fatalf("%q is explained as a %T", c.reason, err)
		}
		if e.Cause != c.cause || e.Code != c.code || e.Argument != c.argument || e.Have != c.have || e.Want != c.want {
			t.Errorf("%q\nis explained as %v %d, %q: have %q, want %q", c.reason, e.Cause, e.Code, e.Argument, e.Have, e.Want)
		}
		if c.text != "" && e.Error() != c.text {
			t.Errorf("%q\nis told as\n%s, want\n%s", c.reason, e, c.text)
		}
		if strings.ContainsAny(e.Error(), "\r\n") {
			t.Errorf("more than one line: %q", e.Error())
		}
		var got *amqp.Error
		if !errors.As(e, &got) || got != reply {
			t.Errorf("%q lost the driver's error", c.reason)
		}
		if is := errors.Is(e, topology.ErrKept); is != (c.cause == topology.CauseKept) {
			t.Errorf("%q: errors.Is(ErrKept) is %v", c.reason, is)
		}
	}
}

func TestDeclareErrorSortsOnlyWhatTheBrokerSaid(t *testing.T) {
	t.Parallel()
	for _, err := range []error{amqp.ErrClosed, &amqp.Error{Code: 404, Reason: "no queue"}, errors.New("write: broken pipe")} {
		var e *topology.DeclareError
		if !errors.As(topology.Explain(err, "declare", topology.EntityQueue, "q", false), &e) || e.Cause != topology.CauseOther || e.Code != 0 || !errors.Is(e, err) {
			t.Errorf("%v is explained as %+v", err, e)
		}
	}
	if err := topology.Explain(nil, "declare", topology.EntityQueue, "q", false); err != nil {
		t.Errorf("no error is explained as %v", err)
	}
}

func TestCausesHaveNames(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for c := topology.CauseOther; c <= topology.CauseKept; c++ {
		if s := c.String(); s == "" || seen[s] {
			t.Errorf("cause %d is called %q", c, s)
		} else {
			seen[s] = true
		}
	}
}

func FuzzDeclareErrorReadsAnyText(f *testing.F) {
	f.Add("q", "PRECONDITION_FAILED - inequivalent arg 'x' for queue 'q' in vhost '/': received 'a' but current is 'b'")
	f.Add("q", "PRECONDITION_FAILED - inequivalent arg 'x' for queue 'q' in vhost '/': received the value ' of type 'x' but current is '")
	f.Fuzz(func(t *testing.T, name, reason string) {
		for _, code := range []int{403, 404, 405, 406, 503, 541, 0} {
			reply := &amqp.Error{Code: code, Reason: reason, Server: true}
			for _, op := range []string{"declare", "delete"} {
				err := topology.Explain(reply, op, topology.EntityQueue, name, false)
				if text := err.Error(); strings.ContainsAny(text, "\r\n") {
					t.Errorf("more than one line: %q", text)
				}
			}
		}
	})
}
