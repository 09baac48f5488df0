package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Retry is how long one outage may last: the value of --retry. Zero is not at
// all.
type Retry struct {
	For     time.Duration
	Forever bool
}

// String is part of pflag.Value.
func (r *Retry) String() string {
	switch {
	case r.Forever:
		return "forever"
	case r.For == 0:
		return "0"
	default:
		return Limit(r.For)
	}
}

// Set is part of pflag.Value.
func (r *Retry) Set(s string) error {
	if s == "forever" {
		*r = Retry{Forever: true}
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return errors.New("must be a duration such as 30s or 5m, 0, or forever")
	}
	*r = Retry{For: d}
	return nil
}

// Type is part of pflag.Value.
func (r *Retry) Type() string { return "duration" }

// Limit shows a duration as somebody would type it: 1m, not 1m0s.
func Limit(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Seconds shows how long something took: 12.3s, 1m5s, 40ms.
func Seconds(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// Count is "1 message", "2 messages".
func Count(n uint64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
