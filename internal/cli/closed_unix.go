//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// IsClosed reports whether f, one of the standard streams, was closed when the
// program began, as by >&- in a shell. Go's runtime then opens the null device in
// its place before main, for reading and writing, and every write into it succeeds.
// Whoever means the null device opens it one way: >/dev/null is for writing only.
// A few open it both ways, which cannot be told apart; the error has to say so.
func IsClosed(f any) bool {
	file, ok := f.(*os.File)
	if !ok || file == nil {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return true
	}
	null, err := os.Stat(os.DevNull)
	if err != nil || !os.SameFile(info, null) {
		return false
	}
	flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR
}
