package consumer

import "time"

// Receipt is one delivery as it comes.
type Receipt struct {
	Queue       string
	Exchange    string
	RoutingKey  string
	MessageID   string
	ConsumerTag string // of its session, and of no other
	Tag         uint64 // within its session
	Redelivered bool
	Attempt     int // see Delivery.Attempt
	Bytes       int // of its body
	At          time.Time
}

// Settlement is one delivery with what became of it.
type Settlement struct {
	Queue       string
	MessageID   string
	ConsumerTag string
	Tag         uint64

	// Verdict is ack, reject, requeue or release; or stale if its session ended before
	// there was one, or before it was taken: the message comes again.
	Verdict string

	// Err is what the handler returned or panicked with, nil if it settled the delivery
	// itself.
	Err  error
	Took time.Duration // from its receipt on
}

const stale = "stale"

// observe takes what OnDelivery and OnSettlement are told.
func (cfg *Config) observe(what any) {
	switch what := what.(type) {
	case Receipt:
		if cfg.OnDelivery != nil {
			cfg.OnDelivery(what)
		}
	case Settlement:
		if cfg.OnSettlement != nil {
			cfg.OnSettlement(what)
		}
	}
}

// received counts a delivery and tells of it.
func (r *run) received(d *Delivery) {
	r.c.stats.deliveries.Add(1)
	if d.Redelivered {
		r.c.stats.redelivered.Add(1)
	}
	if r.observers == nil {
		return
	}
	d.at = time.Now()
	r.observers.Tell(Receipt{d.Queue, d.Exchange, d.RoutingKey, d.MessageID, d.ConsumerTag, d.Tag, d.Redelivered, d.Attempt(), len(d.Body), d.at})
}

// tellSettledLocked tells once what became of d.
func (r *run) tellSettledLocked(d *Delivery, verdict string) {
	if r.observers != nil && !d.told {
		d.told = true
		r.observers.Tell(Settlement{Queue: d.Queue, MessageID: d.MessageID, ConsumerTag: d.ConsumerTag, Tag: d.Tag, Verdict: verdict, Err: d.failure, Took: time.Since(d.at)})
	}
}
