package engine

// counted is what counts against the queue's limits: all but deliveries that were
// not settled.
func (q *queue) counted() (n, bytes int64) {
	return int64(q.ready.n + len(q.delayed) + len(q.stuck)), q.ready.bytes + q.asideBytes
}

// over tells whether the queue holds more than it may.
func (q *queue) over() bool {
	n, bytes := q.counted()
	return q.maxLength >= 0 && n > q.maxLength || q.maxBytes >= 0 && bytes > q.maxBytes
}

func (q *queue) rejects() bool {
	return q.overflow == "reject-publish" || q.overflow == "reject-publish-dlx" && q.kind == classic
}

// dropHead drops what is next until the queue is within its limits. That may be
// of a high priority: RabbitMQ does not look.
func (q *queue) dropHead() {
	if q.maxLength < 0 && q.maxBytes < 0 || q.rejects() {
		return
	}
	for q.ready.n > 0 && q.over() {
		q.bury(q.ready.pop(), "maxlen")
	}
}

// refuses tells whether a message finds the queue full. A classic queue refuses
// what would take it over its limit. A quorum queue takes that one, tells its
// publishers to stop, and refuses what comes until it is down to four fifths.
func (q *queue) refuses(msg *message, from *Channel) bool {
	if q.maxLength < 0 && q.maxBytes < 0 || !q.rejects() {
		return false
	}
	switch q.kind {
	case classic:
		full := q.maxLength >= 0 && int64(q.ready.n)+1 > q.maxLength ||
			q.maxBytes >= 0 && q.ready.bytes+int64(len(msg.body)) > q.maxBytes
		if full && q.overflow == "reject-publish-dlx" {
			q.sendDead(msg, 0, "maxlen")
		}
		return full
	case quorum:
		if from == nil {
			return false // a dead letter comes from no publisher that could be stopped
		}
		blocked, known := q.blocked[from]
		if !known {
			if q.blocked == nil {
				q.blocked = map[*Channel]bool{}
			}
			blocked = q.over()
			q.blocked[from] = blocked
			from.enqueued[q] = struct{}{}
		}
		return blocked
	}
	return false
}

// tellPublishers stops them once a quorum queue is over its limit, and lets them
// go on once it is down again.
func (q *queue) tellPublishers() {
	if len(q.blocked) == 0 {
		return
	}
	over := q.over()
	if !over && !q.belowSoftLimit() {
		return
	}
	for ch := range q.blocked {
		q.blocked[ch] = over
	}
}

func (q *queue) belowSoftLimit() bool {
	below := func(limit, n int64) bool { return limit < 0 || n <= limit*8/10 }
	count, bytes := q.counted()
	return below(q.maxLength, count) && below(q.maxBytes, bytes)
}

// expire buries what has outlived its time, as far as it stands at the head.
func (q *queue) expire() {
	if !q.timed {
		return
	}
	for _, e := range q.ready.expired(q.vhost.broker.now(), q.fresh) {
		q.bury(e, "expired")
	}
}

// watchExpiry wakes the queue when the next message expires.
func (q *queue) watchExpiry() {
	if !q.timed {
		return
	}
	at := q.ready.nextExpiry()
	if at == 0 {
		q.ttlTimer.stop()
		return
	}
	q.ttlTimer.set(q.vhost.broker, at, q.touch)
}

// used restarts the time after which a queue that nobody uses is deleted. To a quorum
// queue who holds a message of it is a consumer, though cancelled or come by get.
func (q *queue) used() {
	if q.expires == noTTL || q.deleted {
		return
	}
	b := q.vhost.broker
	q.lastUse = b.now()
	if len(q.consumers) == 0 && q.expiry.at == 0 {
		q.expiry.set(b, q.lastUse+q.expires, q.unused)
	}
}

func (q *queue) unused() {
	if len(q.consumers) > 0 || q.deleted || q.kind == quorum && q.unacked > 0 {
		return
	}
	b := q.vhost.broker
	if at := q.lastUse + q.expires; b.now() < at {
		q.expiry.set(b, at, q.unused)
		return
	}
	q.delete("expired")
}
