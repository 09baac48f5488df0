package engine

// Delivery is a message on its way to a client. The struct is only good until
// the call that was given it returns; the slices stay as they are for ever and
// may be kept, but not written to: the body is shared by every queue that the
// message was routed to.
type Delivery struct {
	Exchange   string
	RoutingKey string
	Properties []byte // flags and list, as in a content header, with what the broker adds
	Body       []byte
}

// Sink takes what the broker sends to a channel by itself. Its methods are
// called under the broker's lock, in the order in which a client has to see it:
// they must not block and must not call the engine.
type Sink interface {
	Deliver(consumerTag string, tag uint64, redelivered bool, d *Delivery)
	// Return gives an unroutable mandatory message back, before its confirm.
	Return(code uint16, text, exchange, routingKey string, properties, body []byte)
	// Confirm takes a publish (or with multiple all up to it), or refuses it.
	Confirm(tag uint64, multiple, nack bool)
	// Cancel ends a consumer: its queue is gone, or by 4.3 rules it was too slow.
	// A client that has not announced consumer_cancel_notify is not told.
	Cancel(consumerTag string)
	// Close ends the channel for something that no method of its own did. The
	// channel is closed in the engine already.
	Close(e *Exception)
	// Ready tells whether the client keeps up. If not, the channel's consumers
	// are passed over until Channel.Resume.
	Ready() bool
}

// GetOk is what Channel.Get found.
type GetOk struct {
	Tag         uint64
	Redelivered bool
	Remaining   uint32 // messages ready in the queue after this one
	Delivery
}
