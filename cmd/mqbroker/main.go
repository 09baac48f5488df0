package main

import (
	"context"
	"io"
	"os"

	"github.com/mqkit/mqkit/internal/cli"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cli.KeepBrokenPipes()
	var code int
	o := &options{}
	cmd := o.command(func() error {
		var err error
		code, err = serve(ctx, o, stdout, stderr)
		return err
	})
	return cli.Execute(cmd, args, cli.Streams{In: stdin, Out: stdout, Err: stderr}, &code)
}
