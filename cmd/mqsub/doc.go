// Command mqsub consumes messages from RabbitMQ and acks each only after it was
// written out.
//
//	mqsub -q orders                       one line a message, until interrupted
//	mqsub -q orders -n 10 -o json         ten records
//	mqsub -q orders | head -3             takes exactly three
//	mqsub -e events -r 'order.*'          watches an exchange, disturbing nobody
//
// It goes on over restarts of the broker. What it did not write it has not acked:
// a full disk, a closed pipe or a kill lose nothing, a message may come twice. The
// exit code says how it ended; mqsub --help lists them.
package main
