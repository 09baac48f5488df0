// Package cli is what the command-line tools share: the flags of a connection, exit
// codes and their order, signals in two steps, how long an outage may last, and
// errors as one line that says what to do.
//
// stdout is data and none of this package's business. What it says goes to
// stderr through Talk: lower case, no final full stop, the tool's name in front.
package cli
