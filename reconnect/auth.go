package reconnect

import (
	amqp "github.com/rabbitmq/amqp091-go"
)

// login is a SASL mechanism that also makes the broker say why it refuses one:
// without the capability authentication_failure_close it just drops the socket
// after a bad password, which looks like any other cut. The driver overwrites
// the capabilities right before it asks for Response, and both hold the same
// table, so Response can add to it.
type login struct {
	props    amqp.Table
	creds    Credentials
	external bool
}

// Mechanism is part of amqp.Authentication.
func (l *login) Mechanism() string {
	if l.external {
		return "EXTERNAL"
	}
	return "PLAIN"
}

// Response is part of amqp.Authentication.
func (l *login) Response() string {
	if caps, ok := l.props["capabilities"].(amqp.Table); ok {
		caps["authentication_failure_close"] = true
	}
	if l.external {
		return ""
	}
	return "\x00" + l.creds.Username + "\x00" + l.creds.Password
}
