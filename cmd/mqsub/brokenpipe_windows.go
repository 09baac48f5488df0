package main

import "syscall"

// brokenPipe are the errors of a write that nobody will read: the reading end is
// closed (ERROR_BROKEN_PIPE), or being closed (ERROR_NO_DATA).
var brokenPipe = []error{syscall.ERROR_BROKEN_PIPE, syscall.Errno(232)}
