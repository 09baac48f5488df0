package engine

// deadLetterRetry is how long RabbitMQ waits before it tries again to dead-letter
// at least once what found no queue to go to.
const deadLetterRetry = 180_000

// stuck is a dead letter that no queue has taken yet.
type stuck struct {
	entry  *entry
	reason string
}

// buryOnce is bury for a queue that dead-letters at least once: what no queue
// takes stays until one does, and counts against the queue's limits.
func (q *queue) buryOnce(e *entry, reason string) {
	if !q.tryToBury(e, reason) {
		q.stuck = append(q.stuck, stuck{e, reason})
		q.watchStuck()
	}
}

func (q *queue) tryToBury(e *entry, reason string) bool {
	if _, taken := q.deadLetterCopy(e.msg, e.deliveries, reason); taken == 0 {
		return false
	}
	q.noteEntry(EventDeadLettered, e, reason)
	return true
}

func (q *queue) watchStuck() {
	if len(q.stuck) > 0 && q.stuckTimer.at == 0 {
		q.stuckTimer.set(q.vhost.broker, q.vhost.broker.now()+deadLetterRetry, q.retryStuck)
	}
}

func (q *queue) retryStuck() {
	again := q.stuck
	q.stuck = nil
	for _, s := range again {
		if !q.tryToBury(s.entry, s.reason) {
			q.stuck = append(q.stuck, s)
		}
	}
	q.watchStuck()
	q.touch()
}
