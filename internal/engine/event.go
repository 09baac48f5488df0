package engine

// EventKind is what happened.
type EventKind uint8

// What happens to a message, and to what holds it.
const (
	EventPublished       EventKind = iota // taken from a client, before routing
	EventReturned                         // mandatory and unroutable
	EventEnqueued                         // stored in Queue
	EventRefused                          // not stored in Queue: it is full, and rejects
	EventConfirmed                        // Tag is the confirm number
	EventNacked                           // Tag is the confirm number
	EventDelivered                        // to ConsumerTag (empty: by get), as Tag
	EventAcked                            // settled for good; by no-ack as it was delivered
	EventRequeued                         // back in Queue; Reason: rejected, released, closed, timeout
	EventDeadLettered                     // left Queue, for Reason; what its exchange stores is Enqueued
	EventDropped                          // left Queue, for Reason, and there is no dead-letter exchange
	EventPurged                           // left Queue by a purge
	EventQueueDeclared                    // created
	EventQueueDeleted                     // with the messages that were in it; Reason says why
	EventConsumerAdded                    //
	EventConsumerRemoved                  // Reason: cancelled, closed, deleted, timeout
)

var eventNames = [...]string{
	"published", "returned", "enqueued", "refused", "confirmed", "nacked", "delivered", "acked",
	"requeued", "dead-lettered", "dropped", "purged", "queue-declared", "queue-deleted",
	"consumer-added", "consumer-removed",
}

// String returns the event's word.
func (k EventKind) String() string { return eventNames[k] }

// Event is one thing that happened. Fields that it has no use for are zero.
type Event struct {
	Kind        EventKind
	Conn        string // ConnInfo.Name
	Channel     uint16
	Vhost       string
	Queue       string
	Exchange    string
	RoutingKey  string
	MessageID   string
	ConsumerTag string
	Tag         uint64 // delivery tag or confirm number
	Redelivered bool
	Reason      string // expired, rejected, maxlen, delivery_limit, ...
	Body        []byte
}
