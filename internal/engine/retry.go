package engine

import "slices"

// delayed is an entry that delayed retry holds back.
type delayed struct {
	entry *entry
	at    int64 // unix milliseconds
}

// delay holds an entry back if the queue's delayed retry says so: longer with
// each failure, up to a limit.
func (q *queue) delay(e *entry, failed bool) bool {
	switch q.retryKind {
	case "all":
	case "failed":
		if !failed {
			return false
		}
	case "returned":
		if failed {
			return false
		}
	default:
		return false
	}
	at := q.vhost.broker.now() + min(q.retryMin*max(1, int64(e.deliveries)), q.retryMax)
	d := &delayed{e, at}
	i, _ := slices.BinarySearchFunc(q.delayed, d, func(a, b *delayed) int {
		if a.at < b.at || a.at == b.at && a.entry.pos < b.entry.pos {
			return -1
		}
		return 1
	})
	q.delayed = slices.Insert(q.delayed, i, d)
	q.asideBytes += int64(len(e.msg.body))
	q.watchDelayed()
	return true
}

func (q *queue) watchDelayed() {
	if len(q.delayed) == 0 {
		q.retryer.stop()
		return
	}
	q.retryer.set(q.vhost.broker, q.delayed[0].at, q.releaseDelayed)
}

// releaseDelayed makes ready what has waited long enough.
func (q *queue) releaseDelayed() {
	now := q.vhost.broker.now()
	for len(q.delayed) > 0 && q.delayed[0].at <= now {
		q.ready.giveReturned(q.delayed[0].entry)
		q.asideBytes -= int64(len(q.delayed[0].entry.msg.body))
		q.delayed[0] = nil
		q.delayed = q.delayed[1:]
	}
	q.watchDelayed()
	q.touch()
}
