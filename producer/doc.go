// Package producer publishes messages to RabbitMQ and knows the fate of each.
//
//	p, err := producer.New(pool, producer.Config{})
//	if err != nil {
//		return err
//	}
//	defer p.Close(ctx)
//	err = p.Publish(ctx, producer.Text("hello").ToQueue("greetings"))
//	// nil: the broker has confirmed it and a queue has it
//	if producer.SafeToRetry(err) {
//		// no queue has it
//	}
//
// # What it guarantees
//
// Every message ends in exactly one Verdict: confirmed, returned, nacked,
// refused, not sent, or unknown. Nil from Publish means confirmed by the broker,
// on that session, for that message, and, unless AllowUnroutable, routed.
//
// While the connection is lost or blocked by an alarm, Publish waits as long as
// its ctx allows. A message whose verdict was lost with its session is sent
// again on the next one, before newer ones, with the same MessageID: the broker
// may then have it twice. A message that was given up is never written again.
//
// A message that breaks a rule is refused before the driver sees it; one for
// which the broker closes the channel is found by sending the candidates one by
// one, and its neighbours go on.
//
// # What it does not
//
// Order: the messages of one goroutine are sent in the order of its calls, but
// after a lost session the broker may store a late copy behind newer messages.
// Such a copy is a duplicate. Confirmed means that the broker took the message
// over, not that it is still there: a queue's TTL, length or deletion may have
// removed it since.
package producer
