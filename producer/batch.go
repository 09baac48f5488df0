package producer

import (
	"context"
	"fmt"
)

// BatchError is returned by PublishAll when some messages were not confirmed. It
// unwraps to the error of each.
type BatchError struct {
	Total  int // messages in the batch
	Failed []BatchFailure
}

// BatchFailure is one message of a batch that was not confirmed.
type BatchFailure struct {
	Index int   // in the batch
	Err   error // a *PublishError
}

func (e *BatchError) Error() string {
	first := e.Failed[0]
	return fmt.Sprintf("%d of %d messages were not confirmed, the first is number %d: %v", len(e.Failed), e.Total, first.Index, first.Err)
}

// Unwrap returns the error of each message that was not confirmed.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}

// PublishAll sends ms in their order, without waiting between them, and then waits for
// the verdict of each. Nil means that all are confirmed, and routed as Publish says;
// otherwise the error is a *BatchError with the verdict of each that is not. The
// verdicts are each message's own: that one failed stops no other. When ctx ends, those
// without a verdict are given up as by Publish, so each has one when PublishAll returns.
func (p *Producer) PublishAll(ctx context.Context, ms []Message) error {
	batch := &BatchError{Total: len(ms)}
	sent := make([]*Confirmation, len(ms))
	errs := make([]error, len(ms))
	for i := range ms {
		sent[i], errs[i] = p.PublishAsync(ctx, ms[i])
	}
	for i, c := range sent {
		if c != nil {
			errs[i] = p.await(ctx, c)
		}
		if errs[i] != nil {
			batch.Failed = append(batch.Failed, BatchFailure{Index: i, Err: errs[i]})
		}
	}
	if len(batch.Failed) == 0 {
		return nil
	}
	return batch
}
