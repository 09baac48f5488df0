//go:build !windows

package main

import "syscall"

// brokenPipe are the errors of a write that nobody will read.
var brokenPipe = []error{syscall.EPIPE}
