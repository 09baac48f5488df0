package amqpserver

import "time"

// timers of a connection. They take the connection's lock; once it has ended
// they do nothing, should one have been on its way.
type timers struct {
	handshake *time.Timer
	send      *time.Timer
	receive   *time.Timer
	close     *time.Timer

	sent     uint64 // writer.sent, as of the last look
	received uint64 // Conn.received, as of the last look
	silent   int    // looks since without anything received
}

func (t *timers) stop() {
	for _, timer := range []*time.Timer{t.handshake, t.send, t.receive, t.close} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// closeIn ends a closed connection unless it has ended by then.
func (t *timers) closeIn(c *Conn, d time.Duration, err error) {
	if t.close != nil {
		t.close.Stop()
	}
	t.close = time.AfterFunc(d, func() {
		c.lock()
		defer c.unlock()
		c.finish(err)
	})
}

// startHeartbeat does as RabbitMQ: each half interval a heartbeat is sent unless
// something else was; and a client from which nothing has come between three
// looks, an interval apart, is given up: after two intervals to three.
func (c *Conn) startHeartbeat() {
	if c.interval == 0 {
		return
	}
	c.timers.received = c.received.Load()
	c.timers.sent = c.w.heartbeat(^uint64(0)) // only asks
	c.timers.send = time.AfterFunc(c.interval/2, c.sendHeartbeat)
	c.timers.receive = time.AfterFunc(c.interval, c.missHeartbeat)
}

func (c *Conn) sendHeartbeat() {
	c.lock()
	defer c.unlock()
	if c.state == stateEnded {
		return
	}
	c.timers.sent = c.w.heartbeat(c.timers.sent)
	c.timers.send.Reset(c.interval / 2)
}

func (c *Conn) missHeartbeat() {
	c.lock()
	defer c.unlock()
	if c.state >= stateClosed {
		return
	}
	received := c.received.Load()
	switch {
	case received != c.timers.received || c.state == stateBlocked:
		// A blocked client is not read, so it is not blamed.
		c.timers.silent = 0
	case c.timers.silent == 1:
		c.finish(ErrHeartbeat)
		return
	default:
		c.timers.silent++
	}
	c.timers.received = received
	c.timers.receive.Reset(c.interval)
}

// Heard says that something has come from the client that is no whole frame yet:
// a sign of life. [Conn.Handle] says so of itself. It takes no lock.
func (c *Conn) Heard() { c.received.Add(1) }
