//go:build !unix

package cli

// KeepBrokenPipes does nothing where there is no SIGPIPE.
func KeepBrokenPipes() {}
