package cli

import (
	"strings"
	"unicode/utf8"
)

// longestName is the longest that AMQP's short strings hold.
const longestName = 255

// CheckName refuses what cannot be the name of a queue, an exchange or a vhost, as
// CheckKey does, and a url with a login in it: that name would be repeated wherever it
// is named.
func CheckName(flag, name string) error {
	if strings.Contains(name, "://") && strings.Contains(name, "@") {
		return Usagef("%s takes a name, not a url: give it with -u", flag)
	}
	return CheckKey(flag, name)
}

// CheckKey refuses what cannot be a routing key, as a usage error of that flag: no
// broker can be sent it, or takes it, however often one tries.
func CheckKey(flag, key string) error {
	switch {
	case len(key) > longestName:
		return Usagef("%s has %d bytes: AMQP allows %d", flag, len(key), longestName)
	case !utf8.ValidString(key):
		return Usagef("%s is not valid UTF-8, which RabbitMQ refuses", flag)
	}
	return nil
}
