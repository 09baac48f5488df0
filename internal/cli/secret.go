package cli

import (
	"strconv"
	"strings"
)

// notRepeated stands for what an error must not say again: errors are kept in logs
// and pasted into reports.
const notRepeated = "(not repeated: there may be a password in it)"

// Repeated quotes what somebody typed, for an error that says it is wrong, unless
// there may be a password in it: a url, or a name and a password with a colon between
// them, typed into the wrong place.
func Repeated(s string) string {
	if _, password, _ := strings.Cut(s, ":"); password != "" || IsLogin(s) {
		return notRepeated
	}
	return strconv.Quote(s)
}

// IsLogin reports whether s looks like a url, or like the part of one that holds a
// password.
func IsLogin(s string) bool { return strings.Contains(s, "://") || strings.Contains(s, "@") }

// withoutLogins takes out of a line about usage whatever of args looks like a url with
// a password in it: errors of others say what was typed as well.
func withoutLogins(line string, args []string) string {
	for _, a := range args {
		if !IsLogin(a) {
			continue
		}
		_, value, _ := strings.Cut(a, "=")
		short := ""
		if len(a) > 2 && a[0] == '-' && a[1] != '-' {
			short = a[2:]
		}
		for _, part := range []string{a, strings.TrimLeft(a, "-"), short, value} {
			if !IsLogin(part) {
				continue
			}
			quoted := strconv.Quote(part)
			for _, text := range []string{quoted, part, quoted[1 : len(quoted)-1]} {
				line = strings.ReplaceAll(line, text, notRepeated)
			}
		}
	}
	return line
}
