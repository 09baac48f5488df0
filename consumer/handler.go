package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Handler handles one delivery. Nil acks it. An error made by Reject, Requeue
// or Release does that. Any other error, and a panic, releases it after a pause
// that grows from 100 ms to 30 s while nothing else succeeds: mqkit drops no
// message by default, and none spins. From RabbitMQ 4.3 on a release counts towards no
// delivery limit, so such a message comes again for as long as its handler fails: one that
// is not to be tried for ever is to be rejected, or requeued until the limit, for which
// topology.DelayedRetry has the queue wait. If the handler has settled the delivery itself,
// that stands.
//
// ctx carries the values of Run's ctx. It ends when the delivery's session is
// over (its cause wraps ErrStale: the work can no longer be acked and will be
// given out again), after Config.HandlerTimeout, and at a drain's deadline, not when Run's
// ctx ends.
type Handler func(ctx context.Context, d *Delivery) error

var (
	// ErrStale is returned when a delivery is settled whose session is over:
	// the broker gives the message out again. Nothing was sent.
	ErrStale = errors.New("the session of this delivery is over")

	// ErrSettled is returned when a delivery is settled a second time. Nothing was
	// sent.
	ErrSettled = errors.New("the delivery is settled already")

	// ErrHandlerTimeout is the cause with which a handler's ctx ends after
	// Config.HandlerTimeout.
	ErrHandlerTimeout = errors.New("the handler took longer than Config.HandlerTimeout")

	// Later is returned by a handler that settles the delivery afterwards, by Ack,
	// Reject, Requeue or Release, from whatever goroutine: for what finishes
	// several at a time. Until then it counts as being handled, but it holds no
	// worker; a drain waits for it.
	Later = errors.New("settled later") //nolint:revive,staticcheck // it asks for something, it tells of no error

	// ErrUndecodable is wrapped when JSON cannot decode a body.
	ErrUndecodable = errors.New("the body cannot be decoded")
)

// verdict is what becomes of a delivery.
type verdict uint8

const (
	undecided verdict = iota
	ack
	reject
	requeue
	release
)

func (v verdict) String() string {
	switch v {
	case ack:
		return "ack"
	case reject:
		return "reject"
	case requeue:
		return "requeue"
	case release:
		return "release"
	default:
		return "undecided"
	}
}

// decision is an error that says what is to become of the delivery.
type decision struct {
	verdict verdict
	err     error
}

func (d *decision) Error() string {
	if d.err == nil {
		return d.verdict.String()
	}
	return fmt.Sprintf("%s: %v", d.verdict, d.err)
}

func (d *decision) Unwrap() error { return d.err }

// Reject returned from a handler rejects the delivery, see Delivery.Reject.
// err, which may be nil, says why, for the log.
func Reject(err error) error { return &decision{reject, err} }

// Requeue returned from a handler requeues the delivery at once, see
// Delivery.Requeue. A message that always fails comes back in a hot loop until
// the queue's delivery limit, if it has one.
func Requeue(err error) error { return &decision{requeue, err} }

// Release returned from a handler releases the delivery at once, see
// Delivery.Release. A message that is always released comes back in a hot loop.
func Release(err error) error { return &decision{release, err} }

// JSON returns a handler that decodes the body into a T first. A body that is
// not one JSON value of that shape is rejected if the queue is known to have a
// dead-letter exchange (Config.Declare or the pool's topology say so, or
// Config.DeadLetters), else released like any other error.
func JSON[T any](h func(ctx context.Context, v T, d *Delivery) error) Handler {
	return func(ctx context.Context, d *Delivery) error {
		var v T
		dec := json.NewDecoder(bytes.NewReader(d.Body))
		err := dec.Decode(&v)
		if err == nil {
			if _, more := dec.Token(); !errors.Is(more, io.EOF) {
				err = errors.New("more than one JSON value")
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUndecodable, err)
		}
		return h(ctx, v, d)
	}
}
