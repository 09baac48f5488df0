// Package reconnect keeps connections to RabbitMQ up and hands out channels on
// them. It is the only part of mqkit that dials, retries, and declares a
// connection dead; producer and consumer are built on it.
//
//	pool, err := reconnect.Open(ctx, reconnect.Config{
//		URLs: []string{"amqp://app:secret@rabbit-1/", "amqp://app:secret@rabbit-2/"},
//		Topology: topology.Topology{Queues: []topology.Queue{{Name: "orders"}}},
//		OnStateChange: func(c reconnect.StateChange) { log.Print(c) },
//	})
//	if err != nil {
//		return err // every address and why
//	}
//	defer func() { // ctx may have ended by then: draining takes one of its own
//		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
//		defer cancel()
//		err = errors.Join(err, pool.Close(ctx))
//	}()
//
// # What it guarantees
//
// One connection for publishing and one for consuming, so that an alarm of the
// broker, which stops its reading from publishers, holds back no ack. Each is
// connected again, for ever, with backoff and jitter, to any of the addresses.
// A fatal error (see IsFatal) is told by the first Open and otherwise in Status,
// and retried, because passwords, permissions and queues get mended while
// services run.
//
// A peer that is silent for two heartbeats, that takes no bytes for three, or
// that does not answer a call within Config.RPCTimeout (a declare or a consume
// within two minutes) is given up at the socket, so that nobody stays stuck behind
// it. The end of a ctx ends only its caller's wait.
//
// A session (see Pool.Run) is one channel on one connection. Nothing outlives
// it. The driver's own recovery is never used: it reuses the same *Channel, on
// which a late ack from before a reconnect settles another, unhandled message,
// and a publish can slip out before confirms are on again.
//
// No password is ever part of an error, a log line or a state change, nor of a
// Config, a Pool, a Channel or a Status that is printed.
//
// # What it does not
//
// It does not know what was published or consumed, and repeats nothing: that is
// the business of producer and consumer.
package reconnect
