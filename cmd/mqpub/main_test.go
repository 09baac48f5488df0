package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mqkit/mqkit/internal/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, "mqpub", main) }

// Those on a RabbitMQ are in integration/testdata/cli.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, clitest.Scripts())
}
