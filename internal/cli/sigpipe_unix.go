//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// KeepBrokenPipes makes a write to a pipe without a reader return EPIPE, also on
// stdout and stderr, where Go otherwise ends the process by SIGPIPE. The signal
// is caught and not ignored, so that programs started from here get it as usual.
func KeepBrokenPipes() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
