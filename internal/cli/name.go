package cli

import "unicode/utf8"

// longestName is the longest that AMQP's short strings hold.
const longestName = 255

// CheckName refuses what cannot be the name of a queue or an exchange, or a routing
// key, as a usage error of that flag: no broker can be sent it, or takes it, however
// often one tries.
func CheckName(flag, name string) error {
	switch {
	case len(name) > longestName:
		return Usagef("%s has %d bytes: AMQP allows %d", flag, len(name), longestName)
	case !utf8.ValidString(name):
		return Usagef("%s is not valid UTF-8, which RabbitMQ refuses", flag)
	}
	return nil
}
