package producer

import (
	"fmt"

	"github.com/mqkit/mqkit/reconnect"
)

// failFastLocked has nothing wait for a connection that is lost or blocked. One that is being
// made for the first time is waited for. A change that is told meanwhile waits for the
// lock, and is then newer than what Status says.
func (p *Producer) failFastLocked() {
	p.unwatch = p.pool.Watch(reconnect.Publishing, func(c reconnect.StateChange) {
		switch c.To {
		case reconnect.Connecting: // as it was
		case reconnect.Connected:
			p.comeBack()
		default:
			p.goAway(awayError(c.To, c.Cause))
		}
	})
	if s := p.pool.Status(reconnect.Publishing); s.State != reconnect.Connected && s.Cause != nil {
		p.away = awayError(s.State, s.Cause)
	}
}

func awayError(state reconnect.State, cause error) error {
	return fmt.Errorf("the publishing connection is %s: %w", state, cause)
}

// goAway notes why nothing can be sent, and fails what waits for its turn or for room.
func (p *Producer) goAway(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = cause
	p.refuseWaitingLocked(cause)
	var unsent []*Confirmation
	for _, c := range p.queue.entries() {
		if !c.told && c.sendings == 0 {
			unsent = append(unsent, c)
		}
	}
	for _, c := range unsent {
		p.withdrawLocked(c, cause)
	}
}

// comeBack notes that messages can be sent.
func (p *Producer) comeBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = nil
}
