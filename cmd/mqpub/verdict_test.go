package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

func failure(v producer.Verdict, err error) error {
	return &producer.PublishError{MessageID: "id", Verdict: v, Err: err}
}

func TestEachVerdictIsNamedWithItsReason(t *testing.T) {
	t.Parallel()
	lost := &cli.LostError{Retry: cli.Retry{For: 30e9}, Cause: errors.New("closed by the other side: EOF")}
	lostText := "the connection was lost for longer than 30s (--retry): closed by the other side"
	for _, c := range []struct {
		name  string
		err   error
		ended error
		want  string
	}{
		{"no queue", failure(producer.Returned, &producer.ReturnedError{Code: 312, Text: "NO_ROUTE", RoutingKey: "q"}), nil, `returned: there is no queue "q"`},
		{"no binding", failure(producer.Returned, &producer.ReturnedError{Code: 312, Text: "NO_ROUTE", Exchange: "e", RoutingKey: "k"}), nil, `returned: exchange "e" has no queue bound for routing key "k"`},
		{"nacked", failure(producer.Nacked, producer.ErrNacked), nil, "nacked: a queue did not take it"},
		{"refused here", failure(producer.Refused, &producer.RefusedError{Field: "RoutingKey", Reason: "has 300 bytes, AMQP allows 255"}), nil, "refused: RoutingKey has 300 bytes, AMQP allows 255"},
		{"refused by the driver", failure(producer.Refused, &producer.RefusedError{Field: "Headers", Reason: (&amqp.Error{Code: 502, Reason: "invalid field"}).Error()}), nil, "refused: Headers invalid field"},
		{"refused there", failure(producer.Refused, &producer.RefusedError{Reason: "...", Err: &reconnect.BrokerError{Code: 404, Text: "NOT_FOUND - no exchange 'e' in vhost '/'"}}), nil, "refused: there is no exchange 'e' in vhost '/': create it first, or check the name (404)"},
		{"unknown, lost", failure(producer.Unknown, fmt.Errorf("%w: %w", producer.ErrUnconfirmed, lost)), lost, "unknown: " + lostText},
		{"not sent, lost", failure(producer.NotSent, fmt.Errorf("%w: %w", producer.ErrNotSent, producer.ErrClosed)), lost, "not sent: " + lostText},
		{"not sent, interrupted", failure(producer.NotSent, fmt.Errorf("%w: %w", producer.ErrNotSent, context.Canceled)), &cli.Interrupted{Signal: syscall.SIGINT}, "not sent: interrupted (SIGINT)"},
		{"unknown, slow", failure(producer.Unknown, &confirmTimeoutError{limit: 60e9}), nil, "unknown: no confirmation for 1m (--confirm-timeout)"},
		{
			"stored earlier",
			&producer.PublishError{Verdict: producer.Nacked, MaybeStored: true, Err: producer.ErrNacked},
			nil, "nacked: a queue did not take it (but an earlier sending of it may be in a queue)",
		},
		{"no verdict", errors.New("x"), nil, "x"},
	} {
		if got := reason(c.err, c.ended, false); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestARefusedMessageMayHaveBeenStoredOnlyWhereOthersWere(t *testing.T) {
	t.Parallel()
	err := &producer.PublishError{Verdict: producer.Refused, MaybeStored: true, Err: &producer.RefusedError{Reason: "gone"}}
	for accepted, want := range map[bool]string{false: "refused: gone", true: "refused: gone (but an earlier sending of it may be in a queue)"} {
		if got := reason(err, nil, accepted); got != want {
			t.Errorf("others were accepted: %v\n got %s\nwant %s", accepted, got, want)
		}
	}
	tooLarge := &reconnect.BrokerError{Code: 406, Text: "PRECONDITION_FAILED - message size 9 is larger than configured max size 8"}
	err.Err = &producer.RefusedError{Reason: "...", Err: tooLarge}
	if got, want := reason(err, nil, true), "refused: the broker says: message size 9 is larger than configured max size 8 (406)"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for v, want := range map[producer.Verdict]bool{producer.Returned: true, producer.Nacked: true, producer.Refused: false, producer.NotSent: false, producer.Unknown: false} {
		var c tally
		c.add(failure(v, nil))
		if c.accepted() != want {
			t.Errorf("with a message %v the broker has accepted some: %v", v, c.accepted())
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	var c tally
	if c.String() != "0 failed" || c.failed() != 0 {
		t.Errorf("empty: %v", &c)
	}
	for _, v := range []producer.Verdict{producer.Unknown, producer.Returned, producer.Returned, producer.NotSent} {
		c.add(failure(v, nil))
	}
	c.add(nil)
	if want := "4 failed (2 returned, 1 not sent, 1 unknown)"; c.String() != want || c[producer.Confirmed] != 1 || c.undecided() != 2 {
		t.Errorf("got %v, want %s", &c, want)
	}
}
