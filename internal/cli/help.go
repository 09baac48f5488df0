package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// SetHelp puts exitCodes and the completion command below cmd's flags, and keeps
// the flags within 80 columns.
func SetHelp(cmd *cobra.Command, exitCodes string) {
	template := strings.ReplaceAll(cmd.UsageTemplate(), ".FlagUsages |", ".FlagUsagesWrapped 80 |")
	cmd.SetUsageTemplate(template + "{{if not .HasParent}}" + exitCodes + completionUsage + "{{end}}")
}

const completionUsage = `
"{{.Name}} completion bash" writes a completion script; also zsh, fish, powershell.
`
