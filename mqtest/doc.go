// Package mqtest is an AMQP 0-9-1 broker inside the process, for tests of code
// that uses RabbitMQ: the real driver talks the real protocol to it, in
// milliseconds, and whatever can go wrong goes wrong on demand.
//
//	func TestOrdersSurviveALostConfirm(t *testing.T) {
//		b := mqtest.New(t)
//		lost := b.Inject(mqtest.Fault{
//			Point: mqtest.Applied, Method: "basic.publish", RoutingKey: "orders", Count: 1,
//			Do: mqtest.Cut(),
//		})
//		shop := NewShop(b.URL()) // the code under test
//		shop.Order("tea")
//		if err := lost.Wait(t.Context()); err != nil {
//			t.Fatal(err)
//		}
//		if n := b.Queue("orders").Len(); n != 2 {
//			t.Errorf("%d orders, want the one that was stored and its duplicate", n)
//		}
//	}
//
// [New] listens on a free port of the loopback interface and ends with the test.
// [NewInMemory] has no port and works inside testing/synctest, where a heartbeat
// loss takes no time. [Start] is for programs. [NewProxy] puts the same faults in
// front of any broker, on a port that stays when the broker moves; what a Broker
// and a [Proxy] have in common is a [Stage], so that one scenario runs on both.
//
// # What it guarantees
//
// What it does it does as RabbitMQ does, down to codes and texts; README.md says
// what is covered and which differences are known. A fault strikes at one of four
// moments (see [Point]), and the difference between Received and Applied is exact:
// what is struck at Received never reaches the broker, what is struck at Applied
// has been carried out. On a Broker nothing that the client sent after it has been
// applied either, unless the action let the connection go on; a Proxy has passed
// on what came meanwhile.
//
// A client's numbers stay its own: where a publish is not passed on, or twice, the
// broker's confirms are translated, and no ack for many covers a publish whose
// confirm was lost. A channel that a fault has closed is closed in the broker
// too, and its id can be used again.
//
// Every goroutine, connection and timer ends with Close, or with the test.
//
// # What it does not
//
// It keeps everything in memory, knows no permissions, no policies, no clusters
// and no plugins, and is not for production.
//
// # Faults
//
// A [Fault] is a moment, what it matches, and an [Action]. All that a client can
// meet is a combination:
//
//	connecting      refused                        RefuseConnections, AcceptConnections
//	                accepted, then closed          Accepted: Cut, Reset
//	                accepted, then silent          Accepted: Stall
//	                slow                           Accepted: Delay, Trickle(1, pause)
//	handshake       another protocol's header      Accepted: SendRaw("AMQP\x00\x01\x00\x00").Then(Cut())
//	                403                            Received connection.start-ok: CloseConnection(403, ...)
//	                closed without a reason        Received connection.start-ok: Cut
//	                530                            Received connection.open: CloseConnection(530, ...)
//	                stall                          Received connection.start-ok: Stall
//	                small limits, 1 s heartbeat    Sending connection.tune: Tune(8, 8192, time.Second)
//	after open-ok   stall for ever                 Sending connection.open-ok: Pass().Then(Stall())
//	channel.open    504                            Received channel.open: CloseConnection(504, "")
//	                stall                          Received channel.open: Stall
//	                ids exhausted                  Sending connection.tune: Tune(1, 0, 0)
//	publish, not    cut                            Received basic.publish: Cut, Reset
//	applied         channel closed                 Received basic.publish: CloseChannel(404, ...)
//	                returned, nacked, lost         Received basic.publish: Return(312, "NO_ROUTE"), Nack, Drop
//	publish,        cut                            Applied basic.publish: Cut, Reset
//	applied         confirm lost, late, nacked     Applied basic.publish: Drop, Delay, Hold, Nack
//	                range nacked, batched, reverse Applied basic.publish: NackBatch, Batch, Reverse
//	                stored twice                   Received basic.publish: Twice
//	inside a frame  truncated, from the client     Received: CutInside(n)
//	                truncated, to the client       Applied, Sending: CutInside(n); Accepted: CutInside(n)
//	                wrong end, oversized, garbage  BadFrameEnd, Oversize, Garbage(n), Rewrite(f)
//	                one byte at a time             Trickle(1, 0)
//	connection      320, 541                       CloseConnection, or Connection.Do of it
//	                RST, FIN                       Reset, Cut; DropConnections
//	                half-open, either way          Stall, StopReading, StopSending; Stage.Stall
//	                missed heartbeats              Sending or Received "heartbeat": Drop
//	                blocked, unblocked             Broker.Block, Unblock; Connection.Block, Unblock
//	channel         404, 405, 406                  CloseChannel, or Stage.CloseChannels
//	                reply late, lost               Applied, any method: Delay, Drop
//	                reply when the test says so    Applied, any method: Hold, and Injected.Release
//	                reply other                    Received, any method: Answer
//	delivery        cut before the ack             Sending basic.deliver: Pass().Then(Cut())
//	                ack lost, or counted and cut   Received or Applied basic.ack: Cut
//	                twice                          Sending basic.deliver: Twice
//	                cancelled                      Sending basic.deliver: Pass().Then(CancelConsumer()); Queue.CancelConsumers
//	                cancelled, queue recreated     Queue.Delete, and a declare
//	                after the cancel               Applied basic.cancel: Pass().Then(Answer(basic.deliver))
//	                406 on the ack                 Received basic.ack: CloseChannel(406, ...)
//	                consumer timeout               Config.ConsumerTimeout, or x-consumer-timeout
//	topology        queue or exchange gone         Queue.Delete, or Received queue.declare: CloseChannel(404, "")
//	                405 for the first k tries      Received queue.declare: CloseChannel(405, ""), Count k
//	                other arguments                Received queue.declare: CloseChannel(406, "")
//	restart         transient state lost           Broker.Restart
//	                another port                   a Proxy, and SetUpstream
//	                second URL only                two Brokers, and RefuseConnections of one
package mqtest
