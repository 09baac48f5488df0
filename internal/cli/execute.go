package cli

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Streams are what a tool reads and writes.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Execute parses args and runs cmd, whose RunE returns usage errors only and
// leaves its exit code in code. A usage error is one line with a hint.
func Execute(cmd *cobra.Command, args []string, s Streams, code *int) int {
	name := cmd.Name()
	cmd.SetArgs(args)
	cmd.SetIn(s.In)
	cmd.SetOut(s.Out)
	cmd.SetErr(s.Err)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.Version = version()
	cmd.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &UsageError{Err: flagError(err)} })
	cmd.Flags().SortFlags = false
	cmd.CompletionOptions.DisableDefaultCmd = !asksForCompletion(args)

	err := CheckArguments(args)
	if err == nil {
		err = cmd.Execute()
	}
	if err == nil {
		return *code
	}
	_, _ = fmt.Fprintf(s.Err, "%s: %s (see %s --help)\n", name, withoutLogins(FailLine(err), args), name)
	return ExitUsage
}

// asksForCompletion reports whether the arguments begin with the command that
// writes a completion script, or with the one that the script calls. Anywhere else
// the word may well be a message.
func asksForCompletion(args []string) bool {
	if len(args) == 0 || args[0] != "completion" {
		return len(args) > 0 && strings.HasPrefix(args[0], "__complete")
	}
	return len(args) > 1 && slices.Contains([]string{"bash", "zsh", "fish", "powershell"}, args[1])
}

// flagError says in our words what pflag says in its own.
func flagError(err error) error {
	var (
		invalid *pflag.InvalidValueError
		missing *pflag.ValueRequiredError
		unknown *pflag.NotExistError
	)
	switch {
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		return fmt.Errorf("--%s: %s %s", f.Name, Repeated(invalid.GetValue()), expected(f, invalid))
	case errors.As(err, &missing):
		return fmt.Errorf("--%s needs a value", missing.GetFlag().Name)
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return fmt.Errorf("unknown flag -%s; put -- before what begins with a dash and is no flag", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		return fmt.Errorf("unknown flag --%s; put -- before what begins with a dash and is no flag", unknown.GetSpecifiedName())
	default:
		return err
	}
}

func expected(f *pflag.Flag, err *pflag.InvalidValueError) string {
	switch f.Value.Type() {
	case "duration":
		if strings.HasPrefix(err.Unwrap().Error(), "must ") {
			return err.Unwrap().Error()
		}
		return "is not a duration such as 10s or 1m30s"
	case "int", "uint8", "uint64":
		return "is not a whole number in range"
	case "bool":
		return "is neither true nor false"
	default:
		return err.Unwrap().Error()
	}
}

// version is what the go command has stamped into the program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
