// Command mqpub publishes messages to RabbitMQ and tells the fate of each.
//
//	mqpub -q orders --declare 'first' 'second'     two messages
//	seq 200000 | mqpub -q orders                   one message per line of stdin
//	mqpub -e events -r order.created < orders.txt  to an exchange
//
// A message counts as published when the broker has confirmed it and a queue has
// it. One that does not is named on stderr with its line, its verdict and the
// reason, and is kept in the file of --failed. The exit code says the rest; mqpub
// --help lists them.
package main
