package amqpserver

import "github.com/mqkit/mqkit/internal/wire"

// blocking is why a connection is to be blocked, and how far it is.
type blocking struct {
	reason    string
	wanted    bool
	onPublish bool // not before it publishes
	told      bool // connection.blocked was sent, or would have been
}

// Block blocks the connection: a client with the capability connection.blocked
// is told at once. Whoever reads the client should then stop doing so; see
// [Conn.Blocked]. A connection that is not open yet is blocked when it is. The
// reason is sent as it is: "low on memory".
func (c *Conn) Block(reason string) { c.wantBlock(reason, false) }

// BlockPublisher is [Conn.Block] as an alarm does it: only connections that
// publish are blocked, and not before they do.
func (c *Conn) BlockPublisher(reason string) { c.wantBlock(reason, true) }

func (c *Conn) wantBlock(reason string, onPublish bool) {
	c.lock()
	defer c.unlock()
	c.block.reason, c.block.wanted, c.block.onPublish = wire.ReplyText(reason), true, onPublish
	if !onPublish {
		c.startBlock()
	}
}

// publishing is called as the content of a publish arrives.
func (c *Conn) publishing() {
	if c.block.wanted {
		c.startBlock()
	}
}

func (c *Conn) startBlock() {
	if !c.running() {
		return
	}
	c.state = stateBlocked
	c.blocked.Store(true)
	if c.block.told {
		return
	}
	c.block.told = true
	if capable(c.client.Properties, "connection.blocked") {
		c.w.connection(&wire.ConnectionBlocked{Reason: c.block.reason}, false)
	}
}

// Unblock ends what Block and BlockPublisher began.
func (c *Conn) Unblock() {
	c.lock()
	defer c.unlock()
	told := c.block.told
	c.block = blocking{}
	c.blocked.Store(false)
	if c.state != stateBlocked {
		return
	}
	c.state = stateRunning
	if told && capable(c.client.Properties, "connection.blocked") {
		c.w.connection(&wire.ConnectionUnblocked{}, false)
	}
}

// Blocked tells whether RabbitMQ would have stopped reading the client. Handle
// takes what it is given all the same. It takes no lock.
func (c *Conn) Blocked() bool { return c.blocked.Load() }
