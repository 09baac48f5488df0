package mqtest

import "github.com/mqkit/mqkit/internal/wire"

// blockReason is what a blocked client is told.
func blockReason(given string) string {
	if given == "" {
		return "low on memory"
	}
	return given
}

// block blocks this connection alone. A Broker does it itself, as soon as it knows
// of the connection; behind a Proxy the stage does.
func (c *conn) block(reason string) {
	c.mu.Lock()
	c.blocking = reason
	tell := c.server.Load() == nil && c.vhost != "" && !c.blocked
	c.blocked = c.blocked || tell
	c.mu.Unlock()
	if u := c.server.Load(); u != nil {
		u.server.Block(reason)
	} else if tell {
		c.sayBlocking(&wire.ConnectionBlocked{Reason: wire.ReplyText(reason)})
	}
}

// unblock undoes block, and what the Broker has done.
func (c *conn) unblock() {
	c.mu.Lock()
	was := c.blocked
	c.blocking, c.blocked = "", false
	c.mu.Unlock()
	if u := c.server.Load(); u != nil {
		u.unblock()
	} else if was {
		c.sayBlocking(&wire.ConnectionUnblocked{})
		c.prod()
	}
}

// sayBlocking says it to a client that has announced to understand it.
func (c *conn) sayBlocking(m wire.Method) {
	c.mu.Lock()
	understood := c.understands
	c.mu.Unlock()
	if understood {
		c.say(0, wire.AppendMethod(nil, 0, m))
	}
}
