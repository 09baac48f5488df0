package engine

import "fmt"

// Reply codes of AMQP 0-9-1 that the engine uses.
const (
	codeNoRoute            = 312
	codeConnectionForced   = 320
	codeAccessRefused      = 403
	codeNotFound           = 404
	codeResourceLocked     = 405
	codePreconditionFailed = 406
	codeSyntaxError        = 502
	codeCommandInvalid     = 503
	codeChannelError       = 504
	codeNotAllowed         = 530
	codeNotImplemented     = 540
	codeInternalError      = 541
)

// codeNames are the words that RabbitMQ begins its texts with.
var codeNames = map[uint16]string{
	311: "CONTENT_TOO_LARGE", codeNoRoute: "NO_ROUTE", 313: "NO_CONSUMERS",
	codeConnectionForced: "CONNECTION_FORCED", 402: "INVALID_PATH",
	codeAccessRefused: "ACCESS_REFUSED", codeNotFound: "NOT_FOUND",
	codeResourceLocked: "RESOURCE_LOCKED", codePreconditionFailed: "PRECONDITION_FAILED",
	501: "FRAME_ERROR", codeSyntaxError: "SYNTAX_ERROR", codeCommandInvalid: "COMMAND_INVALID",
	codeChannelError: "CHANNEL_ERROR", 505: "UNEXPECTED_FRAME", 506: "RESOURCE_ERROR",
	codeNotAllowed: "NOT_ALLOWED", codeNotImplemented: "NOT_IMPLEMENTED",
	codeInternalError: "INTERNAL_ERROR",
}

// Exception is how AMQP says no: with a code and a text, by closing the channel
// or, where Connection is set, the connection. By the time it is returned the
// channel (or every channel of the connection) is closed in the engine.
type Exception struct {
	Code       uint16
	Text       string // in full, as sent: "NOT_FOUND - no queue 'q' in vhost '/'"
	Connection bool   // it closes the connection, not only the channel
	// NoMethod is set where RabbitMQ has crashed rather than said no: the close
	// names no method.
	NoMethod bool
}

func (e *Exception) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Text) }

// NewException writes an exception as RabbitMQ does: the code's name, a dash,
// and the text. Codes that AMQP calls hard errors close the connection.
func NewException(code uint16, text string) *Exception {
	return &Exception{Code: code, Text: CodeName(code) + " - " + text, Connection: hard(code)}
}

// CodeName returns the word for a reply code: "NOT_FOUND".
func CodeName(code uint16) string {
	if name, ok := codeNames[code]; ok {
		return name
	}
	return "INTERNAL_ERROR"
}

// hard tells which codes end the connection. 501 to 541 do, 320 and 402 as well.
func hard(code uint16) bool {
	return code == codeConnectionForced || code == 402 || code >= 500
}

// crash is what a client gets to see where RabbitMQ's channel stumbles.
func crash() *Exception {
	return &Exception{Code: codeInternalError, Text: "INTERNAL_ERROR", Connection: true, NoMethod: true}
}

func exceptionf(code uint16, format string, args ...any) *Exception {
	return NewException(code, fmt.Sprintf(format, args...))
}

func noQueue(vhost, name string) *Exception {
	return exceptionf(codeNotFound, "no queue '%s' in vhost '%s'", name, vhost)
}

func noExchange(vhost, name string) *Exception {
	return exceptionf(codeNotFound, "no exchange '%s' in vhost '%s'", name, vhost)
}
