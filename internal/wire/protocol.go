package wire

import "bytes"

// ProtocolHeader is what a client of AMQP 0-9-1 opens with.
const ProtocolHeader = "AMQP\x00\x00\x09\x01"

const (
	header09      = "AMQP\x01\x01\x00\x09"
	header10SASL  = "AMQP\x03\x01\x00\x00"
	anyVersion09  = "AMQP\x00\x00"
	lowestMinor09 = 9
)

// RefuseProtocol returns what RabbitMQ answers the first eight octets of a client
// with before it closes the socket, "" if it goes on with connection.start. It takes
// the header of 0-9 for that of 0-9-1, and of 0-9-2 thinks that 0-9-1 will do; to
// anything else, such as an HTTP request or an older AMQP, it offers AMQP 1.0.
//
// A client of AMQP 1.0, which RabbitMQ would serve, is offered 0-9-1.
func RefuseProtocol(header [8]byte) string {
	switch h := header[:]; {
	case string(h) == ProtocolHeader, string(h) == header09:
		return ""
	case string(h) == header10SASL:
		return ProtocolHeader
	case bytes.HasPrefix(h, []byte(anyVersion09)) && h[6] >= lowestMinor09:
		return ProtocolHeader
	}
	return header10SASL
}
