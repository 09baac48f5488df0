package clitest

import (
	"fmt"
	"os"

	"github.com/rogpeppe/go-internal/testscript" //nolint:depguard // only tests import this package
	"go.uber.org/goleak"                         //nolint:depguard // only tests import this package
)

// Main is the TestMain of a command, and ends the process: the test binary is the
// command too, and scripts run it by its name.
func Main(m testscript.TestingM, name string, main func()) {
	testscript.Main(leakChecked{m, name}, map[string]func(){name: main})
}

type leakChecked struct {
	m    testscript.TestingM
	name string
}

// Run runs the tests and looks for goroutines that they have left.
func (l leakChecked) Run() int {
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", l.name, err)
			code = 1
		}
	}
	return code
}
