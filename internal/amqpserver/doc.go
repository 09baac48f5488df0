// Package amqpserver is the broker's end of one AMQP 0-9-1 connection, without
// its socket: protocol header, handshake, channels, content, exceptions,
// heartbeats. What the methods mean is the engine's; how they are spoken, down to
// RabbitMQ's codes and texts, is here.
//
//	conn := amqpserver.NewConn(cfg, func(frames []byte) { queue = append(queue, frames...) }, hangUp)
//	conn.Start(header)                    // the client's first 8 bytes
//	for {
//		reader.SetMax(conn.FrameMax())    // grows with the handshake
//		f, err := reader.Next()
//		if malformed := (*wire.FrameError)(nil); errors.As(err, &malformed) {
//			conn.Malformed(malformed)     // says so to the client
//			break                         // and nothing more is read
//		} else if err != nil {
//			conn.Gone(err)
//			break
//		}
//		conn.Handle(f)                    // applied, and answered
//		if reader.Buffered() == 0 {
//			conn.Idle()                   // sends what confirms were held back
//		}
//	}
//
// # Calls in
//
// Start, Handle, Idle and Malformed belong to the one goroutine that reads the
// client. All else may be called from any goroutine. Nothing here blocks for
// longer than it takes to get a lock.
//
// Confirms are held back from a publish until Idle, so that they go out as one
// ack for many, as RabbitMQ's do; any other method on the channel sends them
// too, behind its own answer, and so does a close. Whoever has to see each
// confirm before the next frame is handled calls Idle after each Handle.
//
// # Calls out
//
// out gets frames in the order in which the client has to see them, always whole
// frames, and a method always together with its content. The slice is good only
// during the call. end is called once, when the socket is to be closed (after
// what out was given has been written) or when [Conn.Gone] said that it is: with
// nil if the connection was closed as AMQP has it, else with the reason. Nothing
// is given to out after end.
//
// # Locks
//
// There are three, taken in this order and never in another:
//
//  1. Conn.mu, for the state of the protocol: held during each of the calls in,
//     and by the timers.
//  2. The engine's own, by a call to the engine. It may be held by anyone: by
//     this connection's Handle, by another connection whose publish is delivered
//     here, by a timer of the engine.
//  3. writer.mu, for the order of the frames.
//
// The engine calls back (deliveries, returns, confirms, cancels) with lock 2
// held: these callbacks take lock 3 and no other, and change nothing that lock 1
// guards. What they find out that concerns the whole connection (its vhost was
// deleted) they write down under lock 3, and whoever takes lock 1 next reads it;
// a timer sees to it that somebody does.
//
// out is called with lock 3 held and perhaps the other two: it must not block and
// must call neither the connection nor the engine, with one exception: it may
// call Behind. The locks of its own that it takes come last: they must not
// be held in a call in. end and the hooks of [Config]: end is called with no lock
// held; the hooks are called with lock 1 held, and must not call the connection.
//
// # What differs from RabbitMQ
//
// A client of AMQP 1.0 is offered 0-9-1. A refused login that is not answered (the client lacks the
// capability authentication_failure_close) ends at once, not after 3 seconds,
// unless [Config.RefusalDelay] says so; the same goes for everything else that
// RabbitMQ answers with silence before the connection is open, such as values in
// tune-ok that it does not allow. Confirms that are ready when the client closes
// a channel or the connection are still sent; those held back when an exception
// closes it are lost, as some are there. A body that exceeds the largest message
// is counted and dropped as it arrives, and refused when it is complete, as there,
// but never kept.
package amqpserver
