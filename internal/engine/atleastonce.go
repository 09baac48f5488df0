package engine

import "slices"

// deadLetterRetry is how long RabbitMQ waits before it sends a dead letter again
// that has not come to all queues it belongs in, in milliseconds.
const deadLetterRetry = 180_000

// deadLettersUnderWay is how many of a queue's dead letters RabbitMQ has under way
// at a time. The others wait until one has arrived.
const deadLettersUnderWay = 32

// stuck is a dead letter that is sent at least once, until it has arrived.
type stuck struct {
	entry  *entry
	reason string
	dead   *message // nil until it is first sent
	taken  []string // the queues that have it
	sent   int64    // when it last went to a queue, unix milliseconds, 0: never
}

// buryOnce is bury for a queue that dead-letters at least once: a message stays, and
// counts against the queue's limits, until all queues that it belongs in have it.
func (q *queue) buryOnce(e *entry, reason string) {
	s := &stuck{entry: e, reason: reason}
	q.stuck = append(q.stuck, s)
	q.asideBytes += int64(len(e.msg.body))
	q.touch()
	if len(q.stuck) <= deadLettersUnderWay {
		q.send(s)
	}
}

// send posts a dead letter to the queues that have not taken it yet, as RabbitMQ's
// rabbit_fifo_dlx_worker finds them.
func (q *queue) send(s *stuck) {
	if q.vhost.exchanges[q.deadLetterExchange] == nil {
		q.watchStuck()
		return
	}
	if s.dead == nil {
		s.dead = q.dead(s.entry.msg, s.entry.deliveries, s.reason)
	}
	to := q.routeDead(s.dead)
	if len(to) == 0 && len(s.taken) > 0 {
		q.finish(s)
		return
	}
	to = slices.DeleteFunc(to, func(q *queue) bool { return slices.Contains(s.taken, q.name) })
	if to = outOfCycles(to, s.dead, s.reason); len(to) == 0 {
		q.watchStuck()
		return
	}
	s.sent = q.vhost.broker.now()
	q.post(letter{msg: s.dead, to: to, of: s})
}

// arrived looks whether the queues that a dead letter was sent to have all taken it.
func (q *queue) arrived(s *stuck, to []*queue) {
	if slices.ContainsFunc(to, func(q *queue) bool { return !slices.Contains(s.taken, q.name) }) {
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
	q.asideBytes -= int64(len(s.entry.msg.body))
	q.noteEntry(EventDeadLettered, s.entry, s.reason)
	if len(q.stuck) >= deadLettersUnderWay {
		q.send(q.stuck[deadLettersUnderWay-1])
	}
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
	now := q.vhost.broker.now()
	for _, s := range slices.Clone(q.stuck[:min(len(q.stuck), deadLettersUnderWay)]) {
		if s.sent == 0 || s.sent+deadLetterRetry <= now {
			q.send(s)
		}
	}
	q.watchStuck()
}

// resend starts anew after a restart: who sent the dead letters has died, and with it
// what it knew of where they have arrived.
func (q *queue) resend() {
	if q.worker == nil {
		return
	}
	q.worker.unblock()
	q.worker = newPublisher()
	q.stuckTimer.stop()
	for i, s := range slices.Clone(q.stuck) {
		s.taken, s.sent = nil, 0
		if i < deadLettersUnderWay {
			q.send(s)
		}
	}
}
