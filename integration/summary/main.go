// Command summary runs "go test" with the arguments that it is given and says
// in short what came of it: a line for each test, everything that a failed test
// printed, the reason of each skipped one, and on the last line the counts.
//
//	go run ./integration/summary -race ./integration/...
//
// A test with subtests is not counted itself, they are, unless it failed and
// none of them did. The exit status is 0 only if that of "go test" is, and never
// when a test has failed or was not finished.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	// An interrupt reaches "go test" as well. Its tests clean up and end; what
	// they said until then is still worth a summary.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)

	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Fprintln(stderr, "summary:", err)
		return 1
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(stderr, "summary:", err)
		return 1
	}
	ok, readErr := summarise(events, stdout)
	// Whatever was not read is thrown away, so that "go test" can end.
	_, _ = io.Copy(io.Discard, events)
	err = cmd.Wait()
	if readErr != nil {
		fmt.Fprintln(stderr, "summary:", readErr)
		return 1
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(stderr, "summary: go test:", err)
		return 1
	case !ok:
		return 1
	default:
		return 0
	}
}
