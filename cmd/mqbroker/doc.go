// Command mqbroker serves the embedded broker of mqtest on a port, for first steps
// and tests where there is no RabbitMQ.
//
//	mqbroker                                 amqp://guest:guest@127.0.0.1:5672
//	mqbroker --listen 127.0.0.1:0            on a free port
//	mqbroker --topology topology.yaml        with queues from the start
//
// It prints its URL on stdout once it accepts connections, and serves until SIGINT,
// SIGTERM or SIGHUP. Everything is in memory and gone then: it is not for production,
// and listens on the loopback interface unless it is told twice. mqbroker --help lists
// the flags and the exit codes.
package main
