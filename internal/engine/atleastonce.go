package engine

import "slices"

// deadLetterRetry is how long RabbitMQ waits before it sends a dead letter again
// that no queue has taken, in milliseconds.
const deadLetterRetry = 180_000

// stuck is a dead letter that is sent at least once, until it has arrived.
type stuck struct {
	entry  *entry
	reason string
	dead   *message // nil until it is first sent
	taken  []string // the queues that have it
}

// buryOnce is bury for a queue that dead-letters at least once: a message stays, and
// counts against the queue's limits, until a queue has it.
func (q *queue) buryOnce(e *entry, reason string) {
	s := &stuck{entry: e, reason: reason}
	q.stuck = append(q.stuck, s)
	q.send(s)
}

// send posts a dead letter to the queues that it belongs in.
func (q *queue) send(s *stuck) {
	if q.vhost.exchanges[q.deadLetterExchange] == nil {
		q.watchStuck()
		return
	}
	if s.dead == nil {
		s.dead = q.dead(s.entry.msg, s.entry.deliveries, s.reason)
	}
	to := outOfCycles(q.routeDead(s.dead), s.dead, s.reason)
	if len(to) == 0 {
		q.watchStuck()
		return
	}
	q.post(letter{msg: s.dead, to: to, of: s})
}

// arrived looks whether a queue that a dead letter was sent to has taken it.
func (q *queue) arrived(s *stuck) {
	if len(s.taken) == 0 {
		q.watchStuck()
		return
	}
	q.finish(s)
}

func (q *queue) finish(s *stuck) {
	i := slices.Index(q.stuck, s)
	if i < 0 {
		return // purged
	}
	q.stuck = slices.Delete(q.stuck, i, i+1)
	q.noteEntry(EventDeadLettered, s.entry, s.reason)
	if len(q.stuck) == 0 {
		q.stuckTimer.stop()
	}
	q.touch()
}

func (q *queue) watchStuck() {
	if len(q.stuck) > 0 && q.stuckTimer.at == 0 {
		q.stuckTimer.set(q.vhost.broker, q.vhost.broker.now()+deadLetterRetry, q.retryStuck)
	}
}

func (q *queue) retryStuck() {
	for _, s := range slices.Clone(q.stuck) {
		q.send(s)
	}
	q.watchStuck()
}
