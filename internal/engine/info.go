package engine

import (
	"time"

	"github.com/mqkit/mqkit/internal/wire"
)

// QueueInfo is a queue as it is now.
type QueueInfo struct {
	Vhost, Name string
	Type        string // classic, quorum or stream
	Durable     bool
	AutoDelete  bool
	Exclusive   bool
	Arguments   wire.Table
	Ready       int // messages that wait, those that delayed retry or at-least-once dead-lettering holds among them; of a stream all
	Unacked     int // delivered, not settled
	Bytes       int // bodies of all these
	Consumers   int
}

// MessageInfo is a message in a queue.
type MessageInfo struct {
	Exchange      string // that it was published to
	RoutingKey    string
	Properties    []byte // as a consumer would get them
	Body          []byte
	Redelivered   bool
	Unacked       bool // delivered to a consumer and not settled
	Delayed       bool // held back by delayed retry
	DeliveryCount int
	Expires       time.Time // zero: never
}

// ExchangeInfo is an exchange as it is now.
type ExchangeInfo struct {
	Vhost, Name, Type             string
	Durable, AutoDelete, Internal bool
	Arguments                     wire.Table
}

// BindingInfo is a binding. The default exchange's are not listed.
type BindingInfo struct {
	Vhost, Source, Destination string
	ToExchange                 bool // the destination is an exchange
	RoutingKey                 string
	Arguments                  wire.Table
}

// ConsumerInfo is a consumer as it is now.
type ConsumerInfo struct {
	Vhost, Queue, Tag string
	Conn              string // ConnInfo.Name
	Channel           uint16
	NoAck, Exclusive  bool
	Prefetch          int
	Priority          int
	Active            bool // false: waits behind a single active consumer, or timed out
	Unacked           int
	Arguments         wire.Table
}
